//! One entry at a time: every proposal gets its outcome, every outcome that is an event its position.

use std::sync::Arc;

use crate::{
    channels::{ChannelShard, CopyMark, copies::Original},
    command::{ChannelCommand, Command, CommonCommand, Target},
    entry::{Entry, Proposal},
    event::{Event, EventKind},
    ids::{ChannelId, Position, UserId},
    outcome::{Outcome, Refusal},
};

/// What a proposal does: by whom, and what.
pub(super) type Happening = (Option<UserId>, EventKind);

impl ChannelShard {
    /// Begins an entry, for who looks at the state between its proposals: [`Self::apply_one`] follows for each of
    /// them in order, then [`Self::end`].
    pub fn begin(&mut self, entry: &Entry) {
        self.state.journal.begin(entry);
        self.age_history();
    }

    /// Ends the entry that was begun.
    pub fn end(&mut self) {
        self.drop_kept();
    }

    /// The next proposal of the entry that was begun.
    pub fn apply_one(&mut self, proposal: &Proposal) -> Outcome {
        if let Some(begun) = self.state.journal.take_lineage(proposal) {
            return match begun {
                Ok(kind) => Outcome::Happened(self.record(proposal.dir_at, None, kind)),
                Err(outcome) => outcome,
            };
        }
        if let Err(outcome) = self.state.journal.producers.admit(proposal.producer, proposal.dir_at) {
            return outcome;
        }
        let outcome = self.carry_out(proposal);
        // Its node was heard, whatever became of what it asked for.
        self.forgive();
        match outcome {
            Ok((actor, kind)) => Outcome::Happened(self.record(proposal.dir_at, actor, kind)),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn carry_out(&mut self, proposal: &Proposal) -> Result<Happening, Refusal> {
        match &proposal.command {
            Command::Common(command) => self.common(command).map(|kind| (None, kind)),
            Command::Channel(ChannelCommand::Forget { user, closing, .. }) => {
                let kind = self.forget(*user, *closing)?;
                Ok((Some(*user), kind))
            }
            Command::Channel(ChannelCommand::Copy {
                source,
                lineage,
                position,
                sender,
                recipient,
                time_ms,
                message,
            }) => {
                let mark = CopyMark { lineage: *lineage, position: *position };
                let original = Original {
                    source: *source,
                    mark,
                    sender: *sender,
                    recipient: *recipient,
                    time_ms: *time_ms,
                    message,
                };
                self.take_copy(&original).map(|kind| (None, kind))
            }
            Command::Channel(command) => {
                let origin = self.admit_session(proposal)?;
                let user = origin.user;
                let kind = match command {
                    ChannelCommand::Join { name, key, prefix, real_name } => {
                        self.join((user, proposal.dir_at), name, key.as_deref(), prefix, real_name)
                    }
                    ChannelCommand::Part { channel, reason, prefix } => {
                        self.part(user, *channel, reason.as_deref(), prefix)
                    }
                    ChannelCommand::Message { target, message } => {
                        self.message(origin, proposal.dir_at, target, message)
                    }
                    ChannelCommand::Topic { channel, topic, prefix } => {
                        self.topic(user, *channel, topic, prefix)
                    }
                    ChannelCommand::Kick { channel, target, target_nick, reason, prefix } => {
                        self.kick(user, *channel, (*target, target_nick), reason, prefix)
                    }
                    ChannelCommand::Mode { channel, changes, prefix } => {
                        self.mode(user, *channel, changes, prefix)
                    }
                    ChannelCommand::Invite { channel, target, target_nick, prefix } => {
                        self.state
                            .refuse_forgotten(*target, proposal.dir_at)
                            .map_err(|_| Refusal::NoSuchNick)?;
                        self.invite(user, *channel, (*target, target_nick), prefix)
                    }
                    ChannelCommand::Forget { .. } | ChannelCommand::Copy { .. } => Err(Refusal::Malformed),
                }?;
                Ok((Some(user), kind))
            }
            Command::Directory(_) => Err(Refusal::Malformed),
        }
    }

    fn common(&mut self, command: &CommonCommand) -> Result<EventKind, Refusal> {
        match command {
            CommonCommand::Settings(settings) => {
                self.state.journal.take_settings(settings)?;
                self.bound_history();
                Ok(self.declare())
            }
            CommonCommand::RaiseLevel(level) => self.state.journal.raise_level(*level),
            CommonCommand::DropNode(incarnation) => {
                if !self.state.journal.producers.drop_node(*incarnation) {
                    return Err(Refusal::NoChange);
                }
                Ok(EventKind::NodeDropped { incarnation: *incarnation, detached: Vec::new() })
            }
            // Taken before it gets here.
            CommonCommand::BeginLineage(_) => Err(Refusal::Malformed),
        }
    }

    fn record(&mut self, dir_at: Position, actor: Option<UserId>, kind: EventKind) -> Arc<Event> {
        let event = self.state.journal.number(dir_at, actor, kind);
        self.kept.push(Arc::clone(&event));
        self.keep_message(&event);
        event
    }

    /// Holds the kept events to their bounds, and remembers of which channels and users some are gone.
    fn drop_kept(&mut self) {
        let (now, window) = (self.state.journal.time_ms, self.state.journal.settings.resume_window_ms);
        while let Some(event) = self.kept.pop_past(now, window) {
            self.note_dropped(&event);
        }
    }

    fn note_dropped(&mut self, event: &Event) {
        let at = event.position;
        match &event.kind {
            EventKind::Settings { topics, .. } => {
                for (channel, _) in topics {
                    self.note_dropped_in(*channel, at);
                }
            }
            EventKind::Joined { channel, .. }
            | EventKind::TopicChanged { channel, .. }
            | EventKind::ModeChanged { channel, .. }
            | EventKind::Message { target: Target::Channel { channel, .. }, .. } => {
                self.note_dropped_in(*channel, at);
            }
            EventKind::Parted { channel, .. } => {
                self.state.left.remove(&at);
                self.note_dropped_in(*channel, at);
                self.note_dropped_for(event.actor, at);
            }
            EventKind::Kicked { channel, target, .. } | EventKind::Invited { channel, target, .. } => {
                self.state.left.remove(&at);
                self.note_dropped_in(*channel, at);
                self.note_dropped_for(Some(*target), at);
            }
            EventKind::Message { target: Target::User { user }, .. } => {
                self.note_dropped_for(event.actor, at);
                self.note_dropped_for(Some(*user), at);
            }
            EventKind::Forgotten { channels, .. } => {
                for channel in channels {
                    self.note_dropped_in(*channel, at);
                }
            }
            _ => {}
        }
    }

    fn note_dropped_in(&mut self, channel: ChannelId, at: Position) {
        if self.state.channels.contains_key(&channel) {
            self.state.dropped_in.insert(channel, at);
        }
    }

    fn note_dropped_for(&mut self, user: Option<UserId>, at: Position) {
        if let Some(user) = user.filter(|user| self.state.present.contains_key(user)) {
            self.state.dropped_for.insert(user, at);
        }
    }

    /// Where the last event of `channel` is that resumes cannot have any more.
    pub fn dropped_in(&self, channel: ChannelId) -> Option<Position> {
        self.state.dropped_in.get(&channel).copied()
    }

    /// The same for what concerned `user` alone: direct messages, invitations, its own leaving.
    pub fn dropped_for(&self, user: UserId) -> Option<Position> {
        self.state.dropped_for.get(&user).copied()
    }
}
