//! Known bugs that the simulation brings back, to see that it catches them. Only there: other builds have none of this.

use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The log answers before its disk does.
    AckBeforeFsync,
    /// The log answers what it has taken in, and writes it with the next batch.
    AckAtAccept,
    /// Recovery takes any record that cannot be read for the torn end of the log.
    TailCutOnAnyError,
    /// A restored shard does not know the ids of the messages it has.
    DeduplicationNotInSnapshot,
    /// A replay begins one event late.
    ResumeOffByOne,
    /// Entries of channel shards do not wait for the directory, nor the directory for them.
    DeliveryBeforeDirAt,
    /// What was on its way when a shard forgot its user is accepted.
    ForgottenRejoins,
    /// The end of a resume window ends a session that was resumed meanwhile.
    StaleExpiry,
    /// What `apply` makes of an entry depends on who applies it.
    NodeLocalSetting,
    /// An append without an answer is sent again after those that waited behind it.
    RetryOvertakes,
    /// What a store answered and lost again is not missed.
    LossUnnoticed,
    /// A client that saw what a store lost is not told.
    LossUntold,
    /// A worker that lags is not given what it lagged by.
    LaggingMissesEntries,
    /// A node whose life the room has ended goes on.
    DroppedGoesOn,
    /// Appends name no lineage, and are made before the store was compared with what the node has.
    AppendWithoutLineage,
    /// A store's next process goes on under the same lineage.
    LineageGoesOn,
}

thread_local! {
    static ACTIVE: Cell<Option<Mutation>> = const { Cell::new(None) };
    static READ: Cell<u16> = const { Cell::new(0) };
}

/// From now on, on this thread.
pub fn activate(mutation: Option<Mutation>) {
    ACTIVE.set(mutation);
    READ.set(0);
}

pub fn is(mutation: Mutation) -> bool {
    ACTIVE.get() == Some(mutation)
}

/// Something that is not the same for all who ask.
pub fn local_setting() -> u16 {
    READ.set(READ.get().wrapping_add(1));
    READ.get() % 7
}
