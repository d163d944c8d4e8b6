//! Names of the node's metrics, as Prometheus sees them. No label ever names a person.

/// Gauge; label `kind`: `tcp` or `websocket`.
pub const CONNECTIONS: &str = "chat_connections";
/// Counter; connections refused or closed by the server; label `reason`.
pub const CONNECTIONS_CLOSED: &str = "chat_connections_closed";
/// Counter; messages acknowledged to their senders.
pub const MESSAGES: &str = "chat_messages";
/// Counter; messages handed to recipients' connections.
pub const DELIVERIES: &str = "chat_deliveries";
/// Histogram, seconds; from the line read to its entry back from the log.
pub const ACKNOWLEDGE_SECONDS: &str = "chat_acknowledge_seconds";
/// Histogram, seconds; one flush of the write-ahead log.
pub const FLUSH_SECONDS: &str = "chat_log_flush_seconds";
/// Gauge; label `shard`.
pub const SHARD_POSITION: &str = "chat_shard_position";
/// Gauge, bytes; the write-ahead log on disk.
pub const LOG_BYTES: &str = "chat_log_bytes";
/// Gauge; 1 while the node refuses writes.
pub const READ_ONLY: &str = "chat_read_only";
/// Gauge, seconds since 1970; when the certificate in use expires; label `listener`: `ircs`, `webs` or `control`.
pub const CERTIFICATE_NOT_AFTER_SECONDS: &str = "chat_certificate_not_after_seconds";
