//! How much a request counts against the bounds of queues and entries.

use chat_state::command::{ChannelCommand, Command};

use crate::log::Request;

/// What a request takes beside its text.
const FRAME_BYTES: usize = 128;

/// About the bytes that a request takes, in memory as in the log. Exact where a command may be large and is rare,
/// cheap where it is frequent.
pub(crate) fn weight(request: &Request) -> usize {
    let body = match &request.command {
        Command::Channel(ChannelCommand::Message { message, .. } | ChannelCommand::Copy { message, .. }) => {
            message.text.len() + message.tags.len() + message.prefix.len() + message.to_nick.len()
        }
        command => postcard::to_io(command, Counter(0)).map_or(usize::MAX / 2, |Counter(bytes)| bytes),
    };
    FRAME_BYTES + body
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
