//! Kubernetes operator for ChatRoom resources.
//!
//! A reconcile is five stages: [`observe`] (the only reader) → [`validate`] → [`plan`] (both pure) → [`apply`] →
//! [`report`]. [`build`] makes the objects. The operator knows Kubernetes and nothing of the chat protocol.

pub mod api;
pub mod apply;
pub mod backoff;
pub mod build;
pub mod cli;
pub mod control;
pub mod controller;
pub mod counters;
pub mod error;
pub mod generate;
pub mod health;
pub mod leader;
pub mod members;
pub mod metrics;
pub mod names;
pub mod nodes;
pub mod observe;
pub mod plan;
pub mod pods;
pub mod quantity;
pub mod report;
pub mod run;
pub mod validate;

#[cfg(test)]
mod testing;
