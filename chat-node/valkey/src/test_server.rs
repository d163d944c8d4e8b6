//! A real server on this machine, for tests: started, stopped, killed, started again on the same data.

use std::{
    env,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use redis::Commands;

/// A server with its data in a directory of its own; both end with this value.
pub struct TestServer {
    directory: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl TestServer {
    /// Starts a server that flushes every write before it answers.
    pub fn start() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { directory, port, arguments, process: None };
        server.write_url(&format!("redis://127.0.0.1:{port}"));
        server.run();
        server
    }

    /// The file that holds its URL.
    pub fn url_file(&self) -> PathBuf {
        self.directory.path().join("url")
    }

    pub fn write_url(&self, url: &str) {
        // As a mounted Secret changes: at once, never seen half written.
        let next = self.directory.path().join("url.next");
        std::fs::write(&next, format!("{url}\n")).expect("the directory can be written");
        std::fs::rename(&next, self.url_file()).expect("the directory can be written");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn data(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it again on what it had kept.
    pub fn run(&mut self) {
        let (program, name) = program();
        let child = Command::new(program)
            .arg0(name)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .args(["--dir", &self.directory.path().display().to_string()])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the server starts");
        self.process = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.client().is_none() {
            assert!(Instant::now() < deadline, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// As a power cut of its machine would, but for what the kernel keeps.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// What it has on its disk, kept aside; for [`Self::restore`]. Stop it first.
    pub fn back_up(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().expect("a directory");
        copy_files(&self.directory.path().join(AOF), &copy.path().join(AOF));
        copy
    }

    /// Puts its disk back to what it was. Stop it first.
    pub fn restore(&self, copy: &tempfile::TempDir) {
        let place = self.directory.path().join(AOF);
        std::fs::remove_dir_all(&place).expect("it was there");
        copy_files(&copy.path().join(AOF), &place);
    }

    pub fn client(&self) -> Option<redis::Connection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).ok()?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok()?;
        let _: Option<String> = connection.get("a key that is not there").ok()?;
        Some(connection)
    }

    pub fn set(&self, name: &str, value: &str) {
        let mut connection = self.client().expect("the server answers");
        let () = redis::cmd("CONFIG")
            .arg("SET")
            .arg(name)
            .arg(value)
            .query(&mut connection)
            .expect("a setting of the server");
    }

    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Free now, and nobody else on this machine takes ports of this range by number.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Where the server keeps its append-only files.
const AOF: &str = "appendonlydir";

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for file in std::fs::read_dir(from).expect("the server's files") {
        let file = file.expect("an entry");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}

/// The server's file and the name to call it by. Debian's `redis-tools` brings the server under another name, without
/// the service that `redis-server` would start.
fn program() -> (PathBuf, &'static str) {
    let path = env::var_os("PATH").unwrap_or_default();
    let find =
        |name: &str| env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    [
        ("valkey-server", "valkey-server"),
        ("redis-server", "redis-server"),
        ("redis-check-rdb", "redis-server"),
    ]
    .into_iter()
    .find_map(|(file, name)| Some((find(file)?, name)))
    .expect("valkey-server or redis-server in PATH; on Debian: apt-get install redis-tools")
}
