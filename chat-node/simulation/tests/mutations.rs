//! Every known bug is caught.
#![cfg(feature = "mutations")]

use chat_simulation::mutations::{ALL, SEEDS, first_catch};

#[test]
fn every_mutation_is_caught() {
    for (name, mutation) in ALL {
        assert!(first_catch(*mutation).is_some(), "{name} survives {SEEDS} seeds");
    }
}
