//! WHO, with the fields of WHOX.

use std::{collections::HashSet, net::IpAddr};

use chat_protocol::{
    Capability, Folded, Line, LineWriter,
    mask::Glob,
    name, numeric,
    who::{Who, WhoField, WhoRequest, Whox},
};
use chat_state::{
    channels::{Channel, Member},
    directory::User,
    ids::{ChannelId, UserId},
};

use super::{
    channel::{rank_symbols, visible},
    long::Effort,
};
use crate::{
    connection::{ConnectionId, Identity},
    worker::Worker,
};

/// Hidden address, as WHOX has it.
const NO_ADDRESS: &str = "255.255.255.255";

/// One user as it is shown to the asker.
struct Row<'a> {
    user: &'a User,
    channel: Option<(&'a Channel, &'a Member)>,
}

/// What is the same for all rows of an answer.
struct Style<'a> {
    server: &'a str,
    client: &'a str,
    whox: Option<Whox<'a>>,
    all_prefixes: bool,
}

impl Worker {
    pub(crate) fn who(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        let request = WhoRequest::parse(&line.params);
        let client = self.client_name(id);
        let style = Style {
            server: &self.config.server_name,
            client: &client,
            whox: request.whox,
            all_prefixes: self.connection(id).has(Capability::MultiPrefix),
        };
        let mut answer = self.long_answer(id);
        let effort = Effort::new();
        // There are no operators of the server.
        if request.who == Who::Everyone {
            for row in self.rows(identity.user, request.mask, &effort) {
                if !answer.add_for(&effort, |out| style.write(&row, out)) {
                    break;
                }
            }
        }
        let answer = answer.found_with(&effort);
        self.say_long(id, "WHO", answer);
        self.numeric(id, numeric::RPL_ENDOFWHO, &[request.mask]);
    }

    fn rows<'a>(
        &'a self,
        asker: UserId,
        mask: &'a str,
        effort: &'a Effort,
    ) -> Box<dyn Iterator<Item = Row<'a>> + 'a> {
        if name::names_channel(mask) {
            return Box::new(self.rows_of_channel(asker, mask, effort));
        }
        let own: HashSet<ChannelId> =
            self.channels.iter().flat_map(|shard| shard.channels_of(asker)).collect();
        let row = move |id: UserId, user: &'a User| Row {
            user,
            channel: self.shown_channel(id, user, asker, &own),
        };
        let named = self.directory.user_by_nick(Folded::new(mask).as_str());
        if let Some((id, user)) = named.and_then(|id| Some((id, self.directory.user(id)?))) {
            return Box::new(std::iter::once(row(id, user)));
        }
        let mask = Glob::new(mask);
        let texts = |user: &'a User| [&user.nick, &user.username, &user.host, &user.real_name];
        let looked_at =
            move |user| effort.spend(Effort::LOOK + texts(user).into_iter().map(String::len).sum::<usize>());
        let users = self.directory.users().take_while(move |(_, user)| looked_at(user));
        let matching = users.filter(move |(_, user)| texts(user).into_iter().any(|text| mask.matches(text)));
        Box::new(matching.filter_map(move |(id, user)| {
            let row = row(id, user);
            let shared = row.channel.is_some_and(|(channel, _)| channel.member(asker).is_some());
            (!user.modes.invisible || id == asker || shared).then_some(row)
        }))
    }

    fn rows_of_channel<'a>(
        &'a self,
        asker: UserId,
        name: &str,
        effort: &'a Effort,
    ) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let channel = self.channel(name).and_then(|known| self.shard(known.id.shard).channel(known.id));
        channel.filter(|channel| visible(channel, Some(asker))).into_iter().flat_map(move |channel| {
            let inside = channel.member(asker).is_some();
            let members = channel.members.iter().take_while(|_| effort.spend(Effort::LOOK));
            members.filter_map(move |(id, member)| {
                let user = self.directory.user(*id)?;
                (inside || !user.modes.invisible).then_some(Row { user, channel: Some((channel, member)) })
            })
        })
    }

    /// A channel to show a user in: one that the asker is in, else one that anybody may see.
    fn shown_channel<'a>(
        &'a self,
        id: UserId,
        user: &User,
        asker: UserId,
        own: &HashSet<ChannelId>,
    ) -> Option<(&'a Channel, &'a Member)> {
        // Every shard that may know the user: there may be many more.
        let shards = || user.reach.iter().map(|shard| self.shard(*shard));
        let channels = || shards().flat_map(|shard| shard.channels_of(id).map(move |at| (shard, at)));
        let shared = channels().find(|(_, channel)| own.contains(channel));
        let open = || {
            let mut open = channels().filter(|(shard, at)| {
                shard.channel(*at).is_some_and(|channel| visible(channel, Some(asker)))
            });
            if user.modes.invisible { None } else { open.next() }
        };
        let (shard, at) = shared.or_else(open)?;
        let channel = shard.channel(at)?;
        Some((channel, channel.member(id)?))
    }
}

impl Style<'_> {
    fn write(&self, row: &Row<'_>, out: &mut Vec<u8>) {
        let Row { user, channel } = row;
        let flags = self.flags(row);
        let channel: &str = channel.map_or("*", |(channel, _)| &channel.name);
        let line = LineWriter::begin(out);
        let Some(whox) = &self.whox else {
            return line
                .numeric(self.server, numeric::RPL_WHOREPLY, self.client)
                .params([channel, &user.username, &user.host, self.server, &user.nick, &flags])
                .trailing(&format!("0 {}", user.real_name));
        };
        let mut line = line.numeric(self.server, numeric::RPL_WHOSPCRPL, self.client);
        for field in whox.fields() {
            line = match field {
                WhoField::Token => line.param(whox.token),
                WhoField::Channel => line.param(channel),
                WhoField::User => line.param(&user.username),
                WhoField::Ip => {
                    line.param(if user.host.parse::<IpAddr>().is_ok() { &user.host } else { NO_ADDRESS })
                }
                WhoField::Host => line.param(&user.host),
                WhoField::Server => line.param(self.server),
                WhoField::Nick => line.param(&user.nick),
                WhoField::Flags => line.param(&flags),
                // One server; and how long somebody is idle is known to the node that has the connection alone.
                WhoField::Distance | WhoField::IdleSeconds => line.param("0"),
                WhoField::Account => line.param("0"),
                WhoField::OpLevel => line.param("n/a"),
                // Always the last.
                WhoField::RealName => return line.trailing(&user.real_name),
            };
        }
        line.finish();
    }

    /// Here or gone, rank in the channel, bot.
    fn flags(&self, row: &Row<'_>) -> String {
        let mut flags = String::from(if row.user.away.is_some() { 'G' } else { 'H' });
        if let Some((_, member)) = row.channel {
            flags.push_str(&rank_symbols(member, self.all_prefixes));
        }
        if row.user.modes.bot {
            flags.push('B');
        }
        flags
    }
}
