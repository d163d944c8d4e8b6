//! Running other programs: what runs is printed, how long it took too, and a failure names the command.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// Makes relative paths relative to the workspace, wherever the command was typed.
pub(crate) fn enter_workspace() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("xtask lies in the workspace")?;
    env::set_current_dir(root).with_context(|| format!("cannot enter {}", root.display()))
}

/// A heading, so that progress can be followed.
pub(crate) fn heading(text: &str) {
    eprintln!("\n==> {text}");
}

/// A command to be run.
pub(crate) struct Step(Command);

impl Step {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self(command)
    }

    /// The cargo that runs this.
    pub(crate) fn cargo() -> Self {
        Self::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it to its end; its output goes where ours goes.
    pub(crate) fn run(mut self) -> Result<()> {
        let text = self.text();
        eprintln!("    {text}");
        let start = Instant::now();
        let status = self.0.status().with_context(|| format!("cannot start `{text}`"))?;
        if !status.success() {
            bail!("`{text}` failed ({status})");
        }
        let seconds = start.elapsed().as_secs();
        if seconds >= 10 {
            eprintln!("    took {seconds} s");
        }
        Ok(())
    }

    /// Runs it to its end and gives what it wrote to standard output.
    pub(crate) fn output(mut self) -> Result<String> {
        let text = self.text();
        let output =
            self.0.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{text}`"))?;
        if !output.status.success() {
            bail!("`{text}` failed ({})", output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("`{text}` did not write text"))
    }

    fn text(&self) -> String {
        let program = Path::new(self.0.get_program());
        let mut text = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        for arg in self.0.get_args() {
            let _ = write!(text, " {}", arg.to_string_lossy());
        }
        text
    }
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from)
}
