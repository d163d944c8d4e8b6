//! The floor: a relay that puts each line it gets into a stream, follows the stream, and sends what comes to every
//! socket. No sessions, no state, no history; what any chat over a store has to do at least.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result};
use clap::Args;
use redis::{Connection, Value};

const STREAM: &str = "bare";

#[derive(Args)]
pub(crate) struct Options {
    /// Port of the store on this machine.
    #[arg(long)]
    store: u16,
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen)?;
    let listeners: Arc<Mutex<HashMap<SocketAddr, TcpStream>>> = Arc::default();
    let reader = connect(options.store)?;
    let sockets = Arc::clone(&listeners);
    std::thread::spawn(move || {
        if let Err(error) = follow(reader, &sockets) {
            eprintln!("the relay's reader: {error:#}");
            std::process::exit(1);
        }
    });
    println!("ready");
    for socket in listener.incoming() {
        let socket = socket?;
        socket.set_nodelay(true)?;
        let peer = socket.peer_addr()?;
        listeners.lock().expect("not poisoned").insert(peer, socket.try_clone()?);
        let store = connect(options.store)?;
        std::thread::spawn(move || {
            // The generator is done with it.
            let _ = publish(socket, store);
        });
    }
    Ok(())
}

fn connect(port: u16) -> Result<Connection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
    client.get_connection().context("the store does not answer")
}

/// Lines of one client into the stream, those that came together in one go.
fn publish(mut socket: TcpStream, mut store: Connection) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut rest = Vec::new();
    loop {
        let read = match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        rest.extend_from_slice(&buffer[..read]);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let mut pipeline = redis::pipe();
        for line in rest[..=end].split_inclusive(|byte| *byte == b'\n') {
            pipeline.cmd("XADD").arg(STREAM).arg("*").arg("p").arg(line);
        }
        let _: Vec<String> = pipeline.query(&mut store)?;
        rest.drain(..=end);
    }
}

fn follow(mut store: Connection, sockets: &Mutex<HashMap<SocketAddr, TcpStream>>) -> Result<()> {
    let mut last = "$".to_owned();
    let mut chunk = Vec::new();
    loop {
        let answer: Value = redis::cmd("XREAD")
            .arg("COUNT")
            .arg(128)
            .arg("BLOCK")
            .arg(1000)
            .arg("STREAMS")
            .arg(STREAM)
            .arg(&last)
            .query(&mut store)?;
        chunk.clear();
        take_in(answer, &mut last, &mut chunk);
        if chunk.is_empty() {
            continue;
        }
        let mut sockets = sockets.lock().expect("not poisoned");
        sockets.retain(|_, socket| socket.write_all(&chunk).is_ok());
    }
}

/// The payloads of `[[key, [[id, [name, payload]], …]]]`.
fn take_in(answer: Value, last: &mut String, chunk: &mut Vec<u8>) {
    let Value::Array(streams) = answer else { return };
    for stream in streams {
        let Value::Array(mut pair) = stream else { continue };
        let Some(Value::Array(entries)) = pair.pop() else { continue };
        for entry in entries {
            let Value::Array(entry) = entry else { continue };
            if let [Value::BulkString(id), Value::Array(fields)] = &entry[..] {
                *last = String::from_utf8_lossy(id).into_owned();
                if let Some(Value::BulkString(payload)) = fields.get(1) {
                    chunk.extend_from_slice(payload);
                }
            }
        }
    }
}
