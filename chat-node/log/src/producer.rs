//! The node's own side of "one ordered producer stream per node and shard": gives requests their stamps, remembers
//! those whose fate is open, and says what must be sent again. Pure; every kind of log uses it where the requests of
//! all workers meet.

use std::collections::{BTreeMap, VecDeque};

use chat_state::{
    command::{Command, DirectoryCommand},
    entry::{Proposal, Stamp},
    ids::{Incarnation, ShardId},
};

use crate::{follower::FollowerId, log::Request};

/// Streams of one node to all shards.
#[derive(Debug, Default)]
pub struct Producer {
    incarnation: Option<Incarnation>,
    streams: BTreeMap<ShardId, Stream>,
}

#[derive(Debug)]
struct Stream {
    next: u64,
    /// Oldest first, sequences without a hole, the last is `next - 1`.
    in_flight: VecDeque<InFlight>,
}

impl Default for Stream {
    fn default() -> Self {
        Self { next: 1, in_flight: VecDeque::new() }
    }
}

/// A proposal whose fate is open, and who asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct InFlight {
    pub from: FollowerId,
    pub proposal: Proposal,
}

/// Gives the request back.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("this node is not registered yet")]
pub struct NotRegistered(pub Box<Request>);

/// The stamp of what a node proposes before it has a life: no sequence, told apart by its own nonce.
pub const UNSTAMPED: Stamp = Stamp { incarnation: Incarnation(0), sequence: 0 };

impl Producer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// A new life begins: every stream starts at 1. What was in flight under the previous one is handed back: its
    /// fate is unknown until entries of that life were seen up to the one that ended it, so it must not just be
    /// stamped anew. The same incarnation again changes nothing.
    pub fn begin(&mut self, incarnation: Incarnation) -> Vec<(ShardId, InFlight)> {
        if self.incarnation == Some(incarnation) {
            return Vec::new();
        }
        self.incarnation = Some(incarnation);
        std::mem::take(&mut self.streams)
            .into_iter()
            .flat_map(|(shard, stream)| stream.in_flight.into_iter().map(move |open| (shard, open)))
            .collect()
    }

    /// Gives a request its place in the stream of its shard. A registration gets none: it is what gives the node its
    /// life, and is not kept in flight either (whoever registers repeats it under the same nonce).
    pub fn stamp(
        &mut self,
        shard: ShardId,
        from: FollowerId,
        request: Request,
    ) -> Result<Proposal, NotRegistered> {
        let Request { origin, dir_at, command } = request;
        if is_registration(&command) {
            return Ok(Proposal { producer: UNSTAMPED, origin, dir_at, command });
        }
        let Some(incarnation) = self.incarnation else {
            return Err(NotRegistered(Box::new(Request { origin, dir_at, command })));
        };
        let stream = self.streams.entry(shard).or_default();
        let producer = Stamp { incarnation, sequence: stream.next };
        let proposal = Proposal { producer, origin, dir_at, command };
        stream.next += 1;
        stream.in_flight.push_back(InFlight { from, proposal: proposal.clone() });
        Ok(proposal)
    }

    /// An entry with this stamp is in the log. Everything of the stream up to it is, too, since the log takes
    /// sequences in order only. Stamps of other nodes and earlier lives are none of ours.
    pub fn applied(&mut self, shard: ShardId, stamp: Stamp) {
        if Some(stamp.incarnation) != self.incarnation {
            return;
        }
        let Some(stream) = self.streams.get_mut(&shard) else { return };
        while stream.in_flight.front().is_some_and(|open| open.proposal.producer.sequence <= stamp.sequence) {
            stream.in_flight.pop_front();
        }
    }

    /// Takes back everything of a shard's stream from `sequence` on, newest part of what is in flight; the numbers
    /// are given again. Only for proposals of which **none** can get into the log any more: a definite refusal of one
    /// with others sent after it is none, for those could still arrive under numbers that were given anew.
    pub fn take_back(&mut self, shard: ShardId, sequence: u64) -> Vec<InFlight> {
        let Some(stream) = self.streams.get_mut(&shard) else { return Vec::new() };
        let keep = stream.in_flight.partition_point(|open| open.proposal.producer.sequence < sequence);
        let back: Vec<_> = stream.in_flight.split_off(keep).into();
        if let Some(first) = back.first() {
            stream.next = first.proposal.producer.sequence;
        }
        back
    }

    /// What must be sent again, oldest first, after an append whose result is unknown or a gap that a shard reported:
    /// the stream from its oldest open proposal on. A repeat is harmless, a hole is not.
    pub fn resend(&self, shard: ShardId) -> impl Iterator<Item = &InFlight> {
        self.streams.get(&shard).into_iter().flat_map(|stream| &stream.in_flight)
    }

    pub fn in_flight(&self, shard: ShardId) -> usize {
        self.streams.get(&shard).map_or(0, |stream| stream.in_flight.len())
    }
}

fn is_registration(command: &Command) -> bool {
    matches!(command, Command::Directory(DirectoryCommand::RegisterNode { .. }))
}

#[cfg(test)]
mod tests {
    use chat_state::{
        command::CommonCommand,
        ids::{FeatureLevel, MemberId, Position},
    };

    use super::*;

    const SHARD: ShardId = ShardId(1);
    const FOLLOWER: FollowerId = FollowerId(7);

    fn request(n: u64) -> Request {
        Request {
            origin: None,
            dir_at: Position(n),
            command: Command::Common(CommonCommand::RaiseLevel(FeatureLevel(1))),
        }
    }

    fn registered() -> Producer {
        let mut producer = Producer::new();
        assert!(producer.begin(Incarnation(5)).is_empty());
        producer
    }

    fn stamp(producer: &mut Producer, shard: ShardId, n: u64) -> u64 {
        producer.stamp(shard, FOLLOWER, request(n)).expect("registered").producer.sequence
    }

    #[test]
    fn sequences_start_at_one_in_every_shard_and_have_no_hole() {
        let mut producer = registered();
        let first: Vec<_> = (0..3).map(|n| stamp(&mut producer, ShardId(1), n)).collect();
        let other: Vec<_> = (0..2).map(|n| stamp(&mut producer, ShardId(2), n)).collect();
        assert_eq!((first, other), (vec![1, 2, 3], vec![1, 2]));
    }

    #[test]
    fn only_a_registration_goes_out_before_the_node_has_a_life() {
        let mut producer = Producer::new();
        let NotRegistered(back) = producer.stamp(SHARD, FOLLOWER, request(9)).expect_err("not registered");
        assert_eq!(*back, request(9));
        let command = Command::Directory(DirectoryCommand::RegisterNode {
            member: MemberId(1),
            nonce: 2,
            level: FeatureLevel(1),
        });
        let registration = Request { origin: None, dir_at: Position(0), command };
        let proposal = producer.stamp(ShardId(0), FOLLOWER, registration).expect("needs no life");
        assert_eq!(proposal.producer, UNSTAMPED);
        assert_eq!(producer.in_flight(ShardId(0)), 0);
    }

    #[test]
    fn what_came_back_is_settled_with_everything_before_it() {
        let mut producer = registered();
        for n in 0..4 {
            stamp(&mut producer, SHARD, n);
        }
        producer.applied(SHARD, Stamp { incarnation: Incarnation(4), sequence: 4 });
        assert_eq!(producer.in_flight(SHARD), 4, "another life's stamp settles nothing");
        producer.applied(SHARD, Stamp { incarnation: Incarnation(5), sequence: 3 });
        let open: Vec<_> = producer.resend(SHARD).map(|open| open.proposal.producer.sequence).collect();
        assert_eq!(open, [4]);
    }

    #[test]
    fn after_an_unknown_result_the_stream_is_resent_in_order_from_its_oldest() {
        let mut producer = registered();
        for n in 0..3 {
            stamp(&mut producer, SHARD, n);
        }
        producer.applied(SHARD, Stamp { incarnation: Incarnation(5), sequence: 1 });
        let again: Vec<_> = producer
            .resend(SHARD)
            .map(|open| (open.proposal.producer.sequence, open.proposal.dir_at.0))
            .collect();
        assert_eq!(again, [(2, 1), (3, 2)]);
        assert_eq!(stamp(&mut producer, SHARD, 3), 4, "new ones queue behind");
    }

    #[test]
    fn numbers_of_refused_requests_are_given_again() {
        let mut producer = registered();
        for n in 0..3 {
            stamp(&mut producer, SHARD, n);
        }
        let back: Vec<_> =
            producer.take_back(SHARD, 2).iter().map(|open| open.proposal.producer.sequence).collect();
        assert_eq!(back, [2, 3]);
        assert_eq!(stamp(&mut producer, SHARD, 9), 2);
        assert!(producer.take_back(SHARD, 3).is_empty(), "nothing from there on");
        assert_eq!(stamp(&mut producer, SHARD, 9), 3);
    }

    #[test]
    fn a_new_life_starts_over_and_hands_back_what_was_open() {
        let mut producer = registered();
        stamp(&mut producer, SHARD, 0);
        assert!(producer.begin(Incarnation(5)).is_empty(), "the same life goes on");
        assert_eq!(producer.in_flight(SHARD), 1);
        let open = producer.begin(Incarnation(8));
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].1.proposal.producer, Stamp { incarnation: Incarnation(5), sequence: 1 });
        assert_eq!(stamp(&mut producer, SHARD, 0), 1);
    }
}
