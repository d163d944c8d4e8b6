//! Who one is: the first frame of each side, and whether the two fit together.

use std::fmt;

use chat_state::ids::MemberId;
use serde::{Deserialize, Serialize};

use super::Me;

/// Of the protocol between nodes. Nodes of different versions refuse each other.
const VERSION: u16 = 1;
const MAGIC: [u8; 8] = *b"chatpeer";
/// The largest frame before it is known who speaks.
pub(super) const HELLO_LIMIT: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) room: String,
    /// None while it is not known.
    pub(super) cluster: Option<u64>,
    pub(super) member: MemberId,
    pub(super) name: String,
    pub(super) advertise: String,
    /// Whom the dialing side wants to reach; none if anybody will do.
    pub(super) wants: Option<MemberId>,
}

impl Hello {
    pub(super) fn of(me: &Me, cluster: Option<u64>, wants: Option<MemberId>) -> Self {
        Self {
            room: me.room.clone(),
            cluster,
            member: me.member,
            name: me.name.clone(),
            advertise: me.advertise.clone(),
            wants,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::from(MAGIC);
        body.extend(VERSION.to_be_bytes());
        postcard::to_extend(self, body).expect("plain fields are always encoded")
    }

    /// What was said, or in words why it cannot be understood.
    pub(super) fn decode(body: &[u8]) -> Result<Self, String> {
        let rest = body.strip_prefix(&MAGIC).ok_or("what came is no hello of a node")?;
        let (version, rest) = rest.split_first_chunk().ok_or("a hello without a version came")?;
        let version = u16::from_be_bytes(*version);
        if version != VERSION {
            return Err(format!(
                "one node speaks version {version} of the nodes' protocol, the other version {VERSION}"
            ));
        }
        postcard::from_bytes(rest).map_err(|error| format!("a hello came that cannot be read: {error}"))
    }

    /// Why two have nothing to say to each other, in words that are true on both sides.
    pub(super) fn mismatch(&self, other: &Self) -> Option<String> {
        if self.room != other.room {
            return Some(format!("{self} is of room {:?}, {other} of room {:?}", self.room, other.room));
        }
        if let (Some(mine), Some(its)) = (self.cluster, other.cluster)
            && mine != its
        {
            return Some(format!(
                "{self} is of cluster {mine:016x} of the room, {other} of cluster {its:016x}: \
                 the log of one of them was begun anew"
            ));
        }
        let wanted = |asking: &Self, asked: &Self| {
            let wants = asking.wants.filter(|wants| *wants != asked.member)?;
            Some(format!("member {wants} was asked for, but this is {asked}"))
        };
        wanted(self, other).or_else(|| wanted(other, self))
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (member {})", self.name, self.member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(member: u64) -> Hello {
        Hello {
            room: "chat/main".into(),
            cluster: None,
            member: MemberId(member),
            name: format!("node-{member}"),
            advertise: format!("node-{member}.peers:7000"),
            wants: None,
        }
    }

    #[test]
    fn a_hello_is_read_as_it_was_said() {
        let said = Hello { cluster: Some(7), wants: Some(MemberId(2)), ..hello(1) };
        assert_eq!(Hello::decode(&said.encode()), Ok(said));
    }

    #[test]
    fn another_protocol_or_version_is_told_apart() {
        let mut said = hello(1).encode();
        said[9] = 2;
        assert_eq!(
            Hello::decode(&said).unwrap_err(),
            "one node speaks version 2 of the nodes' protocol, the other version 1"
        );
        said[0] = b'x';
        assert_eq!(Hello::decode(&said).unwrap_err(), "what came is no hello of a node");
    }

    #[test]
    fn what_does_not_fit_is_told_in_words() {
        let one = hello(1);
        assert_eq!(one.mismatch(&hello(2)), None);
        let other = Hello { room: "chat/other".into(), ..hello(2) };
        assert_eq!(
            one.mismatch(&other).expect("refused"),
            r#"node-1 (member 1) is of room "chat/main", node-2 (member 2) of room "chat/other""#
        );

        let one = Hello { cluster: Some(1), ..hello(1) };
        assert_eq!(one.mismatch(&hello(2)), None, "it does not know yet");
        assert_eq!(one.mismatch(&Hello { cluster: Some(1), ..hello(2) }), None);
        assert!(one.mismatch(&Hello { cluster: Some(2), ..hello(2) }).is_some());

        let wanting = Hello { wants: Some(MemberId(3)), ..hello(1) };
        let words = "member 3 was asked for, but this is node-2 (member 2)";
        assert_eq!(wanting.mismatch(&hello(2)).as_deref(), Some(words));
        assert_eq!(hello(2).mismatch(&wanting).as_deref(), Some(words));
        assert_eq!(wanting.mismatch(&hello(3)), None);
    }
}
