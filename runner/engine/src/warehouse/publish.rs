//! From a staging table to its target: every mode, NULL-safe keys, duplicates named.
//!
//! Readers see the target as it was until the transaction commits. Three parts, in this order: [`deduplicate`] and [`shape`] make the
//! two tables fit each other, with DDL; [`publish`] moves the rows, inside the transaction that also writes the ledger.

mod deduplicate;
mod row;
mod shape;

use errand_model::document::step::Mode;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Publish, TableName};

use super::ledger::lost_to_another;
use super::{Session, TableColumn, quote_exact};

pub use deduplicate::deduplicate;
pub use shape::shape;

/// Columns that `scd2` adds: the time a version became valid and the time it ceased to be; NULL for the one that is valid.
pub const VALID_FROM: &str = "_errand_valid_from";
/// See [`VALID_FROM`].
pub const VALID_TO: &str = "_errand_valid_to";

/// A staging table that is full and checked, and where its rows go.
#[derive(Clone, Debug)]
pub struct Staged<'a> {
    /// The staging table; it is gone afterwards.
    pub staging: &'a TableName,
    /// The target; made from the staging table when it is not there.
    pub target: &'a TableName,
    /// How new rows meet the old ones.
    pub publish: &'a Publish,
    /// How the staging table becomes the target.
    pub way: Way,
    /// Columns of the staging table that are not data: they never make a new version of a row.
    pub metadata: &'a [&'a str],
    /// The moment of this load as a SQL literal, for `scd2`.
    pub now: String,
}

impl Staged<'_> {
    /// The columns of the staging table.
    async fn columns(&self, session: &mut dyn Session) -> Result<Vec<TableColumn>, Failure> {
        let columns = session.columns(self.staging).await?;
        columns.ok_or_else(|| {
            let message = format!("the staging table `{}` is gone", self.staging);
            Failure::new(FailureKind::Permanent, "warehouse::missing_object", message)
                .help("somebody dropped it while the step was at work: run it again, and leave tables of this name alone")
        })
    }
}

/// How staged rows become rows of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The staging table takes the name of a target that is not there.
    Rename,
    /// It takes the place of the target, which is dropped.
    Swap,
    /// Its rows go into the target.
    Rows,
}

impl Way {
    /// Chooses the way, before the staging table is made: a table that becomes the target is made like one.
    ///
    /// # Errors
    ///
    /// What the warehouse says.
    pub async fn choose(session: &mut dyn Session, target: &TableName, mode: Mode) -> Result<Self, Failure> {
        let capabilities = session.capabilities();
        if !capabilities.renames || mode == Mode::Scd2 {
            return Ok(Self::Rows);
        }
        if session.columns(target).await?.is_none() {
            return Ok(Self::Rename);
        }
        if mode != Mode::Replace {
            return Ok(Self::Rows);
        }
        let Some(keeps_table) = capabilities.keeps_table else { return Ok(Self::Swap) };
        let kept = !session.query(&keeps_table(capabilities, target), 1).await?.is_empty();
        Ok(if kept { Self::Rows } else { Self::Swap })
    }

    /// What `CREATE` is followed by for the staging table.
    #[must_use]
    pub fn kind(self, session: &dyn Session) -> &'static str {
        match self {
            Self::Rename | Self::Swap => "TABLE",
            Self::Rows => session.capabilities().staging,
        }
    }
}

/// What became of the staged rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// They are in the target.
    pub written: u64,
    /// They were left out: the target has a row of their key that is newer by the cursor.
    pub older: u64,
}

/// Moves the staged rows into the target; says how many reached it. The staging table is gone where that belongs to the transaction.
///
/// # Errors
///
/// What the warehouse says.
pub async fn publish(session: &mut dyn Session, staged: &Staged<'_>) -> Result<Published, Failure> {
    let count = count(session, staged.staging).await?;
    let mut older = 0;
    let capabilities = session.capabilities();
    if staged.way == Way::Swap {
        session.execute(&format!("DROP TABLE {}", capabilities.quote_table(staged.target))).await?;
    }
    if staged.way == Way::Rows {
        older = row::publish(session, staged).await?;
        if capabilities.transactional_ddl {
            session.execute(&format!("DROP TABLE {}", capabilities.quote_table(staged.staging))).await?;
        }
    } else {
        let name = capabilities.quote(&staged.target.name);
        let rename = format!("ALTER TABLE {} RENAME TO {name}", capabilities.quote_table(staged.staging));
        session.execute(&rename).await.map_err(raced)?;
    }
    Ok(Published { written: count.saturating_sub(older), older })
}

/// What was not there when it was looked for, and is there already, another load has made meanwhile: the next attempt finds it.
fn raced(failure: Failure) -> Failure {
    if failure.code == "warehouse::exists_already" { lost_to_another() } else { failure }
}

/// Rows in a table.
///
/// # Errors
///
/// What the warehouse says.
pub async fn count(session: &mut dyn Session, table: &TableName) -> Result<u64, Failure> {
    let table = session.capabilities().quote_table(table);
    counted(session, &format!("SELECT count(*) FROM {table}")).await
}

/// Rows that a reader of the present sees: of `scd2`, the versions that are valid.
///
/// # Errors
///
/// What the warehouse says.
pub async fn current(session: &mut dyn Session, table: &TableName, mode: Mode) -> Result<u64, Failure> {
    let table = session.capabilities().quote_table(table);
    let valid = if mode == Mode::Scd2 { format!(" WHERE {VALID_TO} IS NULL") } else { String::new() };
    counted(session, &format!("SELECT count(*) FROM {table}{valid}")).await
}

/// The one number that a query returns.
pub(crate) async fn counted(session: &mut dyn Session, sql: &str) -> Result<u64, Failure> {
    let value = session.query(sql, 1).await?.into_iter().flatten().flatten().next();
    Ok(value.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// A column by the name that a definition gives it, as the warehouse keeps it.
fn find<'a>(columns: &'a [TableColumn], name: &str) -> Option<&'a TableColumn> {
    columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
}

/// Names from a definition as the staging table has them, in quotes.
fn named(columns: &[TableColumn], names: &[String]) -> Vec<String> {
    names.iter().map(|name| quote_exact(find(columns, name).map_or(name.as_str(), |column| column.name.as_str()))).collect()
}

/// Columns that hold data of the source.
fn data<'a>(columns: &'a [TableColumn], metadata: &'a [&'a str]) -> impl Iterator<Item = &'a TableColumn> {
    columns.iter().filter(|column| !metadata.iter().any(|own| own.eq_ignore_ascii_case(&column.name)))
}
