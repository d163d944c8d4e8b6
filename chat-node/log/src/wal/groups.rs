//! What the records of each group add up to, in the order of the log.

use std::collections::BTreeMap;

use super::{Kind, Record};

/// One group: a shard's log, or a Raft group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Oldest entry in the files, with its term; `None` when there is none.
    pub first: Option<u64>,
    /// Newest entry that is valid, or the index up to which the group was purged or released if that is higher.
    pub last: u64,
    /// A durable snapshot covers everything up to here.
    pub released: u64,
    pub vote: Option<Kept>,
    pub committed: Option<Kept>,
    /// Of the newest purge.
    pub purged: Option<Kept>,
}

/// The newest record of a kind of which only the newest counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub term: u64,
    pub index: u64,
    pub payload: Vec<u8>,
}

impl Kept {
    fn new(record: &Record<'_>) -> Self {
        Self { term: record.term, index: record.index, payload: record.payload.to_vec() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Groups(pub(super) BTreeMap<u16, Group>);

impl Groups {
    /// Takes a record in. An error says which order it breaks; nothing changed then.
    pub(super) fn take(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        if record.kind == Kind::Mark {
            return Ok(());
        }
        let group = self.0.entry(record.group).or_default();
        match record.kind {
            Kind::Entry => {
                if record.index == 0 {
                    return Err("an entry has the number 0");
                }
                // The oldest that is kept may have any number: what came before was let go of.
                let follows = match group.first {
                    Some(_) => record.index == group.last + 1,
                    None => record.index > group.last,
                };
                if !follows {
                    return Err("an entry does not follow the one before it in its group");
                }
                group.first.get_or_insert(record.index);
                group.last = record.index;
            }
            Kind::Truncate => {
                if record.index > group.last && group.first.is_some() {
                    return Err("a truncation names an entry that was never there");
                }
                if group.first.is_some_and(|first| first > record.index) {
                    group.first = None;
                }
                group.last = record.index;
            }
            Kind::Purge => {
                group.last = group.last.max(record.index);
                group.released = group.released.max(record.index);
                group.purged = Some(Kept::new(record));
            }
            Kind::Vote => group.vote = Some(Kept::new(record)),
            Kind::Committed => group.committed = Some(Kept::new(record)),
            Kind::Mark => unreachable!("answered above"),
        }
        Ok(())
    }
}
