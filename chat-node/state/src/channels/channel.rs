//! One channel: what it is, and who may do what in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    command::{ChannelFlag, ListKind, MemberPrefix},
    ids::{ChannelId, Position, UserId},
    names::glob,
    outcome::Refusal,
};

/// Invitations that a channel remembers; past it those of the oldest users go first.
pub(crate) const INVITATIONS: usize = 256;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    pub id: ChannelId,
    /// As its creator wrote it.
    pub name: Arc<str>,
    pub created_ms: u64,
    pub topic: Option<Topic>,
    pub members: BTreeMap<UserId, Member>,
    pub flags: BTreeSet<ChannelFlag>,
    pub key: Option<String>,
    pub limit: Option<u32>,
    pub bans: Vec<ListEntry>,
    pub exceptions: Vec<ListEntry>,
    pub invitations: Vec<ListEntry>,
    /// Invited by an operator, and not come yet.
    pub invited: BTreeSet<UserId>,
    /// The topic that the settings declare for it. It exists without members while this is set.
    pub declared: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub text: String,
    /// `nick!user@host`; empty when the settings set it.
    pub by: Arc<str>,
    pub at_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    pub mask: String,
    pub by: Arc<str>,
    pub at_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub voice: bool,
    pub operator: bool,
    /// Where it joined.
    pub joined: Position,
    /// The directory position that its join followed: its prefix then was of there.
    pub joined_dir_at: Position,
}

impl Member {
    pub fn has(&self, prefix: MemberPrefix) -> bool {
        match prefix {
            MemberPrefix::Voice => self.voice,
            MemberPrefix::Operator => self.operator,
        }
    }

    pub(crate) fn set(&mut self, prefix: MemberPrefix, set: bool) {
        match prefix {
            MemberPrefix::Voice => self.voice = set,
            MemberPrefix::Operator => self.operator = set,
        }
    }

    pub fn highest_prefix(&self) -> Option<MemberPrefix> {
        self.prefixes().next()
    }

    /// Highest first, as `multi-prefix` shows them.
    pub fn prefixes(&self) -> impl Iterator<Item = MemberPrefix> + use<> {
        let member = *self;
        [MemberPrefix::Operator, MemberPrefix::Voice].into_iter().filter(move |prefix| member.has(*prefix))
    }

    /// Gets what is sent to `at_least` and above.
    pub fn is_at_least(&self, at_least: Option<MemberPrefix>) -> bool {
        at_least.is_none() || self.highest_prefix() >= at_least
    }
}

impl Channel {
    pub(crate) fn new(id: ChannelId, name: &str, created_ms: u64) -> Self {
        Self {
            id,
            name: name.into(),
            created_ms,
            topic: None,
            members: BTreeMap::new(),
            flags: BTreeSet::from([ChannelFlag::NoExternal, ChannelFlag::OpTopic]),
            key: None,
            limit: None,
            bans: Vec::new(),
            exceptions: Vec::new(),
            invitations: Vec::new(),
            invited: BTreeSet::new(),
            declared: None,
        }
    }

    pub fn has(&self, flag: ChannelFlag) -> bool {
        self.flags.contains(&flag)
    }

    pub fn member(&self, user: UserId) -> Option<&Member> {
        self.members.get(&user)
    }

    pub fn is_operator(&self, user: UserId) -> bool {
        self.member(user).is_some_and(|member| member.operator)
    }

    pub fn list(&self, kind: ListKind) -> &Vec<ListEntry> {
        match kind {
            ListKind::Ban => &self.bans,
            ListKind::Exception => &self.exceptions,
            ListKind::Invitation => &self.invitations,
        }
    }

    pub(crate) fn list_mut(&mut self, kind: ListKind) -> &mut Vec<ListEntry> {
        match kind {
            ListKind::Ban => &mut self.bans,
            ListKind::Exception => &mut self.exceptions,
            ListKind::Invitation => &mut self.invitations,
        }
    }

    fn matches(&self, kind: ListKind, prefix: &str) -> bool {
        self.list(kind).iter().any(|entry| glob(&entry.mask, prefix))
    }

    /// A ban matches `nick!user@host` and no exception does.
    pub fn is_banned(&self, prefix: &str) -> bool {
        self.matches(ListKind::Ban, prefix) && !self.matches(ListKind::Exception, prefix)
    }

    /// 404 unless the user may speak here: members under `n`; voiced or better under `m` or a ban.
    pub fn can_speak(&self, user: UserId, prefix: &str) -> Result<(), Refusal> {
        let member = self.member(user);
        if member.is_none() && self.has(ChannelFlag::NoExternal) {
            return Err(Refusal::CannotSend);
        }
        let raised = member.is_some_and(|member| member.highest_prefix().is_some());
        if !raised && (self.has(ChannelFlag::Moderated) || self.is_banned(prefix)) {
            return Err(Refusal::CannotSend);
        }
        Ok(())
    }

    /// Whether a user who is not a member may join. An operator's invitation opens `i` and bans, not `k` and `l`
    /// (RFC 2811 section 4.3).
    pub fn can_join(&self, user: UserId, prefix: &str, key: Option<&str>) -> Result<(), Refusal> {
        let invited = self.invited.contains(&user);
        if !invited && self.is_banned(prefix) {
            return Err(Refusal::Banned);
        }
        if !invited && self.has(ChannelFlag::InviteOnly) && !self.matches(ListKind::Invitation, prefix) {
            return Err(Refusal::InviteOnly);
        }
        if self.key.is_some() && self.key.as_deref() != key {
            return Err(Refusal::BadKey);
        }
        if self.limit.is_some_and(|limit| self.members.len() >= limit as usize) {
            return Err(Refusal::ChannelFull);
        }
        Ok(())
    }

    /// The member's standing, or why there is none.
    pub(crate) fn as_member(&self, user: UserId) -> Result<&Member, Refusal> {
        self.member(user).ok_or(Refusal::NotOnChannel)
    }

    pub(crate) fn as_operator(&self, user: UserId) -> Result<(), Refusal> {
        if self.as_member(user)?.operator { Ok(()) } else { Err(Refusal::NotOperator) }
    }

    /// Members; under `t` operators alone.
    pub(crate) fn can_set_topic(&self, user: UserId) -> Result<(), Refusal> {
        let operator = self.as_member(user)?.operator;
        if self.has(ChannelFlag::OpTopic) && !operator { Err(Refusal::NotOperator) } else { Ok(()) }
    }

    /// An empty text takes the topic away. Gives the text back.
    pub(crate) fn set_topic(&mut self, text: &str, by: &Arc<str>, at_ms: u64) -> String {
        self.topic = (!text.is_empty()).then(|| Topic { text: text.to_owned(), by: Arc::clone(by), at_ms });
        text.to_owned()
    }

    pub(crate) fn invite(&mut self, user: UserId) {
        self.invited.insert(user);
        if self.invited.len() > INVITATIONS {
            self.invited.pop_first();
        }
    }

    pub(crate) fn ends_when_empty(&self) -> bool {
        self.members.is_empty() && self.declared.is_none()
    }
}
