//! What a store that answers, refuses, or stays silent does to the node's streams.

use chat_state::{
    command::{Command, CommonCommand, DirectoryCommand},
    ids::{FeatureLevel, Generation, MemberId, Position, SessionId},
};

use super::*;
use crate::{follower::FollowerId, log::Request};

const SHARD: ShardId = ShardId(1);

fn lanes() -> Lanes {
    let mut lanes = Lanes::new([Index(0), Index(0)], 1 << 20);
    lanes.begin(Incarnation(5));
    lanes
}

fn ask(lanes: &mut Lanes, n: u64) -> Option<(Asked, Reason)> {
    let command = Command::Common(CommonCommand::RaiseLevel(FeatureLevel(1)));
    let request = Request { origin: None, dir_at: Position(n), command };
    lanes.ask(Asked { from: FollowerId(1), shard: SHARD, request })
}

fn ask_chore(lanes: &mut Lanes) -> Option<(Asked, Reason)> {
    let command = DirectoryCommand::Expire { session: SessionId(1), generation: Generation(1) };
    let request = Request { origin: None, dir_at: Position(0), command: Command::Directory(command) };
    lanes.ask(Asked { from: FollowerId(1), shard: ShardId::DIRECTORY, request })
}

fn launch(lanes: &mut Lanes) -> Option<Launch> {
    let mut refused = Vec::new();
    let launch = lanes.launch(SHARD, &mut refused);
    assert!(refused.is_empty(), "{refused:?}");
    launch
}

/// What each proposal of an append carries: its sequence, and who it is by its `dir_at`.
fn content(launch: &Launch) -> Vec<(u64, u64)> {
    let entry = Entry::decode_proposals(Index(1), 0, &launch.payload).expect("readable");
    entry.proposals.iter().map(|proposal| (proposal.producer.sequence, proposal.dir_at.0)).collect()
}

#[test]
fn what_arrives_during_an_append_is_the_next_one() {
    let mut lanes = lanes();
    ask(&mut lanes, 1);
    let first = launch(&mut lanes).expect("one waits");
    ask(&mut lanes, 2);
    ask(&mut lanes, 3);
    assert_eq!(launch(&mut lanes), None, "one in flight at a time");
    assert!(lanes.answered(SHARD, first.number, Answer::Landed(Index(1))).is_empty());
    let second = launch(&mut lanes).expect("two wait");
    assert_eq!((content(&first), content(&second)), (vec![(1, 1)], vec![(2, 2), (3, 3)]));
    lanes.answered(SHARD, second.number, Answer::Landed(Index(2)));
    assert!(lanes.is_idle());
}

#[test]
fn an_unknown_append_is_sent_again_as_it_was_before_anything_else() {
    let mut lanes = lanes();
    ask(&mut lanes, 1);
    let first = launch(&mut lanes).expect("one waits");
    ask(&mut lanes, 2);
    lanes.answered(SHARD, first.number, Answer::Unknown);
    assert!(lanes.can_launch());
    assert_eq!(launch(&mut lanes), Some(first.clone()));
    // A refusal says nothing about what came of the first try.
    assert!(lanes.answered(SHARD, first.number, Answer::Refused(Reason::StoreFull)).is_empty());
    assert_eq!(launch(&mut lanes), Some(first.clone()));
    lanes.answered(SHARD, first.number, Answer::Landed(Index(1)));
    assert_eq!(content(&launch(&mut lanes).expect("the other")), [(2, 2)]);
}

#[test]
fn an_unknown_append_that_is_read_back_has_landed() {
    let mut lanes = lanes();
    ask(&mut lanes, 1);
    let first = launch(&mut lanes).expect("one waits");
    lanes.answered(SHARD, first.number, Answer::Unknown);
    let entry = lanes.read(SHARD, Index(1), 7, &first.payload).expect("readable").expect("new");
    assert_eq!((entry.time_ms, entry.proposals[0].producer.sequence), (7, 1));
    assert!(lanes.is_idle());
    // The late answer finds nothing.
    assert!(lanes.answered(SHARD, first.number, Answer::Landed(Index(1))).is_empty());
    assert_eq!(lanes.read(SHARD, Index(1), 7, &first.payload), Ok(None), "read before");
}

#[test]
fn a_refused_append_gives_its_requests_and_numbers_back() {
    let mut lanes = lanes();
    ask(&mut lanes, 1);
    let first = launch(&mut lanes).expect("one waits");
    let refused = lanes.answered(SHARD, first.number, Answer::Refused(Reason::StoreFull));
    let places: Vec<_> = refused.iter().map(|(asked, reason)| (asked.request.dir_at.0, *reason)).collect();
    assert_eq!(places, [(1, Reason::StoreFull)]);
    ask(&mut lanes, 2);
    assert_eq!(content(&launch(&mut lanes).expect("one waits")), [(1, 2)], "no hole in the stream");
}

#[test]
fn while_refusing_only_what_ends_things_waits() {
    let mut lanes = lanes();
    ask(&mut lanes, 1);
    assert!(ask_chore(&mut lanes).is_none());
    let refused = lanes.refuse(Some(Reason::StoreUnreachable));
    assert_eq!(refused.len(), 1, "what waited is told");
    assert_eq!(ask(&mut lanes, 2).map(|(_, reason)| reason), Some(Reason::StoreUnreachable));
    assert!(ask_chore(&mut lanes).is_none());
    assert_eq!(lanes.waiting(), 2);
    lanes.refuse(None);
    assert!(ask(&mut lanes, 3).is_none());
}

#[test]
fn a_refused_append_keeps_what_ends_things() {
    let mut lanes = lanes();
    ask_chore(&mut lanes);
    let mut refused = Vec::new();
    let first = lanes.launch(ShardId::DIRECTORY, &mut refused).expect("one waits");
    let back = lanes.answered(ShardId::DIRECTORY, first.number, Answer::Refused(Reason::StoreFull));
    assert!(back.is_empty(), "it goes on waiting: {back:?}");
    let again = lanes.launch(ShardId::DIRECTORY, &mut refused).expect("it waits");
    assert_eq!(content(&again), content(&first));
}

#[test]
fn a_hole_in_what_the_store_gives_is_an_error() {
    let mut lanes = lanes();
    ask(&mut lanes, 1);
    let payload = launch(&mut lanes).expect("one waits").payload;
    let found = lanes.read(SHARD, Index(2), 0, &payload);
    assert_eq!(found, Err(ReadError::Gap { shard: SHARD, expected: Index(1), found: Index(2) }));
}

#[test]
fn an_append_that_landed_and_is_not_there_is_an_error() {
    let mut lanes = lanes();
    ask(&mut lanes, 1);
    let first = launch(&mut lanes).expect("one waits");
    lanes.answered(SHARD, first.number, Answer::Landed(Index(1)));
    ask(&mut lanes, 2);
    let second = launch(&mut lanes).expect("one waits");
    // The next of the stream is where the first was.
    let found = lanes.read(SHARD, Index(1), 0, &second.payload);
    assert_eq!(found, Err(ReadError::Lost { shard: SHARD, index: Index(1) }));
}

#[test]
fn a_registration_goes_out_before_the_node_has_a_life_and_nothing_else_does() {
    let mut lanes = Lanes::new([Index(0), Index(0)], 1 << 20);
    ask(&mut lanes, 1);
    let mut refused = Vec::new();
    assert_eq!(lanes.launch(SHARD, &mut refused), None);
    assert_eq!(refused.iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), [Reason::NotRegistered]);
    let register = DirectoryCommand::RegisterNode { member: MemberId(1), nonce: 2, level: FeatureLevel(1) };
    let request = Request { origin: None, dir_at: Position(0), command: Command::Directory(register) };
    lanes.ask(Asked { from: FollowerId(1), shard: ShardId::DIRECTORY, request });
    let launch = lanes.launch(ShardId::DIRECTORY, &mut refused).expect("a registration");
    assert_eq!(content(&launch), [(0, 0)]);
}
