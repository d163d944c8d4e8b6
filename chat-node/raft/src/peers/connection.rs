//! An established connection: writes what waits, hears what comes, notices silence.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, WriteHalf},
    sync::Notify,
    time::{self, Instant},
};

use super::{
    PeerOptions,
    dial::Greeted,
    frame::{self, FRAME_LIMIT, Frame, Kind},
    hello::Hello,
    stream::{self, Stream},
};

/// Bytes that are put together for one write, and read at once.
pub(super) const AT_ONCE_BYTES: usize = 256 << 10;
const READ_BYTES: usize = 64 << 10;
/// A buffer that grew past this for one large frame is given back.
const KEPT_BYTES: usize = 1 << 20;

/// One end of a connection: what it has to say, and what it does with what it hears.
pub(super) trait End {
    /// Puts frames that wait behind `out`, until there is enough for one write.
    fn fill(&mut self, out: &mut BytesMut);
    /// Notified when there is something to write, or to close.
    fn signal(&self) -> &Notify;
    /// False while so much waits to be written that no more is heard.
    fn listens(&self) -> bool {
        true
    }
    /// A frame that is not about the connection itself; or why it ends the connection.
    fn hear(&mut self, frame: Frame) -> Result<(), String>;
    /// Why we close, if we do.
    fn closing(&self) -> Option<String> {
        None
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By the other side, with these words.
    Goodbye(String),
    /// By reset or end of stream.
    Lost(String),
    /// By reset or end of stream before the other side showed that it agreed with our hello.
    Unmet(String),
    Silent,
    /// By us, for something the other side is or said.
    Refused(String),
    /// By us, as we wanted.
    Closed(String),
}

pub(super) async fn drive<E: End>(greeted: Greeted, end: &mut E, options: &PeerOptions) -> Ended {
    let Greeted { stream, received, ours, theirs, mut cluster } = greeted;
    let (mut reader, mut writer) = tokio::io::split(stream);
    // The first ping says that we agree with the other's hello.
    let mut out = BytesMut::new();
    frame::put(&mut out, 0, Kind::Ping, &[]);
    let mut talk = Talk { received, ours, theirs, met: false };
    let mut flushed = true;
    let mut wrote = false;
    let mut heard_at = Instant::now();
    let tick = time::sleep(options.ping_every);
    tokio::pin!(tick);

    let ended = loop {
        if let Err(ended) = talk.hear(end) {
            break ended;
        }
        if let Some(words) = end.closing() {
            break Ended::Closed(words);
        }
        if out.len() < AT_ONCE_BYTES {
            end.fill(&mut out);
        }
        let listens = end.listens();
        talk.make_room();
        // Reading stands before the tick: after a time in which this thread stood still, what has come meanwhile is
        // heard before silence is found.
        tokio::select! {
            biased;
            result = write(&mut writer, &mut out), if out.has_remaining() || !flushed => match result {
                Ok(Written::All) => flushed = true,
                Ok(Written::Some) => {
                    (flushed, wrote) = (false, true);
                    if !listens {
                        heard_at = Instant::now();
                    }
                    give_back(&mut out);
                }
                Err(error) => break talk.lost(&in_words(&error)),
            },
            result = reader.read_buf(&mut talk.received), if listens => match result {
                Ok(0) => break talk.lost("the other side closed the connection"),
                Ok(_) => heard_at = Instant::now(),
                Err(error) => break talk.lost(&in_words(&error)),
            },
            () = end.signal().notified() => {}
            result = cluster.changed() => {
                if result.is_err() {
                    break Ended::Closed("the node stops".into());
                }
                talk.ours.cluster = *cluster.borrow_and_update();
                frame::put(&mut out, 0, Kind::Hello, &talk.ours.encode());
                if let Some(words) = talk.ours.mismatch(&talk.theirs) {
                    break Ended::Refused(words);
                }
            }
            () = &mut tick => {
                let silent_at = heard_at + options.silence;
                let now = Instant::now();
                if now >= silent_at {
                    break Ended::Silent;
                }
                if !wrote && !out.has_remaining() {
                    frame::put(&mut out, 0, Kind::Ping, &[]);
                }
                wrote = false;
                tick.as_mut().reset(silent_at.min(now + options.ping_every));
            }
        }
    };
    let words = match &ended {
        Ended::Goodbye(_) | Ended::Lost(_) | Ended::Unmet(_) => return ended,
        Ended::Silent => format!("nothing was heard for {:?}", options.silence),
        Ended::Refused(words) | Ended::Closed(words) => words.clone(),
    };
    // What is half written must be ended before the goodbye can be read.
    stream::say_goodbye(reader, writer, out, &words).await;
    ended
}

enum Written {
    Some,
    /// TLS has nothing left either.
    All,
}

/// One step of writing; nothing is lost if it is dropped.
async fn write(writer: &mut WriteHalf<Stream>, out: &mut BytesMut) -> io::Result<Written> {
    if !out.has_remaining() {
        return writer.flush().await.map(|()| Written::All);
    }
    match writer.write_buf(out).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(Written::Some),
    }
}

fn give_back(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > KEPT_BYTES {
        *buffer = BytesMut::new();
    }
}

/// What was said so far.
struct Talk {
    received: BytesMut,
    ours: Hello,
    theirs: Hello,
    met: bool,
}

impl Talk {
    /// Hears all that came, as long as the end listens.
    fn hear<E: End>(&mut self, end: &mut E) -> Result<(), Ended> {
        while end.listens() {
            let frame = match frame::take(&mut self.received, FRAME_LIMIT) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return Err(Ended::Refused(error.to_string())),
            };
            self.met = true;
            match frame.kind {
                Kind::Ping => {}
                Kind::Goodbye => return Err(Ended::Goodbye(frame::words(&frame.body))),
                Kind::Hello => {
                    self.theirs = Hello::decode(&frame.body).map_err(Ended::Refused)?;
                    if let Some(words) = self.ours.mismatch(&self.theirs) {
                        return Err(Ended::Refused(words));
                    }
                }
                _ => end.hear(frame).map_err(Ended::Refused)?,
            }
        }
        Ok(())
    }

    fn make_room(&mut self) {
        give_back(&mut self.received);
        self.received.reserve(READ_BYTES);
    }

    fn lost(&self, words: &str) -> Ended {
        if self.met { Ended::Lost(words.into()) } else { Ended::Unmet(words.into()) }
    }
}

/// A process that dies says nothing, and what TLS has to say of that is not for people.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it broke off".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use chat_state::ids::MemberId;
    use tokio::sync::watch;

    use super::*;

    /// Has nothing to say, and expects nothing.
    struct Idle(Notify);

    impl End for Idle {
        fn fill(&mut self, _: &mut BytesMut) {}

        fn signal(&self) -> &Notify {
            &self.0
        }

        fn hear(&mut self, frame: Frame) -> Result<(), String> {
            Err(format!("{:?} is not expected", frame.kind))
        }
    }

    fn hello(member: u64, cluster: Option<u64>) -> Hello {
        Hello {
            room: "chat/main".into(),
            cluster,
            member: MemberId(member),
            name: format!("node-{member}"),
            advertise: format!("node-{member}.invalid:7000"),
            wants: None,
        }
    }

    /// How it ends with one of cluster 2, and all that this one is told.
    async fn with_cluster_2(ours: Option<u64>, known: watch::Receiver<Option<u64>>) -> (Ended, Vec<Frame>) {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let greeted = Greeted {
            stream: Box::new(near),
            received: BytesMut::new(),
            ours: hello(1, ours),
            theirs: hello(2, Some(2)),
            cluster: known,
        };
        let listening = async move {
            let mut received = BytesMut::new();
            let mut heard = Vec::new();
            while let Ok(1..) = far.read_buf(&mut received).await {
                while let Some(frame) = frame::take(&mut received, FRAME_LIMIT).expect("frames") {
                    heard.push(frame);
                }
            }
            heard
        };
        let (options, mut idle) = (PeerOptions::default(), Idle(Notify::new()));
        tokio::join!(drive(greeted, &mut idle, &options), listening)
    }

    #[tokio::test]
    async fn a_cluster_that_becomes_known_ends_what_does_not_fit() {
        let (cluster, known) = watch::channel(None);
        cluster.send_replace(Some(1));
        let (ended, heard) = with_cluster_2(None, known).await;
        assert!(matches!(&ended, Ended::Refused(words) if words.contains("of cluster")), "{ended:?}");
        let kinds: Vec<_> = heard.iter().map(|frame| frame.kind).collect();
        assert_eq!(kinds, [Kind::Ping, Kind::Hello, Kind::Goodbye]);
    }

    #[tokio::test]
    async fn a_node_that_stops_says_so() {
        let (cluster, known) = watch::channel(Some(2));
        drop(cluster);
        let (ended, heard) = with_cluster_2(Some(2), known).await;
        assert!(matches!(ended, Ended::Closed(_)), "{ended:?}");
        assert_eq!(heard.last().map(|frame| frame.body.as_ref()), Some("the node stops".as_bytes()));
    }
}
