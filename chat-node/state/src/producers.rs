//! The ordered streams of the nodes: what arrives is the next of its stream, a repeat, or refused.
//!
//! A node numbers its proposals to a shard 1, 2, 3 … An unknown result is sent again under its old number, so a retry
//! can neither overtake what came before it nor be taken twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    entry::Stamp,
    ids::{Incarnation, Position},
    outcome::{Outcome, Refusal},
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producers {
    open: BTreeMap<Incarnation, Producer>,
    /// Incarnations up to here that are not open are over, whether they ever spoke here or not.
    dropped_through: Incarnation,
}

/// One life of a node, as this shard has heard it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    pub last_sequence: u64,
    /// Highest directory position that it claimed to have seen.
    pub heard: Position,
}

impl Producers {
    /// Takes the stamp if it is the next one of its stream. A node that never spoke here is taken in.
    pub(crate) fn admit(&mut self, stamp: Stamp, dir_at: Position) -> Result<(), Outcome> {
        if !self.open.contains_key(&stamp.incarnation) {
            if self.is_over(stamp.incarnation) {
                return Err(Outcome::Refused(Refusal::UnknownNode));
            }
            if stamp.sequence != 1 {
                return Err(Outcome::Refused(Refusal::Gap { expected: 1 }));
            }
        }
        let producer =
            self.open.entry(stamp.incarnation).or_insert(Producer { last_sequence: 0, heard: Position(0) });
        next_in_stream(producer.last_sequence, stamp.sequence)?;
        producer.last_sequence = stamp.sequence;
        producer.heard = producer.heard.max(dir_at);
        Ok(())
    }

    /// As [`Self::admit`], for the shard that registers the nodes: who is not registered is unknown.
    pub(crate) fn admit_registered(&mut self, stamp: Stamp, dir_at: Position) -> Result<(), Outcome> {
        if self.open.contains_key(&stamp.incarnation) {
            self.admit(stamp, dir_at)
        } else {
            Err(Outcome::Refused(Refusal::UnknownNode))
        }
    }

    pub(crate) fn register(&mut self, incarnation: Incarnation) {
        self.open.insert(incarnation, Producer { last_sequence: 0, heard: Position(0) });
    }

    /// False if it was over already.
    pub(crate) fn drop_node(&mut self, incarnation: Incarnation) -> bool {
        let over = self.is_over(incarnation) && !self.open.contains_key(&incarnation);
        self.open.remove(&incarnation);
        self.dropped_through = self.dropped_through.max(incarnation);
        !over
    }

    /// Not open, and not to be taken in any more. 0 is nobody.
    fn is_over(&self, incarnation: Incarnation) -> bool {
        incarnation <= self.dropped_through || incarnation == Incarnation(0)
    }

    /// The directory position that every open node was heard with or past.
    pub fn heard_by_all(&self) -> Position {
        self.open.values().map(|producer| producer.heard).min().unwrap_or(Position(0))
    }

    pub fn open(&self) -> impl Iterator<Item = (Incarnation, Producer)> + '_ {
        self.open.iter().map(|(incarnation, producer)| (*incarnation, *producer))
    }

    pub fn get(&self, incarnation: Incarnation) -> Option<Producer> {
        self.open.get(&incarnation).copied()
    }
}

fn next_in_stream(last: u64, sequence: u64) -> Result<(), Outcome> {
    if sequence <= last {
        Err(Outcome::Repeated)
    } else if sequence == last + 1 {
        Ok(())
    } else {
        Err(Outcome::Refused(Refusal::Gap { expected: last + 1 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(incarnation: u64, sequence: u64) -> Stamp {
        Stamp { incarnation: Incarnation(incarnation), sequence }
    }

    #[test]
    fn a_stream_has_no_holes_and_no_repeats() {
        let mut producers = Producers::default();
        let at = Position(0);
        assert_eq!(producers.admit(stamp(7, 2), at), Err(Outcome::Refused(Refusal::Gap { expected: 1 })));
        assert_eq!(producers.admit(stamp(7, 1), at), Ok(()));
        assert_eq!(producers.admit(stamp(7, 1), at), Err(Outcome::Repeated));
        assert_eq!(producers.admit(stamp(7, 3), at), Err(Outcome::Refused(Refusal::Gap { expected: 2 })));
        assert_eq!(producers.admit(stamp(7, 2), at), Ok(()));
        assert_eq!(producers.admit(stamp(7, 0), at), Err(Outcome::Repeated));
    }

    #[test]
    fn a_dropped_node_and_all_silent_ones_before_it_are_unknown() {
        let mut producers = Producers::default();
        let at = Position(0);
        producers.admit(stamp(5, 1), at).unwrap();
        producers.admit(stamp(9, 1), at).unwrap();
        assert!(producers.drop_node(Incarnation(9)));
        assert!(!producers.drop_node(Incarnation(9)), "it was over");
        let unknown = Err(Outcome::Refused(Refusal::UnknownNode));
        assert_eq!(producers.admit(stamp(9, 2), at), unknown);
        assert_eq!(producers.admit(stamp(8, 1), at), unknown, "never spoke, older than the dropped one");
        assert_eq!(producers.admit(stamp(5, 2), at), Ok(()), "an open one goes on");
        assert_eq!(producers.admit(stamp(10, 1), at), Ok(()), "a newer one is taken in");
        assert_eq!(producers.admit(stamp(0, 1), at), unknown);
    }

    #[test]
    fn heard_is_the_slowest_open_node() {
        let mut producers = Producers::default();
        producers.admit(stamp(5, 1), Position(20)).unwrap();
        producers.admit(stamp(9, 1), Position(10)).unwrap();
        assert_eq!(producers.heard_by_all(), Position(10));
        producers.drop_node(Incarnation(9));
        assert_eq!(producers.heard_by_all(), Position(20));
    }
}
