//! The ChatRoom resource: what a user writes (`spec`) and what the operator answers (`status`).
//!
//! Doc comments of fields are what `kubectl explain` shows. A field exists here only when something reads it.
//! Constants that never depend on the cluster are defaults of the schema, so that `kubectl get -o yaml` shows
//! what is in force; `replicas` has none, because other programs own it.

mod chat;
mod mode;
mod network;
mod node;
mod schema;
mod spec;
mod status;

pub use chat::{Channel, Chat, ChatLimits, History};
pub use mode::{
    CaSource, KeyRef, ManagedStore, Mode, Retain, Stateful, Stateless, Storage, Store, Tolerate, UrlSource,
    ValkeyStore,
};
pub use network::{
    IrcListener, Listeners, SecureIrcListener, SecureWebListener, Service, ServiceType, SessionAffinity,
    WebListener,
};
pub use node::{ImagePullPolicy, LogFormat, LogLevel, Node, Resources};
pub use schema::DurationText;
pub use spec::{ChatRoom, ChatRoomSpec, custom_resource_definition};
pub use status::{
    ChatRoomStatus, ClusterIdentity, Durability, Founding, Guarantees, MemberState, Membership, NodeRow,
    Order, Tolerates,
};
