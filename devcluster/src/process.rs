//! Runs small programs to their end within a deadline, and tells their errors in full.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// Enough for everything that does not wait for the cluster.
pub(crate) const SHORT: Duration = Duration::from_secs(30);

/// Runs `command`, gives it `input`, and returns what it printed.
pub(crate) fn run_with_input(command: &mut Command, input: &str, deadline: Duration) -> Result<String> {
    let line = describe(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    thread::scope(|scope| {
        // A program that ends without reading its input has told its reason on stderr.
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        let out = scope.spawn(move || read_all(&mut stdout));
        let err = scope.spawn(move || read_all(&mut stderr));
        let end = Instant::now() + deadline;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() > end {
                child.kill()?;
                child.wait()?;
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let out = out.join().map_err(|_| anyhow!("reading the output of `{line}` failed"))?;
        let err = err.join().map_err(|_| anyhow!("reading the errors of `{line}` failed"))?;
        match status {
            Some(status) if status.success() => Ok(out),
            Some(status) => bail!("`{line}` failed ({status}): {}", tail(&err, &out)),
            None => bail!("`{line}` did not end within {} s: {}", deadline.as_secs(), tail(&err, &out)),
        }
    })
}

pub(crate) fn run(command: &mut Command, deadline: Duration) -> Result<String> {
    run_with_input(command, "", deadline)
}

/// Asks `probe` again and again until it says yes; its last answer is the error.
pub(crate) fn wait_until(
    what: &str,
    deadline: Duration,
    pause: Duration,
    mut probe: impl FnMut() -> Result<()>,
) -> Result<()> {
    let end = Instant::now() + deadline;
    loop {
        let Err(error) = probe() else { return Ok(()) };
        if Instant::now() > end {
            return Err(error.context(format!("{what}: not within {} s", deadline.as_secs())));
        }
        thread::sleep(pause);
    }
}

fn read_all(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    drop(from.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The last lines of what a program said, where its reason usually is.
fn tail(err: &str, out: &str) -> String {
    let said = if err.trim().is_empty() { out } else { err };
    let lines: Vec<_> = said.trim().lines().collect();
    let last = &lines[lines.len().saturating_sub(20)..];
    if last.is_empty() { "it printed nothing".to_owned() } else { last.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let error =
            run(Command::new("sh").args(["-c", "echo no such bridge >&2; exit 3"]), SHORT).unwrap_err();
        assert!(error.to_string().contains("no such bridge"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let error = run(Command::new("sleep").arg("1000"), Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(run_with_input(&mut Command::new("cat"), "hello", SHORT).unwrap(), "hello");
    }
}
