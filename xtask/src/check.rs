//! `test`, `generate` and `numbers`.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    build, cold, requirements,
    step::{Step, heading, target_dir},
};

#[derive(Args)]
pub(crate) struct Options {
    /// Without a cluster: formatting, lints, unit and integration tests.
    #[arg(long, conflicts_with = "full")]
    fast: bool,
    /// The long ones too: more seeds of the simulation, the cluster's own test, scenarios that take their time.
    #[arg(long)]
    full: bool,
}

pub(crate) fn test(options: &Options) -> Result<()> {
    let start = Instant::now();
    requirements::ensure()?;
    without_cluster(options.full)?;
    if !options.fast {
        in_a_cluster(options.full)?;
    }
    eprintln!("\nAll tests passed in {} s.", start.elapsed().as_secs());
    Ok(())
}

fn without_cluster(full: bool) -> Result<()> {
    heading("formatting");
    Step::cargo().args(["fmt", "--all", "--check"]).run()?;
    heading("lints");
    Step::cargo()
        .args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"])
        .run()?;
    heading("unit and integration tests");
    let seeds = if full { "2000" } else { "200" };
    Step::cargo().args(["test", "--workspace", "--quiet"]).env("SIMULATION_SEEDS", seeds).run()?;
    heading("the page");
    Step::new("node").args(["--test", "chat-node/web/tests/"]).run()?;
    heading("the page in a browser");
    Step::cargo().args(["build", "--quiet", "--package", "chat-node"]).run()?;
    let chat_node = target_dir().join("debug/chat-node");
    Step::new("node").args(["e2e/page/run.mjs", "--chat-node"]).args([chat_node]).run()?;
    heading("generated files");
    generate(true)
}

fn in_a_cluster(full: bool) -> Result<()> {
    let devcluster = build::devcluster()?;
    if full {
        heading("the development cluster's own test");
        Step::new(&devcluster).args(["self-test"]).run()?;
    }
    heading("the whole product in a cluster");
    end_to_end(&devcluster, if full { &["--full"] } else { &[] })
}

/// Runs the end-to-end program with these arguments more, then takes the cluster down.
fn end_to_end(devcluster: &Path, arguments: &[&str]) -> Result<()> {
    let store = requirements::store()?;
    let programs = build::programs()?;
    let ran = Step::cargo()
        .args(["run", "--quiet", "--package", "e2e", "--"])
        .args(["--operator"])
        .args([&programs.operator])
        .args(["--chat-node"])
        .args([&programs.chat_node])
        .args(["--store"])
        .args([&store])
        .args(arguments)
        .run();
    // Whatever it left must go, also when it failed.
    let gone = Step::new(devcluster).args(["down"]).run();
    ran.and(gone)
}

pub(crate) fn generate(check: bool) -> Result<()> {
    let operator = Step::cargo().args(["run", "--quiet", "--package", "operator", "--", "generate"]);
    if check { operator.args(["--check"]).run() } else { operator.run() }
}

pub(crate) fn numbers(cold: bool) -> Result<()> {
    const PAGE: &str = "docs/numbers.md";
    /// What `cargo xtask bench` measured is written there by hand, from here on.
    const BY_HAND: &str = "## A room of three nodes";
    if cold {
        return cold::measure(Path::new(PAGE));
    }
    let kept = cold::kept_of(Path::new(PAGE), BY_HAND);
    end_to_end(&build::devcluster()?, &["--numbers", PAGE])?;
    let page = fs::read_to_string(PAGE).context("the page was just written")?;
    fs::write(PAGE, page + &kept).with_context(|| format!("cannot write {PAGE}"))
}
