//! Whether all has come to rest, and what holds then.

use crate::{
    client::Client,
    expected,
    network::Link,
    node::Home,
    violation::{Violation, ensure},
    world::{HEALING_STEPS, Place, World},
};

impl World {
    /// Every node runs, and has nothing to do.
    pub(crate) fn is_up(&self) -> bool {
        let quiet = |place: &Place| place.node.as_ref().is_some_and(|node| node.is_quiet(&self.home));
        let store = match &self.home {
            Home::Disk(_) => true,
            Home::Store(store) => store.is_quiet(),
        };
        store && self.places.iter().all(quiet)
    }

    pub(crate) fn is_settled(&self) -> bool {
        let quiet = |link: &Link| {
            let node = self.places[link.slot].node.as_ref();
            !link.dead && node.is_some_and(|node| link.is_quiet(node))
        };
        self.is_up()
            && self.clients.iter().all(Client::is_settled)
            && self.links.values().all(quiet)
            && self.truth.directory.closing().next().is_none()
            && self.nodes_are_known()
    }

    /// The directory has the nodes that run, and no other.
    fn nodes_are_known(&self) -> bool {
        let running: Vec<_> =
            self.places.iter().filter_map(|place| place.node.as_ref()?.incarnation()).collect();
        let known: Vec<_> = self.truth.directory.nodes().map(|(life, _)| life).collect();
        known.len() == running.len() && known.iter().all(|life| running.contains(life))
    }

    pub(crate) fn unsettled(&self) -> String {
        let waiting: Vec<String> = self
            .clients
            .iter()
            .enumerate()
            .filter(|(_, client)| !client.is_settled())
            .map(|(number, client)| format!("c{number}: {:?}, {} open", client.phase, client.open_sends()))
            .collect();
        let closing = self.truth.directory.closing().count();
        let nodes: Vec<_> = self
            .places
            .iter()
            .map(|place| place.node.as_ref().map(|node| (node.takes_clients(), node.is_quiet(&self.home))))
            .collect();
        let known = self.nodes_are_known();
        format!(
            "after {HEALING_STEPS} steps without faults: nodes {nodes:?}, known {known}, {closing} closing, {waiting:?}"
        )
    }

    /// Everything that holds when all is quiet.
    pub(crate) fn check(&mut self) -> Result<(), Violation> {
        expected::check_history(&self.truth)?;
        self.check_replicas()?;
        for client in &self.clients {
            let present = client.lives.len();
            for (n, life) in client.lives.iter().enumerate() {
                let whole = n + 1 == present && !life.over;
                expected::check_life(life, whole, &self.truth)?;
                if whole && !life.lost_sight {
                    expected::check_view(client, life, &self.truth)?;
                }
                self.counts.acknowledged += life.acknowledged.len() as u64;
                self.counts.gaps += life.gaps.values().map(|gaps| gaps.len() as u64).sum::<u64>();
            }
        }
        self.counts.entries = self.truth.shards().map(|shard| self.truth.last(shard).0).sum();
        Ok(())
    }

    /// Every replica has everything, and all are the same.
    pub(crate) fn check_replicas(&self) -> Result<(), Violation> {
        for (slot, place) in self.places.iter().enumerate() {
            let Some(node) = &place.node else { continue };
            for (number, hand) in node.hands.iter().enumerate() {
                let who = format!("worker {number} of node {slot}");
                for shard in self.truth.shards() {
                    let (directory, channels) = (hand.worker.directory(), hand.worker.channels());
                    let index = hand.index(shard);
                    let last = self.truth.last(shard);
                    ensure!(index == last, Replicas, "{who} is at {index} of {last} in shard {shard}");
                    self.truth.compare(directory, channels, shard, &who)?;
                }
            }
        }
        Ok(())
    }
}
