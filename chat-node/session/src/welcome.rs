//! The first lines of a session: 001 to 005, LUSERS, MOTD.

use chat_protocol::{isupport::Isupport, numeric};
use chat_state::settings::Limits;

use crate::{
    commands::{MAX_HISTORY, MAX_JOIN_TARGETS, MAX_MODES, MAX_TARGETS},
    connection::ConnectionId,
    registration::{REAL_NAME_LENGTH, USERNAME_LENGTH},
    worker::Worker,
};

impl Worker {
    pub(crate) fn welcome(&mut self, id: ConnectionId) {
        let (network, server) = (self.config.network.clone(), self.config.server_name.clone());
        let (version, created) = (self.config.version.clone(), self.config.created.clone());
        let identity = self.connection(id).attached();
        let prefix = identity.and_then(|identity| self.prefix_of(identity)).unwrap_or_default();
        let text = format!("Welcome to the {network} network, {prefix}");
        self.numeric_text(id, numeric::RPL_WELCOME, &[], &text);
        let text = format!("Your host is {server}, running version {version}");
        self.numeric_text(id, numeric::RPL_YOURHOST, &[], &text);
        self.numeric_text(id, numeric::RPL_CREATED, &[], &format!("This server was started {created}"));
        self.numeric_words(id, numeric::RPL_MYINFO, &[&server, &version, "Bi", "beIiklmnostv", "beIklov"]);
        self.isupport(id);
        self.lusers(id);
        self.motd(id);
    }

    pub(crate) fn isupport(&mut self, id: ConnectionId) {
        let tokens = isupport(&self.config.network, &self.directory.settings().limits);
        let client = self.client_name(id);
        self.say(id, |server, out| tokens.write(out, server, &client));
    }

    pub(crate) fn lusers(&mut self, id: ConnectionId) {
        let users = self.directory.user_count();
        let invisible = self.invisible.len();
        let channels: usize =
            self.channels.iter().map(chat_state::channels::ChannelShard::channel_count).sum();
        let visible = users.saturating_sub(invisible);
        let text = format!("There are {visible} users and {invisible} invisible on 1 servers");
        self.numeric_text(id, numeric::RPL_LUSERCLIENT, &[], &text);
        if channels > 0 {
            self.numeric(id, numeric::RPL_LUSERCHANNELS, &[&channels.to_string()]);
        }
        self.numeric_text(id, numeric::RPL_LUSERME, &[], &format!("I have {users} clients and 0 servers"));
        let (count, most) = (users.to_string(), self.most_users.max(users).to_string());
        let text = format!("Current local users {count}, max {most}");
        self.numeric_text(id, numeric::RPL_LOCALUSERS, &[&count, &most], &text);
        let text = format!("Current global users {count}, max {most}");
        self.numeric_text(id, numeric::RPL_GLOBALUSERS, &[&count, &most], &text);
    }

    pub(crate) fn motd(&mut self, id: ConnectionId) {
        let settings = std::sync::Arc::clone(self.directory.settings());
        if settings.motd.trim().is_empty() {
            self.numeric(id, numeric::ERR_NOMOTD, &[]);
            return;
        }
        let server = self.config.server_name.clone();
        self.numeric_text(id, numeric::RPL_MOTDSTART, &[], &format!("- {server} Message of the day -"));
        for line in settings.motd.lines() {
            self.numeric_text(id, numeric::RPL_MOTD, &[], &format!("- {line}"));
        }
        self.numeric(id, numeric::RPL_ENDOFMOTD, &[]);
    }
}

/// What this server supports, and nothing else.
fn isupport(network: &str, limits: &Limits) -> Isupport {
    Isupport::new()
        .token("AWAYLEN", limits.away_length)
        .token("BOT", "B")
        .token("CASEMAPPING", "ascii")
        .token("CHANLIMIT", format!("#:{}", limits.channels_per_user))
        .token("CHANMODES", "beI,k,l,imnst")
        .token("CHANNELLEN", limits.channel_length)
        .token("CHANTYPES", "#")
        .token("CHATHISTORY", MAX_HISTORY)
        .token("ELIST", "CMNTU")
        .token("EXCEPTS", "e")
        .token("INVEX", "I")
        .token("KEYLEN", limits.key_length)
        .token("KICKLEN", limits.kick_length)
        .token("MAXLIST", format!("beI:{}", limits.list_entries))
        .token("MODES", MAX_MODES)
        .token("MSGREFTYPES", "msgid,timestamp")
        .token("NAMELEN", REAL_NAME_LENGTH)
        .token("NETWORK", network)
        .token("NICKLEN", limits.nick_length)
        .token("PREFIX", "(ov)@+")
        .token("STATUSMSG", "@+")
        .token(
            "TARGMAX",
            format!(
                "JOIN:{MAX_JOIN_TARGETS},KICK:{MAX_TARGETS},NAMES:{MAX_JOIN_TARGETS},NOTICE:{MAX_TARGETS},PART:{MAX_JOIN_TARGETS},PRIVMSG:{MAX_TARGETS},TAGMSG:{MAX_TARGETS},WHOIS:1"
            ),
        )
        .token("TOPICLEN", limits.topic_length)
        .token("USERLEN", USERNAME_LENGTH)
        .flag("UTF8ONLY")
        .flag("WHOX")
}
