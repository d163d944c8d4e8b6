//! Connections between the nodes of a room.
