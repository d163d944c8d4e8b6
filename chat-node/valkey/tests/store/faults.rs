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
    log::{Delivery, Durability, Reason},
    shared::store::Store,
};
use chat_state::{
    command::{Command, CommonCommand},
    ids::Incarnation,
};
use chat_valkey::{Options, test_server::TestServer};

use crate::nodes::{Node, PATIENCE, open, options};

fn node(server: &TestServer, incarnation: u64) -> Node {
    Node::start(options(server.url_file()), incarnation)
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
            node.ask();
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
    node.ask();
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
    let mut node = Node::that_beats(options(server.url_file()), 1, PATIENCE);
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
    node.ask();
    wait_for(&mut node, is_message);
    server.kill();
    server.run();
    // The reader has found the new process; nothing was written meanwhile that would have failed.
    wait_for(&mut node, is_lineage);
    node.ask();
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
    node.store_one();
    // Wait until the new user is in use, then take the old way in away.
    std::thread::sleep(Duration::from_millis(500));
    acl(&mut admin, &[">second", "<first"]);
    let () = redis::cmd("CLIENT").arg("KILL").arg("USER").arg("chat").query(&mut admin).expect("killed");
    std::thread::sleep(Duration::from_millis(300));
    server.write_url(&url("second"));
    node.store_one();
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
    let durability = |server: &TestServer| {
        open(options(server.url_file())).unwrap_or_else(|error| panic!("{error}")).0.store.durability()
    };
    assert_eq!(durability(&server), Durability::LocalFsync);
    // As people close a server that has users.
    acl("default", &["off", "-@all"]);
    assert_eq!(durability(&server), Durability::Memory);
    server.kill();
}

#[test]
fn a_room_with_another_number_of_shards_is_refused() {
    let server = TestServer::start();
    drop(open(options(server.url_file())).unwrap_or_else(|error| panic!("{error}")));
    let more = Options { shards: 7, ..options(server.url_file()) };
    let error = open(more).err().expect("refused").to_string();
    assert!(error.contains("made with 1 shards, 7 are configured"), "{error}");
}

#[test]
fn what_is_no_url_is_refused_without_being_shown() {
    let server = TestServer::start();
    server.write_url("secret-password-and-no-url");
    let error = open(options(server.url_file())).err().expect("refused").to_string();
    assert!(error.contains("write redis://USER:PASSWORD@HOST") && !error.contains("secret"), "{error}");
}
