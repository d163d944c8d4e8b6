//! What the node asks of its store, and when.

use chat_state::{
    command::{Command, DirectoryCommand},
    entry::{Entry, Proposal, Stamp},
    ids::{FeatureLevel, MemberId, Position},
};

use super::*;

const SHARD: ShardId = ShardId::DIRECTORY;
const NOW: Duration = Duration::ZERO;

fn register() -> Request {
    let command = DirectoryCommand::RegisterNode { member: MemberId(1), nonce: 2, level: FeatureLevel(1) };
    Request { origin: None, dir_at: Position(0), command: Command::Directory(command) }
}

fn stored(index: u64) -> StoredEntry {
    let Request { origin, dir_at, command } = register();
    let proposal =
        Proposal { producer: Stamp { incarnation: Incarnation(0), sequence: 0 }, origin, dir_at, command };
    StoredEntry {
        shard: SHARD,
        index: Index(index),
        time_ms: 0,
        payload: Entry::encode_proposals(&[proposal]),
    }
}

#[test]
fn a_node_registers_when_its_workers_have_come_to_where_the_log_is() {
    let extent = Extent { first: Index(1), last: Index(2), snapshot: Index(0) };
    let mut log = SharedLog::new(vec![extent], SharedOptions::default());
    let mut follower = log.follow(&BTreeMap::new(), || {}).expect("from the oldest on");
    log.ask(follower.id(), SHARD, vec![register()]);
    let wanted = log.wanted();
    assert!(!log.can_launch(NOW) && log.launches(NOW).is_empty(), "two entries are to come");
    log.given(wanted[0], Ok(vec![stored(1), stored(2)])).expect("in order");
    assert!(log.wanted().is_empty());
    assert!(matches!(follower.try_next(), Some(Delivery::Committed(batch)) if batch.len() == 2));
    assert_eq!(log.launches(NOW).len(), 1);
}

#[test]
fn a_store_that_is_silent_for_a_while_makes_the_log_take_nothing_until_it_answers() {
    let mut log = SharedLog::new(vec![Extent::default()], SharedOptions::default());
    log.begin(Incarnation(1));
    let mut follower = log.follow(&BTreeMap::new(), || {}).expect("from the oldest on");
    log.wanted();
    let silent = || Err(StoreError::Unavailable("silence".to_owned()));
    let later = SharedOptions::default().patience;
    log.read(silent(), NOW).expect("it may come back");
    assert!(follower.is_empty(), "not at once");
    log.read(silent(), later).expect("it may come back");
    let told = follower.try_next();
    assert!(matches!(told, Some(Delivery::ReadOnly(Some(Reason::StoreUnreachable)))), "{told:?}");
    log.beaten(Ok(Beat::default()), later).expect("it is back");
    assert!(matches!(follower.try_next(), Some(Delivery::ReadOnly(None))));
}

#[test]
fn a_store_that_fell_silent_is_asked_again_soon_and_later_less_often() {
    let mut log = SharedLog::new(vec![Extent::default()], SharedOptions::default());
    let mut fail_at = |seconds: u64| {
        let now = Duration::from_secs(seconds);
        log.beats();
        log.launches(now);
        log.beaten(Err(StoreError::Unavailable("silence".to_owned())), now).expect("it may come back");
        // What else fails meanwhile puts nothing off.
        log.read(Err(StoreError::Unavailable("silence".to_owned())), now + Duration::from_millis(50))
            .expect("it may come back");
        assert_eq!(log.launches_at(), log.beats_at());
        (log.beats_at().expect("soon") - now).as_millis()
    };
    assert_eq!([0, 1, 4, 20, 3_600].map(&mut fail_at), [100, 100, 200, 500, 500]);
    log.beaten(Ok(Beat::default()), Duration::from_secs(3_601)).expect("it is back");
    assert_eq!(log.beats_at(), None);
}
