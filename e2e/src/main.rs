//! Runs the scenarios on a development cluster.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use e2e::{
    cluster::Cluster,
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
    #[arg(long, default_value_t = 3)]
    nodes: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok((passed, failed)) => {
            println!("{passed} passed, {failed} failed");
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(usize, usize)> {
    let Arguments { devcluster, operator, chat_node, nodes } = arguments;
    let cluster = Cluster::up(&devcluster, nodes).await?;
    let mut world = World {
        cluster,
        programs: Programs { operator, chat_node },
        operator_image: String::new(),
        node_image: String::new(),
        group: None,
    };
    Ok(scenarios::run(&mut world).await)
}
