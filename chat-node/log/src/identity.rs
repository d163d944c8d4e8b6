//! Whose data directory this is: a small text file that is written once.

use std::{fmt, io};

use chat_state::ids::{Lineage, MemberId};

use crate::disk::Disk;

const FILE: &str = "identity";
const TEMPORARY: &str = "identity.tmp";
const FIRST_LINE: &str = "chat-node data directory, format 1";

/// Longest name of a room.
pub const MAX_ROOM_BYTES: usize = 253;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub member: MemberId,
    /// The room that this node serves; one line of text.
    pub room: String,
    /// Channel shards; the directory comes on top.
    pub shards: u16,
    /// Of the log's history when the directory was made.
    pub lineage: Lineage,
    /// The founding of the nodes that keep the log together with this one; `None` where the log is this node's alone.
    pub cluster: Option<ClusterId>,
}

/// Random number of a room's founding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot {action} {place}/{FILE}: {source}")]
    Io { action: &'static str, place: String, source: io::Error },
    #[error(
        "{place}/{FILE} is damaged: bring it back from a backup, or remove the data directory and let the node join \
         as a new member"
    )]
    Damaged { place: String },
    #[error(
        "{place}/{FILE} has a format that this program does not know: start the version that wrote it, or a newer one"
    )]
    Version { place: String },
    #[error(
        "{place} belongs to the room {found:?}, this node is to serve {wanted:?}: name the other directory, or an \
         empty one"
    )]
    OtherRoom { place: String, found: String, wanted: String },
    #[error(
        "{place} was made with {found} shards, {wanted} are configured. The number of shards is fixed: configure \
         {found}, or begin with an empty directory"
    )]
    OtherShards { place: String, found: u16, wanted: u16 },
    #[error("{place} is kept together with other nodes: configure log.raft, or name another directory")]
    OfCluster { place: String },
    #[error("a room's name has 1 to {MAX_ROOM_BYTES} bytes and no line break")]
    RoomName,
    #[error("a room has at least one shard")]
    NoShards,
}

impl Identity {
    /// The identity of a directory; `None` when it has none yet.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>, IdentityError> {
        match disk.read(FILE) {
            Ok(bytes) => Self::decode(&bytes, &disk.place()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::Io { action: "read", place: disk.place(), source }),
        }
    }

    /// Gives the directory its identity.
    pub fn write(&self, disk: &dyn Disk) -> Result<(), IdentityError> {
        self.try_write(disk).map_err(|source| IdentityError::Io {
            action: "write",
            place: disk.place(),
            source,
        })
    }

    fn try_write(&self, disk: &dyn Disk) -> io::Result<()> {
        match disk.remove(TEMPORARY) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = disk.create(TEMPORARY)?;
        file.write_at(0, self.encode().as_bytes())?;
        file.sync_data()?;
        disk.rename(TEMPORARY, FILE)?;
        disk.sync_dir()
    }

    /// Refuses what a directory or a configuration cannot be.
    pub fn check(&self) -> Result<(), IdentityError> {
        if self.room.is_empty() || self.room.len() > MAX_ROOM_BYTES || self.room.contains(['\n', '\r']) {
            return Err(IdentityError::RoomName);
        }
        if self.shards == 0 {
            return Err(IdentityError::NoShards);
        }
        Ok(())
    }

    /// That this directory is the one which the configuration means. The member's number and the lineage are the
    /// directory's to say.
    pub fn check_against(&self, wanted: &Self, disk: &dyn Disk) -> Result<(), IdentityError> {
        if self.room != wanted.room {
            let (found, wanted) = (self.room.clone(), wanted.room.clone());
            return Err(IdentityError::OtherRoom { place: disk.place(), found, wanted });
        }
        if self.shards != wanted.shards {
            let (found, wanted) = (self.shards, wanted.shards);
            return Err(IdentityError::OtherShards { place: disk.place(), found, wanted });
        }
        Ok(())
    }

    fn encode(&self) -> String {
        let mut body = format!(
            "{FIRST_LINE}\nmember {:016x}\nroom {}\nshards {}\nlineage {}\n",
            self.member.0, self.room, self.shards, self.lineage.0
        );
        if let Some(cluster) = self.cluster {
            body += &format!("cluster {cluster}\n");
        }
        let crc = crc32c::crc32c(body.as_bytes());
        format!("{body}check {crc:08x}\n")
    }

    fn decode(bytes: &[u8], place: &str) -> Result<Self, IdentityError> {
        let damaged = || IdentityError::Damaged { place: place.to_owned() };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
        let mut lines = text.lines();
        match lines.next() {
            Some(FIRST_LINE) => {}
            Some(other) if other.starts_with("chat-node data directory, format ") => {
                return Err(IdentityError::Version { place: place.to_owned() });
            }
            _ => return Err(damaged()),
        }
        let mut value = |name: &str| {
            let line = lines.next().ok_or_else(damaged)?;
            line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(damaged)
        };
        let identity = Self {
            member: MemberId(u64::from_str_radix(value("member")?, 16).map_err(|_| damaged())?),
            room: value("room")?.to_owned(),
            shards: value("shards")?.parse().map_err(|_| damaged())?,
            lineage: Lineage(value("lineage")?.parse().map_err(|_| damaged())?),
            cluster: match value("cluster") {
                Ok(cluster) => Some(ClusterId(u64::from_str_radix(cluster, 16).map_err(|_| damaged())?)),
                Err(_) => None,
            },
        };
        // What is read is written again as it was, checksum included, or something in it was changed.
        if identity.encode().as_bytes() != bytes {
            return Err(damaged());
        }
        Ok(identity)
    }
}
