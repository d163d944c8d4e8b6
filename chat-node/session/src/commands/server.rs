//! What the server says of itself: MOTD, LUSERS, VERSION, TIME, INFO, ADMIN, LINKS, STATS, HELP.

use chat_protocol::{Line, UnixMillis, numeric};

use crate::{connection::ConnectionId, worker::Worker};

/// Commands and their parameters, as HELP shows them.
const COMMANDS: &[(&str, &str)] = &[
    ("ADMIN", ""),
    ("AWAY", "[<message>]"),
    ("CAP", "LS|LIST|REQ|END [<parameter>]"),
    ("CHATHISTORY", "BEFORE|AFTER|LATEST|AROUND|BETWEEN|TARGETS <target> <from> [<to>] <limit>"),
    ("HELP", "[<command>]"),
    ("INFO", ""),
    ("INVITE", "[<nick> <channel>]"),
    ("ISON", "<nick> [<nick> ...]"),
    ("JOIN", "<channel>{,<channel>} [<key>{,<key>}] | 0"),
    ("KICK", "<channel> <nick>{,<nick>} [<reason>]"),
    ("LINKS", ""),
    ("LIST", "[<channels and masks>] [<conditions>]"),
    ("LUSERS", ""),
    ("MODE", "<channel or own nick> [<modes> [<parameters>]]"),
    ("MOTD", ""),
    ("NAMES", "<channel>{,<channel>}"),
    ("NICK", "<nick>"),
    ("NOTICE", "<target>{,<target>} <text>"),
    ("PART", "<channel>{,<channel>} [<reason>]"),
    ("PING", "<token>"),
    ("PRIVMSG", "<target>{,<target>} <text>"),
    ("QUIT", "[<reason>]"),
    ("SETNAME", "<real name>"),
    ("STATS", "u"),
    ("TAGMSG", "<target>{,<target>}"),
    ("TIME", ""),
    ("TOPIC", "<channel> [<topic>]"),
    ("USERHOST", "<nick> [<nick> ...]"),
    ("VERSION", ""),
    ("WHO", "<channel, nick or mask> [%<fields>[,<token>]]"),
    ("WHOIS", "<nick>"),
    ("WHOWAS", "<nick>"),
];

/// Names of commands on one line of HELP.
const NAMES_PER_LINE: usize = 8;

impl Worker {
    /// MOTD, VERSION, TIME and so on may name a server in this parameter; told 402 if it is another one.
    fn asks_this_server(&mut self, id: ConnectionId, line: &Line<'_>, at: usize) -> bool {
        match line.params.filled(at) {
            Some(target) if !self.is_this_server(target) => {
                self.numeric(id, numeric::ERR_NOSUCHSERVER, &[target]);
                false
            }
            _ => true,
        }
    }

    pub(crate) fn about_server(&mut self, id: ConnectionId, verb: &str, line: &Line<'_>) {
        if !self.asks_this_server(id, line, 0) {
            return;
        }
        match verb {
            "MOTD" => self.motd(id),
            "VERSION" => self.version(id),
            "TIME" => self.time(id),
            _ => self.admin(id),
        }
    }

    fn version(&mut self, id: ConnectionId) {
        let (version, server) = (self.config.version.clone(), self.config.server_name.clone());
        self.numeric_text(id, numeric::RPL_VERSION, &[&version, &server], &self.config.network.clone());
        self.isupport(id);
    }

    fn time(&mut self, id: ConnectionId) {
        let (server, now) = (self.config.server_name.clone(), UnixMillis(self.now.unix_ms));
        let seconds = now.seconds().to_string();
        self.numeric_text(id, numeric::RPL_TIME, &[&server, &seconds, "0"], &now.to_string());
    }

    pub(crate) fn info(&mut self, id: ConnectionId) {
        let version = self.config.version.clone();
        let started = format!("Started {}", self.config.created);
        for text in [&version, &started] {
            self.numeric_text(id, numeric::RPL_INFO, &[], text);
        }
        self.numeric(id, numeric::RPL_ENDOFINFO, &[]);
    }

    fn admin(&mut self, id: ConnectionId) {
        let server = self.config.server_name.clone();
        self.numeric(id, numeric::ERR_NOADMININFO, &[&server]);
    }

    /// To clients the whole room is one server.
    pub(crate) fn links(&mut self, id: ConnectionId) {
        let (server, network) = (self.config.server_name.clone(), self.config.network.clone());
        self.numeric_text(id, numeric::RPL_LINKS, &["*", &server], &format!("0 {network}"));
        self.numeric(id, numeric::RPL_ENDOFLINKS, &["*"]);
    }

    pub(crate) fn stats(&mut self, id: ConnectionId, line: &Line<'_>) {
        let Some(query) = line.params.filled(0) else {
            self.need_more_params(id, "STATS");
            return;
        };
        if !self.asks_this_server(id, line, 1) {
            return;
        }
        let node = self.incarnation.and_then(|incarnation| self.directory.node(incarnation));
        if let (Some(node), "u") = (node, query) {
            let seconds = self.now.unix_ms.saturating_sub(node.registered_at_ms) / 1000;
            let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
            let text = format!("Server Up {days} days {hours}:{minutes:02}:{:02}", seconds % 60);
            self.numeric_text(id, numeric::RPL_STATSUPTIME, &[], &text);
        }
        self.numeric(id, numeric::RPL_ENDOFSTATS, &[query]);
    }

    pub(crate) fn help(&mut self, id: ConnectionId, line: &Line<'_>) {
        let Some(subject) = line.params.filled(0) else {
            self.numeric_text(
                id,
                numeric::RPL_HELPSTART,
                &["*"],
                "Commands; HELP <command> shows its parameters",
            );
            self.numeric_text(id, numeric::RPL_HELPTXT, &["*"], "");
            for names in COMMANDS.chunks(NAMES_PER_LINE) {
                let text = names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
                self.numeric_text(id, numeric::RPL_HELPTXT, &["*"], &text);
            }
            self.numeric(id, numeric::RPL_ENDOFHELP, &["*"]);
            return;
        };
        match COMMANDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(subject)) {
            Some((name, params)) => {
                self.numeric_text(id, numeric::RPL_HELPSTART, &[name], &format!("The command {name}"));
                self.numeric_text(id, numeric::RPL_HELPTXT, &[name], "");
                self.numeric_text(id, numeric::RPL_HELPTXT, &[name], format!("{name} {params}").trim_end());
                self.numeric(id, numeric::RPL_ENDOFHELP, &[name]);
            }
            // A subject of several words would not be one parameter.
            None => self.numeric(
                id,
                numeric::ERR_HELPNOTFOUND,
                &[if subject.contains(' ') { "*" } else { subject }],
            ),
        }
    }
}
