//! How many proposals a second are acknowledged, on a real file, with so many in flight.
//!
//! `cargo run --release -p chat-log --example commit_bench [directory] [seconds per row]`

use std::{
    collections::BTreeMap,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use chat_log::{
    clock::SystemClock,
    disk::{Disk, FileDisk},
    handle::{HandleOptions, LocalLogHandle},
    identity::Identity,
    local::{LocalLog, LocalOptions},
    log::{Delivery, Log, Request},
};
use chat_state::{
    command::{ChannelCommand, Command, Message, MessageKind, Target},
    entry::Origin,
    ids::{Generation, Incarnation, Lineage, MemberId, Position, SessionId, ShardId, UserId},
};

const SHARDS: u16 = 4;
const TEXT_BYTES: usize = 128;
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let seconds: u64 = arguments.next().map_or(Ok(2), |given| given.parse())?;
    let row_time = Duration::from_secs(seconds.clamp(1, 30));

    println!("{:<22} {:>12} {:>10} {:>10} {:>12}", "", "acked/s", "p50 µs", "p99 µs", "per commit");
    for round in 1..=ROUNDS {
        println!("round {round}");
        for fill in [Fill::Kept, Fill::Zeros] {
            bare(&Scratch::new(&directory)?, fill, row_time)?;
        }
        for in_flight in [1, 64, 512] {
            committed(&Scratch::new(&directory)?, in_flight, row_time)?;
        }
    }
    Ok(())
}

/// A directory that goes when it is done with.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(parent: &std::path::Path) -> std::io::Result<Self> {
        let path = parent.join(format!("commit-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// How the space of the bare file is there before it is written to.
#[derive(Clone, Copy)]
enum Fill {
    Kept,
    Zeros,
}

/// The floor: the bytes of one record, written and synced, again and again.
fn bare(scratch: &Scratch, fill: Fill, row_time: Duration) -> Result<(), Box<dyn Error>> {
    const FILE_BYTES: u64 = 8 << 20;
    let disk = FileDisk::open(&scratch.0)?;
    let mut file = disk.create("bare")?;
    file.allocate(FILE_BYTES)?;
    let name = match fill {
        Fill::Kept => "bare, space kept",
        Fill::Zeros => {
            file.write_at(0, &vec![0; FILE_BYTES as usize])?;
            "bare, overwriting"
        }
    };
    file.sync_data()?;
    let bytes = [1; 256];
    let (begun, mut offset, mut times) = (Instant::now(), 0, Vec::new());
    while begun.elapsed() < row_time && offset < FILE_BYTES {
        let started = Instant::now();
        file.write_at(offset, &bytes)?;
        file.sync_data()?;
        times.push(started.elapsed());
        offset += 256;
    }
    print_row(name, times.len(), begun.elapsed(), &mut times, 1.0);
    Ok(())
}

fn committed(scratch: &Scratch, in_flight: u32, row_time: Duration) -> Result<(), Box<dyn Error>> {
    let identity = Identity {
        member: MemberId(1),
        room: "bench".to_owned(),
        shards: SHARDS,
        lineage: Lineage(0),
        cluster: None,
    };
    let disk = FileDisk::open(&scratch.0)?;
    let (log, _) = LocalLog::open(Arc::new(disk), &LocalOptions::new(identity))?;
    let on_fatal = Box::new(|reason: &str| panic!("{reason}"));
    let log = LocalLogHandle::start(log, Arc::new(SystemClock::new()), &HandleOptions::default(), on_fatal)?;
    log.begin(Incarnation(1));
    let mut follower = log.follow(BTreeMap::new())?;
    let text = "x".repeat(TEXT_BYTES);
    let mut asked: Vec<_> = vec![Instant::now(); in_flight as usize];
    let begun = Instant::now();
    for slot in 0..in_flight {
        ask(&log, &follower, slot, &text)?;
    }
    let (mut times, mut commits) = (Vec::new(), 0_u64);
    while begun.elapsed() < row_time {
        let batch = match follower.blocking_next().ok_or("the log stopped")? {
            Delivery::Committed(batch) => batch,
            Delivery::SnapshotWanted { .. } => continue,
            other => return Err(format!("{other:?}").into()),
        };
        commits += 1;
        for (shard, entry) in batch.iter() {
            let mut again = Vec::with_capacity(entry.proposals.len());
            for proposal in &entry.proposals {
                let slot = proposal.origin.ok_or("no origin")?.request;
                times.push(asked[slot as usize].elapsed());
                asked[slot as usize] = Instant::now();
                again.push(request(slot, &text));
            }
            log.append(follower.id(), *shard, again)?;
        }
    }
    let per_commit = times.len() as f64 / commits as f64;
    print_row(&format!("{in_flight} in flight"), times.len(), begun.elapsed(), &mut times, per_commit);
    Ok(())
}

fn ask(
    log: &LocalLogHandle,
    follower: &chat_log::log::Follower,
    slot: u32,
    text: &str,
) -> Result<(), Box<dyn Error>> {
    let shard = ShardId(1 + (slot % u32::from(SHARDS)) as u16);
    Ok(log.append(follower.id(), shard, vec![request(slot, text)])?)
}

fn request(slot: u32, text: &str) -> Request {
    let message = Message {
        kind: MessageKind::Privmsg,
        prefix: "somebody!user@some.host.example".into(),
        to_nick: String::new(),
        text: text.to_owned(),
        tags: String::new(),
        id: Some(1),
    };
    let target = Target::User { user: UserId(2) };
    Request {
        origin: Some(Origin {
            user: UserId(1),
            session: SessionId(1),
            generation: Generation(1),
            request: slot,
        }),
        dir_at: Position(1),
        command: Command::Channel(ChannelCommand::Message { target, message: Arc::new(message) }),
    }
}

fn print_row(name: &str, count: usize, elapsed: Duration, times: &mut [Duration], per_commit: f64) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
    println!(
        "{name:<22} {:>12.0} {:>10} {:>10} {per_commit:>12.1}",
        count as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99)
    );
}
