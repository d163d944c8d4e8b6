//! What the node is told over its control port: orders to a node that keeps a log together with others.

use chat_raft::control::{Control, OrderError};
use chat_state::ids::MemberId;
use contract::status::{FOUND, Found, MEMBERS, TRANSFER_LEADER};
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming};

use crate::http::{self, Body};

/// Largest body of an order.
const MAX_BODY_BYTES: usize = 4096;

pub(crate) fn is_order(path: &str) -> bool {
    path == FOUND || path == TRANSFER_LEADER || path.starts_with(MEMBERS)
}

pub(crate) async fn answer(cluster: &Control, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let wanted = if path.starts_with(MEMBERS) { Method::DELETE } else { Method::POST };
    if *request.method() != wanted {
        return http::method_not_allowed(if wanted == Method::DELETE { "DELETE" } else { "POST" });
    }
    if path == FOUND {
        return match found(request).await {
            Ok(member) => outcome(cluster.found(member).await, StatusCode::OK),
            Err(reason) => http::text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        };
    }
    if path == TRANSFER_LEADER {
        return outcome(cluster.hand_over().await, StatusCode::OK);
    }
    match member(path.trim_start_matches(MEMBERS)) {
        Some(member) => outcome(cluster.dismiss(member).await, StatusCode::ACCEPTED),
        None => {
            http::text(StatusCode::BAD_REQUEST, "Write the member's id after the last slash, hexadecimal.\n")
        }
    }
}

async fn found(request: Request<Incoming>) -> Result<MemberId, String> {
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await;
    let body = body.map_err(|error| format!("The body cannot be read: {error}"))?.to_bytes();
    let order: Found = serde_json::from_slice(&body).map_err(|error| {
        format!("The body must be {{\"member\": ID}}, the member's id as its status has it: {error}")
    })?;
    member(&order.member).ok_or_else(|| {
        format!("{:?} is no member's id: hexadecimal digits, as its status has it", order.member)
    })
}

fn member(text: &str) -> Option<MemberId> {
    u64::from_str_radix(text, 16).ok().map(MemberId)
}

fn outcome(done: Result<(), OrderError>, well: StatusCode) -> Response<Body> {
    match done {
        Ok(()) => http::text(well, "ok\n"),
        Err(OrderError::Unknown(reason)) => http::text(StatusCode::NOT_FOUND, format!("{reason}\n")),
        Err(OrderError::Refused(reason)) => http::text(StatusCode::CONFLICT, format!("{reason}\n")),
        Err(OrderError::Failed(reason)) => http::text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
