//! What is built before anything can run: the development cluster's command, the static programs, their images.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;

use crate::{
    requirements,
    step::{Step, heading, target_dir},
};

/// Images run anywhere: one static program each.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The `devcluster` command, built.
pub(crate) fn devcluster() -> Result<PathBuf> {
    heading("the development cluster's command");
    Step::cargo().args(["build", "--quiet", "--package", "devcluster"]).run()?;
    Ok(target_dir().join("debug/devcluster"))
}

/// The static programs `operator` and `chat-node`, built for release.
pub(crate) struct Programs {
    pub(crate) operator: PathBuf,
    pub(crate) chat_node: PathBuf,
}

pub(crate) fn programs() -> Result<Programs> {
    heading("operator and chat node, static, for release");
    static_release(&["operator", "chat-node"])?;
    let release = target_dir().join(TARGET).join("release");
    Ok(Programs { operator: release.join("operator"), chat_node: release.join("chat-node") })
}

/// The load generator, built as what it measures.
pub(crate) fn bench() -> Result<PathBuf> {
    heading("the load generator");
    static_release(&["bench"])?;
    Ok(target_dir().join(TARGET).join("release/bench"))
}

fn static_release(packages: &[&str]) -> Result<()> {
    Step::cargo()
        .args(["build", "--release", "--target", TARGET])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .run()
}

/// Names of the images as a cluster knows them.
pub(crate) struct Images {
    pub(crate) operator: String,
    pub(crate) chat_node: String,
    /// The operator has an image of its own choice where there is none.
    pub(crate) store: Option<String>,
}

/// Builds the images and gives them to the development cluster; its stores run the system's server.
pub(crate) fn images(devcluster: &PathBuf, programs: &Programs) -> Result<Images> {
    let server = requirements::store()?;
    heading("images");
    let image = |name: &str, binary: &PathBuf, more: &[&str]| -> Result<String> {
        let binary = binary.as_os_str().to_owned();
        let args = ["image", "--name", name, "--binary"].map(OsString::from).into_iter().chain([binary]);
        let output = Step::new(devcluster).args(args).args(more).output()?;
        let reference = output.lines().last().unwrap_or_default().trim().to_owned();
        eprintln!("    {reference}");
        Ok(reference)
    };
    Ok(Images {
        operator: image("operator", &programs.operator, &[])?,
        chat_node: image("chat-node", &programs.chat_node, &[])?,
        store: Some(image("store", &server, &["--with-libraries", "--link", "bin/redis-server=/store"])?),
    })
}

/// KUBECONFIG, and PATH with the cluster's own kubectl and helm in front, as `devcluster env` sets them.
pub(crate) fn environment(devcluster: &PathBuf) -> Result<Vec<(String, String)>> {
    let script = r#"eval "$("$0" env)" && printf '%s\n%s\n' "$KUBECONFIG" "$PATH""#;
    let text = Step::new("sh").args(["-c", script]).args([devcluster]).output()?;
    let names = ["KUBECONFIG", "PATH"].map(str::to_owned);
    Ok(names.into_iter().zip(text.lines().map(str::to_owned)).collect())
}
