//! Default ports of a chat node.

/// IRC over TCP, clear text.
pub const IRC: u16 = 6667;
/// IRC over TLS.
pub const IRCS: u16 = 6697;
/// The web page and IRC over WebSocket, clear text.
pub const WEB: u16 = 8080;
/// The web page and IRC over WebSocket, over TLS.
pub const WEBS: u16 = 8443;
/// Probes and `/metrics`; `/v1/*` too, unless it has the port below.
pub const ADMIN: u16 = 9090;
/// `/v1/*` for clients with a certificate.
pub const CONTROL: u16 = 9443;
/// The other nodes of a room with a `raft` log.
pub const PEER: u16 = 7000;
