//! The requests of the protocol, and their answers.

use std::io::Write;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State as Known};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::line::Line;
use super::script::{Outcome, Reply};
use super::state::{Execution, Session, Shared, State};
use super::{Login, Query, Request};

const KEY_HEADER: &str = "x-amz-server-side-encryption-customer-key";
const KEY: &str = "key-of-the-chunks";

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/session/v1/login-request", post(login))
        .route("/session/token-request", post(renew))
        .route("/session/heartbeat", post(session))
        .route("/session", post(session))
        .route("/queries/v1/query-request", post(submit))
        .route("/queries/v1/abort-request", post(abort))
        .route("/queries/{id}/result", get(poll))
        .route("/monitoring/queries/{id}", get(monitor))
        .route("/chunks/{id}/{number}", get(chunk))
        .route("/v1/data/pipes/{name}/insertFiles", post(insert_files))
        .with_state(shared)
}

// ---------------------------------------------------------------- requests

/// Writes the request down; says its token.
fn record(state: &mut State, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> (Value, String) {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
    let authorization = headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.clone()).unwrap_or_default();
    let token = authorization.split('"').nth(1).unwrap_or_default().to_owned();
    let session = state.sessions.get(&token).map(|session| session.id);
    state.requests.push(Request {
        method: method.to_string(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers,
        body: body.clone(),
        session,
    });
    (body, token)
}

fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "no server is available to handle this request").into_response()
}

fn refused(code: &str, message: &str) -> Response {
    Json(json!({ "data": null, "code": code, "message": message, "success": false })).into_response()
}

/// The refusal of a session that is not, or is no longer.
fn session_refused(state: &State, token: &str) -> Option<Response> {
    match state.sessions.get(token) {
        Some(session) if session.expired => Some(refused("390112", "Your session has expired. Please login again.")),
        Some(session) if !session.closed => None,
        _ => Some(refused("390111", "Session no longer exists. New login required to access the service.")),
    }
}

// ---------------------------------------------------------------- sessions

async fn login(Known(shared): Known<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut state = shared.lock();
    let (body, _) = record(&mut state, &method, &uri, &headers, &body);
    if state.script.unavailable_logins > 0 {
        state.script.unavailable_logins -= 1;
        return unavailable();
    }
    if let Some((code, message)) = &state.script.login {
        return refused(code, message);
    }
    let data = &body["data"];
    let parameters = data["SESSION_PARAMETERS"].clone();
    let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    let authenticator = data["AUTHENTICATOR"].as_str().unwrap_or("PASSWORD").to_owned();
    let id = state.logins.len() as u64 + 1;
    let tag = parameters["QUERY_TAG"].as_str().unwrap_or_default().to_owned();
    state.logins.push(Login {
        session: id,
        user: text("LOGIN_NAME"),
        account: text("ACCOUNT_NAME"),
        authenticator,
        parameters,
        query: uri.query().unwrap_or_default().to_owned(),
    });
    let token = format!("session-{id}");
    state.sessions.insert(token.clone(), Session { id, expired: false, closed: false, tag });
    let data = json!({ "token": token, "masterToken": format!("master-{id}"), "validityInSeconds": 3600, "masterValidityInSeconds": 14400,
        "sessionId": id, "parameters": [], "sessionInfo": {} });
    Json(json!({ "data": data, "code": null, "message": null, "success": true })).into_response()
}

/// A new token for a session: the body names the old one.
async fn renew(Known(shared): Known<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut state = shared.lock();
    let (body, master) = record(&mut state, &method, &uri, &headers, &body);
    let old = body["oldSessionToken"].as_str().unwrap_or_default().to_owned();
    let Some(session) = state.sessions.remove(&old).filter(|session| master == format!("master-{}", session.id)) else {
        return refused("390111", "Session no longer exists. New login required to access the service.");
    };
    let token = format!("{old}-renewed");
    state.sessions.insert(token.clone(), Session { expired: false, ..session });
    Json(json!({ "data": { "sessionToken": token, "masterToken": master, "validityInSecondsST": 3600 }, "success": true })).into_response()
}

/// Heartbeat, and the end of a session.
async fn session(Known(shared): Known<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut state = shared.lock();
    let (_, token) = record(&mut state, &method, &uri, &headers, &body);
    if let Some(refusal) = session_refused(&state, &token) {
        return refusal;
    }
    if parameter(&uri, "delete").as_deref() == Some("true")
        && let Some(session) = state.sessions.get_mut(&token)
    {
        session.closed = true;
    }
    Json(json!({ "data": null, "code": null, "message": null, "success": true })).into_response()
}

// ---------------------------------------------------------------- statements

/// What is to be done after a statement was looked at.
enum Next {
    Answer(Response),
    Wait(usize),
    Cut,
}

async fn submit(
    Known(shared): Known<Arc<Shared>>,
    ConnectInfo(line): ConnectInfo<Line>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let host = headers.get("host").map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned()).unwrap_or_default();
    let next = {
        let mut state = shared.lock();
        let (body, token) = record(&mut state, &method, &uri, &headers, &body);
        take(&mut state, &token, &parameter(&uri, "requestId").unwrap_or_default(), &body, &host)
    };
    shared.changed.notify_waiters();
    match next {
        Next::Answer(response) => response,
        Next::Cut => {
            line.cut();
            StatusCode::OK.into_response()
        }
        Next::Wait(place) => {
            let id = shared.lock().executions[place].query.request_id.clone();
            shared.released(&id).await;
            result(&shared.lock(), place, &host)
        }
    }
}

/// Executes a statement, unless the same request was here before.
fn take(state: &mut State, token: &str, request_id: &str, body: &Value, host: &str) -> Next {
    if let Some(refusal) = session_refused(state, token) {
        return Next::Answer(refusal);
    }
    let known = state.executions.iter().position(|execution| execution.query.request_id == request_id);
    let place = match known {
        Some(place) => place,
        None => match execute(state, token, request_id, body) {
            Ok(place) => place,
            Err(response) => return Next::Answer(*response),
        },
    };
    let reply = &mut state.executions[place].reply;
    if reply.unavailable_after > 0 {
        reply.unavailable_after -= 1;
        return Next::Answer(unavailable());
    }
    if std::mem::take(&mut reply.loses_answer) {
        return Next::Cut;
    }
    if reply.asynchronous && !state.released {
        return Next::Answer(in_progress(&state.executions[place].query.id, "333334"));
    }
    if state.executions[place].reply.stalls && !state.released {
        return Next::Wait(place);
    }
    Next::Answer(result(state, place, host))
}

fn execute(state: &mut State, token: &str, request_id: &str, body: &Value) -> Result<usize, Box<Response>> {
    let sql = body["sqlText"].as_str().unwrap_or_default().to_owned();
    let reply = state.reply_to(&sql);
    if reply.unavailable > 0 {
        return Err(unavailable().into());
    }
    let number = state.executions.len() + 1;
    let Some(session) = state.sessions.get_mut(token) else {
        return Err(refused("390111", "Session no longer exists. New login required to access the service.").into());
    };
    if reply.expired {
        session.expired = true;
        return Err(refused("390112", "Your session has expired. Please login again.").into());
    }
    if let Some(tag) = tag_set_by(&sql) {
        session.tag = tag;
    }
    let query = Query {
        id: format!("01bf{number:04x}-0000-0000-0000-000000000000"),
        request_id: request_id.to_owned(),
        sql,
        bindings: body["bindings"].clone(),
        parameters: body["parameters"].clone(),
        session: session.id,
        tag: session.tag.clone(),
    };
    state.executions.push(Execution { query, reply });
    Ok(number - 1)
}

/// The tag that ALTER SESSION sets.
fn tag_set_by(sql: &str) -> Option<String> {
    let upper = sql.to_ascii_uppercase();
    let place = upper.find("QUERY_TAG").filter(|_| upper.trim_start().starts_with("ALTER SESSION SET"))?;
    let text = sql.get(place..)?.split_once('\'')?.1.replace("''", "\u{1}");
    Some(text.split('\'').next()?.replace('\u{1}', "'"))
}

fn in_progress(id: &str, code: &str) -> Response {
    let data = json!({ "queryId": id, "getResultUrl": format!("/queries/{id}/result"), "queryAbortsAfterSecs": 300, "progressDesc": null });
    Json(json!({ "data": data, "code": code, "message": "Query execution in progress.", "success": true })).into_response()
}

async fn poll(
    Known(shared): Known<Arc<Shared>>,
    Path(id): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let host = headers.get("host").map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned()).unwrap_or_default();
    let mut state = shared.lock();
    let (_, token) = record(&mut state, &method, &uri, &headers, &body);
    if let Some(refusal) = session_refused(&state, &token) {
        return refusal;
    }
    let Some(place) = state.find(&id) else {
        return refused("000709", &format!("Statement {id} not found"));
    };
    let reply = &mut state.executions[place].reply;
    if reply.unavailable_polls > 0 {
        reply.unavailable_polls -= 1;
        return unavailable();
    }
    if std::mem::take(&mut reply.expires_at_poll) {
        state.sessions.entry(token).and_modify(|session| session.expired = true);
        return refused("390112", "Your session has expired. Please login again.");
    }
    if state.is_running(place) {
        let polls = &mut state.executions[place].reply.polls;
        *polls = if *polls == u32::MAX { *polls } else { *polls - 1 };
        return in_progress(&id, "333333");
    }
    result(&state, place, &host)
}

async fn abort(Known(shared): Known<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let response = {
        let mut state = shared.lock();
        let (body, token) = record(&mut state, &method, &uri, &headers, &body);
        if let Some(refusal) = session_refused(&state, &token) {
            return refusal;
        }
        let request_id = body["requestId"].as_str().unwrap_or_default().to_owned();
        let place = state.executions.iter().position(|execution| execution.query.request_id == request_id);
        if place.is_none_or(|place| !state.is_running(place)) {
            return refused("000605", "Identified SQL statement is not currently executing.");
        }
        state.aborted.insert(request_id);
        Json(json!({ "data": null, "code": null, "message": null, "success": true })).into_response()
    };
    shared.changed.notify_waiters();
    response
}

async fn monitor(
    Known(shared): Known<Arc<Shared>>,
    Path(id): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut state = shared.lock();
    let (_, token) = record(&mut state, &method, &uri, &headers, &body);
    session_refused(&state, &token).unwrap_or_else(|| Json(state.monitored(&id)).into_response())
}

/// Snowpipe is told of files: what it is told is among the requests.
async fn insert_files(Known(shared): Known<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut state = shared.lock();
    record(&mut state, &method, &uri, &headers, &body);
    if state.script.refused_inserts.is_empty() {
        return Json(json!({ "requestId": parameter(&uri, "requestId"), "status": "success" })).into_response();
    }
    let (status, message) = state.script.refused_inserts.remove(0);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(json!({ "code": status.as_u16().to_string(), "message": message }))).into_response()
}

// ---------------------------------------------------------------- results

fn result(state: &State, place: usize, host: &str) -> Response {
    let Execution { query, reply } = &state.executions[place];
    if let Some((code, sql_state, message)) = state.failure(place) {
        let data = json!({ "queryId": query.id, "errorCode": code, "sqlState": sql_state, "internalError": false });
        return Json(json!({ "data": data, "code": code, "message": message, "success": false })).into_response();
    }
    let (columns, rows) = match &reply.outcome {
        Outcome::Rows { columns, rows } => (columns.clone(), rows.clone()),
        Outcome::History { columns } => {
            (columns.iter().map(|name| (name.clone(), "text".to_owned())).collect(), state.history(columns, query))
        }
        Outcome::Error { .. } => (Vec::new(), Vec::new()),
    };
    let mut data = json!({
        "queryId": query.id, "rowtype": columns.iter().map(|(name, kind)| row_type(name, kind)).collect::<Vec<_>>(),
        "rowset": rows, "total": rows.len(), "returned": rows.len(), "queryResultFormat": "json", "parameters": [],
    });
    if let Some(size) = reply.chunk_rows {
        let chunks: Vec<Value> = rows.chunks(size).enumerate().map(|(number, rows)| chunk_entry(&query.id, number, rows, host)).collect();
        data["rowset"] = json!([]);
        data["returned"] = json!(rows.len());
        data["chunks"] = json!(chunks);
        data["chunkHeaders"] = json!({ KEY_HEADER: KEY, "x-amz-server-side-encryption-customer-algorithm": "AES256" });
    }
    Json(json!({ "data": data, "code": null, "message": null, "success": true })).into_response()
}

/// A column of the protocol from `text` or `fixed(12,2)`.
fn row_type(name: &str, kind: &str) -> Value {
    let (kind, numbers) = kind.split_once('(').unwrap_or((kind, ""));
    let mut numbers = numbers.trim_end_matches(')').split(',').map(|number| number.trim().parse::<u8>().ok());
    let (precision, scale) = (numbers.next().flatten(), numbers.next().flatten());
    let (precision, scale) = match kind {
        "fixed" => (precision.or(Some(38)), scale.or(Some(0))),
        "time" | "timestamp_ntz" | "timestamp_ltz" | "timestamp_tz" => (Some(0), precision.or(Some(9))),
        _ => (None, None),
    };
    let length = (kind == "text").then_some(16_777_216);
    json!({ "name": name, "type": kind, "nullable": true, "precision": precision, "scale": scale, "length": length, "byteLength": length })
}

/// Rows without the brackets around them, as Snowflake writes chunks.
fn chunk_text(rows: &[Vec<Option<String>>]) -> String {
    rows.iter().map(|row| json!(row).to_string()).collect::<Vec<_>>().join(",")
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("a vector takes all bytes");
    encoder.finish().expect("a vector takes all bytes")
}

fn chunk_entry(id: &str, number: usize, rows: &[Vec<Option<String>>], host: &str) -> Value {
    let text = chunk_text(rows);
    json!({ "url": format!("http://{host}/chunks/{id}/{number}"), "rowCount": rows.len(),
        "uncompressedSize": text.len(), "compressedSize": gzipped(&text).len() })
}

async fn chunk(
    Known(shared): Known<Arc<Shared>>,
    Path((id, number)): Path<(String, usize)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (stalls, response) = {
        let mut state = shared.lock();
        record(&mut state, &method, &uri, &headers, &body);
        if headers.get(KEY_HEADER).is_none_or(|key| key != KEY) {
            return (StatusCode::FORBIDDEN, "the key header is missing").into_response();
        }
        let Some(place) = state.find(&id) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let reply = &mut state.executions[place].reply;
        if reply.chunk_failures > 0 {
            reply.chunk_failures -= 1;
            return unavailable();
        }
        (reply.chunks_stall, chunk_of(reply, number))
    };
    if stalls {
        shared.released("").await;
    }
    response
}

fn chunk_of(reply: &Reply, number: usize) -> Response {
    let Outcome::Rows { rows, .. } = &reply.outcome else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let size = reply.chunk_rows.unwrap_or(rows.len()).max(1);
    rows.chunks(size).nth(number).map_or_else(|| StatusCode::NOT_FOUND.into_response(), |rows| gzipped(&chunk_text(rows)).into_response())
}
