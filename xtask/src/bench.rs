//! `bench`: builds what is measured and what measures, for release, and runs it.

use anyhow::Result;
use clap::Subcommand;

use crate::{
    build, requirements,
    step::{Step, heading},
};

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Publish, store, deliver to 100 clients of a room over a store, beside the smallest relay over the same store.
    Stateless {
        /// Rounds, interleaved.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
    },
    /// Kill, freeze and stop the node that leads the most shards of a room that keeps its log itself: how long the writers
    /// on the other nodes wait.
    Failover {
        /// Nodes of the room: 3, 5 or 7.
        #[arg(long, default_value_t = 3)]
        nodes: u32,
        /// Rounds, interleaved.
        #[arg(long, default_value_t = 10)]
        rounds: u32,
    },
    /// Acknowledged messages a second of rooms that keep their log themselves, one node and three, beside redis and, where
    /// PATH has `nats-server`, JetStream, all of them flushing before they acknowledge.
    Commit {
        /// Rounds, interleaved.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
    },
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    requirements::ensure()?;
    let programs = build::programs()?;
    let bench_program = build::bench()?;
    let step = |what: &str, rounds: u32| {
        let step = Step::new(bench_program).args([what, "--rounds", &rounds.to_string(), "--chat-node"]);
        step.args([programs.chat_node])
    };
    match bench {
        Bench::Stateless { rounds } => {
            heading("a room over a store beside a bare relay");
            step("stateless", *rounds).run()
        }
        Bench::Failover { nodes, rounds } => {
            heading("a room that loses the node that leads the most");
            step("failover", *rounds).args(["--nodes", &nodes.to_string()]).run()
        }
        Bench::Commit { rounds } => {
            heading("rooms that keep their log themselves beside stores");
            let step = step("commit", *rounds);
            match requirements::find("nats-server") {
                Some(server) => step.args(["--nats-server"]).args([server]).run(),
                None => step.run(),
            }
        }
    }
}
