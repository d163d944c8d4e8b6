//! Every known bug is caught.
#![cfg(feature = "mutations")]

use chat_simulation::mutations::{ALL, SEEDS};

#[test]
fn every_mutation_is_caught() {
    for known in ALL {
        for (rooms, caught) in known.first_catches() {
            assert!(caught.is_some(), "{} survives {SEEDS} seeds in rooms of {rooms}", known.name);
        }
    }
}
