//! The machine under the node: its disk, and what goes wrong with it.

use std::sync::Arc;

use chat_log::disk::{
    Disk,
    memory::{Loss, MemoryDisk},
};

use crate::chance::Chance;

#[derive(Default)]
pub(crate) struct Machine {
    disk: MemoryDisk,
    /// Number of the disk operation at which the power goes.
    cut_at: Option<u64>,
    syncs_fail: bool,
    full: bool,
}

impl Machine {
    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    pub(crate) fn cut_power_after(&mut self, operations: u64) {
        self.disk.cut_power_after(operations);
        self.cut_at = Some(self.disk.operations() + operations);
    }

    pub(crate) fn fail_syncs(&mut self) {
        self.disk.fail_syncs();
        self.syncs_fail = true;
    }

    /// Whether an error of the disk was to be expected.
    pub(crate) fn excuses_failure(&self) -> bool {
        self.syncs_fail || self.cut_at.is_some_and(|at| self.disk.operations() >= at)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Leaves this many bytes free, or none at all even of what was kept for a file.
    pub(crate) fn fill(&mut self, free: u64, kept_space_too: bool) {
        let used: u64 = self
            .disk
            .list()
            .map(|files| files.iter().map(|file| file.length).sum())
            .expect("listing does not fail");
        self.disk.set_capacity(Some(used + free));
        self.disk.fail_writes_full(kept_space_too);
        self.full = true;
    }

    pub(crate) fn make_space(&mut self) {
        self.disk.set_capacity(None);
        self.disk.fail_writes_full(false);
        self.full = false;
    }

    /// The process is gone; with it the power if there is a loss.
    pub(crate) fn crash(&mut self, loss: Loss) {
        self.disk.crash(loss);
        self.cut_at = None;
        self.syncs_fail = false;
    }

    /// A machine of its own with the same disk, and nothing wrong with it.
    pub(crate) fn twin(&self) -> Self {
        Self { disk: self.disk.copy(), ..Self::default() }
    }

    /// Flips a bit within the first bytes of a file.
    pub(crate) fn rot(&mut self, file: &str, bytes: u64, chance: &mut Chance) {
        self.disk.flip_bit(file, chance.below(bytes * 8));
    }
}

/// What becomes of what was written and not synced.
pub(crate) fn loss(chance: &mut Chance) -> Loss {
    match chance.below(6) {
        // The process died, the machine did not.
        0 | 1 => Loss::Nothing,
        2 => Loss::All,
        3 => Loss::TornAt(chance.index(4096)),
        _ => Loss::Random(chance.next()),
    }
}
