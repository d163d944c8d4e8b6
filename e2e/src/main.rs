//! Runs the scenarios on a development cluster.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use e2e::{
    cluster::Cluster,
    numbers,
    scenarios::{self, Programs, World},
};

/// Tests of the whole product on a development cluster of this machine.
#[derive(Parser)]
struct Arguments {
    /// The `devcluster` command.
    #[arg(long, default_value = "target/debug/devcluster")]
    devcluster: PathBuf,
    /// The operator, a static program.
    #[arg(long)]
    operator: PathBuf,
    /// The chat node, a static program.
    #[arg(long)]
    chat_node: PathBuf,
    /// The server of Valkey or Redis, a program of this machine; stores in the cluster run it.
    #[arg(long)]
    store: PathBuf,
    /// The project's own commands.
    #[arg(long, default_value = "target/debug/xtask")]
    xtask: PathBuf,
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Only these scenarios, in the order in which they are in the whole; each finds what earlier runs left.
    #[arg(long = "scenario", value_name = "NAME", conflicts_with = "numbers")]
    scenarios: Vec<String>,
    /// The long ones too.
    #[arg(long)]
    full: bool,
    /// Measure instead of testing, and write the page here.
    #[arg(long, value_name = "FILE")]
    numbers: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok((passed, failed)) => {
            println!("{passed} passed, {failed} failed");
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(usize, usize)> {
    let Arguments { devcluster, operator, chat_node, store, xtask, nodes, scenarios: names, full, numbers } =
        arguments;
    let cluster = Cluster::up(&devcluster, nodes).await?;
    let mut world = World {
        cluster,
        programs: Programs { operator, chat_node, store, xtask },
        operator_image: String::new(),
        node_image: String::new(),
        store_image: String::new(),
        pauses: Vec::new(),
        square: scenarios::PLAZA,
        group: None,
    };
    if let Some(file) = numbers {
        let page = numbers::measure(&mut world).await?;
        fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;
        return Ok((0, 0));
    }
    scenarios::run(&mut world, &names, full).await
}
