//! The command line.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::names;

/// Kubernetes operator for ChatRoom resources.
#[derive(Debug, Parser)]
#[command(name = "operator", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator (what happens without a subcommand).
    Run(RunOptions),
    /// Write CRDs, RBAC, the plain install and example rooms into the repository.
    Generate(GenerateOptions),
}

/// How the operator runs.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// Image of the nodes of rooms that name none.
    #[arg(long, env = "DEFAULT_NODE_IMAGE", value_name = "IMAGE")]
    pub default_node_image: Option<String>,
    /// Image of the stores that rooms with `store.managed` get: it must have `redis-server` in its PATH, as those of Valkey
    /// and Redis have.
    #[arg(long, env = "STORE_IMAGE", value_name = "IMAGE", default_value = names::STORE_IMAGE, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub store_image: String,
    /// Watch this namespace alone; all of them when left out.
    #[arg(long, env = "WATCH_NAMESPACE", value_name = "NAMESPACE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub watch_namespace: Option<String>,
    /// Namespace of the operator itself: NetworkPolicies let its pods in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "chatroom-system")]
    pub namespace: String,
    /// Name of this installation in its namespace. Its replicas take turns; another installation that watches the same
    /// rooms is told to go away.
    #[arg(long, env = "INSTALLATION", default_value = names::OPERATOR)]
    pub installation: String,
    /// Name of this operator among its replicas.
    #[arg(long, env = "POD_NAME", default_value = "chatroom-operator-outside")]
    pub identity: String,
    /// Address of probes and metrics.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `operator=debug,kube=warn`.
    #[arg(long, env = "LOG", default_value = "info")]
    pub log: String,
    /// How it is logged.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Where generated files go.
#[derive(Clone, Debug, Args)]
pub struct GenerateOptions {
    /// Root of the repository.
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
    /// Write nothing; fail if a file is not as it would be written.
    #[arg(long)]
    pub check: bool,
}

impl Cli {
    pub fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Some(Command::Generate(options)) => crate::generate::generate(&options),
            Some(Command::Run(options)) => start(options),
            None => start(self.run),
        }
    }
}

fn start(options: RunOptions) -> anyhow::Result<()> {
    // Each failed request is told again, with its context, by whoever made it.
    let filter = EnvFilter::try_new(format!("kube_client::client::builder=off,{}", options.log))
        .with_context(|| {
            format!("--log {:?} is not a filter: write info, or operator=debug,kube=warn", options.log)
        })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match options.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    crate::run::run(options)
}
