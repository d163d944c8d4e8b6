//! Conditions of a room: their types, their reasons, and when they turned.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Always there: whether a client can join and talk, and the spec is understood.
pub const READY: &str = "Ready";
/// There while the operator brings the room to its spec.
pub const RECONCILING: &str = "Reconciling";
/// There while nothing will change by itself.
pub const STALLED: &str = "Stalled";
/// There while another number of nodes runs than `spec.replicas` wishes for.
pub const SCALING_LIMITED: &str = "ScalingLimited";

/// There for a stateless room: whether its nodes reach the store that holds its log.
pub const STORE_REACHABLE: &str = "StoreReachable";

pub const STORE_ANSWERS: &str = "StoreAnswers";
pub const STORE_UNREACHABLE: &str = "StoreUnreachable";
pub const STORE_REFUSED: &str = "StoreRefused";
pub const NO_NODE_KNOWS: &str = "NoNodeKnows";
pub const SCALING: &str = "Scaling";
pub const SCALED_TO_ZERO: &str = "ScaledToZero";
pub const NO_PODS: &str = "PodsRefused";
pub const SERVING: &str = "Serving";
pub const INVALID_SPEC: &str = "InvalidSpec";
pub const NAME_TAKEN: &str = "NameTaken";
pub const REFUSED: &str = "RefusedByApiServer";
pub const WAITING_FOR_DELETION: &str = "WaitingForDeletion";
pub const CREATING: &str = "Creating";
pub const STARTING: &str = "Starting";
pub const STOPPING: &str = "Stopping";
pub const NODE_LOST: &str = "NodeLost";
pub const VOLUME_PENDING: &str = "VolumePending";
pub const NODE_SILENT: &str = "NodeSilent";
pub const NODE_RECOVERING: &str = "Recovering";
pub const NODE_READ_ONLY: &str = "ReadOnly";
pub const NODE_DRAINING: &str = "Draining";
pub const NO_ENDPOINT: &str = "NoEndpoint";
pub const ROLLING: &str = "Rolling";
pub const GROWING: &str = "GrowingVolume";
pub const GROWTH_REFUSED: &str = "VolumeGrowthRefused";
pub const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
pub const BELOW_TOLERANCE: &str = "BelowTolerance";
pub const NODE_WAITING: &str = "WaitingForMembership";
pub const NODE_JOINING: &str = "Joining";
pub const NODE_LEAVING: &str = "Leaving";
pub const NODE_REMOVED: &str = "Removed";
pub const FOUNDING: &str = "Founding";
pub const VOLUMES_LOST: &str = "VolumesLost";
pub const VOLUMES_MIXED: &str = "VolumesMixed";
pub const NODE_REFUSES: &str = "NodeRefuses";
pub const CHANGING_MEMBERS: &str = "ChangingMembers";
pub const PAUSED: &str = "Paused";

/// A condition's content, before it is known when it turned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub type_: &'static str,
    pub status: Truth,
    pub reason: String,
    pub message: String,
}

/// Whether what a condition is called is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    fn word(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// Longest message that the API server takes.
const MAX_MESSAGE_BYTES: usize = 32_768;

/// The conditions; one that is as true as before keeps the time when it turned.
pub fn with_times(claims: Vec<Claim>, old: &[Condition], generation: i64, now: &Time) -> Vec<Condition> {
    claims
        .into_iter()
        .map(|claim| {
            let status = claim.status.word();
            let before =
                old.iter().find(|condition| condition.type_ == claim.type_ && condition.status == status);
            Condition {
                last_transition_time: before
                    .map_or_else(|| now.clone(), |before| before.last_transition_time.clone()),
                type_: claim.type_.into(),
                status: status.into(),
                reason: claim.reason,
                message: shortened(claim.message),
                observed_generation: Some(generation),
            }
        })
        .collect()
}

/// Condition of that type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES - 3).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(end);
        message.push_str("...");
    }
    message
}
