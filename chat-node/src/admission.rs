//! Who may connect: limits per node and per client address, and nobody while the node drains.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Counts open connections of all listeners.
#[derive(Debug)]
pub(crate) struct Admission {
    max: u32,
    max_per_address: u32,
    open: Mutex<Open>,
    refused: [AtomicU64; Refusal::ALL.len()],
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    /// Without loopback addresses.
    by_address: HashMap<IpAddr, u32>,
    draining: bool,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NodeFull,
    AddressFull,
    Draining,
}

/// A place that an open connection holds; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Refusal {
    pub(crate) const ALL: [Self; 3] = [Self::NodeFull, Self::AddressFull, Self::Draining];

    /// For the person at the other end.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NodeFull => "This server is full, try again later",
            Self::AddressFull => "Too many connections from your address",
            Self::Draining => "This server is being stopped, please reconnect",
        }
    }

    /// Value of the metric's label `reason`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NodeFull => "node_full",
            Self::AddressFull => "address_full",
            Self::Draining => "draining",
        }
    }
}

impl Admission {
    pub(crate) fn new(max: u32, max_per_address: u32) -> Arc<Self> {
        Arc::new(Self { max, max_per_address, open: Mutex::default(), refused: Default::default() })
    }

    /// A place for a connection from there.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Refusal> {
        let address = address.to_canonical();
        let admitted = self.try_admit(address);
        if let Err(refusal) = admitted {
            self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
        }
        admitted.map(|()| Permit { admission: Arc::clone(self), address })
    }

    fn try_admit(&self, address: IpAddr) -> Result<(), Refusal> {
        let mut open = self.open();
        if open.draining {
            return Err(Refusal::Draining);
        }
        if open.total >= self.max {
            return Err(Refusal::NodeFull);
        }
        if !address.is_loopback() {
            let count = open.by_address.entry(address).or_default();
            if *count >= self.max_per_address {
                return Err(Refusal::AddressFull);
            }
            *count += 1;
        }
        open.total += 1;
        Ok(())
    }

    /// From now on nobody is admitted.
    pub(crate) fn close(&self) {
        self.open().draining = true;
    }

    /// Connections refused for this reason so far.
    pub(crate) fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize].load(Ordering::Relaxed)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Every change below is a single step: a panic elsewhere leaves the counts whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.admission.open();
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let admission = Admission::new(10, 2);
        let first = admission.admit(address(1)).expect("room");
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
        let _second = admission.admit(mapped).expect("room");
        assert_eq!(admission.admit(address(1)).expect_err("full"), Refusal::AddressFull);
        let _other = admission.admit(address(2)).expect("another address");
        drop(first);
        let _third = admission.admit(address(1)).expect("room again");
        assert_eq!((admission.refused(Refusal::AddressFull), admission.open().total), (1, 3));
    }

    #[test]
    fn loopback_is_exempt_but_the_node_has_an_end() {
        let admission = Admission::new(3, 1);
        let local = IpAddr::from([127, 0, 0, 1]);
        let permits: Vec<_> = (0..3).map(|_| admission.admit(local).expect("exempt")).collect();
        assert_eq!(admission.admit(local).expect_err("full"), Refusal::NodeFull);
        drop(permits);
        assert_eq!(admission.open().total, 0);
        assert!(admission.open().by_address.is_empty());
    }

    #[test]
    fn nobody_comes_while_draining() {
        let admission = Admission::new(3, 3);
        admission.close();
        assert_eq!(admission.admit(address(1)).expect_err("closed"), Refusal::Draining);
    }
}
