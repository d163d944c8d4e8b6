//! HTTP on the web port, and on ports where it does not belong.

use crate::{
    client::{Client, End},
    node::{Node, directory, http},
};

#[test]
fn the_page_and_its_parts_are_served_strictly() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let get = |path: &str, extra: &str| {
        http(node.web, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{extra}\r\n"))
    };
    let (status, head, page) = get("/", "");
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    // Everything that the page names is there.
    for (at, _) in page.match_indices("src=\"").chain(page.match_indices("href=\"")) {
        let name = page[at..].split('"').nth(1).expect("quoted");
        if !name.starts_with(['#', 'h']) {
            assert_eq!(get(&format!("/{name}"), "").0, 200, "{name}");
        }
    }
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an ETag");
    let (status, _, body) = get("/", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((status, body.as_str()), (304, ""));
    assert_eq!(get("/etc/passwd", "").0, 404);
    assert_eq!(get("/irc", "").0, 426);
}

#[test]
fn a_page_of_another_origin_cannot_open_a_websocket() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let (status, _, body) = http(
        node.web,
        "GET /irc HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Origin: https://evil.example\r\n\r\n",
    );
    assert_eq!(status, 403);
    assert!(body.contains("allowedOrigins"), "says what to do: {body}");
}

#[test]
fn a_web_request_to_the_irc_port_ends_there() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let mut client = Client::tcp(&node);
    client.send_raw(b"POST / HTTP/1.1\r\nHost: a\r\n\r\nNICK evil\r\nUSER a 0 * :b\r\nJOIN #x\r\n");
    let (lines, end) = client.rest();
    assert_eq!(end, End::Closed);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("ERROR :") && lines[0].contains("not a web server"), "{lines:?}");
}
