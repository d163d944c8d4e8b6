//! An IRC client, over TCP or WebSocket, with or without TLS.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket, client::IntoClientRequest, http::HeaderValue,
    protocol::frame::coding::CloseCode,
};

use crate::{
    node::{Node, PATIENCE},
    pki::Secure,
};

pub(crate) struct Client {
    wire: Wire,
}

enum Wire {
    Tcp(BufReader<Stream>),
    WebSocket(Box<WebSocket<Stream>>),
}

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<Secure>),
}

impl Stream {
    fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// How a server ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    /// WebSocket close code and reason.
    Code(u16, String),
}

impl Client {
    pub(crate) fn tcp(node: &Node) -> Self {
        Self::connect(node.irc)
    }

    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        Self { wire: Wire::Tcp(BufReader::new(Stream::Plain(stream))) }
    }

    /// IRC over TLS.
    pub(crate) fn tls(stream: Secure) -> Self {
        Self { wire: Wire::Tcp(BufReader::new(Stream::Tls(Box::new(stream)))) }
    }

    pub(crate) fn websocket(node: &Node, protocol: &'static str) -> Self {
        let stream = TcpStream::connect(node.web).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        Self::upgraded(Stream::Plain(stream), &format!("ws://{}/irc", node.web), protocol)
    }

    /// A WebSocket over TLS.
    pub(crate) fn secure_websocket(stream: Secure, protocol: &'static str) -> Self {
        Self::upgraded(Stream::Tls(Box::new(stream)), "wss://chat.test/irc", protocol)
    }

    fn upgraded(stream: Stream, address: &str, protocol: &'static str) -> Self {
        let mut request = address.into_client_request().expect("a valid address");
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
        let (socket, response) = tungstenite::client(request, stream).expect("a WebSocket");
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
        Self { wire: Wire::WebSocket(Box::new(socket)) }
    }

    /// Connects by TCP and registers without capabilities.
    pub(crate) fn registered(node: &Node, nick: &str) -> Self {
        Self::tcp(node).register(nick, "")
    }

    pub(crate) fn register(mut self, nick: &str, capabilities: &str) -> Self {
        self.send("CAP LS 302");
        if !capabilities.is_empty() {
            self.send(&format!("CAP REQ :{capabilities}"));
        }
        self.send(&format!("NICK {nick}"));
        self.send("USER test 0 * :A test");
        self.send("CAP END");
        self.wait(" 001 ");
        self.wait_any(&[" 376 ", " 422 "]);
        self
    }

    pub(crate) fn join(&mut self, channel: &str) {
        self.send(&format!("JOIN {channel}"));
        self.wait(" 366 ");
    }

    pub(crate) fn send(&mut self, line: &str) {
        match &mut self.wire {
            Wire::Tcp(stream) => {
                stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("sent");
                stream.get_mut().flush().expect("sent");
            }
            Wire::WebSocket(socket) => socket.send(Message::text(line)).expect("sent"),
        }
    }

    /// Bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).expect("sent");
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        match &mut self.wire {
            Wire::Tcp(stream) => stream.get_mut().tcp(),
            Wire::WebSocket(socket) => socket.get_mut().tcp(),
        }
    }

    pub(crate) fn socket(&mut self) -> &mut WebSocket<Stream> {
        match &mut self.wire {
            Wire::WebSocket(socket) => socket,
            Wire::Tcp(_) => panic!("this is no WebSocket"),
        }
    }

    /// The next line, or how the connection ended.
    pub(crate) fn receive(&mut self) -> Result<String, End> {
        match &mut self.wire {
            Wire::Tcp(stream) => {
                let mut line = String::new();
                match stream.read_line(&mut line) {
                    Ok(0) => Err(End::Closed),
                    Ok(_) => Ok(line.trim_end().to_owned()),
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Closed),
                    Err(error) => panic!("no line came: {error}"),
                }
            }
            Wire::WebSocket(socket) => loop {
                match socket.read() {
                    Ok(Message::Text(text)) => {
                        assert!(!text.contains(['\r', '\n']), "one line a message: {text:?}");
                        return Ok(text.to_string());
                    }
                    Ok(Message::Binary(bytes)) => {
                        return Ok(String::from_utf8(bytes.to_vec()).expect("UTF-8"));
                    }
                    Ok(Message::Close(Some(frame))) => {
                        return Err(End::Code(CloseCode::into(frame.code), frame.reason.to_string()));
                    }
                    Ok(Message::Close(None)) => return Err(End::Closed),
                    Ok(_) => {}
                    Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => {
                        return Err(End::Closed);
                    }
                    Err(error) => panic!("no message came: {error}"),
                }
            },
        }
    }

    /// The next line that contains this; PINGs are answered.
    pub(crate) fn wait(&mut self, part: &str) -> String {
        self.wait_any(&[part])
    }

    pub(crate) fn wait_any(&mut self, parts: &[&str]) -> String {
        let mut passed = Vec::new();
        loop {
            match self.receive() {
                Ok(line) if parts.iter().any(|part| line.contains(part)) => return line,
                Ok(line) => {
                    if let Some(token) = line.strip_prefix("PING ") {
                        self.send(&format!("PONG {token}"));
                    }
                    passed.push(line);
                }
                Err(end) => panic!("waited for {parts:?}, but: {end:?}; before that {passed:#?}"),
            }
        }
    }

    /// All lines until the connection ends, and how it does.
    pub(crate) fn rest(&mut self) -> (Vec<String>, End) {
        let mut lines = Vec::new();
        loop {
            match self.receive() {
                Ok(line) => lines.push(line),
                Err(end) => return (lines, end),
            }
        }
    }
}

/// The value of a tag.
pub(crate) fn tag<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let tags = line.strip_prefix('@')?.split(' ').next()?;
    tags.split(';').find_map(|tag| tag.strip_prefix(name)?.strip_prefix('='))
}
