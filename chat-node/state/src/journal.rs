//! What both kinds of state machine have in common: counters, settings, level, producers, and what is asked of these.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    channels::ChannelShard,
    command::{Command, CommonCommand},
    directory::Directory,
    entry::{Entry, Proposal},
    event::{Event, EventKind},
    ids::{FeatureLevel, Incarnation, Index, Lineage, Place, Position, ShardId, UserId},
    kept::Kept,
    outcome::{Outcome, Refusal},
    producers::Producers,
    settings::Settings,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Journal {
    pub(crate) shard: ShardId,
    pub(crate) position: Position,
    pub(crate) index: Index,
    pub(crate) time_ms: u64,
    /// Each lineage by the position after which it began.
    pub(crate) lineages: BTreeMap<Position, Lineage>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) level: FeatureLevel,
    pub(crate) producers: Producers,
}

impl Journal {
    pub(crate) fn new(shard: ShardId, lineage: Lineage) -> Self {
        Self {
            shard,
            position: Position(0),
            index: Index(0),
            time_ms: 0,
            lineages: BTreeMap::from([(Position(0), lineage)]),
            settings: Arc::default(),
            level: FeatureLevel::default(),
            producers: Producers::default(),
        }
    }

    pub(crate) fn begin(&mut self, entry: &Entry) {
        assert!(
            entry.index > self.index,
            "shard {}: entry {} comes after entry {}: the log must deliver each entry once and in order",
            self.shard,
            entry.index,
            self.index
        );
        self.index = entry.index;
        self.time_ms = evened_time(self.time_ms, entry.time_ms);
    }

    pub(crate) fn next_position(&self) -> Position {
        Position(self.position.0 + 1)
    }

    pub(crate) fn number(&mut self, dir_at: Position, actor: Option<UserId>, kind: EventKind) -> Arc<Event> {
        self.position = self.next_position();
        Arc::new(Event { position: self.position, time_ms: self.time_ms, dir_at, actor, kind })
    }

    pub(crate) fn lineage(&self) -> Lineage {
        *self.lineages.values().next_back().expect("there is a first lineage")
    }

    pub(crate) fn lineage_at(&self, position: Position) -> Lineage {
        let before = Position(position.0.saturating_sub(1));
        self.lineages.range(..=before).next_back().map_or_else(|| self.lineage(), |(_, lineage)| *lineage)
    }

    /// The entry that begins a lineage, if this is one: it has no place in the stream of a node.
    pub(crate) fn take_lineage(&mut self, proposal: &Proposal) -> Option<Result<EventKind, Outcome>> {
        let Command::Common(CommonCommand::BeginLineage(lineage)) = proposal.command else { return None };
        if proposal.producer.incarnation != Incarnation(0) {
            return Some(Err(Outcome::Refused(Refusal::Malformed)));
        }
        if lineage <= self.lineage() {
            return Some(Err(Outcome::Repeated));
        }
        self.begin_lineage(lineage);
        Some(Ok(EventKind::LineageBegun { lineage }))
    }

    /// As [`ChannelShard::place_of`].
    pub(crate) fn place_of(&self, lineage: Lineage, position: Position) -> Place {
        let Some((begun, _)) = self.lineages.iter().find(|(_, known)| **known == lineage) else {
            let next = self.lineages.iter().find(|(_, known)| **known > lineage);
            return next.map_or(Place::Later, |(begun, _)| Place::Replaced(*begun));
        };
        let left = self.lineages.range((Bound::Excluded(*begun), Bound::Unbounded)).next();
        match left {
            Some((left, _)) if position > *left => Place::Lost(*left),
            // Also before its beginning: that is how a client says that it lost all that it saw of it.
            _ => Place::Here(position),
        }
    }

    pub(crate) fn begin_lineage(&mut self, lineage: Lineage) {
        assert!(lineage >= self.lineage(), "shard {}: lineages only rise", self.shard);
        self.lineages.insert(self.position, lineage);
    }

    pub(crate) fn take_settings(&mut self, settings: &Arc<Settings>) -> Result<(), Refusal> {
        if settings.revision <= self.settings.revision {
            return Err(Refusal::NoChange);
        }
        self.settings = Arc::clone(settings);
        Ok(())
    }

    pub(crate) fn raise_level(&mut self, level: FeatureLevel) -> Result<EventKind, Refusal> {
        if level > FeatureLevel::SUPPORTED {
            // `Entry::decode` stops the node before it gets here.
            return Err(Refusal::Malformed);
        }
        if level <= self.level {
            return Err(Refusal::NoChange);
        }
        self.level = level;
        Ok(EventKind::LevelRaised { level })
    }
}

/// What either kind of state machine is asked in the same words, and answers from its journal and its kept events.
macro_rules! answer_from_journal {
    ($machine:ty) => {
        impl $machine {
            /// Calls `outcome` once per proposal, in order.
            pub fn apply(&mut self, entry: &Entry, mut outcome: impl FnMut(&Proposal, Outcome)) {
                self.begin(entry);
                for proposal in &entry.proposals {
                    let result = self.apply_one(proposal);
                    outcome(proposal, result);
                }
                self.end();
            }

            /// Position of the last event.
            pub fn position(&self) -> Position {
                self.state.journal.position
            }

            /// Number of the last entry applied.
            pub fn index(&self) -> Index {
                self.state.journal.index
            }

            /// Time of the last entry, evened out.
            pub fn time_ms(&self) -> u64 {
                self.state.journal.time_ms
            }

            pub fn settings(&self) -> &Arc<Settings> {
                &self.state.journal.settings
            }

            pub fn level(&self) -> FeatureLevel {
                self.state.journal.level
            }

            /// Where a position of a lineage is in the present history.
            pub fn place_of(&self, lineage: Lineage, position: Position) -> Place {
                self.state.journal.place_of(lineage, position)
            }

            pub fn lineage(&self) -> Lineage {
                self.state.journal.lineage()
            }

            /// The lineage under which the event at `position` was numbered: with it, its msgid.
            pub fn lineage_at(&self, position: Position) -> Lineage {
                self.state.journal.lineage_at(position)
            }

            /// What follows is numbered under `lineage`. To be called at the same position on every replica.
            pub fn begin_lineage(&mut self, lineage: Lineage) {
                self.state.journal.begin_lineage(lineage);
            }

            pub fn producers(&self) -> &Producers {
                &self.state.journal.producers
            }

            /// The events after `position`, or the position of the oldest one kept when some are gone.
            pub fn events_since(
                &self,
                position: Position,
            ) -> Result<impl Iterator<Item = &Arc<Event>>, Position> {
                self.kept.since(position)
            }

            pub fn kept(&self) -> &Kept {
                &self.kept
            }
        }
    };
}

answer_from_journal!(Directory);
answer_from_journal!(ChannelShard);

/// Time as `apply` sees it never goes back.
fn evened_time(last_ms: u64, stamped_ms: u64) -> u64 {
    last_ms.max(stamped_ms)
}
