//! `chat-simulation`: runs seeds and says which of them broke a promise.

use std::{collections::BTreeMap, process::ExitCode};

use chat_simulation::{Counts, Report, run};

const USAGE: &str = "usage:
  chat-simulation --seed N [--trace]     one seed, with everything that happens
  chat-simulation --seeds COUNT [--from N]   many, from N (0) on: of each eight, four rooms of one node, three of
                                         several over a store, one of several over a store that loses
  chat-simulation --mutations            known bugs, and which seed catches each (feature `mutations`)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--seed", seed] => one(seed, false),
        ["--seed", seed, "--trace"] => one(seed, true),
        ["--seeds", count] => many(count, "0"),
        ["--seeds", count, "--from", from] => many(count, from),
        #[cfg(feature = "mutations")]
        ["--mutations"] => mutations(),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

#[cfg(feature = "mutations")]
fn mutations() -> ExitCode {
    use chat_simulation::mutations::{ALL, SEEDS};

    std::panic::set_hook(Box::new(|_| {}));
    println!("| mutation | rooms of | first seed | caught by |\n|---|---|---|---|");
    let mut survivors = 0;
    for known in ALL {
        for (rooms, caught) in known.first_catches() {
            match caught {
                Some(Report { seed, violation: Some(violation), .. }) => {
                    println!("| {} | {rooms} | {seed} | {} |", known.name, violation.checker);
                }
                _ => {
                    survivors += 1;
                    println!("| {} | {rooms} | none in {SEEDS} | **nothing** |", known.name);
                }
            }
        }
    }
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: &str, trace: bool) -> ExitCode {
    let Ok(seed) = seed.parse() else {
        eprintln!("{seed:?} is not a seed: give a whole number");
        return ExitCode::from(2);
    };
    let report = run(seed, trace);
    println!("seed {seed}: trace {:016x}, {:?}", report.trace, report.counts);
    verdict(&report)
}

fn many(count: &str, from: &str) -> ExitCode {
    let (Ok(count), Ok(from)) = (count.parse::<u64>(), from.parse::<u64>()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = 0;
    let mut rooms: BTreeMap<&str, (u64, Counts)> = BTreeMap::new();
    for seed in from..from.saturating_add(count) {
        let report = run(seed, false);
        let (runs, counts) = rooms.entry(report.room.name()).or_default();
        *runs += 1;
        *counts += report.counts;
        if let Some(violation) = &report.violation {
            failed += 1;
            println!("seed {seed}: {violation}");
        }
    }
    for (room, (runs, counts)) in rooms {
        println!("{runs} rooms of {room}: {counts:?}");
    }
    println!("{count} seeds, {failed} broke a promise");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn verdict(report: &Report) -> ExitCode {
    match &report.violation {
        None => {
            println!("every promise was kept");
            ExitCode::SUCCESS
        }
        Some(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}
