//! A channel shard as bytes, and back: the state with an index of its history, and chunks of messages beside it.
//!
//! A chunk is written once: messages that it holds and history gave up since are not in the index any more.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    channels::{ChannelShard, Conversation, Derived, Record, State, conversation::ConversationKey},
    event::Event,
    ids::{Index, Position, ShardId, UserId, home_shard},
    kept::Kept,
    names::folded,
    snapshot::{Content, RestoreError, decode, encode, refuse_unknown_level},
};

/// The state at one position. Cheap to take: it shares all that does not change meanwhile; encode it elsewhere.
#[derive(Clone, Debug)]
pub struct Snapshot {
    state: State,
    kept: Kept,
    conversations: BTreeMap<ConversationKey, Arc<Conversation>>,
}

/// An event kept for resumes.
#[derive(Serialize, Deserialize)]
enum KeptEvent {
    Whole(Arc<Event>),
    /// A message that history has at this position.
    InHistory,
}

/// A conversation without its messages.
#[derive(Serialize, Deserialize)]
struct ConversationIndex {
    key: ConversationKey,
    last_number: u64,
    owners: BTreeSet<UserId>,
    /// Where its records are, each as the difference to the one before.
    places: Vec<i64>,
}

#[derive(Serialize, Deserialize)]
struct StoredRecord {
    source: ShardId,
    at: Position,
    event: Arc<Event>,
}

impl Snapshot {
    pub fn position(&self) -> Position {
        self.state.journal.position
    }

    pub fn index(&self) -> Index {
        self.state.journal.index
    }

    /// All but the messages of history; these are in chunks.
    pub fn encode_state(&self) -> Vec<u8> {
        let shard = self.state.journal.shard;
        let in_history: HashSet<Position> =
            self.records().filter(|record| record.source == shard).map(|record| record.at).collect();
        let events: Vec<KeptEvent> = self
            .kept
            .after(Position(0))
            .map(|event| {
                if in_history.contains(&event.position) {
                    KeptEvent::InHistory
                } else {
                    KeptEvent::Whole(Arc::clone(event))
                }
            })
            .collect();
        let index: Vec<ConversationIndex> =
            self.conversations.iter().map(|(key, conversation)| index_of(*key, conversation)).collect();
        encode(Content::Channels, &(&self.state, self.kept.oldest(), events, index))
    }

    /// The messages that history got after `after` and still has: with the chunks up to there, all of it.
    pub fn encode_history(&self, after: Position) -> Vec<u8> {
        let mut records: Vec<StoredRecord> = self
            .records()
            .filter(|record| record.at > after)
            .map(|record| StoredRecord {
                source: record.source,
                at: record.at,
                event: Arc::clone(&record.event),
            })
            .collect();
        records.sort_by_key(|record| record.at);
        encode(Content::History, &records)
    }

    /// Position of the oldest message that history keeps: chunks that end before it can go.
    pub fn oldest_history(&self) -> Option<Position> {
        self.records().map(|record| record.at).min()
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.conversations.values().flat_map(|conversation| conversation.iter())
    }
}

fn index_of(key: ConversationKey, conversation: &Conversation) -> ConversationIndex {
    let mut last = 0;
    let places = conversation
        .iter()
        .map(|record| {
            let step = record.at.0.cast_signed() - last;
            last += step;
            step
        })
        .collect();
    ConversationIndex {
        key,
        last_number: conversation.last_number,
        owners: conversation.owners.clone(),
        places,
    }
}

impl ChannelShard {
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.state.clone(),
            kept: self.kept.clone(),
            conversations: self.conversations.clone(),
        }
    }

    /// The bytes of the present state. Off the apply thread: [`Self::snapshot`] first.
    pub fn encode_state(&self) -> Vec<u8> {
        self.snapshot().encode_state()
    }

    /// As [`Snapshot::encode_history`], of the present state.
    pub fn encode_history(&self, after: Position) -> Vec<u8> {
        self.snapshot().encode_history(after)
    }

    /// `chunks` hold every message of history between them, in any order.
    pub fn restore<'a>(state: &[u8], chunks: impl Iterator<Item = &'a [u8]>) -> Result<Self, RestoreError> {
        let (state, oldest, events, index): (State, Position, Vec<KeptEvent>, Vec<ConversationIndex>) =
            decode(Content::Channels, state)?;
        refuse_unknown_level(state.journal.level)?;
        #[cfg(feature = "mutations")]
        let state = state.without_ids();
        let shard = state.journal.shard;
        let mut stored: HashMap<Position, StoredRecord> = HashMap::new();
        for chunk in chunks {
            let records: Vec<StoredRecord> = decode(Content::History, chunk)?;
            stored.extend(records.into_iter().map(|record| (record.at, record)));
        }
        let find = |at: Position| stored.get(&at).ok_or(RestoreError::MissingMessage { shard, position: at });
        let mut conversations = BTreeMap::new();
        for entry in index {
            let mut last = 0_i64;
            let mut records = VecDeque::with_capacity(entry.places.len());
            for step in entry.places {
                last = last.wrapping_add(step);
                let record = find(Position(last.cast_unsigned()))?;
                records.push_back(Record {
                    source: record.source,
                    at: record.at,
                    event: Arc::clone(&record.event),
                });
            }
            let conversation = Conversation::refill(entry.last_number, entry.owners, records);
            conversations.insert(entry.key, Arc::new(conversation));
        }
        let mut whole = Vec::with_capacity(events.len());
        for (offset, event) in (0_u64..).zip(events) {
            whole.push(match event {
                KeptEvent::Whole(event) => event,
                KeptEvent::InHistory => Arc::clone(&find(Position(oldest.0.wrapping_add(offset)))?.event),
            });
        }
        let kept = Kept::refill(oldest, whole, state.journal.position)?;
        let derived = Derived::of(&state, &conversations);
        if derived.names.len() != state.channels.len() {
            return Err(RestoreError::Contradiction("two channels have one name"));
        }
        Ok(Self { state, kept, conversations, derived })
    }
}

impl Derived {
    fn of(state: &State, conversations: &BTreeMap<ConversationKey, Arc<Conversation>>) -> Self {
        let mut derived = Self {
            names: state.channels.iter().map(|(id, channel)| (folded(&channel.name), *id)).collect(),
            by_closing: state.forgotten.iter().map(|(user, forgotten)| (forgotten.closing, *user)).collect(),
            ..Self::default()
        };
        for (key, conversation) in conversations {
            if let ConversationKey::Direct(one, other) = key {
                derived.peers.entry(*one).or_default().insert(*other);
                derived.peers.entry(*other).or_default().insert(*one);
                for record in conversation.iter().filter(|record| record.source == state.journal.shard) {
                    let dest = record.event.actor.map(|sender| home_shard(sender, state.shards));
                    let last = derived.last_due.entry(dest.unwrap_or(record.source)).or_default();
                    *last = record.at.max(*last);
                }
            }
            if let Some(oldest) = conversation.oldest() {
                derived.aging.insert((oldest.event.time_ms, *key));
                derived.by_size.insert((conversation.bytes(), *key));
                derived.history_bytes += conversation.bytes();
            }
        }
        derived
    }
}
