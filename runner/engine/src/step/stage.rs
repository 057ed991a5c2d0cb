//! From a full staging table to a committed target: accounting, duplicates, checks, publish, ledger.
//!
//! Where DDL belongs to transactions, all of it is one. Where it does not, the staging table and the shape of the target come first,
//! and one transaction holds the rows and the ledger.

use errand_model::document::step::Mode;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Expectation, ExpectationKind, Publish, TableName};
use errand_model::report::Rows;
use errand_model::value::Label;
use sha2::{Digest, Sha256};

use super::ingest::Rejects;
use super::{Attempt, Effect, check};
use crate::report::figure;
use crate::warehouse::ledger::{self, Done, Load, LoadedFile, Writer};
use crate::warehouse::publish::{self, Published, Staged, Way};
use crate::warehouse::{Fence, Session};

/// Longest part of the target's name in that of a staging table, in bytes: names of Postgres have 63.
const STEM: usize = 32;

/// Name of the staging table of a load: beside its target, so that it can take its name. Where nothing but the ledger keeps two runners
/// of a load apart, each has its own.
pub(super) fn staging_table(session: &dyn Session, target: &TableName, load: &Load, writer: &Writer) -> TableName {
    let stem = stem(target, load);
    match session.capabilities().fence {
        Fence::PrimaryKey | Fence::Lock(_) | Fence::Turn => target.sibling(stem),
        Fence::Claim => {
            let hash = Sha256::digest(writer.owner());
            let own: String = hash.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
            target.sibling(format!("{stem}_{own}"))
        }
    }
}

fn stem(target: &TableName, load: &Load) -> String {
    let mut end = target.name.len().min(STEM);
    while !target.name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}__errand_{}", &target.name[..end], &load.id()[..8])
}

/// What is staged and how it is to be published.
pub(super) struct Stage<'a> {
    pub connection: &'a Label,
    pub load: &'a Load,
    pub staging: TableName,
    pub way: Way,
    pub target: &'a TableName,
    pub publish: &'a Publish,
    pub checks: &'a [Expectation],
    pub metadata: &'a [&'a str],
    pub files: &'a [LoadedFile],
    /// Refused rows, staged too.
    pub rejects: Option<Rejects>,
    /// Whether the ledger shall say that this load is done.
    pub is_done: bool,
    pub rejected: u64,
    pub read: u64,
}

/// Begins a load: others are kept out, and what an attempt that was killed left behind is gone.
pub(super) async fn begin(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    load: &Load,
    (target, mode): (&TableName, Mode),
) -> Result<Option<Done>, Failure> {
    let writer = attempt.writer();
    let done = ledger::enter(session, load, &writer).await?;
    if done.is_some() {
        return Ok(done);
    }
    match (session.capabilities().fence, mode) {
        (Fence::Claim, _) => attempt.has_claimed = true,
        // Whoever was waited for may have appended this interval at another commit.
        (Fence::Lock(_) | Fence::Turn, Mode::Append) => ledger::refuse_second_append(session, load, &attempt.other_steps()).await?,
        (Fence::PrimaryKey | Fence::Lock(_) | Fence::Turn, _) => {}
    }
    if !session.capabilities().transactional_ddl {
        // Whoever still fills one of these has lost its claim.
        sweep(attempt, session, target, &stem(target, load)).await?;
    }
    Ok(done)
}

/// Drops tables beside the target whose names begin so.
async fn sweep(attempt: &mut Attempt, session: &mut dyn Session, target: &TableName, prefix: &str) -> Result<(), Failure> {
    let capabilities = session.capabilities();
    let prefix = prefix.to_lowercase();
    let schema = match &target.schema {
        Some(schema) => capabilities.text(&capabilities.fold(schema)),
        None => "current_schema()".to_owned(),
    };
    let sql = format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = {schema} AND left(lower(table_name), {}) = {}",
        prefix.chars().count(),
        capabilities.text(&prefix)
    );
    for left in session.query(&sql, 100).await?.into_iter().flatten().flatten() {
        let table = capabilities.quote_table(&target.sibling(left));
        attempt.send(session, &format!("DROP TABLE IF EXISTS {table}")).await?;
    }
    Ok(())
}

/// Publishes the staged rows and commits. The caller rolls back on failure.
pub(super) async fn publish(attempt: &mut Attempt, session: &mut dyn Session, stage: &Stage<'_>) -> Result<Effect, Failure> {
    let now = attempt.run.request.clock.now();
    let staged = Staged {
        staging: &stage.staging,
        target: stage.target,
        publish: stage.publish,
        way: stage.way,
        metadata: stage.metadata,
        now: session.capabilities().moment(&now.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()),
    };
    let deduplicated = publish::deduplicate(session, &staged).await?;
    let (after, before): (Vec<Expectation>, Vec<Expectation>) =
        stage.checks.iter().cloned().partition(|check| matches!(check.kind, ExpectationKind::Sql(_)));
    let mut stored = check::on_table(attempt, session, &stage.staging, &before).await?;
    publish::shape(session, &staged).await?;
    let keeps_rejects = match &stage.rejects {
        Some(rejects) => rejects.prepare(attempt, session).await?,
        None => false,
    };
    ledger::begin(session).await?;
    let stopwatch = attempt.run.request.clock.stopwatch();
    let Published { written, older } = publish::publish(session, &staged).await?;
    attempt.record_statement(&format!("publish {} into {}", stage.publish.mode, stage.target), None, &stopwatch, Some(written));
    if let Some(rejects) = &stage.rejects {
        rejects.publish(attempt, session, keeps_rejects).await?;
    }
    // A SELECT of the author names the target, which holds the new rows now, for this transaction alone.
    match check::on_table(attempt, session, stage.target, &after).await {
        Ok(kept) => stored.extend(kept),
        // Where the load is claimed only after this, the rows of a faster runner may be among those that break the check.
        Err(failure) => {
            let done = if let Fence::Claim = session.capabilities().fence { ledger::find(session, stage.load).await? } else { None };
            // What follows may be a definition, which would commit these rows.
            session.rollback().await?;
            return attempt.already(done).ok_or(failure);
        }
    }
    let writer = attempt.writer();
    if let Some(effect) = attempt.already(ledger::confirm(session, stage.load, &writer).await?) {
        session.rollback().await?;
        return Ok(effect);
    }
    if let (Fence::Claim, Mode::Append) = (session.capabilities().fence, stage.publish.mode) {
        ledger::refuse_second_append(session, stage.load, &attempt.other_steps()).await?;
    }
    warn_of_older(attempt, stage, older);
    let rows = Rows { read: stage.read, written, deduplicated: deduplicated + older, rejected: stage.rejected };
    record(attempt, session, stage, rows).await?;
    attempt.commit(session, stage.connection, stage.load).await?;
    check::keep_failures(attempt, session, stored).await;
    Ok(Effect::of_rows(rows))
}

/// A version that is older than the valid one has no place in a history that is already told.
fn warn_of_older(attempt: &mut Attempt, stage: &Stage<'_>, older: u64) {
    if older > 0 && stage.publish.mode == Mode::Scd2 {
        let rows = figure::plural(usize::try_from(older).unwrap_or(usize::MAX), "row");
        attempt.record.warnings.push(format!("{rows} for `{}` left out: older than the version that is valid", stage.target));
    }
}

/// Accounts for the rows and writes the ledger.
async fn record(attempt: &mut Attempt, session: &mut dyn Session, stage: &Stage<'_>, rows: Rows) -> Result<(), Failure> {
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
    Ok(())
}

/// What came of a load, once its session is left. One that was taken by another runner fails by whatever it misses first, for that one
/// dropped its staging tables: then what the other one did counts.
pub(super) async fn unless_taken(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    load: &Load,
    result: Result<Effect, Failure>,
) -> Result<Effect, Failure> {
    let failure = match result {
        Err(failure) if attempt.has_claimed => failure,
        other => return other,
    };
    if !matches!(failure.kind, FailureKind::Permanent | FailureKind::Definition | FailureKind::Internal) {
        return Err(failure);
    }
    match ledger::is_taken(session, load, &attempt.writer()).await {
        Ok(true) => {}
        Ok(false) | Err(_) => return Err(failure),
    }
    tracing::info!(error = %failure, "another runner took the load meanwhile");
    match ledger::find(session, load).await {
        Ok(done) => attempt.already(done).ok_or_else(ledger::lost_to_another),
        Err(_) => Err(failure),
    }
}

/// Drops the staging tables of this attempt where no transaction did: a leftover costs space, no more. Those of another runner, which may be
/// the one that publishes, are its own.
pub(super) async fn clear(attempt: &mut Attempt, session: &mut dyn Session, target: &TableName, load: &Load) {
    if session.capabilities().transactional_ddl || attempt.cancelled.is_cancelled() {
        return;
    }
    let own = staging_table(session, target, load, &attempt.writer()).name;
    if let Err(failure) = sweep(attempt, session, target, &own).await {
        attempt.record.warnings.push(format!("the staging table of `{target}` could not be dropped, the next run will: {failure}"));
    }
}
