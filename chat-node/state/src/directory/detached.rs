//! Sessions without a connection: which they are, and how many of them an address may leave behind.
//!
//! Past its bounds a session is not kept when its connection is gone. None that was kept is ended for another one: its
//! client was promised the window, and who leaves many behind would push out those of others.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use crate::{ids::SessionId, settings::Bounds};

/// An address may have one in so many of the places that are left, so that the fuller the room is, the fewer one
/// address gets, and one that comes last still finds some.
const SHARE: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Detached {
    /// With the host of each.
    sessions: BTreeMap<SessionId, String>,
    by_host: BTreeMap<String, usize>,
}

impl Detached {
    pub(super) fn insert(&mut self, session: SessionId, host: &str) {
        if self.sessions.insert(session, host.to_owned()).is_none() {
            *self.by_host.entry(host.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, session: SessionId) {
        let Some(host) = self.sessions.remove(&session) else { return };
        if let Some(count) = self.by_host.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.by_host.remove(&host);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.keys().copied()
    }

    /// Whether one more session of this host is kept.
    pub(super) fn has_place(&self, host: &str, bounds: &Bounds) -> bool {
        let left = (bounds.detached_sessions as usize).saturating_sub(self.len());
        if is_loopback(host) {
            return left > 0;
        }
        let most = left.div_ceil(SHARE).min(bounds.detached_per_address as usize);
        self.by_host.get(host).copied().unwrap_or_default() < most
    }
}

/// As for connections: behind it are a proxy's clients, or tests.
fn is_loopback(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|v4: Ipv4Addr| v4.is_loopback())
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(detached_per_address: u32, detached_sessions: u32) -> Bounds {
        Bounds { detached_per_address, detached_sessions, ..Bounds::default() }
    }

    #[test]
    fn an_address_leaves_no_more_behind_than_it_may() {
        let bounds = bounds(2, 10_000);
        let mut detached = Detached::default();
        detached.insert(SessionId(1), "192.0.2.1");
        assert!(detached.has_place("192.0.2.1", &bounds));
        detached.insert(SessionId(2), "192.0.2.1");
        assert!(!detached.has_place("192.0.2.1", &bounds));
        assert!(detached.has_place("192.0.2.2", &bounds));
        detached.remove(SessionId(1));
        assert!(detached.has_place("192.0.2.1", &bounds));
    }

    /// Whatever a few addresses take, another one still gets a place.
    #[test]
    fn the_greedy_do_not_fill_the_room() {
        let bounds = bounds(128, 1_000);
        let mut detached = Detached::default();
        let mut next = 0;
        for host in ["192.0.2.1", "192.0.2.2", "192.0.2.3"].into_iter().cycle().take(3_000) {
            if detached.has_place(host, &bounds) {
                next += 1;
                detached.insert(SessionId(next), host);
            }
        }
        assert!((40..60).contains(&next), "{next} of three addresses");
        assert!(detached.has_place("192.0.2.4", &bounds));
    }

    #[test]
    fn the_room_has_an_end_for_loopback_too() {
        let bounds = bounds(1, 3);
        let mut detached = Detached::default();
        for n in 1..=3 {
            assert!(detached.has_place("127.0.0.1", &bounds), "{n}");
            detached.insert(SessionId(n), "127.0.0.1");
        }
        for host in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.1"] {
            assert!(!detached.has_place(host, &bounds), "{host}");
        }
    }
}
