//! The project's commands. `cargo xtask --help` lists them.
//!
//! Depends on next to nothing, so that it is there at once; what is heavy it builds and calls.

mod bench;
mod build;
mod check;
mod cold;
mod install;
mod requirements;
mod step;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Set up, run and test the chat room operator.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a Kubernetes cluster on this machine (or use another), install the operator, run a chat room.
    Up(up::Options),
    /// Stop the cluster and remove everything `up` made on this machine; what was built stays cached.
    Down,
    /// Run the tests.
    Test(check::Options),
    /// Write CRDs, RBAC, the plain install and the examples into `manifests/` and the charts.
    Generate {
        /// Change nothing; fail if a file is not as it would be written.
        #[arg(long)]
        check: bool,
    },
    /// Measure beside peers and print a table.
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
    /// Measure and write docs/numbers.md.
    Numbers {
        /// The part about the first `up` of a machine instead, which takes some 20 minutes and 20 GB.
        #[arg(long)]
        cold: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    step::enter_workspace()?;
    match verb {
        Verb::Up(options) => up::up(&options),
        Verb::Down => up::down(),
        Verb::Test(options) => check::test(&options),
        Verb::Bench { what } => bench::run(&what),
        Verb::Generate { check } => check::generate(check),
        Verb::Numbers { cold } => check::numbers(cold),
    }
}
