//! Tests of the whole product: resilient IRC clients that remember everything, checkers over what they remember, and
//! a cluster to break.

pub mod checkers;
pub mod client;
pub mod cluster;
pub mod group;
pub mod history;
pub mod irc;
pub mod numbers;
pub mod places;
pub mod record;
pub mod room;
pub mod scenarios;
