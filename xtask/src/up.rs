//! `up` and `down`.

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    build::{self, Images},
    install::{self, Target},
    step::{Step, heading},
};

#[derive(Args)]
pub(crate) struct Options {
    /// Kubernetes nodes of the development cluster.
    #[arg(long, default_value_t = 3, conflicts_with = "context")]
    nodes: u8,
    /// Use the cluster of this kubeconfig context as it is, instead of starting one.
    #[arg(long, requires = "registry")]
    context: Option<String>,
    /// Where that cluster finds the images: REGISTRY/operator:TAG and REGISTRY/chat-node:TAG.
    #[arg(long, requires = "context")]
    registry: Option<String>,
    /// The tag of those images.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"), requires = "registry")]
    tag: String,
}

pub(crate) fn up(options: &Options) -> Result<()> {
    let (target, images) = match (&options.context, &options.registry) {
        (Some(context), Some(registry)) => elsewhere(context, registry, &options.tag)?,
        _ => here(options.nodes)?,
    };
    install::operator(&target, &images)?;
    install::room(&target, &images)?;
    say_what_next(&target);
    Ok(())
}

fn here(nodes: u8) -> Result<(Target, Images)> {
    let devcluster = build::devcluster()?;
    heading("a Kubernetes cluster on this machine");
    Step::new(&devcluster).args(["up", "--nodes", &nodes.to_string()]).run()?;
    let programs = build::programs()?;
    let images = build::images(&devcluster, &programs)?;
    let environment = build::environment(&devcluster)?;
    Ok((Target { environment, context: None }, images))
}

fn elsewhere(context: &str, registry: &str, tag: &str) -> Result<(Target, Images)> {
    let target = Target { environment: Vec::new(), context: Some(context.to_owned()) };
    heading(&format!("the Kubernetes cluster of context {context}"));
    target.kubectl().args(["version"]).run().with_context(|| {
        format!(
            "kubectl cannot talk to context {context}: `kubectl config get-contexts` lists those there are"
        )
    })?;
    target.helm().args(["version", "--short"]).run().context("helm is needed: see https://helm.sh")?;
    let image = |name: &str| format!("{registry}/{name}:{tag}");
    let images = Images { operator: image("operator"), chat_node: image("chat-node"), store: None };
    Ok((target, images))
}

fn say_what_next(target: &Target) {
    println!("\nThe room `lounge` runs. What to type next:\n");
    let say = |command: &str, what: &str| println!("  {command:<58} # {what}");
    let kubectl = match &target.context {
        None => {
            say("eval \"$(target/debug/devcluster env)\"", "kubectl and helm of this cluster");
            "kubectl".to_owned()
        }
        Some(context) => format!("kubectl --context {context}"),
    };
    println!("  {kubectl} get chatrooms --output wide");
    say(&format!("{kubectl} port-forward service/lounge 6667:6667 8080:8080"), "then http://localhost:8080/");
    say("irssi --connect localhost", "and /join #lounge");
    say(&format!("{kubectl} explain chatroom.spec"), "what a room can be told");
    match &target.context {
        None => say("cargo xtask down", "end it all"),
        Some(context) => say(
            &format!("helm --kube-context {context} uninstall lounge --namespace default"),
            "end the room; its volume stays",
        ),
    }
}

pub(crate) fn down() -> Result<()> {
    let devcluster = build::devcluster()?;
    Step::new(&devcluster).args(["down"]).run().context("the cluster could not be removed whole")
}
