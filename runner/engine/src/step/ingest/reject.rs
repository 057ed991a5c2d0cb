//! Refused rows: counted, bounded, and kept with reason and place in `<table>__rejected`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use errand_model::document::step::SchemaContract;
use errand_model::failure::{Failure, FailureKind, Place};
use errand_model::job::{IngestStep, TableName};
use errand_model::report::Rows;
use errand_model::value::{ColumnType, Limit};
use serde::{Deserialize, Serialize};

use super::super::Attempt;
use crate::source::{Batch, Rejected};
use crate::warehouse::{AppendTarget, Capabilities, Session};

/// Columns of the table of refused rows.
pub(super) const COLUMNS: [(&str, ColumnType); 8] = [
    ("load_id", ColumnType::Text),
    ("file", ColumnType::Text),
    ("row", ColumnType::Bigint),
    ("line", ColumnType::Bigint),
    ("byte_offset", ColumnType::Bigint),
    ("column", ColumnType::Text),
    ("error", ColumnType::Text),
    ("raw", ColumnType::Text),
];

/// Refused rows that are kept when the step fails because of them.
const KEPT_ON_FAILURE: usize = 1000;

/// Counts rows by file and remembers the first refused ones.
pub(super) struct Tally {
    limit: Limit,
    /// Whether rows that the schema contract refuses are kept: `quarantine`, not `discard_row`.
    keeps_by_contract: bool,
    account: Account,
}

/// What is counted: all that is known of rows beside themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) by_contract: u64,
    /// The first row that something is wrong with.
    pub(super) wrong: Option<Rejected>,
    pub(super) files: Vec<Rows>,
    pub(super) first: Vec<Rejected>,
}

impl Tally {
    pub(super) fn new(step: &IngestStep) -> Self {
        let keeps_by_contract = step.schema_contract != SchemaContract::DiscardRow;
        Self { keeps_by_contract, ..Self::of(step.max_rejected) }
    }

    pub(super) fn of(limit: Limit) -> Self {
        Self { limit, keeps_by_contract: true, account: Account::default() }
    }

    pub(super) fn open(&mut self, files: usize) {
        self.account.files = vec![Rows::default(); files];
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Takes the counts of an earlier attempt.
    pub(super) fn restore(&mut self, account: Account) {
        self.account = account;
    }

    /// Counts a batch; leaves those of its refused rows that are kept.
    pub(super) fn add(&mut self, batch: &mut Batch) {
        let account = &mut self.account;
        let rows = &mut account.files[batch.file];
        rows.read += batch.read;
        rows.rejected += batch.rejected.len() as u64;
        rows.written += batch.rows.num_rows() as u64;
        account.by_contract += batch.rejected.iter().filter(|row| row.by_contract).count() as u64;
        if account.wrong.is_none() {
            account.wrong = batch.rejected.iter().find(|row| !row.by_contract).cloned();
        }
        batch.rejected.retain(|row| self.keeps_by_contract || !row.by_contract);
        let room = KEPT_ON_FAILURE.saturating_sub(account.first.len());
        account.first.extend(batch.rejected.iter().take(room).cloned());
    }

    /// Counts of a warehouse that read the file itself.
    pub(super) fn add_counts(&mut self, file: usize, read: u64, rejected: Vec<Rejected>, rejected_count: u64) {
        let account = &mut self.account;
        let rows = &mut account.files[file];
        rows.read += read;
        rows.rejected += rejected_count;
        rows.written += read - rejected_count;
        if account.wrong.is_none() {
            account.wrong = rejected.first().cloned();
        }
        let room = KEPT_ON_FAILURE.saturating_sub(account.first.len());
        account.first.extend(rejected.into_iter().take(room));
    }

    pub(super) fn files(&self) -> &[Rows] {
        &self.account.files
    }

    pub(super) fn rows(&self) -> Rows {
        let mut all = Rows::default();
        for rows in &self.account.files {
            all.read += rows.read;
            all.written += rows.written;
            all.rejected += rows.rejected;
        }
        all
    }

    /// A count cannot come back under its limit; a share can, until the last row is read.
    pub(super) fn is_past_limit_for_good(&self) -> bool {
        matches!(self.limit, Limit::Count(_)) && self.is_past_limit()
    }

    /// Rows that the schema contract refuses are what the author asked for: the limit is for the others.
    fn is_past_limit(&self) -> bool {
        let rows = self.rows();
        self.limit.is_exceeded(rows.rejected - self.account.by_contract, rows.read)
    }

    /// The failure of the step, if too many rows were refused: it names the first.
    pub(super) fn refusal(&self, table: &TableName) -> Option<Failure> {
        let rows = self.rows();
        if !self.is_past_limit() {
            return None;
        }
        let first = self.account.wrong.as_ref()?;
        let column = first.column.as_deref().map_or(String::new(), |column| format!("column `{column}`: "));
        let others = match rows.rejected {
            1 => String::new(),
            count => format!(" (the first of {count} refused rows among the {} read)", rows.read),
        };
        let message = format!("row {}: {column}{}{others}; at most {} may be refused", first.row, first.error, self.limit);
        let failure = Failure::new(FailureKind::Rejected, "ingest::rejected", message);
        let place = Place { file: first.file.clone(), line: first.line, column: first.position };
        let help = format!(
            "nothing was published; the refused rows are in `{}`; mend the file and run again, or raise `max_rejected`",
            table_name(table)
        );
        Some(failure.at(place).help(help))
    }

    pub(super) fn take_first(&mut self) -> Vec<Rejected> {
        std::mem::take(&mut self.account.first)
    }
}

/// `<table>__rejected`, beside the target.
pub(super) fn table_name(target: &TableName) -> TableName {
    target.sibling(format!("{}__rejected", target.name))
}

/// The statement that makes a table of refused rows.
fn create(capabilities: &Capabilities, kind: &str, table: &TableName) -> String {
    let columns: Vec<String> =
        COLUMNS.iter().map(|(name, kind)| format!("{} {}", capabilities.quote(name), (capabilities.type_name)(*kind))).collect();
    format!("CREATE {kind} IF NOT EXISTS {} ({})", capabilities.quote_table(table), columns.join(", "))
}

fn names(capabilities: &Capabilities) -> String {
    capabilities.quote_list(COLUMNS.iter().map(|(name, _)| *name))
}

/// Refused rows that are staged, and where they go.
pub(in crate::step) struct Rejects {
    staging: TableName,
    target: TableName,
    load_id: String,
    /// How many are staged.
    pub(in crate::step) rows: u64,
}

impl Rejects {
    /// Makes the staging table.
    pub(super) async fn open(
        attempt: &mut Attempt,
        session: &mut dyn Session,
        staging: &TableName,
        target: &TableName,
        load_id: String,
    ) -> Result<Self, Failure> {
        let rejects = Self { staging: staging.sibling(format!("{}_rejected", staging.name)), target: table_name(target), load_id, rows: 0 };
        let capabilities = session.capabilities();
        attempt.send(session, &create(capabilities, capabilities.staging, &rejects.staging)).await?;
        Ok(rejects)
    }

    /// The staging table.
    pub(super) fn staging(&self) -> &TableName {
        &self.staging
    }

    /// What rows are appended to.
    pub(super) fn append_target(&self) -> AppendTarget {
        let columns = COLUMNS.map(|(name, kind)| (name.to_owned(), kind)).to_vec();
        AppendTarget { table: self.staging.clone(), columns }
    }

    /// Makes the table where they will be kept, if there are any; says whether it is there.
    pub(in crate::step) async fn prepare(&self, attempt: &mut Attempt, session: &mut dyn Session) -> Result<bool, Failure> {
        if self.rows > 0 {
            let create = create(session.capabilities(), "TABLE", &self.target);
            attempt.send(session, &create).await?;
        }
        Ok(self.rows > 0 || session.columns(&self.target).await?.is_some())
    }

    /// Moves them into their table, instead of those of an attempt that failed; part of the transaction that publishes.
    pub(in crate::step) async fn publish(&self, attempt: &mut Attempt, session: &mut dyn Session, is_there: bool) -> Result<(), Failure> {
        let capabilities = session.capabilities();
        let (target, staging) = (capabilities.quote_table(&self.target), capabilities.quote_table(&self.staging));
        if is_there {
            attempt.send(session, &format!("DELETE FROM {target} WHERE load_id = {}", capabilities.text(&self.load_id))).await?;
        }
        if self.rows > 0 {
            let names = names(capabilities);
            attempt.send(session, &format!("INSERT INTO {target} ({names}) SELECT {names} FROM {staging}")).await?;
            let are = if self.rows == 1 { "1 refused row is".to_owned() } else { format!("{} refused rows are", self.rows) };
            attempt.record.warnings.push(format!("{are} in `{}`", self.target));
        }
        if capabilities.transactional_ddl {
            attempt.send(session, &format!("DROP TABLE {staging}")).await?;
        }
        Ok(())
    }
}

/// Refused rows as a batch of [`COLUMNS`].
pub(super) fn batch(load_id: &str, rejected: &[Rejected]) -> Result<RecordBatch, Failure> {
    let number =
        |of: fn(&Rejected) -> u64| -> ArrayRef { Arc::new(rejected.iter().map(|row| i64::try_from(of(row)).ok()).collect::<Int64Array>()) };
    let text = |of: fn(&Rejected) -> Option<&str>| -> ArrayRef { Arc::new(rejected.iter().map(of).collect::<StringArray>()) };
    let load: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(load_id, rejected.len())));
    let columns = [
        load,
        text(|row| Some(&row.file)),
        number(|row| row.row),
        number(|row| row.line),
        number(|row| row.byte_offset),
        text(|row| row.column.as_deref()),
        text(|row| Some(&row.error)),
        text(|row| Some(&row.raw)),
    ];
    RecordBatch::try_from_iter_with_nullable(COLUMNS.iter().zip(columns).map(|((name, _), array)| (*name, array, true)))
        .map_err(|error| Failure::new(FailureKind::Internal, "ingest::batch", format!("refused rows do not fit their columns: {error}")))
}

/// Keeps the first refused rows of a load that failed: instead of those of its last attempt, in a transaction of their own.
pub(super) async fn keep(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    step: &IngestStep,
    load_id: &str,
    rejected: &[Rejected],
) -> Result<(), Failure> {
    let target = table_name(&step.table);
    attempt.ensure_schema(session, &target).await?;
    let capabilities = session.capabilities();
    attempt.send(session, &create(capabilities, "TABLE", &target)).await?;
    attempt.send(session, "BEGIN TRANSACTION").await?;
    let table = capabilities.quote_table(&target);
    attempt.send(session, &format!("DELETE FROM {table} WHERE load_id = {}", capabilities.text(load_id))).await?;
    for rows in rejected.chunks(200) {
        let tuple = |row: &Rejected| {
            let column = row.column.as_deref().map_or("NULL".to_owned(), |column| capabilities.text(column));
            let texts = [&row.error, &row.raw].map(|text| capabilities.text(text)).join(", ");
            format!(
                "({}, {}, {}, {}, {}, {column}, {texts})",
                capabilities.text(load_id),
                capabilities.text(&row.file),
                row.row,
                row.line,
                row.byte_offset
            )
        };
        let values: Vec<String> = rows.iter().map(tuple).collect();
        let names = names(capabilities);
        attempt.send(session, &format!("INSERT INTO {table} ({names}) VALUES {}", values.join(", "))).await?;
    }
    attempt.send(session, "COMMIT").await.map(|_| ())
}
