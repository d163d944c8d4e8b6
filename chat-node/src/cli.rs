//! The command line: flags, exit codes, and where log lines go.

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use contract::config::{LogFormat, LogLevel, Telemetry};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    check::{self, Check, Tls},
    config::{self, ListenerFlag, Overrides, PlaceFlags},
    node,
};

/// Something broke while running; the reason is on stderr.
const FAILED: u8 = 1;
/// The configuration or the flags are wrong; the reason on stderr names file and key.
const BAD_CONFIGURATION: u8 = 2;

const AFTER_HELP: &str = "\
Without a configuration file every key has its default: IRC on port 6667, the web page and
WebSocket on 8080, probes, metrics and status on 9090, data in ./data.

Examples:
  chat-node --data ./data                     a server for everybody who can reach this machine
  chat-node --irc 127.0.0.1:6667 --web off    IRC for this machine alone
  chat-node --config node.yaml --workers 4    flags stand over the file
  chat-node check 127.0.0.1:6667              join, send, receive: does a server work?
  chat-node check chat.example.org:6697 --tls

Signals: TERM or INT drains (clients are sent away, the state is saved) and ends with 0; a second
one hurries. Exit codes: 0 stopped as asked, 1 failed while running, 2 wrong configuration.";

/// A chat server: IRC over TCP and WebSocket, its state in a durable log.
#[derive(Parser)]
#[command(name = "chat-node", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Args)]
struct Serve {
    /// Configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the log, snapshots and history; made if it is not there [default: data].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen for IRC over TCP, or `off` [default: 0.0.0.0:6667].
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listener)]
    irc: Option<ListenerFlag>,
    /// Where to listen for the web page and WebSocket, or `off` [default: 0.0.0.0:8080].
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listener)]
    web: Option<ListenerFlag>,
    /// Where to listen for probes, metrics and status [default: 0.0.0.0:9090].
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    admin: Option<SocketAddr>,
    /// Threads with sockets of their own; 1 is the single-threaded server [default: 1].
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Name of the network, as clients see it [default: chat].
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// What tells nodes apart that keep a log together and have the same configuration file.
#[derive(Args)]
#[command(next_help_heading = "Nodes that keep a log together (log.raft)")]
struct Place {
    /// This node's name among the others.
    #[arg(long, value_name = "NAME", env = "CHAT_NODE_NAME")]
    name: Option<String>,
    /// Where the others reach its peer listener.
    #[arg(long, value_name = "HOST:PORT", env = "CHAT_NODE_ADVERTISE")]
    advertise: Option<String>,
    /// The machine it runs on: voters of a shard are spread over machines.
    #[arg(long, value_name = "NAME", env = "CHAT_NODE_HOST")]
    host: Option<String>,
    /// The zone of that machine.
    #[arg(long, value_name = "NAME", env = "CHAT_NODE_ZONE")]
    zone: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Join a server as two guests, send a message, see it arrive; exit code 0 if it does.
    Check(CheckArguments),
}

#[derive(Args)]
struct CheckArguments {
    /// The server's IRC port.
    #[arg(value_name = "HOST:PORT")]
    server: String,
    /// The port speaks TLS.
    #[arg(long)]
    tls: bool,
    /// Certificates (PEM) to trust over TLS: the server's own, or of the authority that signed it; else the system's.
    #[arg(long, requires = "tls", value_name = "FILE")]
    trust: Option<PathBuf>,
    /// What the server's certificate is for, if that is not HOST.
    #[arg(long, requires = "tls")]
    name: Option<String>,
    /// Channel to join.
    #[arg(long, default_value = "#check")]
    channel: String,
    /// Seconds for all of it.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

fn listener(text: &str) -> Result<ListenerFlag, String> {
    if text == "off" {
        return Ok(ListenerFlag::Off);
    }
    address(text).map(ListenerFlag::At).map_err(|fix| format!("{fix}, or `off`"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 0.0.0.0:6667".to_owned())
}

/// The whole program.
pub fn run() -> ExitCode {
    let Arguments { command, serve } = Arguments::parse();
    match command {
        Some(Command::Check(CheckArguments { server, tls, trust, name, channel, timeout })) => {
            let tls = tls.then_some(Tls { trust, name });
            let check = Check { server, tls, channel, timeout: Duration::from_secs(timeout) };
            match check::run(&check, &mut io::stdout().lock()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(FAILED, &error),
            }
        }
        None => run_node(serve),
    }
}

fn run_node(serve: Serve) -> ExitCode {
    let Serve { config, data, irc, web, admin, workers, network, place } = serve;
    let Place { name, advertise, host, zone } = place;
    let place = PlaceFlags { name, advertise, host, zone };
    let overrides = Overrides { data, irc, web, admin, workers, network, place };
    let config = match config::load(config.as_ref(), overrides) {
        Ok(config) => config,
        Err(error) => return fail(BAD_CONFIGURATION, &error),
    };
    start_log_lines(&config.telemetry);
    // For everything in this process that speaks TLS. Nothing before this line does, so nothing is installed yet.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match node::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(if error.is_of_configuration() { BAD_CONFIGURATION } else { FAILED }, &error),
    }
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("chat-node: {error}");
    ExitCode::from(code)
}

fn start_log_lines(telemetry: &Telemetry) {
    let level = match telemetry.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Raft says of every message that did not arrive what the node says once, in words.
    let of_raft = if level >= LevelFilter::DEBUG { level } else { LevelFilter::OFF };
    let shown = Targets::new().with_default(level).with_target("openraft", of_raft);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match telemetry.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(shown)).init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn listeners_may_be_off() {
        assert_eq!(listener("off"), Ok(ListenerFlag::Off));
        assert!(matches!(listener("[::]:6667"), Ok(ListenerFlag::At(address)) if address.is_ipv6()));
        assert!(listener("localhost:6667").expect_err("not an address").contains("0.0.0.0:6667"));
    }
}
