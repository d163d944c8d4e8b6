//! A room whose nodes keep its log together by Raft: processes on this machine, and what they say of it.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use contract::status::{FOUND, Membership, NodeState, NodeStatus, STATUS};
use tempfile::TempDir;

use crate::process::{Process, Signal, free_address};

/// Nothing that a node does takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Who should not lead a shard has given it back by then.
const HANDED_BACK_WITHIN: Duration = Duration::from_secs(7);
/// Of one question to a node.
const ASK_WITHIN: Duration = Duration::from_secs(2);

pub(crate) struct Room {
    directory: TempDir,
    program: PathBuf,
    seats: Vec<Seat>,
}

/// A node's place: its addresses and its directory stay when its process goes.
struct Seat {
    name: String,
    irc: SocketAddr,
    admin: SocketAddr,
    peer: SocketAddr,
    process: Option<Process>,
}

impl Room {
    /// Starts the nodes and lets the first of them begin the room; returns when all of them vote everywhere.
    pub(crate) fn start(program: &Path, nodes: usize, shards: u16) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut seats = Vec::new();
        for n in 0..nodes {
            let (irc, admin, peer) = (free_address()?, free_address()?, free_address()?);
            seats.push(Seat { name: format!("bench-{n}"), irc, admin, peer, process: None });
        }
        let peers: Vec<_> = seats.iter().map(|seat| format!("'{}'", seat.peer)).collect();
        for seat in &seats {
            let yaml = format!(
                "log: {{raft: {{shards: {shards}, tolerate: {}, peers: [{}]}}}}\nlisteners: {{peer: {{address: '{}'}}}}\n\
                 limits: {{commandBurst: 1000000, commandsPerSecond: 1000000}}\ntelemetry: {{level: warn}}\n",
                (nodes - 1) / 2,
                peers.join(", "),
                seat.peer,
            );
            fs::write(directory.path().join(&seat.name).with_extension("yaml"), yaml)?;
        }
        let mut room = Self { directory, program: program.to_owned(), seats };
        for n in 0..nodes {
            room.run(n)?;
        }
        let first = room.seats[0].admin;
        let member = eventually("the first node says who it is", || {
            status(first).map(|status| status.member).filter(|member| !member.is_empty())
        })?;
        let (code, answer) = ask(first, "POST", FOUND, &format!("{{\"member\": \"{member}\"}}"))?;
        if code != 200 {
            bail!("the first node did not begin the room: {answer}");
        }
        room.settle()?;
        Ok(room)
    }

    /// Starts the process of a node that has none.
    pub(crate) fn run(&mut self, n: usize) -> Result<()> {
        let seat = &mut self.seats[n];
        let place = self.directory.path().join(&seat.name);
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(place.with_extension("yaml")).arg("--data").arg(&place);
        command.args(["--irc", &seat.irc.to_string(), "--web", "off", "--admin", &seat.admin.to_string()]);
        command.args(["--name", &seat.name, "--advertise", &seat.peer.to_string(), "--host", &seat.name]);
        seat.process = Some(Process::start(&mut command)?);
        Ok(())
    }

    pub(crate) fn nodes(&self) -> usize {
        self.seats.len()
    }

    pub(crate) fn irc(&self, n: usize) -> SocketAddr {
        self.seats[n].irc
    }

    pub(crate) fn signal(&self, n: usize, signal: Signal) -> Result<()> {
        self.process(n)?.signal(signal)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, n: usize) {
        // It ends with the value.
        self.seats[n].process = None;
    }

    /// Until a process that was told to stop has ended, well.
    pub(crate) fn ended(&mut self, n: usize) -> Result<()> {
        let name = self.seats[n].name.clone();
        let process = self.seats[n].process.as_mut().context("it has a process")?;
        let outcome = eventually("a node that was told to stop ends", || process.ended())?;
        if !outcome.success() {
            bail!("{name} was told to stop and ended with {outcome}");
        }
        self.seats[n].process = None;
        Ok(())
    }

    fn process(&self, n: usize) -> Result<&Process> {
        self.seats[n].process.as_ref().with_context(|| format!("{} does not run", self.seats[n].name))
    }

    /// Until every node serves, votes in every shard, and has everything.
    pub(crate) fn settle(&self) -> Result<()> {
        eventually("every node has everything", || self.is_settled().then_some(()))
    }

    fn is_settled(&self) -> bool {
        let Some(all) = self.statuses() else { return false };
        let nodes = self.seats.len();
        let well = all.iter().all(|status| {
            let cluster = status.cluster.as_ref();
            status.state == NodeState::Serving
                && cluster.is_some_and(|cluster| cluster.membership == Membership::Member)
        });
        let groups = all[0].cluster.as_ref().map_or(0, |cluster| cluster.groups.len());
        let complete = |group: usize| {
            all.iter().any(|status| {
                let group = status.cluster.as_ref().and_then(|cluster| cluster.groups.get(group));
                group.is_some_and(|group| {
                    group.leader == status.member
                        && group.voters.len() == nodes
                        && group.current.len() == nodes
                })
            })
        };
        well && (0..groups).all(complete)
    }

    fn statuses(&self) -> Option<Vec<NodeStatus>> {
        self.seats.iter().map(|seat| status(seat.admin)).collect()
    }

    /// Which node leads each shard, the directory first, as the leaders themselves say.
    pub(crate) fn leaders(&self) -> Option<Vec<usize>> {
        let all = self.statuses()?;
        let groups = all[0].cluster.as_ref()?.groups.len();
        let leads = |node: &NodeStatus, group: usize| {
            let group = node.cluster.as_ref().and_then(|cluster| cluster.groups.get(group));
            group.is_some_and(|group| group.leader == node.member)
        };
        (0..groups).map(|group| all.iter().position(|node| leads(node, group))).collect()
    }

    /// Until no shard is handed over any more: who leads a shard in another's stead gives it back after 5 s.
    pub(crate) fn steady(&self) -> Result<Vec<usize>> {
        let mut last = (None, Instant::now());
        eventually("leaders stay", || {
            let leaders = self.leaders();
            if leaders != last.0 {
                last = (leaders, Instant::now());
            }
            last.0.clone().filter(|_| last.1.elapsed() > HANDED_BACK_WITHIN)
        })
    }

    /// Until the shards are led by these again.
    pub(crate) fn led_by(&self, leaders: &[usize]) -> Result<()> {
        eventually("every shard is back with its leader", || (self.leaders()? == leaders).then_some(()))
    }

    /// Until the others, as one of them says, have leaders of their own for every shard.
    pub(crate) fn replaced(&self, n: usize) -> Result<()> {
        let witness = self.seats[(n + 1) % self.seats.len()].admin;
        let name = &self.seats[n].name;
        eventually("every shard has another leader", || {
            let cluster = status(witness)?.cluster?;
            let gone = &cluster.members.iter().find(|member| member.name == *name)?.id;
            let moved = |leader: &String| !leader.is_empty() && leader != gone;
            cluster.groups.iter().all(|group| moved(&group.leader)).then_some(())
        })
    }

    /// Until every node has applied the same in every shard; nobody may write meanwhile.
    pub(crate) fn alike(&self) -> Result<()> {
        eventually("every node has applied the same", || {
            let all = self.statuses()?;
            let positions = |status: &NodeStatus| -> Vec<(u16, u64)> {
                status.shards.iter().map(|shard| (shard.shard, shard.position)).collect()
            };
            let first = positions(&all[0]);
            all.iter().all(|status| positions(status) == first).then_some(())
        })
    }
}

fn status(admin: SocketAddr) -> Option<NodeStatus> {
    // One that is down or frozen says nothing.
    let (_, body) = ask(admin, "GET", STATUS, "").ok()?;
    serde_json::from_str(&body).ok()
}

/// Status and body of the answer.
fn ask(admin: SocketAddr, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&admin, ASK_WITHIN)?;
    stream.set_read_timeout(Some(ASK_WITHIN))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status line")?;
    Ok((code, body.to_owned()))
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        if Instant::now() > end {
            bail!("{what}: did not happen in {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
