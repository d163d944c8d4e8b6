//! What an acknowledgement costs: rooms beside stores that flush as they do, to one disk or to those of a majority.

use std::{
    fmt::Write,
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};
use chat_state::ids::{ShardId, channel_shard};
use chat_valkey::test_server::TestServer;
use clap::Args;
use tempfile::TempDir;

use crate::{
    closed::{self, Pace},
    nats::Cluster,
    process::{Process, free_address, wait_for},
    room::Room,
    speech::{Irc, JetStream, Redis, connect},
};

#[derive(Args)]
pub(crate) struct Options {
    /// The `chat-node` program, built for release.
    #[arg(long)]
    chat_node: PathBuf,
    /// The `nats-server` program, 2.12 or newer; left out without.
    #[arg(long)]
    nats_server: Option<PathBuf>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

const IN_FLIGHT: [usize; 3] = [1, 64, 512];
/// They share what is in flight.
const MAX_CLIENTS: usize = 16;
/// Of the rooms that are compared.
const SHARDS: [u16; 2] = [1, 4];

/// A server, or several that are one.
enum Subject {
    Room { addresses: Vec<SocketAddr>, shards: u16 },
    Redis(TestServer),
    JetStream { servers: Vec<SocketAddr>, streams: usize },
}

/// What an acknowledgement of it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    OneDisk,
    Majority,
}

struct Row {
    name: String,
    class: Class,
    subject: Subject,
    /// By what is in flight, then by round.
    paces: [Vec<Pace>; IN_FLIGHT.len()],
}

impl Row {
    fn new(name: &str, class: Class, subject: Subject) -> Self {
        Self { name: name.to_owned(), class, subject, paces: Default::default() }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let lone = Lone::start(&options.chat_node)?;
    let rooms: Vec<Room> =
        SHARDS.iter().map(|shards| Room::start(&options.chat_node, 3, *shards)).collect::<Result<_>>()?;
    let streams = usize::from(SHARDS[1]);
    let cluster = options.nats_server.as_ref().map(|program| Cluster::start(program, streams)).transpose()?;
    let local = Subject::Room { addresses: vec![lone.address], shards: Lone::SHARDS };
    let mut rows = vec![
        Row::new("a room of one node, `local`, 4 shards", Class::OneDisk, local),
        Row::new("redis, RPUSH, AOF always", Class::OneDisk, Subject::Redis(TestServer::start())),
    ];
    for (room, shards) in rooms.iter().zip(SHARDS) {
        room.steady()?;
        let addresses = (0..room.nodes()).map(|n| room.irc(n)).collect();
        let name =
            format!("a room of three nodes, `raft`, {shards} shard{}", if shards == 1 { "" } else { "s" });
        rows.push(Row::new(&name, Class::Majority, Subject::Room { addresses, shards }));
    }
    for streams in SHARDS.map(usize::from) {
        let Some(cluster) = &cluster else { break };
        let subject = Subject::JetStream { servers: cluster.servers.clone(), streams };
        let name =
            format!("JetStream R3, sync always, {streams} stream{}", if streams == 1 { "" } else { "s" });
        rows.push(Row::new(&name, Class::Majority, subject));
    }
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for (at, in_flight) in IN_FLIGHT.into_iter().enumerate() {
            for turn in 0..rows.len() {
                let n = (round + turn) % rows.len();
                let row = &mut rows[n];
                let pace = measure(&mut row.subject, in_flight, &format!("n{round}f{in_flight}r{n}"))?;
                row.paces[at].push(pace);
            }
        }
    }
    println!(
        "128 bytes a message, a closed loop, {} rounds of 2 s, interleaved; the first has 1 client, the others {MAX_CLIENTS}, \
         spread over the servers; all servers run all the time. Median (least–most).",
        options.rounds
    );
    print!("\nFlushed to one disk:\n\n{}", render(&rows, Class::OneDisk));
    print!("\nFlushed to the disks of a majority of three:\n\n{}", render(&rows, Class::Majority));
    println!();
    println!("{} (goals: 2.00, 1.00)", beside(&rows[0], &rows[1]));
    for streams in 0..rows.len().saturating_sub(4) {
        println!("{} (goals: 3.00, 0.50)", beside(&rows[2 + streams], &rows[4 + streams]));
    }
    Ok(())
}

/// The middle of the ratios, round by round.
fn beside(ours: &Row, peer: &Row) -> String {
    let middle = |at: usize, of: fn(&Pace) -> f64| {
        let pairs = ours.paces[at].iter().zip(&peer.paces[at]);
        let mut all: Vec<f64> = pairs.map(|(ours, peer)| of(ours) / of(peer)).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let most = middle(IN_FLIGHT.len() - 1, |pace| pace.per_second);
    let one = middle(0, |pace| pace.p50.as_secs_f64());
    format!(
        "{} beside {}: {most:.2} times the messages at {}, {one:.2} times the p50 of one",
        ours.name,
        peer.name,
        IN_FLIGHT[IN_FLIGHT.len() - 1]
    )
}

fn measure(subject: &mut Subject, in_flight: usize, tag: &str) -> Result<Pace> {
    let clients = in_flight.min(MAX_CLIENTS);
    match subject {
        Subject::Room { addresses, shards } => {
            let channels = (0..clients).map(|client| channel(client, *shards, tag)).collect();
            let mut irc = Irc { channels };
            let enter =
                |client| irc.enter(client, addresses[client % addresses.len()], &format!("{tag}c{client}"));
            let sockets = (0..clients).map(enter).collect::<Result<Vec<TcpStream>>>()?;
            Ok(closed::run(sockets, &mut irc, in_flight)?.0)
        }
        Subject::Redis(store) => {
            let server = SocketAddr::from(([127, 0, 0, 1], store.port()));
            let sockets = (0..clients).map(|_| connect(server)).collect::<Result<Vec<_>>>()?;
            let mut redis = Redis::for_clients(clients);
            let before: u64 = length(store)?;
            let (pace, sent) = closed::run(sockets, &mut redis, in_flight)?;
            if redis.longest != before + u64::from(sent) {
                bail!("the store has {} messages more, {sent} were sent", redis.longest - before);
            }
            Ok(pace)
        }
        Subject::JetStream { servers, streams } => {
            let greet = |client| JetStream::greet(client, servers[client % servers.len()]);
            let sockets = (0..clients).map(greet).collect::<Result<Vec<_>>>()?;
            let mut speech = JetStream::new(*streams);
            let (pace, sent) = closed::run(sockets, &mut speech, in_flight)?;
            if speech.stored() != u64::from(sent) {
                bail!("the streams have {} messages more, {sent} were sent", speech.stored());
            }
            Ok(pace)
        }
    }
}

fn length(store: &TestServer) -> Result<u64> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", store.port()))?;
    Ok(redis::cmd("LLEN").arg("bench").query(&mut client.get_connection()?)?)
}

/// A client's own: those of several are in one shard after the other.
fn channel(client: usize, shards: u16, tag: &str) -> String {
    let shard = ShardId(1 + u16::try_from(client).expect("few clients") % shards);
    let mut names = (0_u32..).map(|n| format!("#{tag}c{client}n{n}"));
    names.find(|name| channel_shard(name, shards) == shard).expect("names fall into every shard")
}

/// A node that keeps the log alone.
struct Lone {
    _process: Process,
    _directory: TempDir,
    address: SocketAddr,
}

impl Lone {
    const SHARDS: u16 = 4;

    fn start(program: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (address, admin) = (free_address()?, free_address()?);
        let config = directory.path().join("node.yaml");
        let yaml = format!(
            "log: {{local: {{shards: {}}}}}\nlimits: {{commandBurst: 1000000, commandsPerSecond: 1000000}}\n\
             telemetry: {{level: warn}}\n",
            Self::SHARDS
        );
        fs::write(&config, yaml)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&config).arg("--data").arg(directory.path().join("data"));
        command.args(["--irc", &address.to_string(), "--web", "off", "--admin", &admin.to_string()]);
        let process = Process::start(&mut command)?;
        wait_for(address)?;
        Ok(Self { _process: process, _directory: directory, address })
    }
}

/// A Markdown table of the rows whose acknowledgements mean the same.
fn render(rows: &[Row], class: Class) -> String {
    let mut out =
        String::from("| | in flight | acknowledged a second | p50 ms | p99 ms |\n|---|---|---|---|---|\n");
    for row in rows.iter().filter(|row| row.class == class) {
        for (in_flight, paces) in IN_FLIGHT.iter().zip(&row.paces) {
            let of = |pick: fn(&Pace) -> f64, digits: usize| {
                let mut all: Vec<f64> = paces.iter().map(pick).collect();
                all.sort_by(f64::total_cmp);
                let (median, most) = (all[all.len() / 2], all[all.len() - 1]);
                format!("{median:.digits$} ({:.digits$}–{most:.digits$})", all[0])
            };
            let per_second = of(|pace| pace.per_second, 0);
            let p50 = of(|pace| pace.p50.as_secs_f64() * 1e3, 2);
            let p99 = of(|pace| pace.p99.as_secs_f64() * 1e3, 2);
            writeln!(out, "| {} | {in_flight} | {per_second} | {p50} | {p99} |", row.name)
                .expect("a String takes it all");
        }
    }
    out
}
