//! Nodes that speak with each other over sockets of this machine.

mod bounds;
mod calls;
mod loss;
mod nodes;
mod refusals;
mod tls;
