//! The only way to storage: one flat directory of files.
//!
//! Everything above is written against these traits, so that the code which runs on a real disk is the code that is
//! tried against power cuts, torn writes and full disks on the simulated one, [`memory::MemoryDisk`].

use std::io;

pub mod file;
pub mod memory;

pub use file::FileDisk;

/// A directory. Names are plain file names, without a path.
///
/// Files that were created, renamed or removed are certain to be so after a crash only after [`Disk::sync_dir`]; their
/// contents only after [`DiskFile::sync_data`].
pub trait Disk: Send + Sync {
    /// Where it is, for messages to people.
    fn place(&self) -> String;

    /// Takes the directory for this process. `WouldBlock` when another one has it.
    fn lock(&self) -> io::Result<Box<dyn DirectoryLock>>;

    /// A new empty file; `AlreadyExists` if there is one.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// An existing file, for writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Up to `length` bytes from `offset` on; fewer at the end of the file.
    fn read_range(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// All files, by name.
    fn list(&self) -> io::Result<Vec<FileInfo>>;

    /// Puts a file in the place of another.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, name: &str) -> io::Result<()>;

    fn sync_dir(&self) -> io::Result<()>;

    fn free_bytes(&self) -> io::Result<u64>;
}

/// A file that is being written.
pub trait DiskFile: Send {
    /// All of it, or an error; after an error any part of it may be in the file.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// What was written is on the disk when this returns. After an error **nothing** is known of anything written
    /// since the last success, and trying again proves nothing: the kernel forgets what it could not write.
    fn sync_data(&mut self) -> io::Result<()>;

    /// Makes the file `length` bytes long and keeps space for all of it, as zeros where nothing was written. Saves
    /// growing the file at every write, which makes syncing dearer. `StorageFull` when there is no space.
    fn allocate(&mut self, length: u64) -> io::Result<()>;

    /// All bytes from `offset` to the end of the file become zeros; the length stays.
    fn zero_from(&mut self, offset: u64) -> io::Result<()>;
}

/// Held as long as it lives.
pub trait DirectoryLock: Send + Sync {}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    pub name: String,
    pub length: u64,
}

/// Whether an error says that there is no space, be it of the disk or of a quota.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
