//! The ledger: what was written, committed in the same transaction as the data it speaks of.
//!
//! A row for a load id means that the load is done; nobody writes it again. The primary key on it fences a second runner: of two
//! transactions that insert the same load id, one fails to commit.

mod files;

use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use errand_model::interval::Interval;
use errand_model::job::TableName;
use errand_model::report::Rows;
use errand_model::value::ColumnType;
use sha2::{Digest, Sha256};

pub use files::{LoadedFile, forget_files, known_digests, record_files};

use super::{Capabilities, Fence, Purpose, Session, Warehouse};

/// The schema that holds Errand's own tables.
pub const SCHEMA: &str = "_errand";

/// The table that is locked by whose turn it is. It has no rows.
const TURN: &str = "_errand.turn";

/// How often a statement is sent again that two runners may send at the same time.
const CONFLICTS: u32 = 20;

/// How long the outcome of a commit is asked for, and the pause between two questions.
const SETTLE: u32 = 40;
const SETTLE_PAUSE: Duration = Duration::from_millis(1500);

/// The statements that make Errand's own tables. The ledger is last: where it is, all are.
#[must_use]
pub fn ddl(capabilities: &Capabilities) -> Vec<String> {
    let (text, bigint) = ((capabilities.type_name)(ColumnType::Text), (capabilities.type_name)(ColumnType::Bigint));
    let integer = (capabilities.type_name)(ColumnType::Integer);
    let mut statements = vec![
        "CREATE SCHEMA IF NOT EXISTS _errand".to_owned(),
        format!(
            "CREATE TABLE IF NOT EXISTS _errand.files (target {text} NOT NULL, path {text} NOT NULL, bytes {bigint} NOT NULL, \
             digest {text} NOT NULL, load_id {text} NOT NULL, rows_read {bigint} NOT NULL, recorded_at {text} NOT NULL, \
             PRIMARY KEY (target, path, digest))"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS _errand.checks (job {text} NOT NULL, step {text} NOT NULL, name {text} NOT NULL, \
             interval_start {text} NOT NULL, row_count {bigint} NOT NULL, recorded_at {text} NOT NULL, \
             PRIMARY KEY (job, step, name, interval_start))"
        ),
    ];
    if let Fence::Claim = capabilities.fence {
        statements.push(format!(
            "CREATE TABLE IF NOT EXISTS _errand.claims (load_id {text} NOT NULL, owner {text} NOT NULL, claimed_at {text} NOT NULL, \
             PRIMARY KEY (load_id))"
        ));
    }
    if let Fence::Turn = capabilities.fence {
        statements.push(format!("CREATE TABLE IF NOT EXISTS {TURN} (holder {text})"));
    }
    statements.push(format!(
        "CREATE TABLE IF NOT EXISTS _errand.ledger (load_id {text} NOT NULL, job {text} NOT NULL, step {text} NOT NULL, \
         interval_start {text} NOT NULL, interval_end {text} NOT NULL, target {text} NOT NULL, inputs {text} NOT NULL, \
         run_id {text} NOT NULL, attempt {integer} NOT NULL, commit_id {text}, rows_read {bigint} NOT NULL, rows_written {bigint} NOT NULL, \
         rows_deduplicated {bigint} NOT NULL, rows_rejected {bigint} NOT NULL, recorded_at {text} NOT NULL, PRIMARY KEY (load_id))"
    ));
    statements
}

/// Makes Errand's own tables where they are missing.
///
/// # Errors
///
/// What the warehouse says.
pub async fn prepare(session: &mut dyn Session) -> Result<(), Failure> {
    let ledger = TableName { schema: Some(SCHEMA.to_owned()), name: "ledger".to_owned() };
    if session.columns(&ledger).await?.is_some() {
        return Ok(());
    }
    for statement in ddl(session.capabilities()) {
        patiently(session, &statement).await?;
    }
    session.go_home().await
}

/// Makes a schema where it is missing. Whoever may not make one needs no right to when it is there.
///
/// # Errors
///
/// What the warehouse says.
pub async fn ensure_schema(session: &mut dyn Session, schema: &str) -> Result<(), Failure> {
    let capabilities = session.capabilities();
    let folded = capabilities.text(&capabilities.fold(schema).to_lowercase());
    let known = format!("SELECT 1 FROM information_schema.schemata WHERE lower(schema_name) = {folded}");
    if session.query(&known, 1).await?.is_empty() {
        patiently(session, &format!("CREATE SCHEMA IF NOT EXISTS {}", capabilities.quote(schema))).await?;
        session.go_home().await?;
    }
    Ok(())
}

/// What a definition that another runner makes too may fail with.
const RACES: [&str; 3] = ["warehouse::conflict", "warehouse::exists_already", "warehouse::duplicate_key"];

/// Outside of a transaction, DDL that another runner sends at the same moment may conflict, meet its object half made, or find its name taken in
/// the catalogue; sent again it finds the object there. What the warehouse refuses for another reason it would refuse again.
async fn patiently(session: &mut dyn Session, sql: &str) -> Result<(), Failure> {
    for _ in 0..CONFLICTS {
        match session.execute(sql).await {
            Err(failure) if RACES.contains(&failure.code.as_str()) => tokio::task::yield_now().await,
            result => return result.map(|_| ()),
        }
    }
    session.execute(sql).await.map(|_| ())
}

/// Takes a load for this runner: begins the transaction where DDL belongs to one, and keeps others out.
///
/// # Errors
///
/// What the warehouse says. `Some` when another runner had done it meanwhile.
pub async fn enter(session: &mut dyn Session, load: &Load, writer: &Writer) -> Result<Option<Done>, Failure> {
    let capabilities = session.capabilities();
    if capabilities.transactional_ddl {
        session.execute("BEGIN TRANSACTION").await?;
    }
    if let Fence::Claim = capabilities.fence {
        session.execute(&claim(capabilities, load, writer)).await?;
        return Ok(None);
    }
    let Some(lock) = lock(capabilities, load) else { return Ok(None) };
    session.execute(&lock).await?;
    find(session, load).await
}

/// The statement that waits for whoever writes a load, where a lock is the fence.
fn lock(capabilities: &Capabilities, load: &Load) -> Option<String> {
    match capabilities.fence {
        Fence::PrimaryKey | Fence::Claim => None,
        Fence::Lock(lock) => Some(lock(&load.fence())),
        Fence::Turn => Some(format!("LOCK TABLE {TURN}")),
    }
}

/// Before rows are published: begins the transaction where [`enter`] did not.
///
/// # Errors
///
/// What the warehouse says.
pub async fn begin(session: &mut dyn Session) -> Result<(), Failure> {
    if session.capabilities().transactional_ddl {
        return Ok(());
    }
    session.execute("BEGIN TRANSACTION").await.map(|_| ())
}

/// The last question before the ledger is written: whether nobody else has taken the load meanwhile. Whoever lost it rolls back.
///
/// It comes after the rows, for it locks what every load of the warehouse has to lock, until the transaction ends.
///
/// # Errors
///
/// `Transient` when another runner has taken the load. `Some` when it had done it.
pub async fn confirm(session: &mut dyn Session, load: &Load, writer: &Writer) -> Result<Option<Done>, Failure> {
    let capabilities = session.capabilities();
    let Fence::Claim = capabilities.fence else { return Ok(None) };
    // The update waits for whoever holds the claim; what that one wrote is seen by the next statement. It changes the row in any case: an update
    // that changes nothing need not wait.
    let mine = format!(
        "UPDATE _errand.claims SET claimed_at = {} WHERE load_id = {} AND owner = {}",
        capabilities.text(&format!("{}, confirmed", writer.now)),
        capabilities.text(&load.fence()),
        capabilities.text(&writer.owner())
    );
    let held = session.execute(&mine).await?;
    match find(session, load).await? {
        Some(done) => Ok(Some(done)),
        None if held == 0 => Err(lost_to_another()),
        None => Ok(None),
    }
}

/// Whether another runner has claimed a load after this one did.
///
/// # Errors
///
/// What the warehouse says.
pub async fn is_taken(session: &mut dyn Session, load: &Load, writer: &Writer) -> Result<bool, Failure> {
    let capabilities = session.capabilities();
    let Fence::Claim = capabilities.fence else { return Ok(false) };
    let sql = format!("SELECT owner FROM _errand.claims WHERE load_id = {}", capabilities.text(&load.fence()));
    let owner = session.query(&sql, 1).await?.into_iter().flatten().flatten().next();
    Ok(owner.is_some_and(|owner| owner != writer.owner()))
}

/// Beside the claim on the load there is one on the files of its target, which is everybody's: see [`record_files`].
fn claim(capabilities: &Capabilities, load: &Load, writer: &Writer) -> String {
    let text = |text: &str| capabilities.text(text);
    let (id, owner, now) = (text(&load.fence()), text(&writer.owner()), text(&writer.now));
    format!(
        "MERGE INTO _errand.claims AS _errand_t USING (SELECT {id} AS load_id, {owner} AS owner, {now} AS claimed_at \
         UNION ALL SELECT {} AS load_id, '-' AS owner, {now} AS claimed_at) AS _errand_s \
         ON _errand_t.load_id = _errand_s.load_id WHEN MATCHED AND _errand_s.owner <> '-' THEN UPDATE SET owner = _errand_s.owner, claimed_at = _errand_s.claimed_at \
         WHEN NOT MATCHED THEN INSERT (load_id, owner, claimed_at) VALUES (_errand_s.load_id, _errand_s.owner, _errand_s.claimed_at)",
        text(&files_of(load))
    )
}

/// What stands for the files of a target among claims.
fn files_of(load: &Load) -> String {
    format!("files:{}", load.target)
}

/// Finds out whether a commit whose answer was lost took effect: a new session waits behind the old transaction, then reads the ledger.
///
/// # Errors
///
/// What the warehouse says when it cannot be asked; the outcome is unknown then.
pub async fn settle(warehouse: &dyn Warehouse, purpose: &Purpose, load: &Load) -> Result<Option<Done>, Failure> {
    let mut asked = 0;
    loop {
        asked += 1;
        match ask(warehouse, purpose, load).await {
            Err(failure) if asked < SETTLE && failure.kind == FailureKind::Transient => {
                tokio::select! {
                    () = tokio::time::sleep(SETTLE_PAUSE) => {}
                    () = purpose.cancelled.cancelled() => return Err(failure),
                }
            }
            answer => return answer,
        }
    }
}

async fn ask(warehouse: &dyn Warehouse, purpose: &Purpose, load: &Load) -> Result<Option<Done>, Failure> {
    let mut session = warehouse.session(purpose).await?;
    let answer = ask_behind_fence(session.as_mut(), load).await;
    // Also of a question that failed nothing stays locked: a session that is merely dropped may keep its transaction for hours.
    let undone = session.rollback().await;
    let done = answer?;
    undone.map(|()| done)
}

async fn ask_behind_fence(session: &mut dyn Session, load: &Load) -> Result<Option<Done>, Failure> {
    let capabilities = session.capabilities();
    session.execute("BEGIN TRANSACTION").await?;
    let wait = match capabilities.fence {
        Fence::PrimaryKey | Fence::Lock(_) | Fence::Turn => lock(capabilities, load),
        Fence::Claim => {
            Some(format!("UPDATE _errand.claims SET claimed_at = claimed_at WHERE load_id = {}", capabilities.text(&load.fence())))
        }
    };
    if let Some(wait) = wait {
        session.execute(&wait).await?;
    }
    find(session, load).await
}

/// What a load is: the same job, step, interval, target, configuration and inputs give the same id. The attempt is not part of it.
#[derive(Clone, Debug)]
pub struct Load {
    /// Name of the job.
    pub job: String,
    /// Id of the step.
    pub step: String,
    /// The span of time that the run is for.
    pub interval: Interval,
    /// Table or file that is written.
    pub target: String,
    /// Digest of the definitions of the step and of all that it needs.
    pub digest: String,
    /// Input values, as JSON text with sorted keys.
    pub inputs: String,
}

impl Load {
    /// The id: 32 hexadecimal digits of SHA-256 over every field.
    #[must_use]
    pub fn id(&self) -> String {
        self.hash(&[&self.target, &self.digest, &self.inputs])
    }

    /// What runners of this load share with those of the same load at another commit, whose digest is another: they keep each other out.
    /// 32 hexadecimal digits too.
    #[must_use]
    pub fn fence(&self) -> String {
        self.hash(&[&self.target, &self.inputs])
    }

    fn hash(&self, rest: &[&str]) -> String {
        let (start, end) = (self.interval.start.to_string(), self.interval.end.to_string());
        let mut hash = Sha256::new();
        for part in [&self.job, &self.step, &start, &end].into_iter().map(String::as_str).chain(rest.iter().copied()) {
            hash.update(part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Who writes a ledger row, and when.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Id of the run.
    pub run_id: String,
    /// Attempt of the run: a runner that is started again for the same run is another writer.
    pub run_attempt: u32,
    /// Attempt of the step.
    pub attempt: u32,
    /// Commit of the job repository.
    pub commit: Option<String>,
    /// Now, RFC 3339.
    pub now: String,
}

impl Writer {
    /// Who this is among runners of one load.
    #[must_use]
    pub fn owner(&self) -> String {
        format!("{}.{}.{}", self.run_id, self.run_attempt, self.attempt)
    }
}

/// A load that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The run that did it.
    pub run_id: String,
    /// When.
    pub recorded_at: String,
    /// What it moved.
    pub rows: Rows,
}

/// Looks a load up.
///
/// # Errors
///
/// What the warehouse says.
pub async fn find(session: &mut dyn Session, load: &Load) -> Result<Option<Done>, Failure> {
    let sql = format!(
        "SELECT run_id, recorded_at, rows_read, rows_written, rows_deduplicated, rows_rejected FROM _errand.ledger WHERE load_id = {}",
        session.capabilities().text(&load.id())
    );
    Ok(session.query(&sql, 1).await?.into_iter().next().map(|row| {
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let count = |at: usize| text(at).parse().unwrap_or(0);
        let rows = Rows { read: count(2), written: count(3), deduplicated: count(4), rejected: count(5) };
        Done { run_id: text(0), recorded_at: text(1), rows }
    }))
}

/// Refuses to append a second time for one interval under another configuration: those rows would be doubled. A step that the job no longer
/// has may be this one under the id that it had; `others` are those that it has beside this one.
///
/// # Errors
///
/// `Definition` when an earlier load of the same step, interval, target and inputs is there.
pub async fn refuse_second_append(session: &mut dyn Session, load: &Load, others: &[String]) -> Result<(), Failure> {
    let capabilities = session.capabilities();
    let text = |text: &str| capabilities.text(text);
    let others: Vec<String> = others.iter().map(|step| text(step)).collect();
    let steps = if others.is_empty() { String::new() } else { format!(" AND step NOT IN ({})", others.join(", ")) };
    let sql = format!(
        "SELECT run_id, step FROM _errand.ledger WHERE job = {} AND interval_start = {} AND interval_end = {} AND target = {} AND inputs = {}{steps}",
        text(&load.job),
        text(&load.interval.start.to_string()),
        text(&load.interval.end.to_string()),
        text(&load.target),
        text(&load.inputs)
    );
    let Some(row) = session.query(&sql, 1).await?.into_iter().next() else { return Ok(()) };
    let mut values = row.into_iter().flatten();
    let (run, step) = (values.next().unwrap_or_default(), values.next().unwrap_or_default());
    let (how, back) = if step == load.step {
        ("with another configuration of the step".to_owned(), String::new())
    } else {
        (format!("as step `{step}`, which the job no longer has"), format!("give the step the id `{step}` again; or "))
    };
    let message = format!("run `{run}` already appended this interval to `{}`, {how}", load.target);
    Err(Failure::new(FailureKind::Definition, "ledger::second_append", message).help(format!(
        "{back}use `mode: merge` or `delete_insert`; or delete the rows of run `{run}` from `{}` and its row from `_errand.ledger`, then run again",
        load.target
    )))
}

/// Records a load; part of the transaction that wrote the data.
///
/// # Errors
///
/// What the warehouse says; a duplicate load id becomes `Transient`, for the next attempt finds it done.
pub async fn record(session: &mut dyn Session, load: &Load, writer: &Writer, rows: Rows) -> Result<(), Failure> {
    let capabilities = session.capabilities();
    let text = |text: &str| capabilities.text(text);
    let commit = writer.commit.as_deref().map_or("NULL".to_owned(), text);
    let sql = format!(
        "INSERT INTO _errand.ledger VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {}, {commit}, {}, {}, {}, {}, {})",
        text(&load.id()),
        text(&load.job),
        text(&load.step),
        text(&load.interval.start.to_string()),
        text(&load.interval.end.to_string()),
        text(&load.target),
        text(&load.inputs),
        text(&writer.run_id),
        writer.attempt,
        rows.read,
        rows.written,
        rows.deduplicated,
        rows.rejected,
        text(&writer.now)
    );
    session.execute(&sql).await.map(|_| ()).map_err(fenced)
}

/// A duplicate load id means that another runner was faster.
#[must_use]
pub fn fenced(failure: Failure) -> Failure {
    if failure.code == "warehouse::duplicate_key" { lost_to_another() } else { failure }
}

/// Another runner was faster.
#[must_use]
pub fn lost_to_another() -> Failure {
    let message = "another run wrote this interval at the same time and was faster; this one was rolled back";
    Failure::new(FailureKind::Transient, "ledger::fenced", message).help("nothing is lost or doubled: the next attempt finds the work done")
}
