//! The program as its users meet it: a process, real sockets, a real disk.

mod admin;
mod client;
mod cluster;
mod control;
mod disk;
mod http;
mod lifecycle;
mod limits;
mod node;
mod pki;
mod startup;
mod store;
mod talk;
mod tls;
mod tls_limits;
mod websocket;
