//! A chat node: sockets, threads, disks and clocks around the pure layers below it.
//!
//! One thread a worker, each an epoll loop with its own sockets and its own replica of the state ([`worker`]); one
//! that accepts connections and answers HTTP ([`front`]); the log's own; one that writes snapshots ([`snapshots`]);
//! and the main thread, which answers probes ([`admin`]) and oversees the others ([`node`]).

mod admin;
mod admission;
mod board;
mod certificate;
mod certificates;
mod check;
mod chores;
pub mod cli;
mod config;
mod crew;
mod descriptors;
mod doorbell;
mod doors;
mod drain;
mod farewell;
mod figures;
mod flushes;
mod front;
mod http;
mod https;
mod latency;
mod listen;
mod lobby;
mod metrics;
mod node;
mod open;
mod orders;
mod recover;
mod settings;
mod snapshots;
mod socket;
mod tcp;
mod transport;
mod view;
mod web;
mod websocket;
mod worker;
