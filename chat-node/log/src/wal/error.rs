//! What can go wrong with the write-ahead log, in words for whoever runs the node.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum WalError {
    #[error("cannot {action} {file}: {source}")]
    Io { action: &'static str, file: String, source: io::Error },
    #[error(
        "{file} is damaged at byte {offset}: {what}. Nothing was changed. Bring the data directory back from a \
         backup, or remove it and let the node join as a new member"
    )]
    Damaged { file: String, offset: u64, what: &'static str },
    #[error(
        "{file} has {length} of its {capacity} bytes: it was cut. Bring the data directory back from a backup, or \
         remove it and let the node join as a new member"
    )]
    Cut { file: String, length: u64, capacity: u64 },
    #[error(
        "{file} is missing: bring the data directory back from a backup, or remove it and let the node join as a new member"
    )]
    Missing { file: String },
    #[error(
        "{file} holds a log, but the data directory has no identity: bring the file `identity` back, or start with \
         an empty directory"
    )]
    Unexpected { file: String },
    #[error(
        "{file} belongs to the log {found:016x}, not to this one ({expected:016x}): it was copied here from another node"
    )]
    Foreign { file: String, expected: u64, found: u64 },
    #[error("{file} says that it is segment {sequence}: it was renamed")]
    Misnamed { file: String, sequence: u64 },
    #[error(
        "{file} has format {found}, which this program does not know: start the version that wrote it, or a newer one"
    )]
    Version { file: String, found: u32 },
    #[error(
        "there is no space to begin the log ({needed} bytes): free some, or give the node a larger volume"
    )]
    NoSpace { needed: u64 },
    #[error("the log is broken by an earlier error; the process must end")]
    Broken,
}

impl WalError {
    pub(super) fn io(action: &'static str, file: &str, source: io::Error) -> Self {
        Self::Io { action, file: file.to_owned(), source }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Definite: nothing of the batch is in the log or ever will be.
    #[error("the disk is full")]
    Full,
    /// The fate of the batch is unknown, and the log takes no more.
    #[error("{0}")]
    Fatal(#[source] WalError),
}
