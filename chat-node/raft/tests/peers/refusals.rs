//! Who does not belong together, and what both are told.

use bytes::Bytes;
use chat_raft::peers::{CallError, Me, Peers, serve};
use chat_state::ids::MemberId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::nodes::{PATIENCE, echo, listen, me, options, peers, start};

const TWO: MemberId = MemberId(2);

async fn refusal(from: &Peers, to: &str) -> String {
    from.know(TWO, vec![to.to_owned()]);
    let refused = from.call(TWO, Bytes::new(), PATIENCE).await;
    let again = from.call(TWO, Bytes::new(), PATIENCE).await;
    let Err(CallError::Refused(words)) = refused else { panic!("{refused:?}") };
    assert_eq!(again, Err(CallError::Refused(words.clone())), "also while it rests, and when it tries again");
    words.strip_prefix(&format!("{to}: ")).expect("the address").to_owned()
}

#[tokio::test]
async fn a_node_of_another_room() {
    let two = start(Me { room: "chat/other".into(), ..me(2) }, None, options(), echo);
    assert_eq!(
        refusal(&peers(me(1)), &two.address.to_string()).await,
        r#"node-2 (member 2) is of room "chat/other", node-1 (member 1) of room "chat/main""#
    );
}

#[tokio::test]
async fn a_node_of_another_cluster() {
    let (listener, address) = listen().await;
    let two = peers(me(2));
    tokio::spawn(serve(listener, two.clone(), echo));
    let one = peers(me(1));
    one.set_cluster(Some(1));
    one.know(TWO, vec![address.to_string()]);
    let echoed = one.call(TWO, "hello".into(), PATIENCE).await;
    assert_eq!(echoed.expect("none goes with any"), "hello");

    // The connection stands, and is refused nevertheless.
    two.set_cluster(Some(2));
    let refused = loop {
        match one.call(TWO, Bytes::new(), PATIENCE).await {
            Err(CallError::Refused(words)) => break words,
            Err(CallError::Lost(_)) | Ok(_) => {}
            other => panic!("{other:?}"),
        }
    };
    // Either may have been the first to see it.
    assert!(
        refused.contains("cluster 0000000000000002") && refused.contains("cluster 0000000000000001"),
        "{refused}"
    );

    two.set_cluster(Some(1));
    let echoed = loop {
        match one.call(TWO, "hello".into(), PATIENCE).await {
            Err(CallError::Refused(_)) => tokio::task::yield_now().await,
            other => break other,
        }
    };
    assert_eq!(echoed.expect("they belong together"), "hello");
}

#[tokio::test]
async fn another_member_at_the_address() {
    let three = start(me(3), None, options(), echo);
    assert_eq!(
        refusal(&peers(me(1)), &three.address.to_string()).await,
        "member 2 was asked for, but this is node-3 (member 3)"
    );
}

#[tokio::test]
async fn somebody_who_is_no_node() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("said");
            let mut ignored = Vec::new();
            let _ = stream.read_to_end(&mut ignored).await;
        }
    });
    assert_eq!(
        refusal(&peers(me(1)), &address.to_string()).await,
        "what came is no frame of the nodes' protocol (a length of 1213486160)"
    );
}

#[tokio::test]
async fn somebody_who_is_no_node_and_connects() {
    let two = start(me(2), None, options(), echo);
    let mut stream = tokio::net::TcpStream::connect(two.address).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("said");
    let mut said = Vec::new();
    stream.shutdown().await.expect("shut");
    stream.read_to_end(&mut said).await.expect("a goodbye");
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.ends_with("what came is no frame of the nodes' protocol (a length of 1195725856)"),
        "{said}"
    );
}
