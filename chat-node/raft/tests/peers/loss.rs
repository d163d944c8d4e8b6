//! Noticing that a node is gone.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chat_raft::peers::{CallError, Me, PeerOptions, Peers, serve};
use chat_state::ids::MemberId;
use futures::{FutureExt, future};
use tokio::sync::{Notify, broadcast::error::TryRecvError, mpsc};

use crate::nodes::{PATIENCE, echo, listen, me, options, peers, start, start_with};

const TWO: MemberId = MemberId(2);

#[tokio::test]
async fn a_process_that_ends_is_noticed_by_those_who_asked_it() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let answer = move |_, _: Bytes| {
        arrived.send(()).expect("somebody waits");
        future::pending()
    };
    let two = start(me(2), None, options(), answer);
    let one = peers(me(1));
    let mut losses = one.losses();
    one.know(TWO, vec![two.address.to_string()]);
    let call = one.call(TWO, "hello".into(), PATIENCE);
    arrivals.recv().await.expect("arrived");
    drop(two);
    let lost = call.await;
    assert!(matches!(lost, Err(CallError::Lost(_))), "{lost:?}");
    assert_eq!(losses.recv().await, Ok(TWO));
}

#[tokio::test]
async fn a_process_that_ends_is_noticed_by_those_it_asked() {
    let (listener, address) = listen().await;
    let one = peers(me(1));
    tokio::spawn(serve(listener, one.clone(), echo));
    let mut losses = one.losses();

    let (asked, mut answered) = mpsc::unbounded_channel();
    let other = peers(me(2));
    other.know(MemberId(1), vec![address.to_string()]);
    let besides = {
        let other = other.clone();
        async move {
            let answer = other.call(MemberId(1), "hello".into(), PATIENCE).await;
            asked.send(answer).expect("somebody waits");
        }
    };
    let two = start_with(other, TWO, echo, besides);
    assert_eq!(answered.recv().await.expect("asked").expect("answered"), "hello");
    drop(two);
    assert_eq!(losses.recv().await, Ok(TWO));
}

#[tokio::test]
async fn who_closes_on_purpose_is_not_lost() {
    let (listener, address) = listen().await;
    let one = peers(me(1));
    tokio::spawn(serve(listener, one.clone(), echo));
    let mut losses = one.losses();

    let two = peers(me(2));
    two.know(MemberId(1), vec![address.to_string()]);
    two.ask(&address.to_string(), "a question".into(), PATIENCE).await.expect("answered");
    two.call(MemberId(1), "hello".into(), PATIENCE).await.expect("answered");
    two.forget(MemberId(1));
    two.know(MemberId(1), vec![address.to_string()]);
    two.call(MemberId(1), "hello".into(), PATIENCE).await.expect("answered");
    drop(two);

    // Who comes and ends after it is the first that is lost.
    let three = peers(me(3));
    three.know(MemberId(1), vec![address.to_string()]);
    let node = {
        let (asked, mut answered) = mpsc::unbounded_channel();
        let asking = three.clone();
        let besides = async move {
            let answer = asking.call(MemberId(1), "hello".into(), PATIENCE).await;
            asked.send(answer).expect("somebody waits");
        };
        let node = start_with(three, MemberId(3), echo, besides);
        answered.recv().await.expect("asked").expect("answered");
        node
    };
    assert_eq!(losses.try_recv(), Err(TryRecvError::Empty));
    drop(node);
    assert_eq!(losses.recv().await, Ok(MemberId(3)));
}

/// Short, as a test has to wait for it.
fn impatient() -> PeerOptions {
    PeerOptions {
        dial_deadline: Duration::from_millis(100),
        ping_every: Duration::from_millis(50),
        silence: Duration::from_millis(150),
        ..PeerOptions::default()
    }
}

#[tokio::test]
async fn a_listener_that_never_says_who_it_is_is_given_up() {
    let (_mute, address) = listen().await;
    let one = Peers::new(me(1), None, impatient());
    one.know(TWO, vec![address.to_string()]);
    let error = one.call(TWO, "hello".into(), PATIENCE).await.expect_err("mute");
    assert_eq!(error.to_string(), format!("not reached: {address}: no node answered in time"));
    assert_eq!(one.call(TWO, "hello".into(), PATIENCE).await, Err(error), "at once: it rests");
}

#[tokio::test]
async fn a_member_that_is_not_reached_is_left_alone_until_there_is_news() {
    let (nobody, gone) = listen().await;
    drop(nobody);
    let one =
        Peers::new(me(1), None, PeerOptions { backoff_first: PATIENCE, backoff_most: PATIENCE, ..options() });
    one.know(TWO, vec![gone.to_string()]);
    let error = one.call(TWO, "hello".into(), PATIENCE).await.expect_err("nobody");
    assert_eq!(one.call(TWO, "hello".into(), PATIENCE).now_or_never(), Some(Err(error.clone())));
    one.know(TWO, vec![gone.to_string()]);
    assert_eq!(one.call(TWO, "hello".into(), PATIENCE).now_or_never(), Some(Err(error)), "no news");

    let two = start(me(2), None, options(), echo);
    one.know(TWO, vec![gone.to_string(), two.address.to_string()]);
    assert_eq!(one.call(TWO, "hello".into(), PATIENCE).await.expect("answered"), "hello");
}

#[tokio::test]
async fn a_node_that_falls_silent_is_given_up() {
    // Pings far too seldom for the other: as one whose machine stands still.
    let rare = PeerOptions { ping_every: PATIENCE, ..options() };
    let two = start(me(2), None, rare, |_, _| future::pending());
    let one = Peers::new(me(1), None, PeerOptions { dial_deadline: PATIENCE, ..impatient() });
    let mut losses = one.losses();
    one.know(TWO, vec![two.address.to_string()]);
    let lost = one.call(TWO, "hello".into(), PATIENCE).await;
    assert_eq!(lost, Err(CallError::Lost("nothing was heard for 150ms".into())));
    assert_eq!(losses.try_recv(), Err(TryRecvError::Empty), "it may be alive");
}

#[tokio::test]
async fn a_node_with_nothing_to_say_is_not_given_up() {
    let pinging = PeerOptions { ping_every: Duration::from_millis(10), ..options() };
    let two = start(me(2), None, pinging, |_, _| async {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        Bytes::from_static(b"late")
    });
    let one = Peers::new(me(1), None, PeerOptions { silence: Duration::from_secs(2), ..options() });
    one.know(TWO, vec![two.address.to_string()]);
    assert_eq!(one.call(TWO, "hello".into(), PATIENCE).await.expect("answered"), "late");
}

#[tokio::test]
async fn after_standing_still_what_came_meanwhile_is_heard_first() {
    let release = Arc::new(Notify::new());
    let pinging = PeerOptions { ping_every: Duration::from_millis(10), ..options() };
    let answer = {
        let release = Arc::clone(&release);
        move |_, body: Bytes| {
            let release = Arc::clone(&release);
            async move {
                if body == "wait" {
                    release.notified().await;
                }
                body
            }
        }
    };
    let two = start(me(2), None, pinging, answer);
    let one = Peers::new(me(1), None, PeerOptions { silence: Duration::from_secs(2), ..options() });
    one.know(TWO, vec![two.address.to_string()]);
    let waiting = one.call(TWO, "wait".into(), PATIENCE);
    one.call(TWO, "hello".into(), PATIENCE).await.expect("answered");
    // The connection lives in this thread, as all of a test's runtime.
    std::thread::sleep(Duration::from_millis(2500));
    tokio::task::yield_now().await;
    release.notify_one();
    assert_eq!(waiting.await.expect("answered"), "wait");
}

#[tokio::test]
async fn a_member_that_is_back_at_its_address_is_reached_again() {
    let one = peers(me(1));
    let (listener, address) = listen().await;
    one.know(TWO, vec![address.to_string()]);
    let serving = tokio::spawn(serve(listener, peers(Me { name: "first".into(), ..me(2) }), echo));
    one.call(TWO, "hello".into(), PATIENCE).await.expect("answered");
    serving.abort();
    let _ = serving.await;
    while one.call(TWO, "hello".into(), PATIENCE).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let (listener, _) = crate::nodes::listen_at(address).await;
    tokio::spawn(serve(listener, peers(Me { name: "second".into(), ..me(2) }), echo));
    loop {
        match one.call(TWO, "hello".into(), PATIENCE).await {
            Ok(answer) => break assert_eq!(answer, "hello"),
            Err(CallError::Unreachable(_) | CallError::Lost(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}
