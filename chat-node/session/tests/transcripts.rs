//! What clients see, as data: each file of `transcripts/` is played against a room of one shard and one of four.

mod harness;

use std::{fs, path::Path};

use harness::script::play;

#[test]
fn every_transcript_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|file| file.expect("readable").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no transcript in {}", folder.display());
    let mut failures = Vec::new();
    for file in files {
        let name = file.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("transcripts are UTF-8");
        for shards in [1, 4] {
            if let Err(failure) = play(&text, shards) {
                failures.push(format!("{name} with {shards} shards, {failure}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The player itself: what it must not let pass.
#[test]
fn a_transcript_that_is_not_so_fails() {
    let wrong = [
        ("another line came", "@register alice\nalice> PING x\nalice< :irc.test PONG irc.test :y"),
        ("no line came", "@register alice\nalice> PONG x\nalice< :irc.test PONG irc.test :x"),
        ("a line too many came", "@register alice\nalice> PING x"),
        ("a line came where none may", "@register alice\nalice> PING x\nalice< -"),
        ("the connection is open", "@register alice\n@closed alice"),
        (
            "a capture of another kind",
            "@register alice\nalice> PING x\nalice< :irc.test PONG irc.test :{number}",
        ),
        ("nothing like it among what is skipped", "@register alice\nalice> PING x\nalice< ...\nalice< PING"),
    ];
    for (why, script) in wrong {
        assert!(play(script, 1).is_err(), "{why}, and nobody noticed");
    }
    play("@register alice\nalice> PING x\nalice< :irc.test PONG irc.test :{word}", 1).unwrap();
}
