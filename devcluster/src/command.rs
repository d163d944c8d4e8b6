//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::cluster::{Cluster, Options, Timings};
use crate::images::{ImageSpec, build};
use crate::layout::{cache, kubeconfig};
use crate::machine::init;
use crate::requirements;
use crate::tools::Programs;
use crate::{addons, policy, self_test, status};

/// Enough to part them and to keep a majority.
const DEFAULT_NODES: usize = 3;

/// A real Kubernetes on this Linux machine.
#[derive(Debug, Parser)]
#[command(name = "devcluster", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a cluster, or repair the one that is there; build what is missing.
    Up {
        /// How many Kubernetes nodes: as many as there are, or 3, where nothing is said.
        #[arg(long)]
        nodes: Option<usize>,
        /// Notice and mend failures as slowly as Kubernetes does by default.
        #[arg(long)]
        default_timings: bool,
    },
    /// Stop the cluster and remove everything of it; what was built stays in the cache.
    Down,
    /// Show machines, nodes and memory.
    Status,
    /// Cut a node's network.
    Cut { node: usize },
    /// Mend a node's network.
    Heal { node: usize },
    /// Stop a node's processes where they are.
    Freeze { node: usize },
    /// Let a frozen node go on.
    Thaw { node: usize },
    /// End everything on a node at once.
    PowerOff { node: usize },
    /// Boot a node, and wait until it is Ready.
    PowerOn { node: usize },
    /// Run a command of this machine in the network and with the mounts of a node: devcluster exec 0 -- df -h
    Exec {
        node: usize,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Give an image archive to every node.
    LoadImage { file: PathBuf },
    /// Build an image from one program; load it where a cluster runs.
    Image {
        /// The image becomes localhost/chat/NAME.
        #[arg(long)]
        name: String,
        /// A tag made of the content's hash, where none is given.
        #[arg(long)]
        tag: Option<String>,
        /// The program; static, unless its libraries are to come along.
        #[arg(long)]
        binary: PathBuf,
        /// Take the shared libraries of this machine along that the program is linked to.
        #[arg(long)]
        with_libraries: bool,
        /// A symbolic link, as PATH-INSIDE=TARGET; may be repeated.
        #[arg(long = "link", value_name = "PATH=TARGET")]
        links: Vec<String>,
        /// A further file, as SOURCE=PATH-INSIDE; may be repeated.
        #[arg(long = "file", value_name = "SOURCE=PATH")]
        files: Vec<String>,
    },
    /// Kill or start the API server.
    ApiServer {
        #[command(subcommand)]
        action: ApiServerAction,
    },
    /// Build every program and image of a cluster, and start nothing.
    Build,
    /// Print shell lines that set PATH and KUBECONFIG: eval "$(devcluster env)"
    Env,
    /// Start a cluster, break it in every way, and check that all works and nothing is left.
    SelfTest {
        #[arg(long, default_value_t = DEFAULT_NODES)]
        nodes: usize,
    },
    /// Keep the kernel's rules of one node as the NetworkPolicies say.
    #[command(hide = true)]
    EnforcePolicies {
        #[arg(long)]
        node: String,
        #[arg(long)]
        kubeconfig: PathBuf,
    },
    /// What the machines themselves run.
    #[command(hide = true)]
    Machine {
        #[command(subcommand)]
        step: MachineStep,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum ApiServerAction {
    Stop,
    Start,
}

#[derive(Debug, Subcommand)]
enum MachineStep {
    Enter { name: String },
    Init { name: String },
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(tracing_subscriber::fmt::time::uptime())
        .with_target(false)
        .with_level(false)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match run(arguments.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Up { nodes, default_timings } => {
            let timings = if default_timings { Timings::Defaults } else { Timings::Tuned };
            let nodes = nodes.or_else(|| Some(Cluster::running().ok()?.nodes()));
            up(Options { nodes: nodes.unwrap_or(DEFAULT_NODES), timings })
        }
        Verb::Down => Cluster::stop(),
        Verb::Status => {
            print!("{}", status::report(&Cluster::running()?)?);
            Ok(())
        }
        Verb::Cut { node } => Cluster::running()?.cut(node),
        Verb::Heal { node } => Cluster::running()?.heal(node),
        Verb::Freeze { node } => Cluster::running()?.freeze(node),
        Verb::Thaw { node } => Cluster::running()?.thaw(node),
        Verb::PowerOff { node } => Cluster::running()?.power_off(node),
        Verb::PowerOn { node } => {
            let cluster = Cluster::running()?;
            cluster.power_on(node)?;
            cluster.wait_nodes_ready()
        }
        Verb::Exec { node, command } => exec(node, &command),
        Verb::LoadImage { file } => Cluster::running()?.load_image(&file),
        Verb::Image { name, tag, binary, with_libraries, links, files } => {
            let spec = ImageSpec { name, tag, binary, with_libraries, ..ImageSpec::default() };
            image(spec, &links, &files)
        }
        Verb::ApiServer { action: ApiServerAction::Stop } => Cluster::running()?.kill_api_server(),
        Verb::ApiServer { action: ApiServerAction::Start } => Cluster::running()?.start_api_server(),
        Verb::Build => {
            requirements::ensure()?;
            addons::ensure_images(&Programs::ensure()?).map(drop)
        }
        Verb::Env => env(),
        Verb::SelfTest { nodes } => self_test::run(nodes),
        Verb::EnforcePolicies { node, kubeconfig } => {
            // One small program per node: a second thread would only cost memory.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(policy::enforce(&node, &kubeconfig))
        }
        Verb::Machine { step: MachineStep::Enter { name } } => init::enter(&name).map(|never| match never {}),
        Verb::Machine { step: MachineStep::Init { name } } => init::init(&name).map(|never| match never {}),
    }
}

fn up(options: Options) -> Result<()> {
    let started = Instant::now();
    let cluster = Cluster::start(options)?;
    info!("the cluster is ready after {:.1} s", started.elapsed().as_secs_f32());
    println!(
        "Kubernetes runs with {} node(s); kubeconfig: {}\n\
         \n  eval \"$(devcluster env)\"        # kubectl, helm and ctr in PATH, KUBECONFIG set\
         \n  kubectl get pods -A\
         \n  devcluster down                 # stop it and leave nothing",
        cluster.nodes(),
        cluster.kubeconfig().display(),
    );
    Ok(())
}

fn exec(node: usize, command: &[String]) -> Result<()> {
    let status =
        Cluster::running()?.command_on(node)?.args(command).status().context("cannot start nsenter")?;
    if !status.success() {
        bail!("`{}` failed on node {node} ({status})", command.join(" "));
    }
    Ok(())
}

fn env() -> Result<()> {
    let cluster = Cluster::running()?;
    let path = std::env::join_paths(cluster.path())?;
    println!("export KUBECONFIG='{}'", kubeconfig().display());
    println!("export PATH='{}':\"$PATH\"", path.display());
    Ok(())
}

fn image(mut spec: ImageSpec, links: &[String], files: &[String]) -> Result<()> {
    for file in files {
        let Some((source, path)) = file.split_once('=') else {
            bail!("--file wants SOURCE=PATH-INSIDE, not {file:?}");
        };
        spec.files.insert(path.to_owned(), PathBuf::from(source));
    }
    for link in links {
        let Some((path, target)) = link.split_once('=') else {
            bail!("--link wants PATH-INSIDE=TARGET, not {link:?}");
        };
        spec.links.insert(path.to_owned(), target.to_owned());
    }
    let image = build(&spec, &cache()?.join("images"))?;
    if let Ok(cluster) = Cluster::running() {
        cluster.load_image(&image.archive).context("the image is built, but not loaded")?;
        info!("loaded into every node");
    }
    info!("archive {} ({} KiB)", image.archive.display(), image.bytes >> 10);
    println!("{}", image.reference);
    Ok(())
}
