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
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    requirements::ensure()?;
    let programs = build::programs()?;
    let bench_program = build::bench()?;
    match bench {
        Bench::Stateless { rounds } => {
            heading("a room over a store beside a bare relay");
            Step::new(bench_program)
                .args(["stateless", "--rounds", &rounds.to_string(), "--chat-node"])
                .args([programs.chat_node])
                .run()
        }
    }
}
