//! Default ports of a chat node.

/// IRC over TCP, clear text.
pub const IRC: u16 = 6667;
/// The web page and IRC over WebSocket, clear text.
pub const WEB: u16 = 8080;
/// Probes, `/metrics` and `/v1/*`.
pub const ADMIN: u16 = 9090;
