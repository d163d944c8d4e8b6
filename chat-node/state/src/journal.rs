//! What both kinds of state machine have in common: counters, settings, level, producers.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    entry::Entry,
    event::{Event, EventKind},
    ids::{FeatureLevel, Index, Lineage, Position, ShardId, UserId},
    outcome::Refusal,
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

/// Time as `apply` sees it never goes back.
fn evened_time(last_ms: u64, stamped_ms: u64) -> u64 {
    last_ms.max(stamped_ms)
}
