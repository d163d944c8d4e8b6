//! Installing the product with helm, as a user would.

use std::ffi::OsString;

use anyhow::Result;

use crate::{
    build::Images,
    step::{Step, heading},
};

/// Namespace of the operator.
const SYSTEM: &str = "chatroom-system";

/// A cluster that is there, and how to talk to it.
pub(crate) struct Target {
    /// Variables for kubectl and helm.
    pub(crate) environment: Vec<(String, String)>,
    /// A context of the kubeconfig, if not its present one.
    pub(crate) context: Option<String>,
}

impl Target {
    pub(crate) fn kubectl(&self) -> Step {
        self.step("kubectl", "--context")
    }

    pub(crate) fn helm(&self) -> Step {
        self.step("helm", "--kube-context")
    }

    fn step(&self, program: &str, context_flag: &str) -> Step {
        // The program is looked up in our PATH, not in the one it is given.
        let path = self.environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_str());
        let program = path
            .into_iter()
            .flat_map(|path| path.split(':'))
            .map(|folder| std::path::Path::new(folder).join(program))
            .find(|file| file.is_file())
            .map_or_else(|| OsString::from(program), std::path::PathBuf::into_os_string);
        let mut step = Step::new(program);
        for (name, value) in &self.environment {
            step = step.env(name, value);
        }
        match &self.context {
            Some(context) => step.args([context_flag, context]),
            None => step,
        }
    }
}

/// CRDs and operator.
pub(crate) fn operator(target: &Target, images: &Images) -> Result<()> {
    heading("operator");
    let upgrade = |release: &str| {
        target.helm().args(["upgrade", "--install", release]).args([format!("charts/{release}")]).args([
            "--namespace",
            SYSTEM,
            "--create-namespace",
            "--wait",
            "--timeout",
            "120s",
        ])
    };
    upgrade("chatroom-operator-crds").run()?;
    upgrade("chatroom-operator")
        .args(image_values("image", &images.operator))
        .args(image_values("nodeImage", &images.chat_node))
        .args(images.store.as_deref().map_or_else(Vec::new, |store| image_values("storeImage", store)))
        .run()
}

/// A room named `lounge`, and two people talking in it.
pub(crate) fn room(target: &Target, images: &Images) -> Result<()> {
    heading("the room `lounge`");
    target
        .helm()
        .args(["upgrade", "--install", "lounge", "charts/chatroom", "--namespace", "default"])
        .args(image_values("test.image", &images.chat_node))
        .args(["--wait", "--timeout", "180s"])
        .run()?;
    heading("two people talk in it");
    target.helm().args(["test", "lounge", "--namespace", "default", "--logs", "--timeout", "120s"]).run()?;
    target.kubectl().args(["get", "chatrooms", "--namespace", "default", "--output", "wide"]).run()
}

fn image_values(key: &str, reference: &str) -> Vec<String> {
    let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
    vec![
        "--set-string".to_owned(),
        format!("{key}.repository={repository}"),
        "--set-string".to_owned(),
        format!("{key}.tag={tag}"),
    ]
}
