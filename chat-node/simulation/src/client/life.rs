//! What one life of a client – a session, over all its connections – sent and saw.

use std::collections::{BTreeMap, BTreeSet};

/// What a client sees of events, and so what is recorded and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Position in the shard; a client without message-tags does not see it.
    pub(crate) position: Option<u64>,
    /// Command, user name of who did it, place, text.
    pub(crate) what: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    pub(crate) username: String,
    /// The client was welcomed.
    pub(crate) began: bool,
    /// It is over: nothing more will be seen.
    pub(crate) over: bool,
    pub(crate) kind: Kind,
    /// By channel shard, in the order in which it came.
    pub(crate) seen: BTreeMap<u16, Vec<Seen>>,
    /// Of each shard: where it was told that something before this position is gone, and how much it had seen then.
    pub(crate) gaps: BTreeMap<u16, Vec<(usize, u64)>>,
    /// The connection ended after a gap was told and before the channels were shown anew: what it is in is not known.
    pub(crate) lost_sight: bool,
    /// Shards of which it saw what is not in the log any more, and was not told so yet.
    pub(crate) deceived: BTreeSet<u16>,
    /// It saw, without places, what is not in the log any more.
    pub(crate) unknowable: bool,
    /// First words of its messages that were acknowledged: nobody else ever says them.
    pub(crate) acknowledged: Vec<String>,
    /// First words in the order in which they were first sent.
    pub(crate) sent: Vec<String>,
    /// A message was refused and sent again later: order between messages is the client's own doing.
    pub(crate) reordered: bool,
}

/// Capabilities that decide what is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) resume: bool,
    /// `chatroom.dev/id`
    pub(crate) ids: bool,
    pub(crate) echo: bool,
    pub(crate) labels: bool,
    pub(crate) tags: bool,
    /// Standard ones that change lines and not what is seen.
    pub(crate) extras: u8,
}

impl Kind {
    pub(crate) fn capabilities(self) -> String {
        let mut names = Vec::new();
        if self.tags {
            names.extend(["message-tags", "batch"]);
        }
        for (on, name) in [
            (self.resume, "chatroom.dev/resume"),
            (self.ids, "chatroom.dev/id"),
            (self.ids, "standard-replies"),
            (self.echo, "echo-message"),
            (self.labels, "labeled-response"),
            (self.extras & 1 != 0, "server-time"),
            (self.extras & 2 != 0, "extended-join"),
            (self.extras & 4 != 0, "multi-prefix"),
            (self.extras & 8 != 0, "away-notify"),
            (self.extras & 16 != 0, "setname"),
            (self.tags && self.extras & 32 != 0, "draft/chathistory"),
        ] {
            if on {
                names.push(name);
            }
        }
        names.join(" ")
    }

    pub(crate) fn reads_history(self) -> bool {
        self.tags && self.extras & 32 != 0
    }
}

/// What is recorded of an event.
pub(crate) fn what(command: &str, username: &str, place: &str, text: &str) -> String {
    format!("{command} {username} {} {text}", place.to_ascii_lowercase())
}

/// What a text is known by: the server may cut what follows.
pub(crate) fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}
