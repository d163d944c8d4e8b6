//! MODE: of channels, and of oneself.

use chat_protocol::{
    Folded, Line, Mask, casemap, limits,
    mode::{
        ChannelModeChange, ChannelModeItem, Flag, ListMode, Rank, Sign, UserMode, UserModeItem,
        parse_channel_modes, parse_user_modes,
    },
    name, numeric,
};
use chat_state::{
    command::{
        ChannelCommand, ChannelFlag, Command, DirectoryCommand, ListKind, MemberPrefix, ModeChange, UserModes,
    },
    ids::ShardId,
};

use super::{Known, MAX_MODES, channel::visible};
use crate::{
    connection::{ConnectionId, Identity, PendingKind},
    lines::{flag_letter, mode_text},
    worker::Worker,
};

impl Worker {
    pub(crate) fn mode(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        let Some(target) = line.params.filled(0) else {
            self.need_more_params(id, "MODE");
            return;
        };
        if name::names_channel(target) {
            self.mode_of_channel(id, identity, target, line);
        } else {
            self.mode_of_user(id, identity, target, line.params.filled(1));
        }
    }

    fn mode_of_channel(&mut self, id: ConnectionId, identity: Identity, name: &str, line: &Line<'_>) {
        let Some(known) = self.channel_or_403(id, name) else { return };
        let Some(modes) = line.params.filled(1) else {
            self.channel_modes(id, identity, &known);
            return;
        };
        let key_length = usize::from(self.directory.settings().limits.key_length);
        let items = parse_channel_modes(modes, &line.params[2..], MAX_MODES, key_length);
        let asks_only = |item: &ChannelModeItem<'_>| {
            matches!(item, ChannelModeItem::Query(_) | ChannelModeItem::Unknown(_))
        };
        let may_change = items.iter().all(asks_only)
            || (self.is_operator(id, identity, &known) && self.may_write(id, "MODE"));
        let mut changes = Vec::new();
        for item in items {
            match item {
                ChannelModeItem::Query(list) => self.show_list(id, identity, &known, list),
                ChannelModeItem::Unknown(letter) => {
                    self.numeric(id, numeric::ERR_UNKNOWNMODE, &[&letter.to_string()]);
                }
                _ if !may_change => {}
                ChannelModeItem::MissingParam(letter) => {
                    self.bad_mode_param(id, &known, letter, "*", "This mode needs a parameter");
                }
                ChannelModeItem::BadLimit(given) => {
                    self.bad_mode_param(id, &known, 'l', given, "The limit must be a number from 1");
                }
                ChannelModeItem::BadKey(_) => self.numeric(id, numeric::ERR_INVALIDKEY, &[&known.name]),
                ChannelModeItem::Change(change) => {
                    changes.extend(self.mode_change(id, &known, change, &changes));
                }
            }
        }
        self.propose_modes(id, identity, &known, without_repeats(&changes));
    }

    /// Told 482 if not: Modern IRC has this numeric for who is not a member, too.
    fn is_operator(&mut self, id: ConnectionId, identity: Identity, known: &Known) -> bool {
        let channel = self.shard(known.id.shard).channel(known.id);
        let operator = channel.is_some_and(|channel| channel.is_operator(identity.user));
        if !operator {
            self.numeric(id, numeric::ERR_CHANOPRIVSNEEDED, &[&known.name]);
        }
        operator
    }

    fn bad_mode_param(&mut self, id: ConnectionId, known: &Known, letter: char, given: &str, text: &str) {
        let params = [&*known.name, &letter.to_string(), given];
        self.numeric_text(id, numeric::ERR_INVALIDMODEPARAM, &params, text);
    }

    /// What a client asked for, as the state machine understands it; `before` stands before it in the same command.
    fn mode_change(
        &mut self,
        id: ConnectionId,
        known: &Known,
        change: ChannelModeChange<'_>,
        before: &[ModeChange],
    ) -> Option<ModeChange> {
        Some(match change {
            ChannelModeChange::Rank { sign, rank, nick } => {
                let prefix = match rank {
                    Rank::Op => MemberPrefix::Operator,
                    Rank::Voice => MemberPrefix::Voice,
                };
                let Some(user) = self.directory.user_by_nick(Folded::new(nick).as_str()) else {
                    self.numeric(id, numeric::ERR_NOSUCHNICK, &[nick]);
                    return None;
                };
                let nick = self.nick_or(user, nick);
                let channel = self.shard(known.id.shard).channel(known.id)?;
                if channel.member(user).is_none() {
                    self.numeric(id, numeric::ERR_USERNOTINCHANNEL, &[&nick, &known.name]);
                    return None;
                }
                ModeChange::Member { prefix, user, nick, set: sign == Sign::Add }
            }
            ChannelModeChange::List { sign, list, mask } => {
                let set = sign == Sign::Add;
                let mask = match Mask::complete(mask) {
                    Ok(mask) => mask,
                    Err(error) => {
                        self.bad_mode_param(id, known, list.letter(), mask, &error.to_string());
                        return None;
                    }
                };
                if set && !self.has_room_in_lists(known, &mask, list_kind(list), before) {
                    let params = [&*known.name, &list.letter().to_string()];
                    self.numeric(id, numeric::ERR_BANLISTFULL, &params);
                    return None;
                }
                ModeChange::List { list: list_kind(list), mask: mask.to_string(), set }
            }
            ChannelModeChange::Flag { sign, flag } => {
                ModeChange::Flag { flag: channel_flag(flag), set: sign == Sign::Add }
            }
            ChannelModeChange::SetKey(key) => ModeChange::Key { key: Some(key.to_owned()) },
            ChannelModeChange::RemoveKey => ModeChange::Key { key: None },
            ChannelModeChange::SetLimit(limit) => ModeChange::Limit { limit: Some(limit) },
            ChannelModeChange::RemoveLimit => ModeChange::Limit { limit: None },
        })
    }

    /// Whether one more mask fits, or is there already. The state machine has the last word.
    fn has_room_in_lists(&self, known: &Known, mask: &Mask, list: ListKind, before: &[ModeChange]) -> bool {
        let Some(channel) = self.shard(known.id.shard).channel(known.id) else { return true };
        if channel.list(list).iter().any(|entry| casemap::same(&entry.mask, mask.as_str())) {
            return true;
        }
        let held = channel.bans.len() + channel.exceptions.len() + channel.invitations.len();
        let added =
            before.iter().filter(|change| matches!(change, ModeChange::List { set: true, .. })).count();
        let removed =
            before.iter().filter(|change| matches!(change, ModeChange::List { set: false, .. })).count();
        let limit = usize::from(self.directory.settings().limits.list_entries);
        (held + added).saturating_sub(removed) < limit
    }

    /// As few commands as it takes for each to be one line, whole, to everybody.
    fn propose_modes(
        &mut self,
        id: ConnectionId,
        identity: Identity,
        known: &Known,
        changes: Vec<ModeChange>,
    ) {
        let Some(prefix) = self.prefix_of(identity) else { return };
        let around = 1 + prefix.len() + " MODE ".len() + known.name.len() + 1;
        let room = limits::BODY_TEXT_BYTES.saturating_sub(around);
        let mut line: Vec<ModeChange> = Vec::new();
        let mut lines = Vec::new();
        for change in changes {
            line.push(change);
            if line.len() > 1 && wire_bytes(&line) > room {
                let last = line.split_off(line.len() - 1);
                lines.push(std::mem::replace(&mut line, last));
            }
        }
        lines.push(line);
        for changes in lines.into_iter().filter(|changes| !changes.is_empty()) {
            let command = ChannelCommand::Mode { channel: known.id, changes, prefix: prefix.clone() };
            let kind = PendingKind::Mode { name: known.name.to_string() };
            self.propose(id, identity, known.id.shard, Command::Channel(command), kind);
        }
    }

    /// 324 and 329. The key is for members alone.
    pub(crate) fn channel_modes(&mut self, id: ConnectionId, identity: Identity, known: &Known) {
        let Some(channel) = self.shard(known.id.shard).channel(known.id) else { return };
        let mut letters: String =
            std::iter::once('+').chain(channel.flags.iter().map(|flag| flag_letter(*flag))).collect();
        let mut params = Vec::new();
        if let Some(key) = &channel.key {
            letters.push('k');
            let inside = channel.member(identity.user).is_some();
            params.push(if inside { key.clone() } else { "*".to_owned() });
        }
        if let Some(limit) = channel.limit {
            letters.push('l');
            params.push(limit.to_string());
        }
        let seconds = (channel.created_ms / 1000).to_string();
        let words: Vec<&str> =
            [&*known.name, &letters].into_iter().chain(params.iter().map(String::as_str)).collect();
        self.numeric_words(id, numeric::RPL_CHANNELMODEIS, &words);
        self.numeric_words(id, numeric::RPL_CREATIONTIME, &[&known.name, &seconds]);
    }

    /// Bans are shown to whom the channel is; the two lists of exceptions to its operators.
    fn show_list(&mut self, id: ConnectionId, identity: Identity, known: &Known, list: ListMode) {
        let Some(channel) = self.shard(known.id.shard).channel(known.id) else { return };
        let (line, end) = match list {
            ListMode::Ban => (numeric::RPL_BANLIST, numeric::RPL_ENDOFBANLIST),
            ListMode::Except => (numeric::RPL_EXCEPTLIST, numeric::RPL_ENDOFEXCEPTLIST),
            ListMode::InviteExcept => (numeric::RPL_INVEXLIST, numeric::RPL_ENDOFINVEXLIST),
        };
        if list == ListMode::Ban && !visible(channel, Some(identity.user)) {
            self.numeric(id, numeric::ERR_NOTONCHANNEL, &[&known.name]);
            return;
        }
        if list != ListMode::Ban && !channel.is_operator(identity.user) {
            self.numeric(id, numeric::ERR_CHANOPRIVSNEEDED, &[&known.name]);
            return;
        }
        for entry in channel.list(list_kind(list)).clone() {
            let seconds = (entry.at_ms / 1000).to_string();
            self.numeric_words(id, line, &[&known.name, &entry.mask, &entry.by, &seconds]);
        }
        self.numeric(id, end, &[&known.name]);
    }

    fn mode_of_user(&mut self, id: ConnectionId, identity: Identity, nick: &str, modes: Option<&str>) {
        let folded = Folded::new(nick);
        match self.directory.user_by_nick(folded.as_str()) {
            Some(user) if user == identity.user => {}
            Some(_) => return self.numeric(id, numeric::ERR_USERSDONTMATCH, &[]),
            None => return self.numeric(id, numeric::ERR_NOSUCHNICK, &[nick]),
        }
        let Some(present) = self.directory.user(identity.user).map(|user| user.modes) else { return };
        let Some(modes) = modes else {
            let letters = format!("+{}", user_mode_letters(present));
            self.numeric_words(id, numeric::RPL_UMODEIS, &[&letters]);
            return;
        };
        let (mut set, mut clear) = (UserModes::default(), UserModes::default());
        for item in parse_user_modes(modes) {
            match item {
                // Of what is asked, that which changes something.
                UserModeItem::Change(Sign::Add, mode) => *slot(&mut set, mode) = !holds(present, mode),
                UserModeItem::Change(Sign::Remove, mode) => *slot(&mut clear, mode) = holds(present, mode),
                UserModeItem::Unknown(_) => self.numeric(id, numeric::ERR_UMODEUNKNOWNFLAG, &[]),
            }
        }
        let nothing = UserModes::default();
        if (set == nothing && clear == nothing) || !self.may_write(id, "MODE") {
            return;
        }
        let command = Command::Directory(DirectoryCommand::UserModes { set, clear });
        self.propose(id, identity, ShardId::DIRECTORY, command, PendingKind::UserModes);
    }
}

/// Of the changes without a parameter each letter's last one: their number is bounded, and they end the same.
fn without_repeats(changes: &[ModeChange]) -> Vec<ModeChange> {
    let same = |one: &ModeChange, other: &ModeChange| match (one, other) {
        (ModeChange::Flag { flag, .. }, ModeChange::Flag { flag: later, .. }) => flag == later,
        (ModeChange::Key { key: None }, ModeChange::Key { .. })
        | (ModeChange::Limit { limit: None }, ModeChange::Limit { .. }) => true,
        _ => false,
    };
    let last = |at: usize, change: &ModeChange| !changes[at + 1..].iter().any(|later| same(change, later));
    changes
        .iter()
        .enumerate()
        .filter(|(at, change)| last(*at, change))
        .map(|(_, change)| change.clone())
        .collect()
}

fn wire_bytes(changes: &[ModeChange]) -> usize {
    let (letters, params) = mode_text(changes);
    letters.len() + params.iter().map(|param| 1 + param.len()).sum::<usize>()
}

fn list_kind(list: ListMode) -> ListKind {
    match list {
        ListMode::Ban => ListKind::Ban,
        ListMode::Except => ListKind::Exception,
        ListMode::InviteExcept => ListKind::Invitation,
    }
}

fn channel_flag(flag: Flag) -> ChannelFlag {
    match flag {
        Flag::InviteOnly => ChannelFlag::InviteOnly,
        Flag::Moderated => ChannelFlag::Moderated,
        Flag::NoExternal => ChannelFlag::NoExternal,
        Flag::Secret => ChannelFlag::Secret,
        Flag::TopicLocked => ChannelFlag::OpTopic,
    }
}

fn slot(modes: &mut UserModes, mode: UserMode) -> &mut bool {
    match mode {
        UserMode::Invisible => &mut modes.invisible,
        UserMode::Bot => &mut modes.bot,
    }
}

fn holds(modes: UserModes, mode: UserMode) -> bool {
    match mode {
        UserMode::Invisible => modes.invisible,
        UserMode::Bot => modes.bot,
    }
}

fn user_mode_letters(modes: UserModes) -> String {
    [UserMode::Bot, UserMode::Invisible]
        .into_iter()
        .filter(|mode| holds(modes, *mode))
        .map(UserMode::letter)
        .collect()
}
