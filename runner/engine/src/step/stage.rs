//! From a full staging table to a committed target: accounting, duplicates, checks, publish, ledger, in one transaction.

use errand_model::document::step::Mode;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Expectation, ExpectationKind, Publish, TableName};
use errand_model::report::Rows;

use super::{Attempt, check};
use crate::warehouse::ledger::{self, Load, LoadedFile};
use crate::warehouse::publish::{self, Staged};
use crate::warehouse::{Session, quote_text};

/// Name of the staging table of a load: beside its target, so that it can take its name.
pub(super) fn staging_table(target: &TableName, load_id: &str) -> TableName {
    let stem: String = target.name.chars().take(40).collect();
    target.sibling(format!("{stem}__errand_{}", &load_id[..8]))
}

/// What is staged and how it is to be published.
pub(super) struct Stage<'a> {
    pub load: &'a Load,
    pub staging: TableName,
    pub target: &'a TableName,
    pub publish: &'a Publish,
    pub checks: &'a [Expectation],
    pub metadata: &'a [&'a str],
    pub files: &'a [LoadedFile],
    /// Whether the ledger shall say that this load is done.
    pub is_done: bool,
    pub rejected: u64,
    pub read: u64,
}

/// Publishes the staged rows and commits. The caller has begun the transaction and rolls back on failure.
pub(super) async fn publish(attempt: &mut Attempt, session: &mut dyn Session, stage: &Stage<'_>) -> Result<Rows, Failure> {
    let now = attempt.run.request.clock.now();
    let staged = Staged {
        staging: &stage.staging,
        target: stage.target,
        publish: stage.publish,
        metadata: stage.metadata,
        now: format!("CAST({} AS TIMESTAMP)", quote_text(&now.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string())),
    };
    let stopwatch = attempt.run.request.clock.stopwatch();
    let deduplicated = publish::deduplicate(session, &staged).await?;
    let (after, before): (Vec<Expectation>, Vec<Expectation>) =
        stage.checks.iter().cloned().partition(|check| matches!(check.kind, ExpectationKind::Sql(_)));
    check::on_table(attempt, session, &stage.staging, &before).await?;
    let stopwatch_publish = attempt.run.request.clock.stopwatch();
    let written = publish::publish(session, &staged).await?;
    let summary = format!("publish {} into {}", stage.publish.mode, stage.target);
    attempt.record_statement(&summary, None, if stage.checks.is_empty() { &stopwatch } else { &stopwatch_publish }, Some(written));
    // A SELECT of the author names the target, which holds the new rows now, for this transaction alone.
    check::on_table(attempt, session, stage.target, &after).await?;
    let rows = Rows { read: stage.read, written, deduplicated, rejected: stage.rejected };
    attempt.record.rows = rows;
    if rows.read != rows.written + rows.deduplicated + rows.rejected {
        let message = format!(
            "rows do not add up: {} read, but {} written, {} deduplicated, {} rejected",
            rows.read, rows.written, rows.deduplicated, rows.rejected
        );
        return Err(Failure::new(FailureKind::Internal, "step::accounting", message)
            .help("nothing was published; please report it with the run report"));
    }
    let writer = attempt.writer();
    if stage.publish.mode == Mode::Replace {
        ledger::forget_files(session, &stage.load.target).await?;
    }
    ledger::record_files(session, stage.load, &writer, stage.files).await?;
    if stage.is_done {
        ledger::record(session, stage.load, &writer, rows).await?;
    }
    attempt.commit(session).await?;
    Ok(rows)
}
