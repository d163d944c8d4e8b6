//! One entry at a time: every proposal gets its outcome, every outcome that is an event its position.

use std::sync::Arc;

use crate::{
    command::{Command, CommonCommand, DirectoryCommand},
    directory::Directory,
    entry::{Entry, Proposal},
    event::{Event, EventKind},
    ids::{Position, UserId},
    outcome::{Outcome, Refusal},
};

/// What a proposal does: to whom, and what.
pub(super) type Happening = (Option<UserId>, EventKind);

impl Directory {
    /// Begins an entry, for who looks at the state between its proposals: [`Self::apply_one`] follows for each of
    /// them in order, then [`Self::end`].
    pub fn begin(&mut self, entry: &Entry) {
        self.state.journal.begin(entry);
    }

    /// Ends the entry that was begun.
    pub fn end(&mut self) {
        let (now, window) = (self.state.journal.time_ms, self.state.journal.settings.resume_window_ms);
        while let Some(event) = self.kept.pop_past(now, window) {
            self.note_lost(&event);
        }
    }

    fn note_lost(&mut self, event: &Event) {
        let (EventKind::NickChanged { user, .. }
        | EventKind::AwayChanged { user, .. }
        | EventKind::RealNameChanged { user, .. }) = &event.kind
        else {
            return;
        };
        if let Some(user) = self.state.users.get_mut(user) {
            Arc::make_mut(user).lost = event.position;
        } else if let Some(closing) = self.state.closing.get_mut(user) {
            Arc::make_mut(closing).user.lost = event.position;
        }
    }

    /// The next proposal of the entry that was begun.
    pub fn apply_one(&mut self, proposal: &Proposal) -> Outcome {
        if let Some(begun) = self.state.journal.take_lineage(proposal) {
            return match begun {
                Ok(kind) => Outcome::Happened(self.record(proposal.dir_at, None, kind)),
                Err(outcome) => outcome,
            };
        }
        let happening = match &proposal.command {
            // The one proposal that has no place in a stream: it makes the stream.
            Command::Directory(DirectoryCommand::RegisterNode { member, nonce, level }) => {
                match self.register_node(*member, *nonce, *level) {
                    Ok(happening) => Ok(happening),
                    Err(outcome) => return outcome,
                }
            }
            command => {
                let producers = &mut self.state.journal.producers;
                if let Err(outcome) = producers.admit_registered(proposal.producer, proposal.dir_at) {
                    return outcome;
                }
                self.carry_out(proposal, command)
            }
        };
        match happening {
            Ok((actor, kind)) => Outcome::Happened(self.record(proposal.dir_at, actor, kind)),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn record(&mut self, dir_at: Position, actor: Option<UserId>, kind: EventKind) -> Arc<Event> {
        let event = self.state.journal.number(dir_at, actor, kind);
        self.kept.push(Arc::clone(&event));
        event
    }

    fn carry_out(&mut self, proposal: &Proposal, command: &Command) -> Result<Happening, Refusal> {
        let node = proposal.producer.incarnation;
        match command {
            Command::Common(command) => self.common(command),
            Command::Channel(_) => Err(Refusal::Malformed),
            Command::Directory(command) => match command {
                DirectoryCommand::RegisterNode { .. } => Err(Refusal::Malformed),
                DirectoryCommand::Open(open) => self.open(node, open),
                DirectoryCommand::Attach(attach) => self.attach(node, attach),
                DirectoryCommand::Detach { session, generation, reason } => {
                    self.detach(*session, *generation, reason)
                }
                DirectoryCommand::ConfirmToken { session, generation } => {
                    self.confirm_token(*session, *generation)
                }
                DirectoryCommand::Close { session, generation, reason } => {
                    self.close(*session, *generation, reason)
                }
                DirectoryCommand::Expire { session, generation } => self.expire(*session, *generation),
                DirectoryCommand::Free { user, forgotten } => self.free(*user, forgotten),
                DirectoryCommand::Nick { nick } => self.nick(self.asking(proposal)?, nick),
                DirectoryCommand::Away { message } => self.away(self.asking(proposal)?, message.as_deref()),
                DirectoryCommand::RealName { real_name } => self.real_name(self.asking(proposal)?, real_name),
                DirectoryCommand::UserModes { set, clear } => {
                    self.user_modes(self.asking(proposal)?, *set, *clear)
                }
                DirectoryCommand::Reach { shards } => self.reach(self.asking(proposal)?, shards),
            },
        }
    }

    /// The user on whose behalf a session asks, if the session is still where it was.
    fn asking(&self, proposal: &Proposal) -> Result<UserId, Refusal> {
        let origin = proposal.origin.ok_or(Refusal::Malformed)?;
        let session = self.session(origin.session).ok_or(Refusal::StaleSession)?;
        if session.user != origin.user {
            return Err(Refusal::Malformed);
        }
        let here = session.incarnation == Some(proposal.producer.incarnation);
        if session.generation != origin.generation || !here {
            return Err(Refusal::StaleSession);
        }
        Ok(origin.user)
    }

    fn common(&mut self, command: &CommonCommand) -> Result<Happening, Refusal> {
        let kind = match command {
            CommonCommand::Settings(settings) => {
                self.state.journal.take_settings(settings)?;
                EventKind::Settings { revision: settings.revision, topics: Vec::new() }
            }
            CommonCommand::RaiseLevel(level) => {
                if self.nodes().any(|(_, node)| node.level < *level) {
                    return Err(Refusal::NoChange);
                }
                self.state.journal.raise_level(*level)?
            }
            CommonCommand::DropNode(incarnation) => {
                let detached = self.drop_node(*incarnation)?;
                EventKind::NodeDropped { incarnation: *incarnation, detached }
            }
            // Taken before it gets here.
            CommonCommand::BeginLineage(_) => return Err(Refusal::Malformed),
        };
        Ok((None, kind))
    }
}
