//! Nicks that are given way to: whoever asked for one waits until the directory frees it, then asks again.

use chat_state::{
    command::{Command, DirectoryCommand},
    entry::{Origin, Proposal},
    event::{Event, EventKind},
    ids::{ShardId, UserId},
};

use crate::{connection::Pending, deliver::Asker, worker::Worker};

/// A command that will be sent again.
pub(crate) struct Claim {
    origin: Option<Origin>,
    command: Command,
}

impl Worker {
    /// If what came of an Open or NICK is that the nick's owner closes for it, the asker goes on waiting.
    pub(crate) fn waits_for_nick(
        &mut self,
        proposal: &Proposal,
        event: &Event,
        asker: &mut Option<Asker>,
        ours: bool,
    ) {
        let EventKind::Closing { user: owner, .. } = &event.kind else { return };
        match &proposal.command {
            Command::Directory(DirectoryCommand::Open(open)) if ours && self.asked_here(open.request) => {}
            Command::Directory(DirectoryCommand::Nick { .. }) => {
                let Some(Asker { id, pending: Some(pending) }) = asker.take() else { return };
                self.connection_mut(id).pending.push_front(pending);
            }
            _ => return,
        }
        let claim = Claim { origin: proposal.origin, command: proposal.command.clone() };
        self.claims.entry(*owner).or_default().push(claim);
    }

    /// The owner's nick is free: those who waited ask again, in the order they came.
    pub(crate) fn nick_freed(&mut self, owner: UserId) {
        for Claim { origin, command } in self.claims.remove(&owner).unwrap_or_default() {
            let waits = match (&origin, &command) {
                (Some(origin), _) => self.still_asks(*origin),
                (None, Command::Directory(DirectoryCommand::Open(open))) => {
                    self.opening.contains_key(&open.request)
                }
                (None, _) => false,
            };
            if waits {
                self.request(ShardId::DIRECTORY, origin, command);
            }
        }
    }

    fn still_asks(&self, origin: Origin) -> bool {
        let Some(id) = self.by_session.get(&origin.session) else { return false };
        let asks = |pending: &Pending| pending.shard.is_directory() && pending.request == origin.request;
        self.connection(*id).pending.iter().any(asks)
    }
}
