//! The simulated disk: files in memory that behave as badly as a real disk may, and no worse.
//!
//! What was written but not synced may be lost at a power cut, as a whole, in part, or torn at any byte; files that
//! were created, renamed or removed may be so or not until the directory is synced. Space is limited if wanted, and
//! any operation can be made to fail or to be the last one before the power goes. All of it is decided by the caller
//! and a seed; the same calls give the same bytes.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{DirectoryLock, Disk, DiskFile, FileInfo};

/// Cloning gives another handle to the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What the running system sees.
    files: BTreeMap<String, FileId>,
    /// What the directory holds after a power cut.
    synced_files: BTreeMap<String, FileId>,
    contents: BTreeMap<FileId, Content>,
    next_file: FileId,
    capacity: Option<u64>,
    locked: bool,
    /// Counts changes and syncs: what [`MemoryDisk::cut_power_after`] counts by.
    operations: u64,
    cut_after: Option<u64>,
    fail_sync: bool,
    fail_writes_full: bool,
    /// Rises with every power cut: handles from before are dead.
    era: u64,
    syncs: u64,
}

type FileId = u64;

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Since the last sync, in order.
    writes: Vec<Write>,
    /// Bytes that take up space; the rest is a hole.
    allocated: u64,
}

#[derive(Clone)]
enum Write {
    Bytes { offset: usize, bytes: Vec<u8> },
    Length(usize),
    Zero { from: usize },
}

/// What becomes of un-synced writes when the power goes.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// None of them reached the disk.
    All,
    /// All of them did.
    Nothing,
    /// Of each file's last write the first bytes did, and all before it.
    TornAt(usize),
    /// Each 512-byte sector by chance: later ones may be there and earlier ones not; directory changes as well.
    Random(u64),
}

impl MemoryDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that the disk holds in all; unlimited at first.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The power goes once this many more changes and syncs were done: all later ones fail.
    pub fn cut_power_after(&self, operations: u64) {
        let mut state = self.state();
        state.cut_after = Some(state.operations + operations);
    }

    /// Changes and syncs so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Syncs of file contents so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Every sync fails from now on, and what was to be synced is lost (as Linux does it: the pages count as clean).
    pub fn fail_syncs(&self) {
        self.state().fail_sync = true;
    }

    /// Every write finds the disk full after half of its bytes, allocated space or not, as on file systems that
    /// cannot keep space.
    pub fn fail_writes_full(&self, fail: bool) {
        self.state().fail_writes_full = fail;
    }

    /// The power goes and comes back: every handle and lock of before is dead, and un-synced data met `loss`.
    pub fn crash(&self, loss: Loss) {
        let mut state = self.state();
        state.crash(loss);
    }

    /// The process dies, the machine does not: handles and locks are dead, un-synced data stays readable and un-synced.
    pub fn kill_process(&self) {
        let mut state = self.state();
        state.locked = false;
        state.cut_after = None;
        state.era += 1;
    }

    /// Flips one bit of a file, on the disk itself.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let mut state = self.state();
        let content = state.content_mut(name).expect("the file to damage is there");
        let byte = usize::try_from(bit / 8).expect("a bit of the file");
        content.bytes[byte] ^= 1 << (bit % 8);
        content.synced.clone_from(&content.bytes);
        content.writes.clear();
    }

    /// Replaces a file's bytes, on the disk itself.
    pub fn replace(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let content = state.content_mut(name).expect("the file to damage is there");
        *content =
            Content { allocated: bytes.len() as u64, synced: bytes.clone(), bytes, writes: Vec::new() };
    }

    /// An independent disk with what this one has, power-cut state included.
    pub fn copy(&self) -> Self {
        let state = self.state();
        let copy = State {
            files: state.files.clone(),
            synced_files: state.synced_files.clone(),
            contents: state.contents.clone(),
            next_file: state.next_file,
            capacity: state.capacity,
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(copy)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the simulated disk does not panic")
    }
}

impl State {
    /// Counts an operation; fails when the power is gone.
    fn operate(&mut self) -> io::Result<()> {
        if self.cut_after.is_some_and(|last| self.operations >= last) {
            return Err(io::Error::other("the simulated power is off"));
        }
        self.operations += 1;
        Ok(())
    }

    fn id(&self, name: &str) -> io::Result<FileId> {
        self.files.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn content(&self, name: &str) -> io::Result<&Content> {
        Ok(&self.contents[&self.id(name)?])
    }

    fn content_mut(&mut self, name: &str) -> io::Result<&mut Content> {
        let id = self.id(name)?;
        Ok(self.contents.get_mut(&id).expect("a named file has contents"))
    }

    fn free(&self) -> u64 {
        let used: u64 = self.files.values().map(|id| self.contents[id].allocated).sum();
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used))
    }

    fn crash(&mut self, loss: Loss) {
        let mut chance = match loss {
            Loss::Random(seed) => Chance(seed),
            _ => Chance(0),
        };
        self.files = match loss {
            Loss::Nothing | Loss::TornAt(_) => std::mem::take(&mut self.files),
            Loss::All => self.synced_files.clone(),
            // Each name by itself keeps its old or gets its new meaning.
            Loss::Random(_) => {
                let names: std::collections::BTreeSet<_> =
                    self.files.keys().chain(self.synced_files.keys()).cloned().collect();
                let mut kept = BTreeMap::new();
                for name in names {
                    let from = if chance.coin() { &self.files } else { &self.synced_files };
                    if let Some(id) = from.get(&name) {
                        kept.insert(name, *id);
                    }
                }
                kept
            }
        };
        self.synced_files = self.files.clone();
        let named: std::collections::BTreeSet<_> = self.files.values().copied().collect();
        self.contents.retain(|id, _| named.contains(id));
        for content in self.contents.values_mut() {
            content.crash(loss, &mut chance);
        }
        self.locked = false;
        self.cut_after = None;
        self.fail_sync = false;
        self.era += 1;
    }
}

impl Content {
    fn apply(bytes: &mut Vec<u8>, write: &Write) {
        match write {
            Write::Bytes { offset, bytes: new } => {
                if bytes.len() < offset + new.len() {
                    bytes.resize(offset + new.len(), 0);
                }
                bytes[*offset..offset + new.len()].copy_from_slice(new);
            }
            Write::Length(length) => bytes.resize((*length).max(bytes.len()), 0),
            Write::Zero { from } => {
                if let Some(tail) = bytes.get_mut(*from..) {
                    tail.fill(0);
                }
            }
        }
    }

    fn write(&mut self, write: Write) {
        Self::apply(&mut self.bytes, &write);
        self.writes.push(write);
    }

    fn crash(&mut self, loss: Loss, chance: &mut Chance) {
        let writes = std::mem::take(&mut self.writes);
        let last = writes.len().saturating_sub(1);
        for (n, write) in writes.iter().enumerate() {
            match (loss, write) {
                (Loss::All, _) => {}
                (Loss::Nothing, _) => Self::apply(&mut self.synced, write),
                (Loss::TornAt(keep), Write::Bytes { offset, bytes }) if n == last => {
                    let torn =
                        Write::Bytes { offset: *offset, bytes: bytes[..keep.min(bytes.len())].to_vec() };
                    Self::apply(&mut self.synced, &torn);
                }
                (Loss::TornAt(_), _) => Self::apply(&mut self.synced, write),
                (Loss::Random(_), Write::Bytes { offset, bytes }) => {
                    for (start, end) in sectors(*offset, bytes.len()) {
                        if chance.coin() {
                            let sector = bytes[start - offset..end - offset].to_vec();
                            Self::apply(&mut self.synced, &Write::Bytes { offset: start, bytes: sector });
                        }
                    }
                }
                (Loss::Random(_), _) => {
                    if chance.coin() {
                        Self::apply(&mut self.synced, write);
                    }
                }
            }
        }
        self.bytes.clone_from(&self.synced);
        self.allocated = self.bytes.len() as u64;
    }
}

/// The pieces of a write that reach a disk as one.
fn sectors(offset: usize, length: usize) -> impl Iterator<Item = (usize, usize)> {
    let end = offset + length;
    (offset / 512..end.div_ceil(512))
        .map(move |sector| ((sector * 512).max(offset), (sector * 512 + 512).min(end)))
}

/// `SplitMix64`.
struct Chance(u64);

impl Chance {
    fn coin(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}

impl Disk for MemoryDisk {
    fn place(&self) -> String {
        "(simulated disk)".to_owned()
    }

    fn lock(&self) -> io::Result<Box<dyn DirectoryLock>> {
        let mut state = self.state();
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(MemoryLock { disk: self.clone(), era: state.era }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.operate()?;
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.next_file;
        state.next_file += 1;
        state.contents.insert(id, Content::default());
        state.files.insert(name.to_owned(), id);
        Ok(Box::new(MemoryFile { disk: self.clone(), id, era: state.era }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state();
        Ok(Box::new(MemoryFile { disk: self.clone(), id: state.id(name)?, era: state.era }))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.state().content(name)?.bytes.clone())
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let state = self.state();
        let bytes = &state.content(name)?.bytes;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(length).min(bytes.len());
        Ok(bytes[start..end].to_vec())
    }

    fn list(&self) -> io::Result<Vec<FileInfo>> {
        let state = self.state();
        let info = |(name, id): (&String, &FileId)| FileInfo {
            name: name.clone(),
            length: state.contents[id].bytes.len() as u64,
        };
        Ok(state.files.iter().map(info).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        let id = state.id(from)?;
        state.files.remove(from);
        state.files.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        state.id(name)?;
        state.files.remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        if state.fail_sync {
            return Err(io::Error::from_raw_os_error(5));
        }
        state.synced_files = state.files.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().free())
    }
}

struct MemoryLock {
    disk: MemoryDisk,
    era: u64,
}

impl DirectoryLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.era == self.era {
            state.locked = false;
        }
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    id: FileId,
    era: u64,
}

impl MemoryFile {
    fn change<T>(&self, change: impl FnOnce(&mut State, FileId) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        if state.era != self.era {
            return Err(io::Error::other("the simulated power went while this file was open"));
        }
        state.operate()?;
        change(&mut state, self.id)
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(|state, id| {
            let free = state.free();
            let full = state.fail_writes_full;
            let content = state.contents.get_mut(&id).expect("an open file has contents");
            let fits = content.allocated.saturating_add(free).saturating_sub(offset);
            let fits = usize::try_from(fits).unwrap_or(usize::MAX);
            let room = if full { fits.min(bytes.len() / 2) } else { fits };
            let written = &bytes[..bytes.len().min(room)];
            let offset = usize::try_from(offset).expect("simulated files fit into memory");
            content.allocated = content.allocated.max((offset + written.len()) as u64);
            content.write(Write::Bytes { offset, bytes: written.to_vec() });
            if written.len() < bytes.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        })
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.change(|state, id| {
            state.syncs += 1;
            let fail = state.fail_sync;
            let content = state.contents.get_mut(&id).expect("an open file has contents");
            let writes = std::mem::take(&mut content.writes);
            if fail {
                return Err(io::Error::from_raw_os_error(5));
            }
            for write in &writes {
                Content::apply(&mut content.synced, write);
            }
            Ok(())
        })
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        self.change(|state, id| {
            let free = state.free();
            let content = state.contents.get_mut(&id).expect("an open file has contents");
            if length.saturating_sub(content.allocated) > free {
                return Err(io::ErrorKind::StorageFull.into());
            }
            content.allocated = content.allocated.max(length);
            content.write(Write::Length(usize::try_from(length).expect("simulated files fit into memory")));
            Ok(())
        })
    }

    fn zero_from(&mut self, offset: u64) -> io::Result<()> {
        self.change(|state, id| {
            let content = state.contents.get_mut(&id).expect("an open file has contents");
            let from =
                usize::try_from(offset).expect("simulated files fit into memory").min(content.bytes.len());
            content.allocated = content.allocated.min(from as u64);
            content.write(Write::Zero { from });
            Ok(())
        })
    }
}
