//! A room whose nodes keep the log loses the node that leads the most shards: how long writers on the others wait.

use std::{
    fmt::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use chat_state::ids::{ShardId, channel_shard};
use clap::Args;

use crate::{
    process::Signal,
    room::Room,
    writers::{Account, Post, Writers},
};

#[derive(Args)]
pub(crate) struct Options {
    /// The `chat-node` program, built for release.
    #[arg(long)]
    chat_node: PathBuf,
    #[arg(long, default_value_t = 3, value_parser = nodes)]
    nodes: usize,
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Channel shards; each has a writer on each of the other nodes.
    #[arg(long, default_value_t = 4)]
    shards: u16,
    /// Milliseconds between two messages of a writer.
    #[arg(long, default_value_t = 5)]
    every: u64,
}

fn nodes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(nodes @ (3 | 5 | 7)) => Ok(nodes),
        _ => Err("3, 5 or 7 nodes keep a log".to_owned()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Killed,
    Frozen,
    Stopped,
}

const FAULTS: [Fault; 3] = [Fault::Killed, Fault::Frozen, Fault::Stopped];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed (SIGKILL)",
            Self::Frozen => "frozen (SIGSTOP)",
            Self::Stopped => "stopped (SIGTERM)",
        }
    }

    fn goal(self) -> &'static str {
        match self {
            Self::Killed => "p50 50, p99 1200",
            Self::Frozen => "p50 1000, p99 2000",
            Self::Stopped => "p99 300",
        }
    }
}

/// Writers are left alone for so long first: what they wait then is the floor.
const BEFORE: Duration = Duration::from_secs(2);
/// The node is away for so long at least.
const AWAY: Duration = Duration::from_secs(3);

/// The longest time between two acknowledgements of a writer, that of the worst writer.
struct Pauses {
    before: Duration,
    /// While the node was away.
    at_fault: Duration,
    /// From its return until it had everything and its shards were back.
    at_return: Duration,
}

struct Row {
    fault: Fault,
    runs: Vec<Pauses>,
    sent: u32,
    refused: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut room = Room::start(&options.chat_node, options.nodes, options.shards)?;
    let leaders = room.steady()?;
    let mut rows = FAULTS.map(|fault| Row { fault, runs: Vec::new(), sent: 0, refused: 0 });
    for round in 0..options.rounds {
        // None of them always comes after the same one.
        for turn in 0..FAULTS.len() {
            let row = &mut rows[(round + turn) % FAULTS.len()];
            let tag = format!("r{round}t{turn}");
            let (pauses, accounts) = strike(&mut room, &leaders, row.fault, options, &tag)?;
            eprintln!(
                "round {} of {}: {}: {:.0} ms; before {:.0} ms, at its return {:.0} ms",
                round + 1,
                options.rounds,
                row.fault.name(),
                ms(pauses.at_fault),
                ms(pauses.before),
                ms(pauses.at_return)
            );
            row.runs.push(pauses);
            row.sent += accounts.iter().map(|account| account.sent).sum::<u32>();
            row.refused += accounts.iter().map(|account| account.refused).sum::<u32>();
        }
    }
    println!(
        "{} nodes that keep the log, {} channel shards and the directory; on each node but the one that is struck a \
         writer for each shard, a message of 128 bytes every {} ms whatever comes back; {} rounds, interleaved. Of each \
         round the longest time between two acknowledgements of one writer, of the worst writer: p50, p99, longest, in \
         ms.\n",
        options.nodes, options.shards, options.every, options.rounds
    );
    print!("{}", render(&rows));
    Ok(())
}

/// One fault, and everything as it was again.
fn strike(
    room: &mut Room,
    leaders: &[usize],
    fault: Fault,
    options: &Options,
    tag: &str,
) -> Result<(Pauses, Vec<Account>)> {
    let victim = busiest(leaders, room.nodes());
    let writers = Writers::enter(&posts(room, victim, options.shards, tag), tag)?;
    let every = Duration::from_millis(options.every);
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let writing = std::thread::spawn(move || writers.run(every, &told));
    let times = disturb(room, leaders, victim, fault);
    stop.store(true, Ordering::Relaxed);
    let accounts = writing.join().map_err(|_| anyhow::anyhow!("the writers panicked"))??;
    let [began, struck, back, ended] = times?;
    check(&accounts).with_context(|| fault.name())?;
    room.alike()?;
    let worst = |of: &dyn Fn(&[Instant]) -> Option<Duration>| -> Result<Duration> {
        let pauses: Option<Vec<_>> = accounts.iter().map(|account| of(&account.acknowledged)).collect();
        pauses.and_then(|pauses| pauses.into_iter().max()).context("a writer had no acknowledgement in time")
    };
    let alone = |acknowledged: &[Instant]| {
        let before = acknowledged.partition_point(|at| *at < struck);
        longest(&acknowledged[..before], began, struck)
    };
    let pauses = Pauses {
        before: worst(&alone)?,
        at_fault: worst(&|acknowledged| longest(acknowledged, struck, back))?,
        at_return: worst(&|acknowledged| longest(acknowledged, back, ended))?,
    };
    Ok((pauses, accounts))
}

/// When the writers were left alone, when the node was struck, when it came back, and when all was as before.
fn disturb(room: &mut Room, leaders: &[usize], victim: usize, fault: Fault) -> Result<[Instant; 4]> {
    let began = Instant::now();
    std::thread::sleep(BEFORE);
    let struck = Instant::now();
    match fault {
        Fault::Killed => room.kill(victim),
        Fault::Frozen => room.signal(victim, Signal::STOP)?,
        Fault::Stopped => room.signal(victim, Signal::TERM)?,
    }
    room.replaced(victim)?;
    std::thread::sleep(AWAY.saturating_sub(struck.elapsed()));
    if fault == Fault::Stopped {
        room.ended(victim)?;
    }
    let back = Instant::now();
    match fault {
        Fault::Killed | Fault::Stopped => room.run(victim)?,
        Fault::Frozen => room.signal(victim, Signal::CONT)?,
    }
    room.settle()?;
    room.led_by(leaders)?;
    std::thread::sleep(Duration::from_millis(500));
    Ok([began, struck, back, Instant::now()])
}

/// The node that leads the most channel shards; of several the one that leads the directory too, else the first.
fn busiest(leaders: &[usize], nodes: usize) -> usize {
    let led = |node: usize| leaders[1..].iter().filter(|leader| **leader == node).count();
    let rank = |node: &usize| (led(*node), leaders[0] == *node, nodes - node);
    (0..nodes).max_by_key(rank).unwrap_or_default()
}

/// A channel in each shard, and a writer for it on each node but one.
fn posts(room: &Room, victim: usize, shards: u16, tag: &str) -> Vec<Post> {
    let channel = |shard: u16| {
        let mut names = (0_u32..).map(|n| format!("#{tag}s{shard}n{n}"));
        names.find(|name| channel_shard(name, shards) == ShardId(shard)).expect("names fall into every shard")
    };
    let channels: Vec<String> = (1..=shards).map(channel).collect();
    let others = (0..room.nodes()).filter(|node| *node != victim);
    let of_node = |node| channels.iter().map(move |channel| (room.irc(node), channel.clone()));
    others.flat_map(of_node).map(|(server, channel)| Post { server, channel }).collect()
}

/// The longest time between two acknowledgements that is at least in part within these limits.
fn longest(acknowledged: &[Instant], from: Instant, to: Instant) -> Option<Duration> {
    let pairs = acknowledged.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
    pairs.map(|pair| pair[1] - pair[0]).max()
}

/// A run that lost, doubled or disordered a message is a failed run.
fn check(accounts: &[Account]) -> Result<()> {
    let sum = |of: fn(&Account) -> u32| accounts.iter().map(of).sum::<u32>();
    let (lost, doubled) = (sum(|account| account.lost), sum(|account| account.doubled));
    let disordered = sum(|account| account.disordered);
    if lost + doubled + disordered > 0 {
        bail!("{lost} deliveries were lost, {doubled} came twice, {disordered} out of order");
    }
    Ok(())
}

fn render(rows: &[Row]) -> String {
    let mut out = String::from(
        "| the node is | at the fault | goal | at its return | before | messages | refused | lost | twice |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for Row { fault, runs, sent, refused } in rows {
        let of = |pick: fn(&Pauses) -> Duration| {
            let mut all: Vec<f64> = runs.iter().map(|run| ms(pick(run))).collect();
            all.sort_by(f64::total_cmp);
            let at = |share: f64| all[(((all.len() as f64) * share).ceil() as usize).clamp(1, all.len()) - 1];
            format!("{:.0}, {:.0}, {:.0}", at(0.5), at(0.99), at(1.0))
        };
        let (at_fault, at_return, before) =
            (of(|run| run.at_fault), of(|run| run.at_return), of(|run| run.before));
        // A run with anything else ended the command.
        writeln!(
            out,
            "| {} | {at_fault} | {} | {at_return} | {before} | {sent} | {refused} | 0 | 0 |",
            fault.name(),
            fault.goal()
        )
        .expect("a String takes it all");
    }
    out
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_where_it_is_even_in_part() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let acknowledged = [0, 10, 500, 510, 520].map(at);
        assert_eq!(longest(&acknowledged, at(100), at(200)), Some(Duration::from_millis(490)));
        assert_eq!(longest(&acknowledged, at(505), at(520)), Some(Duration::from_millis(10)));
        assert_eq!(longest(&acknowledged, at(600), at(700)), None);
    }

    #[test]
    fn the_node_with_the_most_channel_shards_is_struck() {
        assert_eq!(busiest(&[0, 1, 1, 2, 0], 3), 1);
        assert_eq!(busiest(&[2, 0, 1, 2, 0, 1, 2], 3), 2, "the directory decides");
    }
}
