//! Rows out of queries: as Parquet files under the stage, or, where that cannot be, as the JSON of the protocol.

use errand_model::failure::{Failure, FailureKind};
use snowflake_connector_rs::{ResultCursor, ResultTable};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::run::{Answer, Runner};
use super::{copy, error, result};
use crate::store::Store;
use crate::warehouse::{PutRows, TableColumn, unloaded};

/// Hands over every row of a query.
pub(super) async fn read(runner: &mut Runner, query: &str, put: PutRows, cancelled: &CancellationToken) -> Result<u64, Failure> {
    if !is_ordered(query)
        && runner.account.unloads()
        && let Some((stage, store)) = runner.stage(cancelled).await?
    {
        let columns = runner.describe(query, cancelled).await?;
        if are_distinct(&columns) {
            let path = format!("unload/{}-{:016x}", runner.purpose.run_id, fastrand::u64(..));
            let copied = runner.run(&copy::into_stage(&stage, &path, query, &columns), cancelled).await;
            let failure = match copied {
                Ok(answer) => {
                    let rows = take(runner, answer, (&stage, &store, &path), columns, put, cancelled).await;
                    if rows.is_err() {
                        unloaded::abandon(&store, &path).await;
                    }
                    return rows;
                }
                Err(failure) => failure,
            };
            unloaded::abandon(&store, &path).await;
            if !matches!(failure.kind, FailureKind::Permanent | FailureKind::Definition) {
                return Err(failure);
            }
            // A server without this statement, or a stage that takes no files: the query by itself will show whether it is to blame.
            tracing::warn!(error = %failure, "unload to the stage is refused, rows come as json");
            runner.account.no_unload();
        }
    }
    let answer = runner.run(query, cancelled).await?;
    let cursor = answer.cursor.ok_or_else(|| error::lost("the rows of a query are gone", None))?;
    json(runner, cursor, put, cancelled).await
}

/// Hands over the rows of the files that a server wrote, and removes them.
async fn take(
    runner: &Runner,
    answer: Answer,
    (stage, store, path): (&str, &Store, &str),
    columns: Vec<TableColumn>,
    put: PutRows,
    cancelled: &CancellationToken,
) -> Result<u64, Failure> {
    let expected = counted(runner, answer, cancelled).await?;
    let entries = store.cancelled_by(cancelled.clone()).list(&format!("{path}/**")).await?;
    let rows = unloaded::hand_over(store, (entries, Vec::new()), columns, put, cancelled).await?;
    match expected {
        Some(expected) if expected != rows => Err(elsewhere(stage, expected, rows)),
        Some(_) | None => Ok(rows),
    }
}

/// Rows went to the stage, and not all of them are where the files of the stage are thought to be.
fn elsewhere(stage: &str, expected: u64, rows: u64) -> Failure {
    let message = format!("{expected} rows were unloaded to stage `{stage}`, and its files hold {rows}");
    Failure::new(FailureKind::Definition, "warehouse::no_stage", message).help("`staging` must be the stage's URL: see `DESC STAGE`")
}

/// How many rows the answer to an unload counts; none where it counts none.
async fn counted(runner: &Runner, answer: Answer, cancelled: &CancellationToken) -> Result<Option<u64>, Failure> {
    let Some(mut cursor) = answer.cursor else { return Ok(None) };
    let mut rows = None;
    while let Some(table) = runner.chunk(&mut cursor, cancelled).await? {
        let counted = result::unloaded(&table).map_err(|problem| error::internal(&problem.to_string()))?;
        rows = counted.map_or(rows, |counted| Some(rows.unwrap_or(0) + counted));
    }
    Ok(rows)
}

/// Files have no order among them.
fn is_ordered(query: &str) -> bool {
    let lower = query.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect();
    words.windows(2).any(|pair| pair == ["order", "by"])
}

fn are_distinct(columns: &[TableColumn]) -> bool {
    columns.iter().enumerate().all(|(at, column)| columns[..at].iter().all(|other| other.name != column.name))
}

async fn json(runner: &Runner, mut cursor: ResultCursor, mut put: PutRows, cancelled: &CancellationToken) -> Result<u64, Failure> {
    let schema = result::arrow_schema(cursor.schema());
    let (sender, mut receiver) = mpsc::channel::<ResultTable>(1);
    let taking = tokio::task::spawn_blocking(move || {
        let mut rows = 0;
        while let Some(table) = receiver.blocking_recv() {
            for batch in result::batches(&table, &schema)? {
                rows += batch.num_rows() as u64;
                put(batch)?;
            }
        }
        Ok(rows)
    });
    let mut failed = None;
    loop {
        match runner.chunk(&mut cursor, cancelled).await {
            Ok(Some(table)) => {
                // The taker ended early: its failure is the one to report.
                if sender.send(table).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(failure) => {
                failed = Some(failure);
                break;
            }
        }
    }
    drop(sender);
    let taken = taking.await.map_err(|problem| error::internal(&problem.to_string()))?;
    match failed {
        Some(failure) => Err(failure),
        None => taken,
    }
}

#[cfg(test)]
mod tests {
    use super::is_ordered;

    #[test]
    fn an_ordered_query_is_not_unloaded() {
        assert!(is_ordered("select 1 ORDER\n by 1") && !is_ordered("select order_by from t"));
    }
}
