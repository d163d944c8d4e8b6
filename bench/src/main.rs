//! Measures, one table a command. Only ratios between rows of one run mean anything: rounds are interleaved, every row
//! sees the same payload, rate and sockets, and a run that lost or doubled a message is a failed run.

mod bare;
mod closed;
mod commit;
mod failover;
mod load;
mod nats;
mod process;
mod room;
mod speech;
mod stateless;
mod table;
mod writers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Publish, store, deliver to many clients: chat nodes over a store beside the smallest relay over the same store.
    Stateless(stateless::Options),
    /// Kill, freeze and stop the node that leads the most shards of a room whose nodes keep the log: how long the writers
    /// on the others wait.
    Failover(failover::Options),
    /// Acknowledged messages a second of rooms that keep their log themselves, beside stores that flush as they do.
    Commit(commit::Options),
    /// The relay that `stateless` compares with; it starts this itself.
    #[command(hide = true)]
    BareRelay(bare::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().what {
        What::Stateless(options) => stateless::run(&options),
        What::Failover(options) => failover::run(&options),
        What::Commit(options) => commit::run(&options),
        What::BareRelay(options) => bare::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
