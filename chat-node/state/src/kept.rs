//! The events that are kept for those who resume: a window over the last positions of a shard, cheap to clone.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    event::{Event, EventKind},
    ids::Position,
    snapshot::RestoreError,
};

/// Most events that a shard keeps for resumes, whatever the resume window says.
pub const KEPT_EVENTS: usize = 65_536;
/// Most bytes of events (estimated by their text) that a shard keeps for resumes.
pub const KEPT_BYTES: usize = 32 << 20;

/// Events per block. A clone copies one pointer a block, and the next push copies at most one block.
const BLOCK: usize = 256;

#[derive(Clone, Debug)]
pub struct Kept {
    /// All but the last hold [`BLOCK`] events.
    blocks: VecDeque<Arc<Vec<Arc<Event>>>>,
    /// Slots of the first block that were given up.
    skipped: usize,
    len: usize,
    bytes: usize,
    /// Position of the oldest event kept; of the next event when none is.
    oldest: Position,
}

impl Kept {
    pub(crate) fn starting_at(oldest: Position) -> Self {
        Self { blocks: VecDeque::new(), skipped: 0, len: 0, bytes: 0, oldest }
    }

    /// From a snapshot: `events` are those from `oldest` to `newest`, without holes.
    pub(crate) fn refill(
        oldest: Position,
        events: Vec<Arc<Event>>,
        newest: Position,
    ) -> Result<Self, RestoreError> {
        let mut kept = Self::starting_at(oldest);
        for event in events {
            if event.position != kept.next() {
                return Err(RestoreError::Contradiction("the kept events have a hole"));
            }
            kept.push(event);
        }
        if kept.next().0.checked_sub(1) != Some(newest.0) {
            return Err(RestoreError::Contradiction("the kept events do not end at its position"));
        }
        Ok(kept)
    }

    /// Position of the next event.
    fn next(&self) -> Position {
        Position(self.oldest.0.saturating_add(self.len as u64))
    }

    /// `event` has the position after the last one.
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        debug_assert_eq!(event.position, self.next(), "positions have no holes");
        self.bytes += weight(&event);
        self.len += 1;
        match self.blocks.back_mut() {
            Some(block) if block.len() < BLOCK => Arc::make_mut(block).push(event),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(event);
                self.blocks.push_back(Arc::new(block));
            }
        }
    }

    /// Gives up the oldest event if it is past a bound. Call until it returns none.
    pub(crate) fn pop_past(&mut self, now_ms: u64, window_ms: u64) -> Option<Arc<Event>> {
        let oldest = self.blocks.front()?.get(self.skipped)?;
        let too_old = oldest.time_ms.saturating_add(window_ms) < now_ms;
        if !too_old && self.len <= KEPT_EVENTS && self.bytes <= KEPT_BYTES {
            return None;
        }
        let event = Arc::clone(oldest);
        self.bytes -= weight(&event);
        self.len -= 1;
        self.skipped += 1;
        self.oldest = Position(event.position.0 + 1);
        if self.skipped == self.blocks[0].len() {
            self.blocks.pop_front();
            self.skipped = 0;
        }
        Some(event)
    }

    /// Position of the oldest event kept; of the next event when none is.
    pub fn oldest(&self) -> Position {
        self.oldest
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, position: Position) -> Option<&Arc<Event>> {
        let offset = usize::try_from(position.0.checked_sub(self.oldest.0)?).ok()?;
        if offset >= self.len {
            return None;
        }
        let slot = self.skipped + offset;
        self.blocks.get(slot / BLOCK)?.get(slot % BLOCK)
    }

    /// What is kept after `position`, oldest first, and from the back newest first.
    pub fn after(&self, position: Position) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let offset = (position.0 + 1).saturating_sub(self.oldest.0);
        let from = self.skipped + usize::try_from(offset).unwrap_or(usize::MAX).min(self.len);
        (from..self.skipped + self.len).map(|slot| &self.blocks[slot / BLOCK][slot % BLOCK])
    }

    /// As [`Self::after`], or the position of the oldest event when some of it is no longer kept.
    pub fn since(
        &self,
        position: Position,
    ) -> Result<impl DoubleEndedIterator<Item = &Arc<Event>>, Position> {
        if position.0 + 1 < self.oldest.0 { Err(self.oldest) } else { Ok(self.after(position)) }
    }
}

/// Bytes that an event is taken to hold: its text and a share for what surrounds it. Part of the state machine: it
/// decides what is kept.
pub(crate) fn weight(event: &Event) -> usize {
    const FRAME: usize = 160;
    FRAME
        + match &event.kind {
            EventKind::Message { message, .. } => {
                message.text.len() + message.tags.len() + message.prefix.len() + message.to_nick.len()
            }
            EventKind::Joined { prefix, real_name, .. } => prefix.len() + real_name.len(),
            EventKind::Parted { prefix, reason, .. } => prefix.len() + reason.as_ref().map_or(0, String::len),
            EventKind::Kicked { prefix, reason, .. } => prefix.len() + reason.len(),
            EventKind::TopicChanged { prefix, topic, .. } => prefix.len() + topic.len(),
            EventKind::AwayChanged { prefix, message, .. } => {
                prefix.len() + message.as_ref().map_or(0, String::len)
            }
            EventKind::Closing { prefix, reason, .. } | EventKind::Freed { prefix, reason, .. } => {
                prefix.len() + reason.len()
            }
            EventKind::ModeChanged { prefix, changes, .. } => prefix.len() + 64 * changes.len(),
            EventKind::Forgotten { channels, .. } => 24 * channels.len(),
            EventKind::Settings { topics, .. } => topics.iter().map(|(_, topic)| 24 + topic.len()).sum(),
            EventKind::NodeRegistered { detached, .. } | EventKind::NodeDropped { detached, .. } => {
                8 * detached.len()
            }
            _ => 64,
        }
}
