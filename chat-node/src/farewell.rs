//! Last words to clients that are not admitted.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time,
};

/// Clients that are told why at the same time; more are just closed.
const AT_ONCE: usize = 64;
/// How long one may take to hear it.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(crate) struct Farewell {
    places: Arc<Semaphore>,
}

impl Farewell {
    pub(crate) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Says this and closes, beside everything else.
    pub(crate) fn say(&self, stream: TcpStream, text: String) {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            tokio::spawn(async move {
                // A client that does not listen misses it.
                let _ = time::timeout(PATIENCE, say(stream, &text)).await;
                drop(place);
            });
        }
    }
}

/// What the client sends meanwhile is read: unread bytes would turn the close into a reset, which may overtake the
/// text.
async fn say(mut stream: TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut ignored = [0; 512];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}
