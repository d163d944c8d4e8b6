//! Calls and their answers.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use chat_raft::peers::{CallError, Me, serve};
use chat_state::ids::MemberId;
use futures::future;
use tokio::sync::{Notify, mpsc};

use crate::nodes::{PATIENCE, echo, listen, listen_at, me, options, peers, start, start_with};

const TWO: MemberId = MemberId(2);

fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

#[tokio::test]
async fn requests_take_effect_in_the_order_of_the_calls() {
    // With room for all: what makes a send wait is only that the task has done much already.
    let (seen, mut sightings) = mpsc::channel(5000);
    let sent = Arc::new(AtomicU32::new(0));
    let answer = move |from: MemberId, body: Bytes| {
        let (seen, sent) = (seen.clone(), Arc::clone(&sent));
        assert_eq!(body, number(sent.load(Ordering::Relaxed)), "all earlier ones took effect");
        async move {
            assert_eq!(from, MemberId(1));
            seen.send(body.clone()).await.expect("somebody waits");
            sent.fetch_add(1, Ordering::Relaxed);
            // What comes behind the first wait may be overtaken.
            tokio::task::yield_now().await;
            body
        }
    };
    let two = start(me(2), None, options(), answer);
    let one = peers(me(1));
    one.know(TWO, vec![two.address.to_string()]);

    let expected: Vec<_> = (0..5000).map(number).collect();
    let calls: Vec<_> = expected.iter().map(|body| one.call(TWO, body.clone(), PATIENCE)).collect();
    // The order in which the answers are asked for does not matter.
    let answers = future::join_all(calls.into_iter().rev()).await;
    for (answer, body) in answers.into_iter().rev().zip(&expected) {
        assert_eq!(answer.expect("answered"), body);
    }
    for body in expected {
        assert_eq!(sightings.recv().await, Some(body));
    }
}

#[tokio::test]
async fn a_slow_answer_holds_up_nobody() {
    let release = Arc::new(Notify::new());
    let answer = {
        let release = Arc::clone(&release);
        move |_, body: Bytes| {
            let release = Arc::clone(&release);
            async move {
                if body == "slow" {
                    release.notified().await;
                }
                body
            }
        }
    };
    let two = start(me(2), None, options(), answer);
    let one = peers(me(1));
    one.know(TWO, vec![two.address.to_string()]);

    let slow = tokio::spawn(one.call(TWO, "slow".into(), PATIENCE));
    for n in 0..100 {
        assert_eq!(one.call(TWO, number(n), PATIENCE).await.expect("answered"), number(n));
    }
    assert!(!slow.is_finished());
    release.notify_one();
    assert_eq!(slow.await.expect("ran").expect("answered"), "slow");
}

#[tokio::test]
async fn large_bodies_pass_both_ways_beside_small_ones() {
    let two = start(me(2), None, options(), echo);
    let one = peers(me(1));
    one.know(TWO, vec![two.address.to_string()]);
    let large = Bytes::from(vec![7; 20 << 20]);
    let calls = (0..200).map(|n| {
        let body = if n % 100 == 0 { large.clone() } else { number(n) };
        let call = one.call(TWO, body.clone(), PATIENCE);
        async move { assert_eq!(call.await.expect("answered"), body) }
    });
    future::join_all(calls).await;
}

#[tokio::test]
async fn a_call_whose_time_is_over_is_told_whether_it_was_sent() {
    let two = start(me(2), None, options(), |_, _| future::pending());
    let one = peers(me(1));
    one.know(TWO, vec![two.address.to_string()]);
    let short = std::time::Duration::from_millis(50);
    // Connected by now or not: what was not sent in time never is, and both are told apart.
    let first = one.call(TWO, "first".into(), PATIENCE);
    drop(first);
    loop {
        match one.call(TWO, "request".into(), short).await {
            Err(CallError::Unreachable(_)) => {}
            other => {
                assert_eq!(other, Err(CallError::TimedOut));
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_member_that_nobody_named_is_not_reached() {
    let one = peers(me(1));
    let error = one.call(TWO, "hello".into(), PATIENCE).await.expect_err("nobody");
    assert_eq!(error.to_string(), "not reached: it is not known where member 2 is");
}

#[tokio::test]
async fn a_member_that_is_forgotten_is_not_reached_any_more() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let answer = move |_, _: Bytes| {
        arrived.send(()).expect("somebody waits");
        future::pending()
    };
    let two = start(me(2), None, options(), answer);
    let one = peers(me(1));
    one.know(TWO, vec![two.address.to_string()]);
    let call = one.call(TWO, "hello".into(), PATIENCE);
    arrivals.recv().await.expect("arrived");
    one.forget(TWO);
    assert_eq!(call.await, Err(CallError::Lost("this member was forgotten".into())));
    let error = one.call(TWO, "hello".into(), PATIENCE).await.expect_err("nobody");
    assert!(matches!(error, CallError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn a_member_that_moved_is_found_by_its_own_call() {
    let (listener, address) = listen().await;
    let one = peers(Me { advertise: address.to_string(), ..me(1) });
    tokio::spawn(serve(listener, one.clone(), echo));

    let two = start(me(2), None, options(), echo);
    one.know(TWO, vec![two.address.to_string()]);
    assert_eq!(one.call(TWO, "before".into(), PATIENCE).await.expect("answered"), "before");
    drop(two);

    // It is back at another port, with a name that leads nowhere yet. The address of its connection does.
    let moved = peers(me(2));
    let (listener, elsewhere) = listen().await;
    let moved_me = Me { advertise: format!("node-2.invalid:{}", elsewhere.port()), ..me(2) };
    drop(moved);
    let moved = peers(moved_me);
    tokio::spawn(serve(listener, moved.clone(), echo));
    let (from, answer) =
        moved.ask(&address.to_string(), "who is there".into(), PATIENCE).await.expect("asked");
    assert_eq!((from, answer), (MemberId(1), "who is there".into()));

    // The old connection may still have to be found broken.
    let answer = loop {
        match one.call(TWO, "after".into(), PATIENCE).await {
            Err(CallError::Lost(_)) => {}
            other => break other,
        }
    };
    assert_eq!(answer.expect("answered"), "after");
}

#[tokio::test]
async fn the_next_address_is_tried_where_nobody_answers() {
    let two = start(me(2), None, options(), echo);
    let (nobody, gone) = listen().await;
    drop(nobody);
    let (_mute, mute) = listen().await;
    let one = peers(me(1));
    one.know(
        TWO,
        vec!["nobody.invalid:7000".into(), gone.to_string(), mute.to_string(), two.address.to_string()],
    );
    assert_eq!(one.call(TWO, "hello".into(), PATIENCE).await.expect("answered"), "hello");
}

#[tokio::test]
async fn asking_a_name_skips_ourselves() {
    // Two addresses of one port; whether `localhost` names both is up to the machine.
    let (listener, four) = listen().await;
    let one = peers(me(1));
    tokio::spawn(serve(listener, one.clone(), echo));
    let six = (std::net::Ipv6Addr::LOCALHOST, four.port()).into();
    let names_both = tokio::net::lookup_host("localhost:1").await.expect("resolved").count() == 2;
    if names_both {
        let (listener, _) = listen_at(six).await;
        tokio::spawn(serve(listener, peers(me(2)), echo));
    }
    let asked = one.ask(&format!("localhost:{}", four.port()), "hello".into(), PATIENCE).await;
    if names_both {
        assert_eq!(asked.expect("answered"), (TWO, "hello".into()));
    } else {
        let error = asked.expect_err("nobody else");
        assert!(error.to_string().ends_with("this is ourselves"), "{error}");
    }
}

#[tokio::test]
async fn two_nodes_ask_each_other_at_once() {
    let (listener, address) = listen().await;
    let one = peers(me(1));
    tokio::spawn(serve(listener, one.clone(), echo));
    let other = peers(me(2));
    other.know(MemberId(1), vec![address.to_string()]);
    let (done, asked) = tokio::sync::oneshot::channel();
    let besides = {
        let other = other.clone();
        async move {
            for n in 0..100 {
                let answer = other.call(MemberId(1), number(n), PATIENCE).await;
                assert_eq!(answer.expect("answered"), number(n));
            }
            done.send(()).expect("somebody waits");
        }
    };
    let two = start_with(other, TWO, echo, besides);
    one.know(TWO, vec![two.address.to_string()]);
    for n in 0..100 {
        assert_eq!(one.call(TWO, number(n), PATIENCE).await.expect("answered"), number(n));
    }
    asked.await.expect("all answered");
}
