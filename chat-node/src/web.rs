//! The web page, and the handshake that turns a request for `/irc` into a WebSocket.

use bytes::Bytes;
use chat_session::Framing;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    header::{
        CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, HeaderMap, HeaderName,
        HeaderValue, IF_NONE_MATCH, ORIGIN, REFERRER_POLICY, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::http::{self, Body};

/// Where WebSockets are opened.
const WEBSOCKET_PATH: &str = "/irc";

/// Nothing but this server's own files runs or is fetched; nobody may frame the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct Asset {
    path: &'static str,
    content_type: &'static str,
    etag: &'static str,
    body: &'static [u8],
}

const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// What to do with a request.
pub(crate) enum Answer {
    Respond(Response<Body>),
    /// The response agrees to a WebSocket; its bytes follow.
    Upgrade(Response<Body>, Framing),
}

/// Answers one request. `allowed_origins` are those besides the page's own.
pub(crate) fn answer<B>(request: &Request<B>, allowed_origins: &[String]) -> Answer {
    if request.uri().path() == WEBSOCKET_PATH {
        return match handshake(request, allowed_origins) {
            Ok((response, framing)) => Answer::Upgrade(response, framing),
            Err(response) => Answer::Respond(*response),
        };
    }
    Answer::Respond(page(request))
}

fn page<B>(request: &Request<B>) -> Response<Body> {
    let mut response = match ASSETS.iter().find(|asset| asset.path == request.uri().path()) {
        None => http::text(StatusCode::NOT_FOUND, "There is no such page here.\n"),
        Some(_) if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            http::method_not_allowed("GET, HEAD")
        }
        Some(asset) => serve(asset, request.headers()),
    };
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn serve(asset: &'static Asset, asked: &HeaderMap) -> Response<Body> {
    let fresh = asked.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(|known| {
        known
            .split(',')
            .map(|etag| etag.trim().trim_start_matches("W/"))
            .any(|etag| etag == asset.etag || etag == "*")
    });
    let mut response = if fresh {
        let mut response = Response::new(http::full(Bytes::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(http::full(Bytes::from_static(asset.body)))
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(ETAG, HeaderValue::from_static(asset.etag));
    // Kept, but asked about each time: a new version of the server shows at once.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// RFC 6455 section 4.2, and the sub-protocols of the IRCv3 WebSocket specification.
fn handshake<B>(
    request: &Request<B>,
    allowed_origins: &[String],
) -> Result<(Response<Body>, Framing), Box<Response<Body>>> {
    let headers = request.headers();
    let refuse = |status, why: &'static str| Err(Box::new(http::text(status, why)));
    if request.method() != Method::GET {
        return Err(Box::new(http::method_not_allowed("GET")));
    }
    if !has_token(headers, UPGRADE, "websocket") || !has_token(headers, CONNECTION, "upgrade") {
        let mut response = http::text(StatusCode::UPGRADE_REQUIRED, "This address is for WebSockets.\n");
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return Err(Box::new(response));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut response =
            http::text(StatusCode::UPGRADE_REQUIRED, "Only version 13 of WebSocket is spoken here.\n");
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(response));
    }
    // 16 bytes in Base64.
    let key = headers.get(SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    if request.version() != Version::HTTP_11 || key.len() != 24 || !key.ends_with(b"==") {
        return refuse(StatusCode::BAD_REQUEST, "This is not a WebSocket handshake.\n");
    }
    if !may_open(headers, allowed_origins) {
        return refuse(
            StatusCode::FORBIDDEN,
            "Pages of this origin may not connect here; the listener's allowedOrigins in the server's configuration does not list it.\n",
        );
    }
    let (protocol, framing) = sub_protocol(headers);

    let mut response = Response::new(http::full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answers = response.headers_mut();
    answers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let accept = HeaderValue::from_str(&derive_accept_key(key)).expect("Base64 is visible ASCII");
    answers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        answers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok((response, framing))
}

/// Browsers name the page's origin: it must be this server's own page or a listed one. Other clients name none.
fn may_open(headers: &HeaderMap, allowed_origins: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    let from = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is_own = matches!((from, own), (Some(from), Some(own)) if from.eq_ignore_ascii_case(own));
    is_own || allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// The first protocol that the client offers and we speak. Without an offer lines travel as text.
fn sub_protocol(headers: &HeaderMap) -> (Option<&'static str>, Framing) {
    tokens(headers, SEC_WEBSOCKET_PROTOCOL)
        .find_map(|offered| match offered {
            "text.ircv3.net" => Some((Some("text.ircv3.net"), Framing::WebSocketText)),
            "binary.ircv3.net" => Some((Some("binary.ircv3.net"), Framing::WebSocketBinary)),
            _ => None,
        })
        .unwrap_or((None, Framing::WebSocketText))
}

fn has_token(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// The comma-separated values of a header that may be there several times.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENING: [(&str, &str); 6] = [
        ("host", "chat.example.org:8080"),
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("origin", "http://chat.example.org:8080"),
    ];

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a valid request")
    }

    /// The usual opening with some headers replaced, or removed by an empty value.
    fn opening(changes: &[(&str, &str)]) -> (Response<Body>, Option<Framing>) {
        let mut headers: Vec<_> = OPENING
            .into_iter()
            .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name))
            .collect();
        headers.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
        match answer(&request("GET", "/irc", &headers), &["https://app.example".to_owned()]) {
            Answer::Respond(response) => (response, None),
            Answer::Upgrade(response, framing) => (response, Some(framing)),
        }
    }

    fn get(path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        match answer(&request("GET", path, headers), &[]) {
            Answer::Respond(response) => response,
            Answer::Upgrade(..) => panic!("{path} is not a WebSocket"),
        }
    }

    #[test]
    fn the_example_of_the_specification() {
        let (response, framing) = opening(&[]);
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        // Section 1.3 of RFC 6455.
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        assert_eq!(framing, Some(Framing::WebSocketText));
    }

    #[test]
    fn the_clients_first_known_protocol_is_taken() {
        let (response, framing) =
            opening(&[("sec-websocket-protocol", "mqtt, binary.ircv3.net, text.ircv3.net")]);
        assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "binary.ircv3.net");
        assert_eq!(framing, Some(Framing::WebSocketBinary));
    }

    #[test]
    fn origins() {
        for (origin, expected) in [
            ("", 101),
            ("http://chat.example.org:8080", 101),
            ("https://chat.example.org:8080", 101),
            ("https://app.example", 101),
            ("https://chat.example.org", 403),
            ("https://evil.example", 403),
            ("null", 403),
            ("file://", 403),
        ] {
            assert_eq!(opening(&[("origin", origin)]).0.status(), expected, "{origin}");
        }
    }

    #[test]
    fn what_is_no_handshake_is_told_so() {
        assert_eq!(get("/irc", &[("host", "a")]).status(), StatusCode::UPGRADE_REQUIRED);
        let (response, _) = opening(&[("sec-websocket-version", "8")]);
        assert_eq!(
            (response.status().as_u16(), response.headers()[SEC_WEBSOCKET_VERSION].as_bytes()),
            (426, &b"13"[..])
        );
        assert_eq!(opening(&[("sec-websocket-key", "short")]).0.status(), 400);
        assert_eq!(opening(&[("connection", "keep-alive")]).0.status(), 426);
    }

    #[test]
    fn the_page_is_strict_and_revalidated() {
        let response = get("/", &[]);
        assert_eq!(
            (response.status().as_u16(), response.headers()[CONTENT_TYPE].as_bytes()),
            (200, &b"text/html; charset=utf-8"[..])
        );
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().expect("ASCII");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");

        let etag = response.headers()[ETAG].to_str().expect("ASCII").to_owned();
        assert_eq!(get("/", &[("if-none-match", &etag)]).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get("/", &[("if-none-match", "\"other\"")]).status(), StatusCode::OK);
    }

    #[test]
    fn only_the_pages_own_files_are_served() {
        assert_eq!(get("/main.js", &[]).headers()[CONTENT_TYPE], "text/javascript; charset=utf-8");
        for path in ["/index.html/..", "/tests/", "/../Cargo.toml", "/nothing"] {
            let response = get(path, &[]);
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
            assert!(response.headers().contains_key(CONTENT_SECURITY_POLICY));
        }
        let Answer::Respond(response) = answer(&request("POST", "/", &[]), &[]) else {
            panic!("not a WebSocket")
        };
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
