//! What the server does in one step. The scripts travel with the program, so nodes of two versions can share a store.

use std::sync::LazyLock;

use redis::Script;

/// The bytes of keys and entries; another program refuses them.
pub(crate) const FORMAT: u64 = 1;

pub(crate) static CREATE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/create.lua")));
pub(crate) static APPEND: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/append.lua")));
pub(crate) static SAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/save.lua")));
pub(crate) static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/leave.lua")));
pub(crate) static LINEAGE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/lineage.lua")));
pub(crate) static BEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/beat.lua")));
