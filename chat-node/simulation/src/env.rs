//! What everybody in a run shares: time, chance and the trace.

use std::{
    fmt::{self, Write},
    hash::{DefaultHasher, Hasher},
};

use chat_session::Now;

use crate::chance::Chance;

/// Wall-clock time at the start of every run.
const EPOCH_MS: u64 = 1_700_000_000_000;

pub(crate) struct Env {
    pub(crate) chance: Chance,
    pub(crate) trace: Trace,
    monotonic_ms: u64,
    /// What the wall clock shows beyond the monotonic one; it jumps.
    wall_ms: u64,
}

impl Env {
    pub(crate) fn new(seed: u64, print: bool) -> Self {
        let trace = Trace { hash: DefaultHasher::new(), print };
        Self { chance: Chance::new(seed), trace, monotonic_ms: 0, wall_ms: EPOCH_MS }
    }

    pub(crate) fn now(&self) -> Now {
        Now { monotonic_ms: self.monotonic_ms, unix_ms: self.wall_ms + self.monotonic_ms }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.monotonic_ms
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.monotonic_ms += ms;
    }

    pub(crate) fn jump_wall_clock(&mut self, ms: i64) {
        self.wall_ms = self.wall_ms.saturating_add_signed(ms);
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.note(self.monotonic_ms, what);
    }
}

/// Everything that happened, as one number; printed as well if wanted.
pub(crate) struct Trace {
    hash: DefaultHasher,
    print: bool,
}

impl Trace {
    fn note(&mut self, now_ms: u64, what: fmt::Arguments<'_>) {
        self.hash.write_u64(now_ms);
        Hashing(&mut self.hash).write_fmt(what).expect("hashing does not fail");
        if self.print {
            println!("{:>4}.{:03} {what}", now_ms / 1000, now_ms % 1000);
        }
    }

    /// The same for two runs in which the same happened.
    pub(crate) fn digest(&self) -> u64 {
        self.hash.finish()
    }
}

struct Hashing<'a>(&'a mut DefaultHasher);

impl Write for Hashing<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// Bytes as they are shown in a trace.
pub(crate) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}
