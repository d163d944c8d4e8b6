//! What is more than fits.

use bytes::Bytes;
use chat_raft::peers::{CallError, PeerOptions, Peers};
use chat_state::ids::MemberId;
use futures::{FutureExt, future};
use tokio::{net::TcpStream, sync::mpsc};

use crate::nodes::{PATIENCE, echo, listen, me, options, peers, start};

const TWO: MemberId = MemberId(2);

fn waits_too_long(outcome: Option<Result<Bytes, CallError>>) -> bool {
    matches!(outcome, Some(Err(CallError::Unreachable(words))) if words.starts_with("too much waits"))
}

#[tokio::test]
async fn calls_that_wait_are_bounded_in_number() {
    let (_mute, address) = listen().await;
    let one = Peers::new(me(1), None, PeerOptions { calls_limit: 3, ..options() });
    one.know(TWO, vec![address.to_string()]);
    let mut waiting: Vec<_> = (0..3).map(|_| one.call(TWO, "hello".into(), PATIENCE)).collect();
    assert!(waits_too_long(one.call(TWO, "hello".into(), PATIENCE).now_or_never()));
    waiting.pop();
    assert_eq!(one.call(TWO, "hello".into(), PATIENCE).now_or_never(), None, "one gave up: there is room");
}

#[tokio::test]
async fn calls_that_wait_are_bounded_in_bytes() {
    let (_mute, address) = listen().await;
    let one = Peers::new(me(1), None, PeerOptions { waiting_bytes_limit: 10, ..options() });
    one.know(TWO, vec![address.to_string()]);
    let large = one.call(TWO, vec![0; 100].into(), PATIENCE);
    assert!(waits_too_long(one.call(TWO, "hello".into(), PATIENCE).now_or_never()));
    drop(large);
    let _waiting = one.call(TWO, "hello".into(), PATIENCE);
    assert!(waits_too_long(one.call(TWO, "hello more".into(), PATIENCE).now_or_never()));
}

#[tokio::test]
async fn a_request_larger_than_a_frame_is_not_sent() {
    let one = peers(me(1));
    one.know(TWO, vec!["node-2.invalid:7000".into()]);
    let error = one.call(TWO, vec![0; 64 << 20].into(), PATIENCE).await.expect_err("too large");
    assert_eq!(
        error.to_string(),
        "not reached: a request of 67108864 bytes is too large, the limit is 67108855"
    );
}

#[tokio::test]
async fn an_answer_larger_than_a_frame_is_lost_alone() {
    let two = start(me(2), None, options(), |_, body: Bytes| async move {
        if body == "large" { vec![0; 64 << 20].into() } else { body }
    });
    let one = peers(me(1));
    one.know(TWO, vec![two.address.to_string()]);
    let large = one.call(TWO, "large".into(), PATIENCE);
    let small = one.call(TWO, "small".into(), PATIENCE);
    let words = "an answer of 67108864 bytes is too large to be sent";
    assert_eq!(large.await, Err(CallError::Lost(words.into())));
    assert_eq!(small.await.expect("answered"), "small");
}

#[tokio::test]
async fn requests_that_are_being_answered_are_bounded() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let answer = move |_, body: Bytes| {
        arrived.send(body).expect("somebody waits");
        future::pending()
    };
    let two = start(me(2), None, PeerOptions { calls_limit: 2, ..options() }, answer);
    let one = peers(me(1));
    one.know(TWO, vec![two.address.to_string()]);
    let _first = one.call(TWO, "first".into(), PATIENCE);
    let _second = one.call(TWO, "second".into(), PATIENCE);
    let third = one.call(TWO, "third".into(), PATIENCE).await;
    assert_eq!(third, Err(CallError::Unreachable("too much waits at the other node".into())));
    assert_eq!(arrivals.recv().await.expect("arrived"), "first");
    assert_eq!(arrivals.recv().await.expect("arrived"), "second");
    assert!(arrivals.try_recv().is_err(), "it was not looked at");
}

#[tokio::test]
async fn connections_are_bounded() {
    let two = start(me(2), None, PeerOptions { connections_limit: 1, ..options() }, echo);
    let idle = TcpStream::connect(two.address).await.expect("connected");
    let one = peers(me(1));
    let address = two.address.to_string();
    let error = one.ask(&address, "hello".into(), PATIENCE).await.expect_err("no room");
    assert!(matches!(error, CallError::Unreachable(_)), "{error}");
    drop(idle);
    // Its end may not have been noticed yet.
    let (from, _) = loop {
        match one.ask(&address, "hello".into(), PATIENCE).await {
            Ok(answer) => break answer,
            Err(CallError::Unreachable(_)) => {}
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(from, two.member);
}
