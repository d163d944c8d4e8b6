//! `numbers --cold`: the first `up` of a machine that has nothing but Rust and Go, timed step by step.
//!
//! It runs in a clone of what is committed, with caches of its own under the target directory, and removes them.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::step::{Step, heading, target_dir};

/// What `up` says, and when it said it.
type Line = (Duration, String);

/// Where the page's part about this begins; it goes to the page's end.
const HEADING: &str = "## A cold start";

/// Measures, and puts the result into the page.
pub(crate) fn measure(page: &Path) -> Result<()> {
    heading("a cold start, in a clone with empty caches");
    let root = target_dir().join("cold");
    remove(&root)?;
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let root = fs::canonicalize(root)?;
    let measured = measure_in(&root);
    // Whatever happened: several gigabytes.
    let removed = remove(&root);
    let part = measured?;
    removed?;
    let text = fs::read_to_string(page).unwrap_or_default();
    fs::write(page, format!("{}\n\n{part}", without_part(&text).trim_end()))
        .with_context(|| format!("cannot write {}", page.display()))
}

/// What a page has from this heading on, or else about cold starts: for whoever writes the rest anew.
pub(crate) fn kept_of(page: &Path, from: &str) -> String {
    let text = fs::read_to_string(page).unwrap_or_default();
    let at = text.find(from).or_else(|| text.find(HEADING));
    at.map_or(String::new(), |at| format!("\n{}", &text[at..]))
}

fn without_part(text: &str) -> &str {
    text.find(HEADING).map_or(text, |at| &text[..at])
}

fn measure_in(root: &Path) -> Result<String> {
    let clone = root.join("clone");
    Step::new("git").args(["clone", "--quiet", "."]).args([&clone]).run()?;
    let lines = in_clone(root, "up")?;
    in_clone(root, "down")?;
    let size = Step::new("du").args(["--summarize", "--block-size=1M"]).args([root]).output()?;
    let size = size.split_whitespace().next().unwrap_or_default().to_owned();
    let total = lines.last().map(|(at, _)| *at).context("`cargo xtask up` said nothing")?;
    Ok(page_part(total, &steps(&lines), &size))
}

/// Runs an xtask of the clone; tells what it says, and gives it with the time.
fn in_clone(root: &Path, verb: &str) -> Result<Vec<Line>> {
    let mut command = Command::new("cargo");
    command.args(["xtask", verb]).current_dir(root.join("clone")).stdin(Stdio::null());
    for (name, folder) in [
        ("XDG_CACHE_HOME", "cache"),
        ("CARGO_HOME", "cargo"),
        ("GOMODCACHE", "gomod"),
        ("GOCACHE", "gocache"),
    ] {
        command.env(name, root.join(folder));
    }
    // Cargo's own variables speak of this workspace.
    for name in ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR", "CARGO"] {
        command.env_remove(name);
    }
    let start = Instant::now();
    let (read, write) = std::io::pipe()?;
    let mut child = command
        .stdout(write.try_clone()?)
        .stderr(write)
        .spawn()
        .with_context(|| format!("cannot start `cargo xtask {verb}` in the clone"))?;
    // It holds the other end of the pipe, too.
    drop(command);
    let mut lines = Vec::new();
    for line in BufReader::new(read).lines() {
        let line = line?;
        eprintln!("    {line}");
        lines.push((start.elapsed(), line));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`cargo xtask {verb}` in the clone failed ({status})");
    }
    lines.push((start.elapsed(), String::new()));
    Ok(lines)
}

/// The steps of `up`: from one heading to the next, and the builds of Go programs within them.
fn steps(lines: &[Line]) -> Vec<(String, Duration)> {
    let end = lines.last().map_or(Duration::ZERO, |(at, _)| *at);
    let mut steps: Vec<(String, Duration)> = Vec::new();
    let mut open: Option<(String, Duration)> = None;
    for (at, line) in lines {
        if let Some(title) = line.strip_prefix("==> ") {
            if let Some((name, since)) = open.replace((title.to_owned(), *at)) {
                steps.push((name, *at - since));
            } else {
                steps.push(("the project's own command".to_owned(), *at));
            }
        } else if let Some((_, built)) = line.split_once(" built ")
            && let Some((name, seconds)) = built.strip_suffix(" s").and_then(|built| built.split_once(" in "))
            && let Ok(seconds) = seconds.parse()
        {
            steps.push((format!("– of the next: {name}, from its Go module"), Duration::from_secs(seconds)));
        }
    }
    steps.extend(open.map(|(name, since)| (name, end - since)));
    steps
}

fn page_part(total: Duration, steps: &[(String, Duration)], mebibytes: &str) -> String {
    let mut text = format!(
        "{HEADING}\n\nMade by `cargo xtask numbers --cold`: `cargo xtask up` in a fresh clone with empty caches of cargo, Go and \
         the cluster, downloads included; afterwards all of it took {mebibytes} MiB of disk.\n\n| step | seconds |\n|---|---|\n"
    );
    for (name, took) in steps {
        text.push_str(&format!("| {name} | {} |\n", took.as_secs()));
    }
    text.push_str(&format!("| **all of it** | **{}** |\n", total.as_secs()));
    text
}

/// Removes the tree; Go makes its modules read-only.
fn remove(root: &PathBuf) -> Result<()> {
    if !root.exists() {
        return Ok(());
    }
    Step::new("chmod").args(["--recursive", "u+w"]).args([root]).run()?;
    fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_from_heading_to_heading() {
        let line = |second, text: &str| (Duration::from_secs(second), text.to_owned());
        let lines = [
            line(10, "==> first"),
            line(30, " 17.0s built etcd in 12 s"),
            line(40, "==> second"),
            line(45, ""),
        ];
        let steps = steps(&lines);
        let names: Vec<_> = steps.iter().map(|(name, took)| (name.as_str(), took.as_secs())).collect();
        assert_eq!(
            names,
            [
                ("the project's own command", 10),
                ("– of the next: etcd, from its Go module", 12),
                ("first", 30),
                ("second", 5),
            ]
        );
    }

    #[test]
    fn the_part_is_replaced_and_the_rest_stays() {
        assert_eq!(without_part("# Numbers\n\nwarm\n\n## A cold start\nold\n"), "# Numbers\n\nwarm\n\n");
        assert_eq!(without_part("# Numbers\n"), "# Numbers\n");
    }
}
