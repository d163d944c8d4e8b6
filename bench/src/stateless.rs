//! Chat nodes over a store beside the bare relay over the same store.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use chat_valkey::test_server::TestServer;
use clap::Args;

use crate::{
    load::{self, Bare, Dialect, Irc, Shape},
    process::{Process, cpu, free_address, wait_for},
    table::{Figures, Row, paired, render},
};

#[derive(Args)]
pub(crate) struct Options {
    /// The `chat-node` program, built for release.
    #[arg(long)]
    chat_node: PathBuf,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Messages a second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Messages of each run.
    #[arg(long, default_value_t = 1000)]
    messages: u32,
}

/// Nodes of the rooms that are measured.
const NODES: [usize; 2] = [2, 4];

pub(crate) fn run(options: &Options) -> Result<()> {
    let shape =
        Shape { subscribers: options.subscribers, per_second: options.rate, messages: options.messages };
    let mut rows: Vec<Row> = Vec::new();
    for nodes in NODES {
        rows.push(Row { name: format!("bare relay, {nodes} processes"), rounds: Vec::new() });
        rows.push(Row { name: format!("chat-node, {nodes} nodes"), rounds: Vec::new() });
    }
    for round in 1..=options.rounds {
        for (nodes, pair) in NODES.into_iter().zip(rows.chunks_exact_mut(2)) {
            eprintln!("round {round} of {}, {nodes} nodes", options.rounds);
            // Which comes first must not matter.
            if round % 2 == 1 {
                pair[0].rounds.push(bare(nodes, shape)?);
                pair[1].rounds.push(ours(&options.chat_node, nodes, shape)?);
            } else {
                pair[1].rounds.push(ours(&options.chat_node, nodes, shape)?);
                pair[0].rounds.push(bare(nodes, shape)?);
            }
        }
    }
    println!(
        "{} messages of 128 bytes a second, {} subscribers spread over the nodes, {} messages a run, {} rounds; the \
         store flushes every write (appendonly yes, appendfsync always). Median (least–most).\n",
        options.rate, options.subscribers, options.messages, options.rounds
    );
    print!("{}", render(&rows));
    println!();
    for (nodes, pair) in NODES.into_iter().zip(rows.chunks_exact(2)) {
        let rows = (&pair[1], &pair[0]);
        let added = paired(rows, |ours, bare| (ours.p50.as_secs_f64() - bare.p50.as_secs_f64()) * 1e3);
        let ratio = paired(rows, |ours, bare| ours.cpu.as_secs_f64() / bare.cpu.as_secs_f64());
        println!(
            "{nodes} nodes: {added:+.2} ms at the median (goal: +0.30), {ratio:.2} times the CPU (goal: 1.6)"
        );
    }
    Ok(())
}

fn ours(program: &PathBuf, nodes: usize, shape: Shape) -> Result<Figures> {
    let store = TestServer::start();
    let mut processes = Vec::new();
    let mut addresses = Vec::new();
    for node in 0..nodes {
        let (irc, admin) = (free_address()?, free_address()?);
        let config = store.data().join(format!("node-{node}.yaml"));
        let yaml = format!(
            "log: {{valkey: {{shards: 1, room: bench, urlFile: {}}}}}\nlimits: {{commandBurst: 1000000, commandsPerSecond: \
             1000000}}\ntelemetry: {{level: warn}}\n",
            store.url_file().display()
        );
        std::fs::write(&config, yaml)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&config);
        command.args(["--irc", &irc.to_string(), "--web", "off", "--admin", &admin.to_string()]);
        processes.push(Process::start(&mut command)?);
        addresses.push(irc);
    }
    measure(&store, &processes, &addresses, &Irc, shape)
}

fn bare(nodes: usize, shape: Shape) -> Result<Figures> {
    let store = TestServer::start();
    let mut processes = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..nodes {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare-relay", "--store", &store.port().to_string(), "--listen", &address.to_string()]);
        processes.push(Process::start(&mut command)?);
        addresses.push(address);
    }
    measure(&store, &processes, &addresses, &Bare, shape)
}

fn measure(
    store: &TestServer,
    processes: &[Process],
    addresses: &[SocketAddr],
    dialect: &dyn Dialect,
    shape: Shape,
) -> Result<Figures> {
    for address in addresses {
        wait_for(*address)?;
    }
    let store_id = store.process_id().context("the store runs")?;
    let used = || -> Result<f64> {
        processes.iter().map(|process| cpu(process.id()).map(|used| used.as_secs_f64())).sum()
    };
    let clients = load::enter(addresses, dialect, shape)?;
    let (before, store_before) = (used()?, cpu(store_id)?);
    let seen = load::run(clients, dialect, shape)?;
    let spent = used()? - before;
    let store_cpu = (cpu(store_id)? - store_before) / shape.messages;
    let deliveries = f64::from(shape.messages) * shape.subscribers as f64;
    Ok(Figures {
        p50: seen.quantile(0.5),
        p99: seen.quantile(0.99),
        cpu: std::time::Duration::from_secs_f64(spent / deliveries),
        store_cpu,
    })
}
