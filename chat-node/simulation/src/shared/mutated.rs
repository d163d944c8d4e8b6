//! Known bugs of what is modelled here, for the gate.

#[cfg(feature = "mutations")]
use chat_state::mutation::{Mutation, is};

/// Appends name no lineage, and are made before the store was compared with what the node has.
pub(super) fn appends_without_lineage() -> bool {
    #[cfg(feature = "mutations")]
    if is(Mutation::AppendWithoutLineage) {
        return true;
    }
    false
}

/// The store's next process goes on under the same lineage.
pub(super) fn lineage_goes_on() -> bool {
    #[cfg(feature = "mutations")]
    if is(Mutation::LineageGoesOn) {
        return true;
    }
    false
}
