//! MODE: of what was asked, that which changes something.

use std::sync::Arc;

use crate::{
    channels::{Channel, ChannelShard, ListEntry},
    command::{ListKind, MemberPrefix, ModeChange},
    event::EventKind,
    ids::{ChannelId, UserId},
    names::{Mask, is_key},
    outcome::Refusal,
    settings::Limits,
};

/// Changes that one command may ask for.
const CHANGES: usize = 64;

/// Who changes, when, under which limits.
struct Setter<'a> {
    by: &'a Arc<str>,
    at_ms: u64,
    limits: Limits,
}

impl ChannelShard {
    /// Operators alone. When nothing changes, the first refusal of a change is the answer.
    pub(super) fn mode(
        &mut self,
        user: UserId,
        channel: ChannelId,
        changes: &[ModeChange],
        prefix: &Arc<str>,
    ) -> Result<EventKind, Refusal> {
        if changes.len() > CHANGES {
            return Err(Refusal::Malformed);
        }
        self.known_channel(channel)?.as_operator(user)?;
        let setter = Setter {
            by: prefix,
            at_ms: self.state.journal.time_ms,
            limits: self.state.journal.settings.limits,
        };
        let found = self.channel_mut(channel);
        let mut effective = Vec::new();
        let mut refused = None;
        for change in changes {
            match found.change(change, &setter) {
                Ok(change) => effective.push(change),
                Err(Refusal::NoChange) => {}
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        if effective.is_empty() {
            return Err(refused.unwrap_or(Refusal::NoChange));
        }
        Ok(EventKind::ModeChanged {
            channel,
            name: Arc::clone(&found.name),
            prefix: Arc::clone(prefix),
            changes: effective,
        })
    }
}

impl Channel {
    /// The change as it was made, or why it was not.
    fn change(&mut self, change: &ModeChange, setter: &Setter<'_>) -> Result<ModeChange, Refusal> {
        match change {
            ModeChange::Flag { flag, set } => {
                let changed = if *set { self.flags.insert(*flag) } else { self.flags.remove(flag) };
                changed.then(|| change.clone()).ok_or(Refusal::NoChange)
            }
            ModeChange::Key { key } => {
                let good = |key: &String| is_key(key, usize::from(setter.limits.key_length));
                if key.as_ref().is_some_and(|key| !good(key)) {
                    return Err(Refusal::Malformed);
                }
                replace(&mut self.key, key)?;
                Ok(change.clone())
            }
            ModeChange::Limit { limit } => {
                if *limit == Some(0) {
                    return Err(Refusal::Malformed);
                }
                replace(&mut self.limit, limit)?;
                Ok(change.clone())
            }
            ModeChange::List { list, mask, set: true } => self.list_add(*list, mask, setter),
            ModeChange::List { list, mask, set: false } => self.list_remove(*list, mask),
            ModeChange::Member { prefix, user, set, .. } => {
                self.set_prefix(*user, *prefix, *set)?;
                Ok(change.clone())
            }
        }
    }

    fn list_add(&mut self, list: ListKind, mask: &str, setter: &Setter<'_>) -> Result<ModeChange, Refusal> {
        let mask = Mask::complete(mask).map_err(|_| Refusal::Malformed)?;
        // One limit for the three of them together, as MAXLIST=beI:n says.
        let held = self.bans.len() + self.exceptions.len() + self.invitations.len();
        let entries = self.list_mut(list);
        if entries.iter().any(|entry| entry.mask.eq_ignore_ascii_case(mask.as_str())) {
            return Err(Refusal::NoChange);
        }
        if held >= usize::from(setter.limits.list_entries) {
            return Err(Refusal::ListFull);
        }
        let mask = mask.as_str().to_owned();
        entries.push(ListEntry { mask: mask.clone(), by: Arc::clone(setter.by), at_ms: setter.at_ms });
        Ok(ModeChange::List { list, mask, set: true })
    }

    fn list_remove(&mut self, list: ListKind, mask: &str) -> Result<ModeChange, Refusal> {
        let mask = Mask::complete(mask).map_err(|_| Refusal::Malformed)?;
        let entries = self.list_mut(list);
        let place = entries
            .iter()
            .position(|entry| entry.mask.eq_ignore_ascii_case(mask.as_str()))
            .ok_or(Refusal::NoChange)?;
        let mask = entries.remove(place).mask;
        Ok(ModeChange::List { list, mask, set: false })
    }

    fn set_prefix(&mut self, user: UserId, prefix: MemberPrefix, set: bool) -> Result<(), Refusal> {
        let member = self.members.get_mut(&user).ok_or(Refusal::UserNotInChannel)?;
        if member.has(prefix) == set {
            return Err(Refusal::NoChange);
        }
        member.set(prefix, set);
        Ok(())
    }
}

fn replace<T: PartialEq + Clone>(present: &mut T, wanted: &T) -> Result<(), Refusal> {
    if present == wanted {
        return Err(Refusal::NoChange);
    }
    present.clone_from(wanted);
    Ok(())
}
