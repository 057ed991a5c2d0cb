//! Rows of a query out of the warehouse: `COPY ... TO STDOUT` in its binary form, decoded on a thread that may block.

use std::pin::pin;

use errand_model::failure::Failure;
use errand_model::value::ColumnType;
use futures_util::TryStreamExt;
use tokio::sync::mpsc;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::catalog::Described;
use super::decode::Decoder;
use super::error::{self, Sent};
use super::link::{Link, Problem};
use crate::warehouse::PutRows;

/// Size of a buffer between the two sides.
const BUFFER: usize = 256 << 10;
/// Buffers between them.
const BUFFERS: usize = 4;

/// Hands over every row of a query; says how many there were.
///
/// Columns of a type without a word of Errand's come as text, and so does a `numeric` that does not say its precision and scale.
pub(super) async fn read(link: &mut Link, query: &str, put: PutRows) -> Result<u64, Failure> {
    let described = link.describe(query).await?;
    if described.is_empty() {
        return Err(error::internal("a query without columns has no rows to hand over"));
    }
    let columns: Vec<(String, ColumnType)> =
        described.iter().map(|described| (described.column.name.clone(), described.column.kind.unwrap_or(ColumnType::Text))).collect();
    let sql = copy(query, &described);
    let (sender, receiver) = mpsc::channel(BUFFERS);
    let decoding = tokio::task::spawn_blocking(move || decode(&columns, receiver, put));
    let received = link.run(false, async |client| receive(client, &sql, query, sender).await).await;
    let decoded = decoding.await.map_err(|error| error::internal(format!("the thread that takes rows ended: {error}")))?;
    match (received, decoded?) {
        (Err(failure), _) => Err(failure),
        (Ok(()), Some(rows)) => Ok(rows),
        (Ok(()), None) => Err(error::internal("the server's rows end in the middle")),
    }
}

/// Casts what has no form of its own here to text; a query that needs no cast is copied as it is.
fn copy(query: &str, described: &[Described]) -> String {
    let casts: Vec<Option<&str>> = described.iter().map(cast).collect();
    if casts.iter().all(Option::is_none) {
        return format!("COPY ({query}\n) TO STDOUT (FORMAT binary)");
    }
    let names: Vec<String> = (1..=described.len()).map(|at| format!("c{at}")).collect();
    let list: Vec<String> =
        names.iter().zip(casts).map(|(name, cast)| cast.map_or_else(|| name.clone(), |cast| format!("CAST({name} AS {cast})"))).collect();
    format!("COPY (SELECT {} FROM ({query}\n) AS q({})) TO STDOUT (FORMAT binary)", list.join(", "), names.join(", "))
}

fn cast(described: &Described) -> Option<&'static str> {
    match (described.column.kind, &described.wire) {
        (Some(ColumnType::Integer), &Type::INT2) => Some("integer"),
        (Some(ColumnType::Double), &Type::FLOAT4) => Some("double precision"),
        (Some(ColumnType::Text), &(Type::TEXT | Type::VARCHAR | Type::BPCHAR)) => None,
        (Some(ColumnType::Text | ColumnType::Json) | None, _) => Some("text"),
        (Some(_), _) => None,
    }
}

async fn receive(client: &Client, sql: &str, query: &str, sender: mpsc::Sender<Vec<u8>>) -> Result<(), Problem> {
    let shift = sql.find(query).map_or(0, |at| sql[..at].chars().count());
    let problem = |error: tokio_postgres::Error| Problem::of(&error, Sent { sql: query, shift });
    let mut stream = pin!(client.copy_out(sql).await.map_err(problem)?);
    let mut buffer = Vec::with_capacity(BUFFER);
    while let Some(bytes) = stream.try_next().await.map_err(problem)? {
        buffer.extend_from_slice(&bytes);
        if buffer.len() >= BUFFER - BUFFER / 8 {
            let full = std::mem::replace(&mut buffer, Vec::with_capacity(BUFFER));
            if sender.send(full).await.is_err() {
                return Err(unwanted());
            }
        }
    }
    sender.send(buffer).await.map_err(|_| unwanted())
}

/// The taker failed. The server would go on to the end of the query: the connection is closed instead.
fn unwanted() -> Problem {
    Problem { failure: error::internal("the rows are not wanted any more"), is_broken: true }
}

/// Counts the rows; none when the stream was cut, whose failure the other side knows.
fn decode(columns: &[(String, ColumnType)], mut receiver: mpsc::Receiver<Vec<u8>>, mut put: PutRows) -> Result<Option<u64>, Failure> {
    let mut decoder = Decoder::new(columns);
    let mut count = 0;
    while let Some(bytes) = receiver.blocking_recv() {
        decoder.push(&bytes, |batch| {
            count += batch.num_rows() as u64;
            put(batch)
        })?;
    }
    if decoder.is_cut() {
        return Ok(None);
    }
    if let Some(batch) = decoder.finish()? {
        count += batch.num_rows() as u64;
        put(batch)?;
    }
    Ok(Some(count))
}
