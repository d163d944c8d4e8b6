//! The gate: known bugs are brought back one by one, and each must be caught. A check that cannot fail is worthless.

use chat_state::mutation::{Mutation, activate};

use crate::{Report, run};

/// In so many seeds each must be caught.
pub const SEEDS: u64 = 200;

pub const ALL: &[(&str, Mutation)] = &[
    ("ack before fsync", Mutation::AckBeforeFsync),
    ("ack at accept", Mutation::AckAtAccept),
    ("tail cut on any CRC error", Mutation::TailCutOnAnyError),
    ("deduplication table not in the snapshot", Mutation::DeduplicationNotInSnapshot),
    ("resume off by one", Mutation::ResumeOffByOne),
    ("delivery before dir_at", Mutation::DeliveryBeforeDirAt),
    ("a forgotten user rejoins", Mutation::ForgottenRejoins),
    ("a stale expiry is applied", Mutation::StaleExpiry),
    ("a node-local setting is read in apply", Mutation::NodeLocalSetting),
];

/// The first run that catches the mutation.
pub fn first_catch(mutation: Mutation) -> Option<Report> {
    (0..SEEDS).map(|seed| run_with(mutation, seed)).find(|report| report.violation.is_some())
}

pub fn run_with(mutation: Mutation, seed: u64) -> Report {
    activate(Some(mutation));
    let report = run(seed, false);
    activate(None);
    report
}
