//! What a server does to its users: dies, comes back, fills up, changes its password, loses what it had.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use chat_log::{
    log::{Delivery, Durability, Follower, Log, Reason, Request},
    shared::{
        handle::{SharedLogHandle, SharedOptions},
        store::Store,
    },
};
use chat_state::{
    command::{ChannelCommand, Command, CommonCommand, Message, MessageKind, Target},
    entry::Origin,
    ids::{Generation, Incarnation, Position, SessionId, ShardId, UserId},
};
use chat_valkey::{OpenError, Options, ValkeyStore, test_server::TestServer};

const SHARD: ShardId = ShardId(1);
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    log: SharedLogHandle<ValkeyStore>,
    follower: Follower,
    incarnation: u64,
    fatal: mpsc::Receiver<String>,
}

fn open(server: &TestServer) -> Result<(chat_valkey::Opened, tokio::runtime::Runtime), OpenError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let options = Options {
        connect_within: Duration::from_millis(500),
        answer_within: Duration::from_secs(1),
        ..Options::new(server.url_file(), "lounge".to_owned(), 1)
    };
    let opened = runtime.block_on(ValkeyStore::open(options))?;
    Ok((opened, runtime))
}

fn node(server: &TestServer, incarnation: u64) -> Node {
    node_that_beats(server, incarnation, Duration::from_millis(100))
}

fn node_that_beats(server: &TestServer, incarnation: u64, beat_every: Duration) -> Node {
    let (opened, runtime) = open(server).unwrap_or_else(|error| panic!("{error}"));
    let (told, fatal) = mpsc::channel();
    let options = SharedOptions {
        retry_every: Duration::from_millis(50),
        beat_every,
        patience: Duration::from_millis(500),
        ..SharedOptions::default()
    };
    let on_fatal = Box::new(move |reason: &str| {
        // The test may be over.
        let _ = told.send(reason.to_owned());
    });
    let log = SharedLogHandle::start(Arc::new(opened.store), opened.extents, runtime, options, on_fatal)
        .expect("a thread");
    let follower = log.follow(BTreeMap::new()).expect("from the oldest on");
    log.begin(Incarnation(incarnation));
    Node { log, follower, incarnation, fatal }
}

fn request(who: u64, n: u32) -> Request {
    let message = Message {
        kind: MessageKind::Privmsg,
        prefix: "ann!a@host".into(),
        to_nick: String::new(),
        text: format!("message {n} {}", "x".repeat(100)),
        tags: String::new(),
        id: None,
    };
    Request {
        origin: Some(Origin {
            user: UserId(who),
            session: SessionId(who),
            generation: Generation(1),
            request: n,
        }),
        dir_at: Position(0),
        command: Command::Channel(ChannelCommand::Message {
            target: Target::User { user: UserId(who) },
            message: Arc::new(message),
        }),
    }
}

/// What the state machine makes of a log: of each node's stream what is next, and nothing else.
#[derive(Default)]
struct Applied {
    last: BTreeMap<Incarnation, u64>,
    order: Vec<(u64, u32)>,
    repeated: usize,
}

impl Applied {
    fn take(&mut self, delivery: &Delivery) {
        let Delivery::Committed(batch) = delivery else { return };
        for proposal in batch.iter().flat_map(|(_, entry)| &entry.proposals) {
            let last = self.last.entry(proposal.producer.incarnation).or_default();
            if proposal.producer.sequence <= *last {
                self.repeated += 1;
                continue;
            }
            assert_eq!(proposal.producer.sequence, *last + 1, "a hole in the stream of a node");
            *last = proposal.producer.sequence;
            let origin = proposal.origin.expect("all of them have one");
            self.order.push((origin.user.0, origin.request));
        }
    }
}

/// Keeps a few requests in flight until told to stop; then waits for the answers.
fn talk(mut node: Node, stop: &AtomicBool, total: &mpsc::Sender<(u64, u32)>) -> (Node, Applied) {
    const IN_FLIGHT: u32 = 8;
    let mut applied = Applied::default();
    let (mut asked, mut settled) = (0, 0);
    let deadline = Instant::now() + PATIENCE * 2;
    let mut read_only = false;
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        while !stopping && !read_only && asked - settled < IN_FLIGHT {
            node.log
                .append(node.follower.id(), SHARD, vec![request(node.incarnation, asked)])
                .expect("room in the queue");
            asked += 1;
        }
        if stopping && asked == settled {
            return (node, applied);
        }
        assert!(Instant::now() < deadline, "{} of {asked} were never answered", asked - settled);
        match node.follower.try_next() {
            None => std::thread::sleep(Duration::from_millis(1)),
            Some(Delivery::Refused { request, reason, .. }) => {
                assert!(matches!(reason, Reason::StoreUnreachable | Reason::StoreFull), "{reason}");
                settled += 1;
                let number = request.origin.expect("of ours").request;
                total.send((node.incarnation, number)).expect("the test listens");
            }
            Some(Delivery::ReadOnly(now)) => read_only = now.is_some(),
            Some(Delivery::Fatal(reason)) => panic!("{reason}"),
            Some(delivery) => {
                let before = applied.order.iter().filter(|(who, _)| *who == node.incarnation).count();
                applied.take(&delivery);
                let after = applied.order.iter().filter(|(who, _)| *who == node.incarnation).count();
                settled += u32::try_from(after - before).expect("a few");
            }
        }
    }
}

#[test]
fn whatever_the_server_does_each_request_has_one_fate_and_all_nodes_see_the_same() {
    let mut server = TestServer::start();
    let stop = Arc::new(AtomicBool::new(false));
    let (total, refusals) = mpsc::channel();
    let talkers: Vec<_> = (1..=3)
        .map(|incarnation| {
            let (node, stop, total) = (node(&server, incarnation), Arc::clone(&stop), total.clone());
            std::thread::spawn(move || talk(node, &stop, &total))
        })
        .collect();
    drop(total);
    for round in 0..6 {
        std::thread::sleep(Duration::from_millis(300));
        match round % 3 {
            0 => server.kill(),
            1 => {
                server.set("maxmemory", "1");
                std::thread::sleep(Duration::from_millis(400));
                server.set("maxmemory", "0");
                continue;
            }
            _ => {
                server.kill();
                // Longer than the nodes' patience.
                std::thread::sleep(Duration::from_millis(1200));
            }
        }
        server.run();
    }
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    let mut ended: Vec<_> = talkers.into_iter().map(|talker| talker.join().expect("a talker")).collect();
    let refused: Vec<(u64, u32)> = refusals.iter().collect();
    // Everybody reads to the same end.
    let longest = ended.iter().map(|(_, applied)| applied.order.len()).max().expect("three");
    let deadline = Instant::now() + PATIENCE;
    for (node, applied) in &mut ended {
        while applied.order.len() < longest {
            assert!(Instant::now() < deadline, "a node never saw the end");
            match node.follower.try_next() {
                Some(delivery) => applied.take(&delivery),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
    assert!(ended.windows(2).all(|pair| pair[0].1.order == pair[1].1.order), "nodes saw different orders");
    let order = &ended[0].1.order;
    assert!(order.len() > 300, "only {} were stored: the test shows little", order.len());
    let mut once: Vec<_> = order.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), order.len(), "stored twice");
    assert!(!refused.iter().any(|who| once.binary_search(who).is_ok()), "refused, and yet stored");
    eprintln!(
        "{} stored, {} refused, {} dropped as repeated",
        order.len(),
        refused.len(),
        ended[0].1.repeated
    );
}

#[test]
fn a_store_that_lost_what_it_had_ends_the_node() {
    let mut server = TestServer::start();
    let mut node = node(&server, 1);
    node.log.append(node.follower.id(), SHARD, vec![request(1, 0)]).expect("room in the queue");
    let deadline = Instant::now() + PATIENCE;
    while !matches!(node.follower.try_next(), Some(Delivery::Committed(_))) {
        assert!(Instant::now() < deadline, "nothing was stored");
        std::thread::sleep(Duration::from_millis(1));
    }
    server.kill();
    // As a disk that was replaced.
    std::fs::remove_dir_all(server.data().join("appendonlydir")).expect("its log");
    server.run();
    let reason = node.fatal.recv_timeout(PATIENCE).expect("a reason");
    assert!(reason.contains("another history"), "{reason}");
}

#[test]
fn a_server_that_restarts_between_two_commands_is_written_to_again() {
    let mut server = TestServer::start();
    let mut node = node_that_beats(&server, 1, PATIENCE);
    let wait_for = |node: &mut Node, what: fn(&Command) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "it never came");
            match node.follower.try_next() {
                Some(Delivery::Committed(batch)) => {
                    let mut all = batch.iter().flat_map(|(_, entry)| &entry.proposals);
                    if all.any(|proposal| what(&proposal.command)) {
                        return;
                    }
                }
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    };
    let is_message: fn(&Command) -> bool = |command| matches!(command, Command::Channel(_));
    let is_lineage: fn(&Command) -> bool =
        |command| matches!(command, Command::Common(CommonCommand::BeginLineage(_)));
    node.log.append(node.follower.id(), SHARD, vec![request(1, 0)]).expect("room in the queue");
    wait_for(&mut node, is_message);
    server.kill();
    server.run();
    // The reader has found the new process; nothing was written meanwhile that would have failed.
    wait_for(&mut node, is_lineage);
    node.log.append(node.follower.id(), SHARD, vec![request(1, 1)]).expect("room in the queue");
    wait_for(&mut node, is_message);
}

#[test]
fn a_password_that_changes_is_read_again() {
    let server = TestServer::start();
    let mut node = node(&server, 1);
    let mut admin = server.client().expect("a connection");
    let url = |password: &str| format!("redis://chat:{password}@127.0.0.1:{}", server.port());
    let acl = |admin: &mut redis::Connection, words: &[&str]| {
        let () = redis::cmd("ACL").arg("SETUSER").arg("chat").arg(words).query(admin).expect("a user");
    };
    acl(&mut admin, &["on", ">first", "~chatroom:*", "+@all"]);
    server.write_url(&url("first"));
    let mut stored = 0;
    let mut store_one = |node: &mut Node| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            node.log.append(node.follower.id(), SHARD, vec![request(1, stored)]).expect("room in the queue");
            stored += 1;
            loop {
                assert!(Instant::now() < deadline, "nothing is stored any more");
                match node.follower.try_next() {
                    Some(Delivery::Committed(_)) => return,
                    Some(Delivery::Refused { .. }) => break,
                    Some(Delivery::Fatal(reason)) => panic!("{reason}"),
                    _ => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    store_one(&mut node);
    // Wait until the new user is in use, then take the old way in away.
    std::thread::sleep(Duration::from_millis(500));
    acl(&mut admin, &[">second", "<first"]);
    let () = redis::cmd("CLIENT").arg("KILL").arg("USER").arg("chat").query(&mut admin).expect("killed");
    std::thread::sleep(Duration::from_millis(300));
    server.write_url(&url("second"));
    store_one(&mut node);
}

#[test]
fn a_server_that_would_not_read_back_what_it_flushed_is_not_called_durable() {
    let mut server = TestServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut admin = server.client().expect("a connection");
    let mut acl = |user: &str, words: &[&str]| {
        let () = redis::cmd("ACL").arg("SETUSER").arg(user).arg(words).query(&mut admin).expect("a user");
    };
    acl("chat", &["on", ">sesame", "~*", "&*", "+@all"]);
    server.write_url(&format!("redis://chat:sesame@127.0.0.1:{}", server.port()));
    let durability =
        |server: &TestServer| open(server).unwrap_or_else(|error| panic!("{error}")).0.store.durability();
    assert_eq!(durability(&server), Durability::LocalFsync);
    // As people close a server that has users.
    acl("default", &["off", "-@all"]);
    assert_eq!(durability(&server), Durability::Memory);
    server.kill();
}

#[test]
fn a_room_with_another_number_of_shards_is_refused() {
    let server = TestServer::start();
    drop(open(&server).unwrap_or_else(|error| panic!("{error}")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let options = Options::new(server.url_file(), "lounge".to_owned(), 7);
    let error = runtime.block_on(ValkeyStore::open(options)).err().expect("refused").to_string();
    assert!(error.contains("made with 1 shards, 7 are configured"), "{error}");
}

#[test]
fn what_is_no_url_is_refused_without_being_shown() {
    let server = TestServer::start();
    server.write_url("secret-password-and-no-url");
    let error = open(&server).err().expect("refused").to_string();
    assert!(error.contains("write redis://USER:PASSWORD@HOST") && !error.contains("secret"), "{error}");
}
