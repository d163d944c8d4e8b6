//! The lives of the nodes: registered, ended by the next life of the same member or dropped.

use std::sync::Arc;

use crate::{
    directory::{Directory, Node, apply::Happening},
    event::EventKind,
    ids::{FeatureLevel, Incarnation, MemberId, SessionId},
    outcome::{Outcome, Refusal},
};

/// Lives that ended and are still told from new ones.
const ENDED_LIVES: usize = 256;

impl Directory {
    /// A copy of a registration is `Repeated`: [`Directory::incarnation_of`] has what became of it.
    pub(super) fn register_node(
        &mut self,
        member: MemberId,
        nonce: u64,
        level: FeatureLevel,
    ) -> Result<Happening, Outcome> {
        if self.incarnation_of(member, nonce).is_some() || self.state.ended_lives.contains(&(member, nonce)) {
            return Err(Outcome::Repeated);
        }
        if level < self.level() {
            // It could not read what the room may write.
            return Err(Outcome::Refused(Refusal::Malformed));
        }
        let earlier: Vec<Incarnation> = self
            .nodes()
            .filter(|(_, node)| node.member == member)
            .map(|(incarnation, _)| incarnation)
            .collect();
        let mut detached = Vec::new();
        for life in earlier {
            detached.extend(self.end_life(life));
        }
        let incarnation = Incarnation(self.state.journal.next_position().0);
        let registered_at_ms = self.time_ms();
        self.state.nodes.insert(incarnation, Node { member, nonce, level, registered_at_ms });
        self.state.journal.producers.register(incarnation);
        Ok((None, EventKind::NodeRegistered { incarnation, detached }))
    }

    pub(super) fn drop_node(&mut self, incarnation: Incarnation) -> Result<Vec<SessionId>, Refusal> {
        if !self.state.nodes.contains_key(&incarnation) {
            return Err(Refusal::NoChange);
        }
        Ok(self.end_life(incarnation))
    }

    /// Nothing of it is accepted any more, and its sessions are detached: all of them, so that those that cannot
    /// resume do not vanish from view because a node died, and whatever the bounds, for it is not their doing.
    fn end_life(&mut self, incarnation: Incarnation) -> Vec<SessionId> {
        let Some(node) = self.state.nodes.remove(&incarnation) else { return Vec::new() };
        self.state.journal.producers.drop_node(incarnation);
        self.state.ended_lives.push((node.member, node.nonce));
        if self.state.ended_lives.len() > ENDED_LIVES {
            self.state.ended_lives.remove(0);
        }
        let attached: Vec<SessionId> = self
            .sessions()
            .filter(|(_, session)| session.incarnation == Some(incarnation))
            .map(|(id, _)| id)
            .collect();
        for id in &attached {
            if let Some(session) = self.state.sessions.get_mut(id) {
                let session = Arc::make_mut(session);
                session.incarnation = None;
                "Server went away".clone_into(&mut session.left);
                let host = self.state.users.get(&session.user).map_or("", |user| &user.host);
                self.detached.insert(*id, host);
            }
        }
        attached
    }
}
