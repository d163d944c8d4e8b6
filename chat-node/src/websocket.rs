//! WebSocket frames of clients (RFC 6455), cut from a stream of bytes in bounded memory; and the control frames that
//! answer them. Messages to clients are framed by the session layer.

use chat_protocol::limits::CLIENT_LINE_BYTES;

/// Longest message that is kept: a line, and the CR LF that some clients end it with.
const KEPT_BYTES: usize = CLIENT_LINE_BYTES + 2;
/// A message past this ends the connection; one between the two limits is dropped like any over-long line.
const MAX_MESSAGE_BYTES: u64 = 64 * 1024;
/// Longest payload of a control frame (section 5.5).
const CONTROL_BYTES: usize = 125;
/// Opcode and length (2), extended length (8), mask (4).
const MAX_HEADER_BYTES: usize = 14;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// What a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    /// A whole message; valid UTF-8 if it was sent as text.
    Message(&'a [u8]),
    /// A message longer than any line; it was dropped.
    TooLong,
    Ping(&'a [u8]),
    Pong,
    /// The client closes; its code, if it gave one.
    Close(Option<u16>),
}

/// How a client broke the protocol. The connection ends with [`Violation::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a frame of a client must be masked")]
    Unmasked,
    #[error("reserved bits are set, but no extension was agreed on")]
    ReservedBits,
    #[error("unknown opcode")]
    Opcode,
    #[error("a control frame is fragmented or longer than 125 bytes")]
    Control,
    #[error("a frame continues no message, or a message began inside another")]
    Fragments,
    #[error("a length is not written in its shortest form")]
    Length,
    #[error("the close frame has no valid code")]
    CloseCode,
    #[error("a text message is not valid UTF-8")]
    Utf8,
    #[error("message too long")]
    TooBig,
}

impl Violation {
    /// The close code (section 7.4.1).
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Utf8 => 1007,
            Self::TooBig => 1009,
            _ => 1002,
        }
    }
}

/// Cuts a client's bytes into messages. A message that lies whole in the input is unmasked in place, not copied.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: u8,
    frame: Option<Frame>,
    message: Option<Message>,
    /// Payload so far of a message that did not lie whole in one input.
    kept: Vec<u8>,
    /// The same of a control frame, which may stand between the frames of a message.
    control: Vec<u8>,
    given: Given,
}

/// Which buffer was given out by the last call and is to be emptied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Given {
    #[default]
    None,
    Message,
    Control,
}

/// A frame whose header was read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    fin: bool,
    remaining: u64,
    /// Turned so that its first byte is for the next byte of the payload.
    mask: [u8; 4],
}

/// A data message in progress.
#[derive(Clone, Copy, Debug)]
struct Message {
    text: bool,
    total: u64,
}

impl Decoder {
    /// Takes bytes from the front of `input` up to the end of a message or control frame. `None` when `input` is used
    /// up. After an error nothing more can be read.
    pub(crate) fn next<'d, 'i: 'd>(
        &'d mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Received<'d>>, Violation> {
        match std::mem::take(&mut self.given) {
            Given::None => {}
            Given::Message => self.kept = Vec::new(),
            Given::Control => self.control = Vec::new(),
        }
        loop {
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.read_header(input)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let there = usize::try_from(frame.remaining).unwrap_or(usize::MAX).min(input.len());
            let (payload, rest) = std::mem::take(input).split_at_mut(there);
            *input = rest;
            let mask = unmask(payload, frame.mask);
            let left = frame.remaining - there as u64;
            self.frame = (left > 0).then_some(Frame { remaining: left, mask, ..frame });
            let ended = left == 0;
            if frame.opcode & 0x8 != 0 {
                if ended && self.control.is_empty() {
                    return control(frame.opcode, payload).map(Some);
                }
                self.control.extend_from_slice(payload);
                if ended {
                    self.given = Given::Control;
                    return control(frame.opcode, &self.control).map(Some);
                }
            } else if ended && frame.fin && self.kept.is_empty() && payload.len() <= KEPT_BYTES {
                // Whole in this input, unless earlier parts of it were dropped.
                let message = self.message.take().expect("a data frame belongs to a message");
                if message.total > payload.len() as u64 {
                    return Ok(Some(Received::TooLong));
                }
                return finish(message, payload).map(Some);
            } else {
                self.keep(payload);
                if ended && frame.fin {
                    let message = self.message.take().expect("a data frame belongs to a message");
                    self.given = Given::Message;
                    if message.total > KEPT_BYTES as u64 {
                        return Ok(Some(Received::TooLong));
                    }
                    return finish(message, &self.kept).map(Some);
                }
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Bytes held for messages that are not whole yet.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.kept.capacity() + self.control.capacity()
    }

    /// Collects and checks a header. Its payload is announced to the message it belongs to.
    fn read_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, Violation> {
        loop {
            let have = usize::from(self.header_bytes);
            let need = header_bytes(&self.header[..have]);
            if have == need {
                break;
            }
            let taken = (need - have).min(input.len());
            if taken == 0 {
                return Ok(None);
            }
            let (bytes, rest) = std::mem::take(input).split_at_mut(taken);
            *input = rest;
            self.header[have..have + taken].copy_from_slice(bytes);
            self.header_bytes += taken as u8;
        }
        let frame = parse_header(&self.header[..usize::from(self.header_bytes)])?;
        self.header_bytes = 0;
        self.frame = Some(frame);
        if frame.opcode & 0x8 == 0 {
            let message = match (frame.opcode, self.message) {
                (CONTINUATION, Some(message)) => message,
                (TEXT | BINARY, None) => Message { text: frame.opcode == TEXT, total: 0 },
                _ => return Err(Violation::Fragments),
            };
            let total = message.total.saturating_add(frame.remaining);
            if total > MAX_MESSAGE_BYTES {
                return Err(Violation::TooBig);
            }
            self.message = Some(Message { total, ..message });
        }
        Ok(Some(frame))
    }

    /// Keeps a part of a message; of one that is too long, nothing.
    fn keep(&mut self, payload: &[u8]) {
        let total = self.message.map_or(0, |message| message.total);
        if total > KEPT_BYTES as u64 {
            self.kept = Vec::new();
        } else {
            self.kept.extend_from_slice(payload);
        }
    }
}

/// How long the header is that begins with these bytes, as far as they tell.
fn header_bytes(start: &[u8]) -> usize {
    let Some(second) = start.get(1) else { return 2 };
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + extended + if second & MASKED == 0 { 0 } else { 4 }
}

fn parse_header(bytes: &[u8]) -> Result<Frame, Violation> {
    let (first, second) = (bytes[0], bytes[1]);
    let (fin, opcode) = (first & FIN != 0, first & 0x0f);
    if first & 0x70 != 0 {
        return Err(Violation::ReservedBits);
    }
    if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(Violation::Opcode);
    }
    if second & MASKED == 0 {
        return Err(Violation::Unmasked);
    }
    let (length, mask) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), &bytes[4..]),
        127 => (u64::from_be_bytes(bytes[2..10].try_into().expect("eight bytes")), &bytes[10..]),
        short => (u64::from(short), &bytes[2..]),
    };
    let shortest = match second & 0x7f {
        126 => length > 125,
        127 => length > u64::from(u16::MAX) && length >> 63 == 0,
        _ => true,
    };
    if !shortest {
        return Err(Violation::Length);
    }
    if opcode & 0x8 != 0 && (!fin || length > CONTROL_BYTES as u64) {
        return Err(Violation::Control);
    }
    let mask = mask.try_into().expect("the header ends with four bytes of mask");
    Ok(Frame { opcode, fin, remaining: length, mask })
}

/// Unmasks in place; returns the mask for the byte that follows.
fn unmask(payload: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let word = u64::from_ne_bytes([mask, mask].concat().try_into().expect("eight bytes"));
    let mut words = payload.chunks_exact_mut(8);
    for bytes in &mut words {
        let value = u64::from_ne_bytes((&*bytes).try_into().expect("eight bytes")) ^ word;
        bytes.copy_from_slice(&value.to_ne_bytes());
    }
    let rest = words.into_remainder();
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    let mut next = mask;
    next.rotate_left(rest.len() % 4);
    next
}

fn finish(message: Message, payload: &[u8]) -> Result<Received<'_>, Violation> {
    if message.text && std::str::from_utf8(payload).is_err() {
        return Err(Violation::Utf8);
    }
    Ok(Received::Message(payload))
}

fn control(opcode: u8, payload: &[u8]) -> Result<Received<'_>, Violation> {
    match opcode {
        PING => Ok(Received::Ping(payload)),
        PONG => Ok(Received::Pong),
        _ => close_code(payload).map(Received::Close),
    }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(Violation::CloseCode),
    };
    // Codes that may stand in a frame (section 7.4): the defined ones, and those for libraries and applications.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::CloseCode);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation::Utf8);
    }
    Ok(Some(code))
}

/// The answer to a ping.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    server_control(PONG, payload)
}

/// A close frame; a reason that does not fit is cut at a character.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES - 2)];
    server_control(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

fn server_control(opcode: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= CONTROL_BYTES, "control frames are short");
    [&[FIN | opcode, payload.len() as u8], payload].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// A masked client frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            length @ 0..=125 => out.push(MASKED | length as u8),
            length @ 126..=0xffff => {
                out.push(MASKED | 126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                out.push(MASKED | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&MASK);
        out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    /// Everything that comes out of `bytes` when they arrive in chunks of `chunk`.
    fn decode(bytes: &[u8], chunk: usize) -> Result<Vec<String>, Violation> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for chunk in bytes.chunks(chunk) {
            let mut chunk = chunk.to_vec();
            let mut input = chunk.as_mut_slice();
            while let Some(received) = decoder.next(&mut input)? {
                out.push(match received {
                    Received::Message(bytes) => format!("message {}", String::from_utf8_lossy(bytes)),
                    Received::TooLong => "too long".to_owned(),
                    Received::Ping(bytes) => format!("ping {}", String::from_utf8_lossy(bytes)),
                    Received::Pong => "pong".to_owned(),
                    Received::Close(code) => format!("close {code:?}"),
                });
            }
            assert!(decoder.held() <= 2 * (KEPT_BYTES + CONTROL_BYTES + 1), "memory is bounded");
        }
        Ok(out)
    }

    /// The same, and the same for every way the bytes may be cut.
    fn all_cuts(bytes: &[u8]) -> Result<Vec<String>, Violation> {
        let whole = decode(bytes, bytes.len().max(1));
        for chunk in [1, 2, 3, 5, 7, 64] {
            assert_eq!(decode(bytes, chunk), whole, "in chunks of {chunk}");
        }
        whole
    }

    #[test]
    fn the_example_of_the_specification() {
        // Section 5.7: a single-frame masked text message.
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(all_cuts(&hello).expect("legal"), ["message Hello"]);
    }

    #[test]
    fn messages_follow_each_other() {
        let bytes = [frame(0x81, b"NICK a"), frame(0x82, b"USER a 0 * :a"), frame(0x81, b"")].concat();
        assert_eq!(all_cuts(&bytes).expect("legal"), ["message NICK a", "message USER a 0 * :a", "message "]);
    }

    #[test]
    fn fragments_are_joined_and_control_frames_may_stand_between_them() {
        let bytes = [
            frame(0x01, b"PRIVMSG "),
            frame(0x89, b"still there?"),
            frame(0x00, b"#x "),
            frame(0x8a, b""),
            frame(0x00, b""),
            frame(0x80, b":hi"),
            frame(0x81, b"QUIT"),
        ]
        .concat();
        assert_eq!(
            all_cuts(&bytes).expect("legal"),
            ["ping still there?", "pong", "message PRIVMSG #x :hi", "message QUIT"]
        );
    }

    #[test]
    fn a_character_may_be_split_between_fragments() {
        let crab = "🦀".as_bytes();
        let bytes = [frame(0x01, &crab[..1]), frame(0x80, &crab[1..])].concat();
        assert_eq!(all_cuts(&bytes).expect("legal"), ["message 🦀"]);
    }

    #[test]
    fn an_over_long_line_is_dropped_and_the_next_is_read() {
        let long = vec![b'x'; KEPT_BYTES + 1];
        let bytes = [frame(0x81, &long), frame(0x81, b"ok")].concat();
        assert_eq!(all_cuts(&bytes).expect("legal"), ["too long", "message ok"]);
        let bytes = [frame(0x01, &long), frame(0x80, b"tail"), frame(0x81, b"ok")].concat();
        assert_eq!(all_cuts(&bytes).expect("legal"), ["too long", "message ok"]);
        let bytes = [frame(0x01, b"head"), frame(0x80, &long), frame(0x81, b"ok")].concat();
        assert_eq!(all_cuts(&bytes).expect("legal"), ["too long", "message ok"]);
        let fits = vec![b'x'; KEPT_BYTES];
        assert_eq!(all_cuts(&frame(0x81, &fits)).expect("legal").len(), 1);
    }

    #[test]
    fn a_huge_message_is_refused_before_it_is_there() {
        let mut announced = vec![0x81, MASKED | 127];
        announced.extend_from_slice(&(1_u64 << 40).to_be_bytes());
        announced.extend_from_slice(&MASK);
        assert_eq!(all_cuts(&announced), Err(Violation::TooBig));
        let fragments = frame(0x01, &[b'x'; 60_000]).into_iter().chain(frame(0x00, &[b'x'; 60_000]));
        assert_eq!(decode(&fragments.collect::<Vec<_>>(), 4096), Err(Violation::TooBig));
        assert_eq!(Violation::TooBig.code(), 1009);
    }

    #[test]
    fn every_violation_is_noticed() {
        let cases: [(&str, Vec<u8>, Violation); 17] = [
            ("unmasked", vec![0x81, 2, b'h', b'i'], Violation::Unmasked),
            ("RSV1", frame(0xc1, b"x"), Violation::ReservedBits),
            ("RSV2", frame(0xa1, b"x"), Violation::ReservedBits),
            ("RSV3", frame(0x91, b"x"), Violation::ReservedBits),
            ("data opcode 3", frame(0x83, b"x"), Violation::Opcode),
            ("control opcode 11", frame(0x8b, b"x"), Violation::Opcode),
            ("fragmented ping", frame(0x09, b"x"), Violation::Control),
            ("long ping", frame(0x89, &[0; 126]), Violation::Control),
            ("continues nothing", frame(0x80, b"x"), Violation::Fragments),
            ("message in a message", [frame(0x01, b"x"), frame(0x81, b"x")].concat(), Violation::Fragments),
            ("16 bit for 125", [&[0x81, MASKED | 126, 0, 125], MASK.as_slice()].concat(), Violation::Length),
            (
                "64 bit for 65535",
                [&[0x81, MASKED | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], MASK.as_slice()].concat(),
                Violation::Length,
            ),
            (
                "64 bit with sign",
                [&[0x81, 0xff], [0xff; 8].as_slice(), MASK.as_slice()].concat(),
                Violation::Length,
            ),
            ("half a close code", frame(0x88, &[3]), Violation::CloseCode),
            ("close code 1005", frame(0x88, &1005_u16.to_be_bytes()), Violation::CloseCode),
            ("close reason", frame(0x88, &[0x03, 0xe8, 0xff]), Violation::Utf8),
            ("text", frame(0x81, b"\xff\xfe"), Violation::Utf8),
        ];
        for (name, bytes, violation) in cases {
            assert_eq!(all_cuts(&bytes), Err(violation), "{name}");
        }
        assert_eq!(all_cuts(&frame(0x82, b"\xff")).expect("binary may be anything").len(), 1);
    }

    #[test]
    fn closing() {
        let bytes = [frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e'])].concat();
        assert_eq!(all_cuts(&bytes).expect("legal"), ["close Some(1000)"]);
        assert_eq!(all_cuts(&frame(0x88, b"")).expect("legal"), ["close None"]);
        assert_eq!(close(1012, "restart"), b"\x88\x09\x03\xf4restart");
        let long = close(1000, &"é".repeat(100));
        assert_eq!(long.len(), 2 + 124, "cut at a character");
        assert_eq!(pong(b"abc"), b"\x8a\x03abc");
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..600), chunk in 1_usize..50) {
            let cut = decode(&bytes, chunk);
            prop_assert_eq!(decode(&bytes, bytes.len().max(1)), cut);
        }

        #[test]
        fn what_was_sent_arrives(lines in proptest::collection::vec("[ -~]{0,300}", 1..6), chunk in 1_usize..50) {
            let bytes: Vec<u8> = lines.iter().flat_map(|line| frame(0x81, line.as_bytes())).collect();
            let expected: Vec<_> = lines.iter().map(|line| format!("message {line}")).collect();
            prop_assert_eq!(decode(&bytes, chunk).expect("legal"), expected);
        }
    }
}
