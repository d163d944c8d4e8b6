//! The frames of a connection between nodes: `u32` length of the rest, `u64` number, `u8` kind, body; big endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest frame: what is larger is a fault, or not a node.
pub(super) const FRAME_LIMIT: usize = 64 << 20;
const LENGTH_BYTES: usize = 4;
/// Number and kind.
const HEAD_BYTES: usize = 9;
pub(super) const BODY_LIMIT: usize = FRAME_LIMIT - HEAD_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Who one is: the first frame of both sides, and said again when the cluster's id becomes known.
    Hello,
    Request,
    Answer,
    /// The last frame of a side that closes on purpose; the body says why, in words.
    Goodbye,
    /// Nothing to say, but alive.
    Ping,
    /// Instead of an answer: the request was not looked at, too much waits. In words.
    Busy,
    /// Instead of an answer: there is none, though the request may have been done. In words.
    NoAnswer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) kind: Kind,
    pub(super) body: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("what came is no frame of the nodes' protocol (a length of {0})")]
    Length(usize),
    #[error("a frame of the unknown kind {0} came")]
    Kind(u8),
}

/// Writes a frame behind what is there. The body must be within `BODY_LIMIT`.
pub(super) fn put(out: &mut BytesMut, number: u64, kind: Kind, body: &[u8]) {
    assert!(body.len() <= BODY_LIMIT, "bodies are measured before they are queued");
    let length = u32::try_from(HEAD_BYTES + body.len()).expect("the limit of a frame fits");
    out.reserve(LENGTH_BYTES + HEAD_BYTES + body.len());
    out.put_u32(length);
    out.put_u64(number);
    out.put_u8(kind.code());
    out.put_slice(body);
}

/// Takes the first frame off what was received; none if it is not there yet as a whole.
pub(super) fn take(received: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let Some(length) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length < HEAD_BYTES || length > limit {
        return Err(FrameError::Length(length));
    }
    if received.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    received.advance(LENGTH_BYTES);
    let mut body = received.split_to(length);
    let number = body.get_u64();
    let kind = Kind::of(body.get_u8())?;
    Ok(Some(Frame { number, kind, body: body.freeze() }))
}

/// The words in a body; what is no text is shown as far as it can be.
pub(super) fn words(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(WORDS_LIMIT)]).into_owned()
}

/// The longest words that are passed on.
const WORDS_LIMIT: usize = 1024;

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Request => 2,
            Self::Answer => 3,
            Self::Goodbye => 4,
            Self::Ping => 5,
            Self::Busy => 6,
            Self::NoAnswer => 7,
        }
    }

    fn of(code: u8) -> Result<Self, FrameError> {
        Ok(match code {
            1 => Self::Hello,
            2 => Self::Request,
            3 => Self::Answer,
            4 => Self::Goodbye,
            5 => Self::Ping,
            6 => Self::Busy,
            7 => Self::NoAnswer,
            _ => return Err(FrameError::Kind(code)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 7] =
        [Kind::Hello, Kind::Request, Kind::Answer, Kind::Goodbye, Kind::Ping, Kind::Busy, Kind::NoAnswer];

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut written = BytesMut::new();
        for (number, kind) in (7u64..).zip(KINDS) {
            put(&mut written, number, kind, &vec![b'x'; number as usize]);
        }
        let mut received = BytesMut::new();
        let mut frames = Vec::new();
        for byte in written {
            received.put_u8(byte);
            frames.extend(take(&mut received, FRAME_LIMIT).expect("frames"));
        }
        assert!(received.is_empty());
        let expected: Vec<_> = (7u64..)
            .zip(KINDS)
            .map(|(number, kind)| Frame { number, kind, body: vec![b'x'; number as usize].into() })
            .collect();
        assert_eq!(frames, expected);
    }

    #[test]
    fn what_is_no_frame_is_known_by_its_first_bytes() {
        let lengths = |bytes: &[u8]| take(&mut BytesMut::from(bytes), 1024);
        assert_eq!(lengths(b"GET / HTTP/1.1"), Err(FrameError::Length(0x4745_5420)));
        assert_eq!(lengths(&8u32.to_be_bytes()), Err(FrameError::Length(8)));
        assert_eq!(lengths(&1025u32.to_be_bytes()), Err(FrameError::Length(1025)));
        assert_eq!(lengths(&1024u32.to_be_bytes()), Ok(None));
        assert_eq!(lengths(&[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 99]), Err(FrameError::Kind(99)));
    }
}
