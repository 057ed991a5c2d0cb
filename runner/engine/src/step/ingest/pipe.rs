//! `through: pipe`: the warehouse's own pipe loads the files; the run waits until its history confirms each, and writes that down.

use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use errand_model::report::{FileReport, Rows};

use super::super::{Attempt, Effect, stage};
use super::{Ingest, blocking, unfound};
use crate::clock::Stopwatch;
use crate::store::FileEntry;
use crate::warehouse::ledger::{self, LoadedFile};
use crate::warehouse::{Pipe, Piped, Pipes, Session};

/// The first pause between two looks; each is twice as long, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(15);
/// Most files that a failure names.
const NAMED: usize = 5;

pub(super) async fn run(
    ingest: &mut Ingest<'_>,
    attempt: &mut Attempt,
    session: &mut dyn Session,
    found: Vec<FileEntry>,
    pattern: &str,
) -> Result<Effect, Failure> {
    let patience = Patience::new(attempt);
    ingest.files = unseen(ingest, attempt, session, found).await?;
    if ingest.files.is_empty() {
        ingest.empty(attempt, &unfound(attempt, pattern))?;
        return ingest.nothing(attempt, session).await;
    }
    let count = ingest.files.len();
    ingest.tally().open(count);
    let bytes: u64 = ingest.files.iter().map(|file| file.bytes).sum();
    attempt.progress.set_total_bytes(bytes);
    let done = stage::begin(attempt, session, &ingest.load, (&ingest.step.table, ingest.step.publish.mode)).await?;
    if let Some(effect) = attempt.already(done) {
        return Ok(effect);
    }
    let pipe = pipes(session)?.pipe(&ingest.step.table).await?;
    Waiting { files: ingest.files.clone(), pending: (0..count).collect(), pipe, ingest, attempt }.run(session, &patience).await?;
    let effect = record(ingest, attempt, session).await?;
    Ok(Effect { bytes_read: 0, ..effect })
}

fn pipes(session: &mut dyn Session) -> Result<&mut dyn Pipes, Failure> {
    session.pipes().ok_or_else(|| Failure::new(FailureKind::Internal, "ingest::no_pipes", "the warehouse has no pipes"))
}

/// The files that the ledger does not know. What was loaded by `copy` is known by its content.
async fn unseen(
    ingest: &mut Ingest<'_>,
    attempt: &mut Attempt,
    session: &mut dyn Session,
    found: Vec<FileEntry>,
) -> Result<Vec<FileEntry>, Failure> {
    let mut files = Vec::with_capacity(found.len());
    for file in found {
        let known = ledger::known_digests(session, &ingest.load.target, &ingest.ledger_path(&file), file.bytes).await?;
        let mut is_known = known.contains(&file.version());
        if !is_known && !known.is_empty() {
            let file = file.clone();
            is_known = known.contains(&blocking(move || file.digest()).await?);
        }
        if is_known {
            attempt.record.files.push(FileReport { path: file.path, bytes: file.bytes, rows: Rows::default(), already_loaded: true });
        } else {
            ingest.digests.push(file.version());
            files.push(file);
        }
    }
    Ok(files)
}

/// Writes the files and the load down, in one transaction.
async fn record(ingest: &mut Ingest<'_>, attempt: &mut Attempt, session: &mut dyn Session) -> Result<Effect, Failure> {
    ingest.record_files(attempt);
    let (rows, per_file) = {
        let tally = ingest.tally();
        (tally.rows(), tally.files().to_vec())
    };
    if rows.read == 0 {
        ingest.empty(attempt, &format!("no rows for `{}` in the files that the pipe loaded", ingest.step.table))?;
    }
    let known = ingest.files.iter().zip(&per_file).zip(&ingest.digests).filter(|(_, digest)| !digest.is_empty());
    let loaded: Vec<LoadedFile> = known
        .map(|((file, rows), digest)| LoadedFile {
            path: ingest.ledger_path(file),
            bytes: file.bytes,
            digest: digest.clone(),
            rows_read: rows.read,
        })
        .collect();
    let writer = attempt.writer();
    ledger::begin(session).await?;
    if let Some(effect) = attempt.already(ledger::confirm(session, &ingest.load, &writer).await?) {
        session.rollback().await?;
        return Ok(effect);
    }
    attempt.record.rows = rows;
    ledger::record_files(session, &ingest.load, &writer, &loaded).await?;
    ledger::record(session, &ingest.load, &writer, rows).await?;
    attempt.commit(session, &ingest.step.connection, &ingest.load).await?;
    Ok(Effect::of_rows(rows))
}

/// Until when files are waited for.
struct Patience {
    since: Stopwatch,
    limit: Duration,
}

impl Patience {
    /// Ends a little before the step does, and before the run does: who waits longer cannot say for what.
    fn new(attempt: &Attempt) -> Self {
        let request = &attempt.run.request;
        let passed = request.clock.now().duration_since(request.started_at);
        let of_run = request.job.timeout.saturating_sub(Duration::try_from(passed).unwrap_or_default());
        let whole = attempt.step.timeout.map_or(of_run, |limit| limit.min(of_run));
        let margin = (whole / 10).min(Duration::from_secs(20));
        Self { since: request.clock.stopwatch(), limit: whole.saturating_sub(margin) }
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.since.elapsed())
    }
}

/// Files on their way into the table.
struct Waiting<'a, 'b> {
    files: Vec<FileEntry>,
    /// Indices of those that the history does not confirm yet.
    pending: Vec<usize>,
    pipe: Pipe,
    ingest: &'a mut Ingest<'b>,
    attempt: &'a mut Attempt,
}

impl Waiting<'_, '_> {
    async fn run(mut self, session: &mut dyn Session, patience: &Patience) -> Result<(), Failure> {
        let stopwatch = self.attempt.run.request.clock.stopwatch();
        let mut pause = FIRST_PAUSE;
        self.look(session).await?;
        if !self.pending.is_empty() {
            pipes(session)?.check(&self.pipe).await?;
            if !self.pipe.is_notified {
                let urls = self.urls();
                pipes(session)?.tell(&self.pipe, &urls).await?;
            }
        }
        while !self.pending.is_empty() {
            let left = patience.left();
            if left.is_zero() {
                return Err(self.late(patience.limit));
            }
            tokio::select! {
                () = tokio::time::sleep(pause.min(left)) => {}
                () = self.attempt.cancelled.cancelled() => return Err(cancelled(self.pending.len())),
            }
            self.look(session).await?;
            if pause == LAST_PAUSE && !self.pending.is_empty() {
                pipes(session)?.check(&self.pipe).await?;
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
        let rows = self.ingest.tally().rows().written;
        self.attempt.record_statement(&format!("pipe {}", self.pipe.name), None, &stopwatch, Some(rows));
        Ok(())
    }

    fn urls(&self) -> Vec<String> {
        self.pending.iter().filter_map(|at| self.files.get(*at)).map(FileEntry::url).collect()
    }

    /// Asks the history about the files that are still to come.
    async fn look(&mut self, session: &mut dyn Session) -> Result<(), Failure> {
        let urls = self.urls();
        let fates = pipes(session)?.fates(&self.pipe, &urls).await?;
        let mut pending = Vec::new();
        let mut failed = Vec::new();
        for (at, fate) in std::mem::take(&mut self.pending).into_iter().zip(fates) {
            let Some(file) = self.files.get(at) else { continue };
            match fate {
                Piped::Unknown => pending.push(at),
                Piped::Failed(why) => failed.push((file.path.clone(), why)),
                Piped::Loaded { rows, bytes, at: when } => {
                    let is_newer = matches!((file.modified, when), (Some(modified), Some(when)) if modified.as_second() > when);
                    if is_newer || bytes.is_some_and(|bytes| bytes != file.bytes) {
                        return Err(changed(&self.pipe, file));
                    }
                    self.ingest.tally().add_counts(at, rows, Vec::new(), 0);
                    self.attempt.progress.add_rows(rows);
                    self.attempt.progress.add_bytes(file.bytes);
                }
            }
        }
        self.pending = pending;
        self.attempt.record.rows = self.ingest.tally().rows();
        match failed.first() {
            Some((path, why)) => Err(refused(&self.pipe, path, why, failed.len())),
            None => Ok(()),
        }
    }

    fn late(&self, limit: Duration) -> Failure {
        let missing: Vec<String> =
            self.pending.iter().filter_map(|at| self.files.get(*at)).map(|file| format!("`{}`", file.path)).collect();
        let mut named = missing.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if missing.len() > NAMED {
            named.push_str(&format!(" and {} more", missing.len() - NAMED));
        }
        let (count, all, seconds) = (missing.len(), self.files.len(), limit.as_secs());
        let message = format!("{count} of {all} files did not come through pipe `{}` within {seconds} s: {named}", self.pipe.name);
        let help = if self.pipe.is_notified {
            format!(
                "see that the bucket sends its events to the `notification_channel` of `SHOW PIPES`; files that were there before the pipe come \
                 with `ALTER PIPE {} REFRESH`; what comes later is found by the next attempt",
                self.pipe.sql_name
            )
        } else {
            "what comes later is found by the next attempt; raise `timeout` of the step if the pipe needs longer".to_owned()
        };
        Failure::new(FailureKind::Timeout, "ingest::pipe_late", message).help(help)
    }
}

fn refused(pipe: &Pipe, path: &str, why: &str, count: usize) -> Failure {
    let others = if count > 1 { format!(" (the first of {count} files)") } else { String::new() };
    let message = format!("pipe `{}` did not load `{path}`: {why}{others}", pipe.name);
    Failure::new(FailureKind::Rejected, "ingest::pipe_failed", message)
        .help("none of its rows are in the table; mend the file and bring it under another name, and remove this one")
}

fn changed(pipe: &Pipe, file: &FileEntry) -> Failure {
    let message = format!("`{}` changed after pipe `{}` loaded it", file.path, pipe.name);
    Failure::new(FailureKind::Rejected, "ingest::pipe_changed", message)
        .help("a pipe loads a name once: bring the new content under a name of its own, and remove this one")
}

fn cancelled(pending: usize) -> Failure {
    let message = format!("cancelled while {pending} files were on their way through the pipe");
    Failure::new(FailureKind::Cancelled, "ingest::cancelled", message).help("the pipe goes on loading them; the next run finds them done")
}
