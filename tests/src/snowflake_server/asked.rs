//! Requests on their way to a handler: written down first, then, for most, refused when their session is gone.

use std::ops::Deref;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request as Incoming};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Request;
use super::state::{Shared, State};

/// A request that is written down.
pub(super) struct Asked {
    pub(super) headers: HeaderMap,
    /// The body; null when there was none.
    pub(super) body: Value,
    /// The query string.
    pub(super) query: String,
    /// The token of its session; empty without one.
    pub(super) token: String,
}

impl Asked {
    /// A parameter of the query string.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }

    /// The host that it was sent to.
    pub(super) fn host(&self) -> String {
        self.headers.get("host").map(text).unwrap_or_default()
    }
}

impl FromRequest<Arc<Shared>> for Asked {
    type Rejection = Response;

    async fn from_request(incoming: Incoming, shared: &Arc<Shared>) -> Result<Self, Response> {
        let (head, body) = incoming.into_parts();
        let body = Bytes::from_request(Incoming::new(body), shared).await.map_err(IntoResponse::into_response)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let authorization = head.headers.get("authorization").map(text).unwrap_or_default();
        let token = authorization.split('"').nth(1).unwrap_or_default().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let mut state = shared.lock();
        let session = state.sessions.get(&token).map(|session| session.id);
        state.requests.push(Request {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: query.clone(),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: body.clone(),
            session,
        });
        Ok(Self { headers: head.headers, body, query, token })
    }
}

/// A request of a session that is alive; the others are refused.
pub(super) struct OfSession(Asked);

impl Deref for OfSession {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.0
    }
}

impl FromRequest<Arc<Shared>> for OfSession {
    type Rejection = Response;

    async fn from_request(incoming: Incoming, shared: &Arc<Shared>) -> Result<Self, Response> {
        let asked = Asked::from_request(incoming, shared).await?;
        match refusal(&shared.lock(), &asked.token) {
            Some(refusal) => Err(refusal),
            None => Ok(Self(asked)),
        }
    }
}

fn refusal(state: &State, token: &str) -> Option<Response> {
    match state.sessions.get(token) {
        Some(session) if session.expired => Some(expired()),
        Some(session) if !session.closed => None,
        _ => Some(unknown()),
    }
}

/// What a session is told that has expired.
pub(super) fn expired() -> Response {
    refused("390112", "Your session has expired. Please login again.")
}

/// What a session is told that nobody knows.
pub(super) fn unknown() -> Response {
    refused("390111", "Session no longer exists. New login required to access the service.")
}

/// A failure as the protocol tells it.
pub(super) fn refused(code: &str, message: &str) -> Response {
    Json(json!({ "data": null, "code": code, "message": message, "success": false })).into_response()
}

/// A success as the protocol tells it.
pub(super) fn accepted(data: &Value) -> Response {
    Json(json!({ "data": data, "code": null, "message": null, "success": true })).into_response()
}

/// The answer of a load balancer with no server behind it.
pub(super) fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "no server is available to handle this request").into_response()
}

fn text(value: &axum::http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
