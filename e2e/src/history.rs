//! The history of the channel as a newcomer reads it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, bail};
use tokio::time::sleep;

use crate::{client::CHANNEL, irc::Connection, record::Seen};

/// Messages of one answer.
const PAGE: usize = 500;
/// Requests that may follow each other at once; the node lets a few more through.
const AT_ONCE: usize = 10;
const WAIT: Duration = Duration::from_secs(10);

/// The whole of it, oldest first.
pub async fn whole(address: SocketAddr, name: &str) -> Result<Vec<Seen>> {
    read(address, name, usize::MAX).await
}

/// The last page of it, oldest first.
pub async fn end(address: SocketAddr, name: &str) -> Result<Vec<Seen>> {
    read(address, name, 1).await
}

async fn read(address: SocketAddr, name: &str, most_pages: usize) -> Result<Vec<Seen>> {
    let mut connection = Connection::open(address, WAIT).await?;
    connection.send("CAP REQ :message-tags server-time batch draft/chathistory").await?;
    connection.send(&format!("NICK {name}")).await?;
    connection.send(&format!("USER {name} 0 * :{name}")).await?;
    connection.send("CAP END").await?;
    connection.wait_for(WAIT, |line| matches!(line.verb.as_str(), "376" | "422")).await?;
    connection.send(&format!("JOIN {CHANNEL}")).await?;
    connection.wait_for(WAIT, |line| line.verb == "366").await?;
    let mut pages: Vec<Vec<Seen>> = Vec::new();
    let mut before = "*".to_owned();
    while pages.len() < most_pages {
        let request = match &*before {
            "*" => format!("CHATHISTORY LATEST {CHANNEL} * {PAGE}"),
            msgid => format!("CHATHISTORY BEFORE {CHANNEL} msgid={msgid} {PAGE}"),
        };
        if pages.len() > AT_ONCE {
            sleep(Duration::from_millis(250)).await;
        }
        connection.send(&request).await?;
        let page = page(&mut connection).await?;
        match page.first() {
            None => break,
            Some(oldest) => before.clone_from(&oldest.msgid),
        }
        pages.push(page);
    }
    connection.send("QUIT").await?;
    Ok(pages.into_iter().rev().flatten().collect())
}

async fn page(connection: &mut Connection) -> Result<Vec<Seen>> {
    let mut page = Vec::new();
    loop {
        let line = connection.wait_for(WAIT, |_| true).await?;
        match line.verb.as_str() {
            "PRIVMSG" if line.tags.contains_key("batch") => page.push(Seen {
                msgid: line.tags.get("msgid").cloned().unwrap_or_default(),
                sender: line.nick().to_owned(),
                text: line.param(1).to_owned(),
            }),
            "BATCH" if line.param(0).starts_with('-') => return Ok(page),
            "FAIL" => bail!("history was refused: {}", line.params.join(" ")),
            _ => {}
        }
    }
}
