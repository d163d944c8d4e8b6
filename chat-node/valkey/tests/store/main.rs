//! The log on a real server.

mod contract;
mod faults;
mod nodes;
mod tls;
