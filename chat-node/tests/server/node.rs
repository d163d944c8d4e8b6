//! A chat node as a child process on free ports.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Nothing here takes so long; a test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    child: Child,
    said: Arc<Mutex<String>>,
    /// The line that it is ready, with all addresses.
    ready: String,
    pub(crate) irc: SocketAddr,
    pub(crate) web: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Configuration of a node under test: no limit on how fast a client may go, unless the test sets one.
pub(crate) const FAST: &str = "limits: {commandBurst: 1000000, commandsPerSecond: 1000000}\n";

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_chat-node"))
}

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

impl Node {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, FAST)
    }

    /// `yaml` is the configuration but for the listeners and the data directory.
    pub(crate) fn start_with(data: &Path, yaml: &str) -> Self {
        Self::spawn(program(), data, yaml)
    }

    /// `command` runs the program, possibly through others.
    pub(crate) fn spawn(command: Command, data: &Path, yaml: &str) -> Self {
        Self::spawn_at(command, data, yaml, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// With its admin port at this address.
    pub(crate) fn spawn_at(mut command: Command, data: &Path, yaml: &str, admin: SocketAddr) -> Self {
        let config = data.with_extension("yaml");
        fs::write(&config, yaml).expect("the configuration is written");
        let local = "127.0.0.1:0";
        let mut child = command
            .args(["--irc", local, "--web", local, "--admin", &admin.to_string()])
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (ready, is_ready) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let lines = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line.contains(" ready ") {
                    // Told once; later nobody listens.
                    let _ = ready.send(line.clone());
                }
                let mut said = lines.lock().expect("not poisoned");
                said.push_str(&line);
                said.push('\n');
            }
        });
        let Ok(line) = is_ready.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!("the node did not become ready; it said:\n{}", said.lock().expect("not poisoned"));
        };
        let (irc, web, admin) = (address(&line, "irc"), address(&line, "web"), address(&line, "admin"));
        Self { irc, web, admin, child, said, ready: line }
    }

    /// Of the listener with this name.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        address(&self.ready, name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the node wrote to stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("not poisoned").clone()
    }

    pub(crate) fn terminate(&self) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = eventually("the node ends", || self.child.try_wait().expect("our child"));
        // Its last lines may still be on their way.
        eventually("its last lines", || (Arc::strong_count(&self.said) == 1).then_some(()));
        status
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// The body of an admin page.
    pub(crate) fn ask(&self, path: &str) -> (u16, String) {
        let (status, _, body) =
            http(self.admin, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        (status, body)
    }

    /// A figure from `/metrics`; `name` with its labels as written there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.ask("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().expect("a number")
    }
}

fn address(line: &str, name: &str) -> SocketAddr {
    let start = line.find(&format!(" {name}=")).expect("named in the line") + name.len() + 2;
    let text = line[start..].split(' ').next().expect("a word").trim_matches('"');
    text.parse().unwrap_or_else(|_| panic!("{name} in {line}"))
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "the node said:\n{}",
                self.said.lock().map_or_else(|_| String::new(), |said| said.clone())
            );
        }
    }
}

/// Waits for a value, within bounds.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < end, "{what}: did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One HTTP request on its own connection: status, head, body.
pub(crate) fn http(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    (status, head.to_ascii_lowercase(), body.to_owned())
}
