//! The requests of the protocol, and their answers.

use std::io::Write;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, State as Known};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::asked::{Asked, OfSession, accepted, expired, refused, unavailable, unknown};
use super::line::Line;
use super::script::{Outcome, Reply};
use super::state::{Execution, Session, Shared, State};
use super::{Login, Query};

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

// ---------------------------------------------------------------- sessions

async fn login(Known(shared): Known<Arc<Shared>>, asked: Asked) -> Response {
    let mut state = shared.lock();
    if state.script.unavailable_logins > 0 {
        state.script.unavailable_logins -= 1;
        return unavailable();
    }
    if let Some((code, message)) = &state.script.login {
        return refused(code, message);
    }
    let data = &asked.body["data"];
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
        query: asked.query.clone(),
    });
    let token = format!("session-{id}");
    state.sessions.insert(token.clone(), Session { id, expired: false, closed: false, tag });
    accepted(&json!({ "token": token, "masterToken": format!("master-{id}"), "validityInSeconds": 3600, "masterValidityInSeconds": 14400,
        "sessionId": id, "parameters": [], "sessionInfo": {} }))
}

/// A new token for a session: the body names the old one.
async fn renew(Known(shared): Known<Arc<Shared>>, asked: Asked) -> Response {
    let mut state = shared.lock();
    let (old, master) = (asked.body["oldSessionToken"].as_str().unwrap_or_default().to_owned(), &asked.token);
    let Some(session) = state.sessions.remove(&old).filter(|session| *master == format!("master-{}", session.id)) else {
        return unknown();
    };
    let token = format!("{old}-renewed");
    state.sessions.insert(token.clone(), Session { expired: false, ..session });
    accepted(&json!({ "sessionToken": token, "masterToken": master, "validityInSecondsST": 3600 }))
}

/// Heartbeat, and the end of a session.
async fn session(Known(shared): Known<Arc<Shared>>, asked: OfSession) -> Response {
    if asked.parameter("delete").as_deref() == Some("true")
        && let Some(session) = shared.lock().sessions.get_mut(&asked.token)
    {
        session.closed = true;
    }
    accepted(&Value::Null)
}

// ---------------------------------------------------------------- statements

/// What is to be done after a statement was looked at.
enum Next {
    Answer(Response),
    Wait(usize),
    Cut,
    Leave(Response),
}

async fn submit(Known(shared): Known<Arc<Shared>>, ConnectInfo(line): ConnectInfo<Line>, asked: OfSession) -> Response {
    let host = asked.host();
    let next = take(&mut shared.lock(), &asked);
    shared.changed.notify_waiters();
    match next {
        Next::Answer(response) => response,
        Next::Leave(response) => {
            shared.leaves.notify_one();
            shared.left.notified().await;
            ([("connection", "close")], response).into_response()
        }
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
fn take(state: &mut State, asked: &Asked) -> Next {
    let request_id = asked.parameter("requestId").unwrap_or_default();
    let known = state.executions.iter().position(|execution| execution.query.request_id == request_id);
    let place = match known {
        Some(place) => place,
        None => match execute(state, asked, &request_id) {
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
    let leaves = std::mem::take(&mut reply.leaves);
    if reply.asynchronous && !state.released {
        let response = in_progress(&state.executions[place].query.id, "333334");
        return if leaves { Next::Leave(response) } else { Next::Answer(response) };
    }
    if state.executions[place].reply.stalls && !state.released {
        return Next::Wait(place);
    }
    Next::Answer(result(state, place, &asked.host()))
}

fn execute(state: &mut State, asked: &Asked, request_id: &str) -> Result<usize, Box<Response>> {
    let body = &asked.body;
    let sql = body["sqlText"].as_str().unwrap_or_default().to_owned();
    let reply = state.reply_to(&sql);
    if reply.unavailable > 0 {
        return Err(unavailable().into());
    }
    let number = state.executions.len() + 1;
    let Some(session) = state.sessions.get_mut(&asked.token) else {
        return Err(unknown().into());
    };
    if reply.expired {
        session.expired = true;
        return Err(expired().into());
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

async fn poll(Known(shared): Known<Arc<Shared>>, Path(id): Path<String>, asked: OfSession) -> Response {
    let mut state = shared.lock();
    let Some(place) = state.find(&id) else {
        return refused("000709", &format!("Statement {id} not found"));
    };
    let reply = &mut state.executions[place].reply;
    if reply.unavailable_polls > 0 {
        reply.unavailable_polls -= 1;
        return unavailable();
    }
    if std::mem::take(&mut reply.expires_at_poll) {
        state.sessions.entry(asked.token.clone()).and_modify(|session| session.expired = true);
        return expired();
    }
    if state.is_running(place) {
        let polls = &mut state.executions[place].reply.polls;
        *polls = if *polls == u32::MAX { *polls } else { *polls - 1 };
        return in_progress(&id, "333333");
    }
    result(&state, place, &asked.host())
}

async fn abort(Known(shared): Known<Arc<Shared>>, asked: OfSession) -> Response {
    let request_id = asked.body["requestId"].as_str().unwrap_or_default().to_owned();
    {
        let mut state = shared.lock();
        let place = state.executions.iter().position(|execution| execution.query.request_id == request_id);
        if place.is_none_or(|place| !state.is_running(place)) {
            return refused("000605", "Identified SQL statement is not currently executing.");
        }
        state.aborted.insert(request_id);
    }
    shared.changed.notify_waiters();
    accepted(&Value::Null)
}

async fn monitor(Known(shared): Known<Arc<Shared>>, Path(id): Path<String>, _: OfSession) -> Response {
    Json(shared.lock().monitored(&id)).into_response()
}

/// Snowpipe is told of files: what it is told is among the requests.
async fn insert_files(Known(shared): Known<Arc<Shared>>, asked: Asked) -> Response {
    let mut state = shared.lock();
    if state.script.refused_inserts.is_empty() {
        return Json(json!({ "requestId": asked.parameter("requestId"), "status": "success" })).into_response();
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
    accepted(&data)
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

async fn chunk(Known(shared): Known<Arc<Shared>>, Path((id, number)): Path<(String, usize)>, asked: Asked) -> Response {
    let (stalls, response) = {
        let mut state = shared.lock();
        if asked.headers.get(KEY_HEADER).is_none_or(|key| key != KEY) {
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
