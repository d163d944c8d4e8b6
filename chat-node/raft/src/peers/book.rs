//! Where members are reached: what was told of them, and where they were met.

use std::{collections::BTreeMap, net::IpAddr, net::SocketAddr};

use chat_state::ids::MemberId;

/// Addresses kept of what was told of a member.
const KNOWN_LIMIT: usize = 16;
/// Addresses kept of where a member was met.
const MET_LIMIT: usize = 4;
/// Members that are kept though nothing was told of them.
const STRANGERS_LIMIT: usize = 256;

#[derive(Default)]
pub(super) struct Book {
    members: BTreeMap<MemberId, Addresses>,
}

#[derive(Default)]
struct Addresses {
    told: Vec<String>,
    /// The latest first.
    met: Vec<String>,
}

impl Book {
    /// Replaces what was told of a member. False if that is what was known.
    pub(super) fn know(&mut self, member: MemberId, mut addresses: Vec<String>) -> bool {
        addresses.truncate(KNOWN_LIMIT);
        let told = &mut self.members.entry(member).or_default().told;
        let changed = *told != addresses;
        *told = addresses;
        changed
    }

    pub(super) fn forget(&mut self, member: MemberId) {
        self.members.remove(&member);
    }

    /// A member connected to us from `from` and says it is reached at `advertise`: it may have moved while names
    /// still lead to where it was.
    pub(super) fn heard(&mut self, member: MemberId, advertise: &str, from: IpAddr) {
        let is_stranger = |addresses: &Addresses| addresses.told.is_empty();
        if !self.members.contains_key(&member)
            && self.members.values().filter(|addresses| is_stranger(addresses)).count() >= STRANGERS_LIMIT
        {
            return;
        }
        self.members.entry(member).or_default().meet(advertise.to_owned());
        let port = advertise.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        if let Some(port) = port {
            self.met(member, SocketAddr::new(from.to_canonical(), port).to_string());
        }
    }

    /// A member answered at this address.
    pub(super) fn met(&mut self, member: MemberId, address: String) {
        if let Some(addresses) = self.members.get_mut(&member) {
            addresses.meet(address);
        }
    }

    /// Where to try, the best first: where it was met last is better than what was told.
    pub(super) fn addresses(&self, member: MemberId) -> Vec<String> {
        let Some(Addresses { told, met }) = self.members.get(&member) else { return Vec::new() };
        let told = told.iter().filter(|address| !met.contains(address));
        met.iter().chain(told).cloned().collect()
    }
}

impl Addresses {
    fn meet(&mut self, address: String) {
        self.met.retain(|other| *other != address);
        self.met.insert(0, address);
        self.met.truncate(MET_LIMIT);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: MemberId = MemberId(1);

    fn from(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn where_a_member_was_met_comes_before_what_was_told() {
        let mut book = Book::default();
        assert!(book.know(ONE, vec!["node-1:7000".into(), "10.0.0.1:7000".into()]));
        assert!(!book.know(ONE, vec!["node-1:7000".into(), "10.0.0.1:7000".into()]));
        assert_eq!(book.addresses(ONE), ["node-1:7000", "10.0.0.1:7000"]);

        book.heard(ONE, "node-1:7001", from(9));
        assert_eq!(book.addresses(ONE), ["10.0.0.9:7001", "node-1:7001", "node-1:7000", "10.0.0.1:7000"]);

        book.met(ONE, "10.0.0.1:7000".into());
        assert_eq!(book.addresses(ONE), ["10.0.0.1:7000", "10.0.0.9:7001", "node-1:7001", "node-1:7000"]);

        book.forget(ONE);
        assert!(book.addresses(ONE).is_empty());
        book.met(ONE, "10.0.0.1:7000".into());
        assert!(book.addresses(ONE).is_empty(), "a connection that ended late brings nobody back");
    }

    #[test]
    fn addresses_of_version_6_are_written_as_they_are_dialed() {
        let mut book = Book::default();
        book.heard(ONE, "node-1:7000", "fd00::1".parse().expect("an address"));
        assert_eq!(book.addresses(ONE), ["[fd00::1]:7000", "node-1:7000"]);
        book.heard(ONE, "node-1:7000", "::ffff:10.0.0.1".parse().expect("an address"));
        assert_eq!(book.addresses(ONE)[0], "10.0.0.1:7000");
    }

    #[test]
    fn strangers_and_their_addresses_are_bounded() {
        let mut book = Book::default();
        for member in 0..1000 {
            book.heard(MemberId(member), "node:7000", from(1));
        }
        assert_eq!(book.members.len(), STRANGERS_LIMIT);
        for last in 0..100 {
            book.heard(MemberId(0), "node:7000", from(last));
        }
        assert_eq!(book.addresses(MemberId(0)).len(), MET_LIMIT);
    }
}
