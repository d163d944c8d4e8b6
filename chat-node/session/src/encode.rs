//! Bytes of lines. A line of an event is encoded once per [`Variant`] and its bytes are shared by all who get it.

use chat_protocol::{Capabilities, Capability};

use crate::config::Framing;

/// What changes the bytes of an event's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant(u8);

const FRAMING: u8 = 0b11;
const TAGS: u8 = 1 << 2;
const TIME: u8 = 1 << 3;
const EXTENDED_JOIN: u8 = 1 << 4;

impl Variant {
    /// How many there can be.
    pub(crate) const COUNT: usize = 1 << 5;

    pub(crate) fn new(framing: Framing, capabilities: Capabilities) -> Self {
        let mut bits = match framing {
            Framing::Tcp => 0,
            Framing::WebSocketText => 1,
            Framing::WebSocketBinary => 2,
        };
        for (capability, bit) in [
            (Capability::MessageTags, TAGS),
            (Capability::ServerTime, TIME),
            (Capability::ExtendedJoin, EXTENDED_JOIN),
        ] {
            if capabilities.contains(capability) {
                bits |= bit;
            }
        }
        Self(bits)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(crate) fn framing(self) -> Framing {
        match self.0 & FRAMING {
            0 => Framing::Tcp,
            1 => Framing::WebSocketText,
            _ => Framing::WebSocketBinary,
        }
    }

    /// msgid and client-only tags are shown.
    pub(crate) fn tags(self) -> bool {
        self.0 & TAGS != 0
    }

    pub(crate) fn time(self) -> bool {
        self.0 & TIME != 0
    }

    pub(crate) fn extended_join(self) -> bool {
        self.0 & EXTENDED_JOIN != 0
    }
}

/// Appends lines, each ended by CR LF in `lines`, to `out` in the framing.
pub(crate) fn frame(lines: &[u8], framing: Framing, out: &mut Vec<u8>) {
    let opcode = match framing {
        Framing::Tcp => {
            out.extend_from_slice(lines);
            return;
        }
        Framing::WebSocketText => 0x81,
        Framing::WebSocketBinary => 0x82,
    };
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        out.push(opcode);
        match u16::try_from(line.len()).expect("a line is at most 8191 + 512 bytes") {
            length @ 0..=125 => out.push(length as u8),
            length => {
                out.push(126);
                out.extend_from_slice(&length.to_be_bytes());
            }
        }
        out.extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_line_without_its_ending() {
        let mut out = Vec::new();
        frame(b"PING x\r\nPING y\r\n", Framing::WebSocketText, &mut out);
        assert_eq!(out, b"\x81\x06PING x\x81\x06PING y");
    }

    #[test]
    fn a_long_frame_has_a_long_length() {
        let mut out = Vec::new();
        frame(&[[b'a'; 300].as_slice(), b"\r\n"].concat(), Framing::WebSocketBinary, &mut out);
        assert_eq!(out[..4], [0x82, 126, 1, 44]);
        assert_eq!(out.len(), 304);
    }
}
