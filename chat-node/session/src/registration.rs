//! Registration: CAP, NICK, USER, PASS, and RESUME instead of the last three.

use std::str::FromStr;

use chat_protocol::{
    Capabilities, Capability, Line, LineWriter, MsgId, Source,
    capability::{self, CapVersion, Nak},
    limits, name, numeric,
};
use chat_state::{
    command::{AttachSession, Command, DirectoryCommand, OpenSession},
    ids::{Generation, SessionId, ShardId, UserId},
};

use crate::{
    commands::Flow,
    config::Now,
    connection::{Connection, ConnectionId, Identity, Phase},
    encode::Variant,
    gaps::Seen,
    token::{self, Token},
    worker::Worker,
};

/// What a client has said so far.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) since_ms: u64,
    pub(crate) nick: Option<String>,
    username: Option<String>,
    real_name: String,
    /// CAP LS or REQ came and END did not.
    negotiating: bool,
    resume: Option<Resume>,
}

#[derive(Clone, Debug)]
struct Resume {
    token: String,
    seen: Vec<Seen>,
}

/// Longest USERLEN, bytes.
pub(crate) const USERNAME_LENGTH: usize = 18;
/// Longest real name, bytes.
pub(crate) const REAL_NAME_LENGTH: usize = 150;
/// Streams a RESUME may name: one per shard.
const MAX_SEEN: usize = 1 + 256;

impl Registration {
    pub(crate) fn new(now: Now) -> Self {
        Self {
            since_ms: now.monotonic_ms,
            nick: None,
            username: None,
            real_name: String::new(),
            negotiating: false,
            resume: None,
        }
    }
}

impl Connection {
    /// The nick that a client which is not registered asked for.
    pub(crate) fn wanted_nick(&self) -> Option<&str> {
        match &self.phase {
            Phase::Registering(registration)
            | Phase::Opening { registration, .. }
            | Phase::Attaching { registration, .. } => registration.nick.as_deref(),
            Phase::CatchingUp { .. } | Phase::Ready(_) | Phase::Closed => None,
        }
    }

    /// CAP LS and REQ hold registration up until CAP END.
    fn negotiate(&mut self, on: bool) {
        if let Phase::Registering(registration) = &mut self.phase {
            registration.negotiating = on;
        }
    }

    fn registration(&mut self) -> &mut Registration {
        match &mut self.phase {
            Phase::Registering(registration) => registration,
            _ => unreachable!("registration commands run while registering"),
        }
    }
}

/// `PRI` is how HTTP/2 begins.
fn is_http_method(verb: &str) -> bool {
    matches!(
        verb,
        "GET" | "POST" | "HEAD" | "PUT" | "OPTIONS" | "CONNECT" | "DELETE" | "PATCH" | "TRACE" | "PRI"
    )
}

impl Worker {
    /// Runs one line of a connection that is not registered yet.
    pub(crate) fn register(&mut self, id: ConnectionId, line: &Line<'_>) -> Flow {
        let params = &line.params;
        match &*line.verb_upper() {
            "CAP" => self.cap(id, line),
            "NICK" => self.want_nick(id, line),
            "USER" => self.want_user(id, line),
            "PASS" => {
                // No server password exists; a client that sends one is not told whether it is right.
                if params.filled(0).is_none() {
                    self.need_more_params(id, "PASS");
                }
            }
            "RESUME" => self.want_resume(id, line),
            "PING" => self.pong(id, line),
            "PONG" => {}
            "QUIT" => {
                self.close(id, 1000, "Quit");
                return Flow::Done;
            }
            verb => {
                // A web browser that was pointed at the IRC port, or made to.
                if is_http_method(verb) {
                    self.close(id, 4500, "This is an IRC port, not a web server");
                    return Flow::Done;
                }
                self.numeric(id, numeric::ERR_NOTREGISTERED, &[]);
            }
        }
        self.try_to_register(id);
        Flow::Done
    }

    fn want_nick(&mut self, id: ConnectionId, line: &Line<'_>) {
        if let Some(nick) = self.asked_nick(id, line) {
            self.connection_mut(id).registration().nick = Some(nick.to_owned());
        }
    }

    fn want_user(&mut self, id: ConnectionId, line: &Line<'_>) {
        let (Some(username), Some(real_name)) = (line.params.filled(0), line.params.at(3)) else {
            self.need_more_params(id, "USER");
            return;
        };
        // Colours and the like are left out: nobody could tell a client here what is wrong with its real name.
        let real_name: String = real_name.chars().filter(|char| !char.is_control()).collect();
        let registration = self.connection_mut(id).registration();
        registration.username = Some(name::username(username, USERNAME_LENGTH));
        registration.real_name = name::cut(&real_name, REAL_NAME_LENGTH).to_owned();
    }

    /// One that is refused takes back what was said before it.
    fn want_resume(&mut self, id: ConnectionId, line: &Line<'_>) {
        if !self.connection(id).has(Capability::Resume) {
            self.fail(
                id,
                "RESUME",
                "NEED_CAPABILITY",
                &[],
                "Request the capability chatroom.dev/resume first",
            );
            return;
        }
        let (Some(token), Some(list)) = (line.params.filled(0), line.params.filled(1)) else {
            self.need_more_params(id, "RESUME");
            return;
        };
        let earlier = self.connection_mut(id).registration().resume.take();
        let mut resume = match (token, earlier) {
            ("+", Some(resume)) => resume,
            ("+", None) => {
                let text = "RESUME + goes on a RESUME with a token, and none stands before it";
                self.fail(id, "RESUME", "NEED_TOKEN", &[], text);
                return;
            }
            (token, _) => Resume { token: token.to_owned(), seen: Vec::new() },
        };
        for text in list.split(',').filter(|text| *text != "*") {
            let Some(at) = MsgId::from_str(text).ok().and_then(|msgid| self.seen_at(msgid)) else {
                self.fail(id, "RESUME", "INVALID_MSGID", &[text], "This is not a msgid of this network");
                return;
            };
            resume.seen.push(at);
        }
        if resume.seen.len() > MAX_SEEN {
            self.fail(id, "RESUME", "TOO_MANY", &[], "Name each stream once");
            return;
        }
        self.connection_mut(id).registration().resume = Some(resume);
    }

    pub(crate) fn cap(&mut self, id: ConnectionId, line: &Line<'_>) {
        let Some(subcommand) = line.params.filled(0) else {
            self.need_more_params(id, "CAP");
            return;
        };
        match &*subcommand.to_ascii_uppercase() {
            "LS" => {
                let connection = self.connection_mut(id);
                connection.negotiate(true);
                // A lower version later does not take the higher one back.
                let version = connection.cap_version.max(CapVersion::parse(line.params.at(1)));
                connection.cap_version = version;
                if version == CapVersion::V302 {
                    connection.asked = connection.asked.with(Capability::CapNotify);
                }
                self.cap_lists(id, "LS", Capabilities::all());
            }
            "LIST" => {
                let capabilities = self.connection(id).asked;
                self.cap_lists(id, "LIST", capabilities);
            }
            "REQ" => self.cap_request(id, line.params.at(1).unwrap_or_default()),
            "END" => self.connection_mut(id).negotiate(false),
            _ => self.numeric(id, numeric::ERR_INVALIDCAPCMD, &[subcommand]),
        }
    }

    fn cap_request(&mut self, id: ConnectionId, list: &str) {
        // A token is made when the session is: one that has none cannot be resumed later.
        let no_token = self.connection(id).identity().is_some_and(|identity| {
            self.directory.session(identity.session).is_none_or(|session| !session.resumable())
        });
        let offered = Capabilities::all();
        let connection = self.connection_mut(id);
        connection.negotiate(true);
        let granted = capability::request(list, connection.asked, offered, connection.cap_version);
        let answer = match granted {
            Ok(_) if no_token && list.split(' ').any(|name| name == Capability::Resume.name()) => "NAK",
            Ok(asked) => {
                connection.asked = asked;
                // What depends on a capability that was not asked for has no effect.
                connection.capabilities = asked.effective();
                if no_token {
                    connection.capabilities = connection.capabilities.without(Capability::Resume);
                }
                connection.variant = Variant::new(connection.framing(), connection.capabilities);
                "ACK"
            }
            Err(Nak) => "NAK",
        };
        let client = self.client_name(id);
        self.say(id, |server, out| {
            LineWriter::begin(out)
                .command(Source::Server(server), "CAP")
                .param(&client)
                .param(answer)
                .trailing(list.trim_end());
        });
    }

    fn cap_lists(&mut self, id: ConnectionId, subcommand: &str, set: Capabilities) {
        let (client, version) = (self.client_name(id), self.connection(id).cap_version);
        // It is no capability to be asked for, and has no meaning without its value.
        let offers = subcommand == "LS" && version == CapVersion::V302;
        let sts = offers.then(|| self.strict_transport.word(&self.connection(id).peer)).flatten();
        self.say(id, |server, out| {
            let room = limits::BODY_TEXT_BYTES - server.len() - client.len() - subcommand.len() - 12;
            let words = capability::words(set, version, |_| None).chain(sts);
            for list in capability::lines(words, version, room) {
                let line = LineWriter::begin(out)
                    .command(Source::Server(server), "CAP")
                    .param(&client)
                    .param(subcommand);
                let line = if list.continued { line.param("*") } else { line };
                line.trailing(&list.text);
            }
        });
    }

    fn try_to_register(&mut self, id: ConnectionId) {
        let Phase::Registering(registration) = &self.connection(id).phase else { return };
        if registration.negotiating {
            return;
        }
        if registration.resume.is_some() {
            self.attach(id);
        } else if registration.nick.is_some() && registration.username.is_some() {
            self.open(id);
        }
    }

    /// Numbers for requests that have no session yet: this worker's in the upper half.
    fn open_number(&mut self) -> u64 {
        self.next_open += 1;
        (u64::from(self.config.worker) << 48) | self.next_open
    }

    fn take_registration(&mut self, id: ConnectionId) -> Registration {
        match std::mem::replace(&mut self.connection_mut(id).phase, Phase::Closed) {
            Phase::Registering(registration) => registration,
            _ => unreachable!("only a registering connection asks to be opened"),
        }
    }

    fn refuse_while_read_only(&mut self, id: ConnectionId) -> bool {
        if let Some(reason) = self.read_only.clone() {
            self.fail(id, "*", "READ_ONLY", &[], &reason);
            self.close(id, 1013, "The server cannot take new sessions now, please try again");
            return true;
        }
        false
    }

    fn open(&mut self, id: ConnectionId) {
        if self.refuse_while_read_only(id) {
            return;
        }
        let registration = self.take_registration(id);
        let request = self.open_number();
        let resumable = self.connection(id).has(Capability::Resume);
        let token = resumable.then(|| Token::new(&mut *self.random));
        let peer = &self.connection(id).peer;
        let open = OpenSession {
            request,
            nick: registration.nick.clone().expect("registration is complete"),
            username: registration.username.clone().expect("registration is complete"),
            host: peer.host.clone(),
            real_name: registration.real_name.clone(),
            secure: peer.secure,
            token: token.as_ref().map(Token::hash),
            shards: self.config.shards,
        };
        self.opening.insert(request, id);
        self.connection_mut(id).phase = Phase::Opening { registration, request, token };
        self.request(ShardId::DIRECTORY, None, Command::Directory(DirectoryCommand::Open(Box::new(open))));
    }

    fn attach(&mut self, id: ConnectionId) {
        if let Some(reason) = self.read_only.clone() {
            self.resume_later(id, &reason);
            return;
        }
        let mut registration = self.take_registration(id);
        let Resume { token: shown, seen } = registration.resume.take().expect("the client asked to resume");
        let request = self.open_number();
        let token = Token::new(&mut *self.random);
        let attach = AttachSession {
            request,
            shown: token::hash(&shown),
            token: token.hash(),
            secure: self.connection(id).peer.secure,
        };
        self.opening.insert(request, id);
        self.connection_mut(id).phase = Phase::Attaching { registration, request, token, seen };
        self.request(
            ShardId::DIRECTORY,
            None,
            Command::Directory(DirectoryCommand::Attach(Box::new(attach))),
        );
    }

    pub(crate) fn resume_later(&mut self, id: ConnectionId, reason: &str) {
        self.fail(id, "RESUME", "TRY_AGAIN", &[], reason);
        self.close(id, 1013, "Please try again later");
    }

    /// Whether an Open or Attach with this number was asked by this worker.
    pub(crate) fn asked_here(&self, request: u64) -> bool {
        request >> 48 == u64::from(self.config.worker)
    }

    /// The connection that waits for the outcome of an Open or Attach, if it is still there.
    pub(crate) fn waiting_for(&mut self, request: u64) -> Option<ConnectionId> {
        let id = self.opening.remove(&request)?;
        match &self.connections[id.0 as usize].as_deref()?.phase {
            Phase::Opening { request: own, .. } | Phase::Attaching { request: own, .. }
                if *own == request =>
            {
                Some(id)
            }
            _ => None,
        }
    }

    /// The directory opened the user: welcome.
    pub(crate) fn opened(&mut self, request: u64, user: UserId, session: SessionId) {
        let identity = Identity { user, session, generation: Generation(1) };
        let Some(id) = self.waiting_for(request) else {
            // The connection ended meanwhile.
            self.abandon(identity);
            return;
        };
        let phase = std::mem::replace(&mut self.connection_mut(id).phase, Phase::Ready(identity));
        self.bind(id, identity);
        self.welcome(id);
        if let Phase::Opening { token: Some(token), .. } = phase {
            self.hand_out(id, &token);
        }
        self.runnable.push(id);
    }

    /// The directory refused to open the user: the client picks another nick.
    pub(crate) fn not_opened(&mut self, request: u64, in_use: bool) {
        let Some(id) = self.waiting_for(request) else { return };
        let connection = self.connection_mut(id);
        let Phase::Opening { mut registration, .. } = std::mem::replace(&mut connection.phase, Phase::Closed)
        else {
            return;
        };
        let nick = registration.nick.take().unwrap_or_default();
        connection.phase = Phase::Registering(registration);
        if in_use {
            self.numeric(id, numeric::ERR_NICKNAMEINUSE, &[&nick]);
        } else {
            self.numeric(id, numeric::ERR_ERRONEUSNICKNAME, &[&nick]);
        }
        self.runnable.push(id);
    }

    /// Gives the client a resume token.
    pub(crate) fn hand_out(&mut self, id: ConnectionId, token: &Token) {
        self.say(id, |server, out| {
            LineWriter::begin(out)
                .command(Source::Server(server), "RESUME")
                .param("TOKEN")
                .param(token.as_str())
                .finish();
        });
    }

    /// Makes the connection findable by its session and user.
    pub(crate) fn bind(&mut self, id: ConnectionId, identity: Identity) {
        self.by_session.insert(identity.session, id);
        self.by_user.entry(identity.user).or_default().push(id);
    }

    /// A session whose connection is gone before the session was there.
    pub(crate) fn abandon(&mut self, identity: Identity) {
        let Identity { session, generation, .. } = identity;
        let reason = "Connection closed".to_owned();
        let command = DirectoryCommand::Detach { session, generation, reason };
        self.request(ShardId::DIRECTORY, None, Command::Directory(command));
    }
}
