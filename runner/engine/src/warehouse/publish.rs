//! From a staging table to its target, inside the open transaction: every mode, NULL-safe keys, duplicates named.
//!
//! Readers see the target as it was until the transaction commits.

use errand_model::document::step::Mode;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Publish, TableName};

use super::{Session, TableColumn, quote_identifier, quote_list, quote_table};

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
    /// Columns of the staging table that are not data: they never make a new version of a row.
    pub metadata: &'a [&'a str],
    /// The moment of this load as a SQL literal, for `scd2`.
    pub now: String,
}

/// Leaves one row for each primary key in the staging table; says how many were left out.
///
/// Rows with the same key are ordered by the cursor; without one, only rows that are equal in every data column count as one.
///
/// # Errors
///
/// `Rejected`, naming keys, when rows with the same key differ and nothing says which is newer.
pub async fn deduplicate(session: &mut dyn Session, staged: &Staged<'_>) -> Result<u64, Failure> {
    let publish = staged.publish;
    let columns = session.columns(staged.staging).await?.unwrap_or_default();
    for wanted in publish.primary_key.iter().chain(&publish.partition).chain(&publish.cursor) {
        if !columns.iter().any(|column| column.name.eq_ignore_ascii_case(wanted)) {
            let message = format!("the rows for `{}` have no column `{wanted}`", staged.target);
            let failure = Failure::new(FailureKind::Definition, "publish::unknown_column", message);
            return Err(failure.help("correct `primary_key`, `partition` or `cursor`, or add the column"));
        }
    }
    if publish.primary_key.is_empty() {
        return Ok(0);
    }
    let (table, keys) = (quote_table(staged.staging), quote_list(publish.primary_key.iter().map(String::as_str)));
    let duplicated = format!("SELECT {keys} FROM {table} GROUP BY {keys} HAVING count(*) > 1");
    if session.query(&duplicated, 1).await?.is_empty() {
        return Ok(0);
    }
    let data = quote_list(data_columns(&columns, staged.metadata));
    let equal_rows = format!(
        "DELETE FROM {table} WHERE rowid IN (SELECT r FROM (SELECT rowid AS r, row_number() OVER (PARTITION BY {data} ORDER BY rowid) AS n \
         FROM {table}) AS numbered WHERE n > 1)"
    );
    let mut removed = session.execute(&equal_rows).await?;
    if let Some(cursor) = &publish.cursor {
        let cursor = quote_identifier(cursor);
        let older = format!(
            "DELETE FROM {table} WHERE rowid IN (SELECT r FROM (SELECT rowid AS r, rank() OVER (PARTITION BY {keys} ORDER BY {cursor} DESC NULLS LAST) AS n \
             FROM {table}) AS numbered WHERE n > 1)"
        );
        removed += session.execute(&older).await?;
    }
    let left =
        session.query(&format!("SELECT {keys}, count(*) FROM {table} GROUP BY {keys} HAVING count(*) > 1 ORDER BY {keys}"), 5).await?;
    if left.is_empty() { Ok(removed) } else { Err(duplicate_keys(staged, &left)) }
}

fn duplicate_keys(staged: &Staged<'_>, rows: &[Vec<Option<String>>]) -> Failure {
    let publish = staged.publish;
    let describe = |row: &Vec<Option<String>>| {
        let (count, key) = row.split_last().map_or((None, &[][..]), |(count, key)| (count.as_deref(), key));
        let parts = publish.primary_key.iter().zip(key).map(|(name, value)| format!("{name} = {}", value.as_deref().unwrap_or("NULL")));
        format!("({}) {} times", parts.collect::<Vec<_>>().join(", "), count.unwrap_or("?"))
    };
    let keys = rows.iter().map(describe).collect::<Vec<_>>().join("; ");
    let message = format!("rows for `{}` share a primary key but differ: {keys}", staged.target);
    let help = match publish.cursor {
        Some(_) => "they also share the newest value of the cursor: choose a cursor that orders them, or a longer primary key",
        None => "choose a longer `primary_key`, or say with `cursor: { column }` which of them is newest",
    };
    Failure::new(FailureKind::Rejected, "publish::duplicate_key", message).help(help)
}

/// Moves the staged rows into the target; says how many reached it.
///
/// # Errors
///
/// What the warehouse says.
pub async fn publish(session: &mut dyn Session, staged: &Staged<'_>) -> Result<u64, Failure> {
    let count = count(session, staged.staging).await?;
    let target = session.columns(staged.target).await?;
    match (staged.publish.mode, target) {
        (Mode::Scd2, target) => versions(session, staged, target.is_some()).await?,
        (Mode::Replace, Some(_)) => {
            session.execute(&format!("DROP TABLE {}", quote_table(staged.target))).await?;
            rename(session, staged).await?;
        }
        (Mode::Append | Mode::Replace | Mode::Merge | Mode::DeleteInsert, None) => rename(session, staged).await?,
        (Mode::Append, Some(target)) => insert(session, staged, &target).await?,
        (Mode::Merge, Some(target)) => merge(session, staged, &target).await?,
        (Mode::DeleteInsert, Some(target)) => {
            delete(session, staged).await?;
            insert(session, staged, &target).await?;
        }
    }
    Ok(count)
}

/// Rows in a table.
///
/// # Errors
///
/// What the warehouse says.
pub async fn count(session: &mut dyn Session, table: &TableName) -> Result<u64, Failure> {
    counted(session, &format!("SELECT count(*) FROM {}", quote_table(table))).await
}

/// Rows that a reader of the present sees: of `scd2`, the versions that are valid.
///
/// # Errors
///
/// What the warehouse says.
pub async fn current(session: &mut dyn Session, table: &TableName, mode: Mode) -> Result<u64, Failure> {
    let valid = if mode == Mode::Scd2 { format!(" WHERE {VALID_TO} IS NULL") } else { String::new() };
    counted(session, &format!("SELECT count(*) FROM {}{valid}", quote_table(table))).await
}

/// The one number that a query returns.
pub(crate) async fn counted(session: &mut dyn Session, sql: &str) -> Result<u64, Failure> {
    let value = session.query(sql, 1).await?.into_iter().flatten().flatten().next();
    Ok(value.and_then(|text| text.parse().ok()).unwrap_or(0))
}

async fn rename(session: &mut dyn Session, staged: &Staged<'_>) -> Result<(), Failure> {
    let sql = format!("ALTER TABLE {} RENAME TO {}", quote_table(staged.staging), quote_identifier(&staged.target.name));
    session.execute(&sql).await.map(|_| ())
}

async fn drop_staging(session: &mut dyn Session, staged: &Staged<'_>) -> Result<(), Failure> {
    session.execute(&format!("DROP TABLE {}", quote_table(staged.staging))).await.map(|_| ())
}

/// Staged columns that the target lacks were decided on before: by the schema contract, or they are Errand's own.
async fn add_missing_columns(session: &mut dyn Session, staged: &Staged<'_>, target: &[TableColumn]) -> Result<Vec<TableColumn>, Failure> {
    let columns = session.columns(staged.staging).await?.unwrap_or_default();
    for column in &columns {
        refuse_narrowing(session, staged, target, column).await?;
        if !target.iter().any(|known| known.name.eq_ignore_ascii_case(&column.name)) {
            let sql =
                format!("ALTER TABLE {} ADD COLUMN {} {}", quote_table(staged.target), quote_identifier(&column.name), column.type_name);
            session.execute(&sql).await?;
        }
    }
    Ok(columns)
}

/// A value that the target's type would change is refused: an implicit cast would round it.
async fn refuse_narrowing(
    session: &mut dyn Session,
    staged: &Staged<'_>,
    target: &[TableColumn],
    column: &TableColumn,
) -> Result<(), Failure> {
    let known = target.iter().find(|known| known.name.eq_ignore_ascii_case(&column.name) && known.type_name != column.type_name);
    let Some(known) = known else { return Ok(()) };
    let name = quote_identifier(&column.name);
    let there_and_back = format!("CAST(TRY_CAST({name} AS {}) AS {})", known.type_name, column.type_name);
    let changed = format!("SELECT {name} FROM {} WHERE {name} IS DISTINCT FROM {there_and_back}", quote_table(staged.staging));
    let Some(row) = session.query(&changed, 1).await?.into_iter().next() else { return Ok(()) };
    let value = row.into_iter().flatten().next().unwrap_or_else(|| "NULL".to_owned());
    let message =
        format!("column `{}` of `{}` is {} and cannot hold `{value}` ({})", known.name, staged.target, known.type_name, column.type_name);
    Err(Failure::new(FailureKind::Rejected, "publish::narrowed", message).help("change the type of the table's column first, or the rows"))
}

async fn insert(session: &mut dyn Session, staged: &Staged<'_>, target: &[TableColumn]) -> Result<(), Failure> {
    let columns = add_missing_columns(session, staged, target).await?;
    let names = quote_list(columns.iter().map(|column| column.name.as_str()));
    let sql = format!("INSERT INTO {} ({names}) SELECT {names} FROM {}", quote_table(staged.target), quote_table(staged.staging));
    session.execute(&sql).await?;
    drop_staging(session, staged).await
}

async fn delete(session: &mut dyn Session, staged: &Staged<'_>) -> Result<(), Failure> {
    let columns = match &staged.publish.partition {
        Some(partition) => vec![partition.clone()],
        None => staged.publish.primary_key.clone(),
    };
    let sql = format!(
        "DELETE FROM {target} AS _errand_t USING (SELECT DISTINCT {list} FROM {staging}) AS _errand_s WHERE {same}",
        target = quote_table(staged.target),
        list = quote_list(columns.iter().map(String::as_str)),
        staging = quote_table(staged.staging),
        same = same_key(&columns)
    );
    session.execute(&sql).await.map(|_| ())
}

async fn merge(session: &mut dyn Session, staged: &Staged<'_>, target: &[TableColumn]) -> Result<(), Failure> {
    let columns = add_missing_columns(session, staged, target).await?;
    let names: Vec<String> = columns.iter().map(|column| quote_identifier(&column.name)).collect();
    let set: Vec<String> = names.iter().map(|name| format!("{name} = _errand_s.{name}")).collect();
    let values: Vec<String> = names.iter().map(|name| format!("_errand_s.{name}")).collect();
    let sql = format!(
        "MERGE INTO {target} AS _errand_t USING {staging} AS _errand_s ON {same} WHEN MATCHED THEN UPDATE SET {set} \
         WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})",
        target = quote_table(staged.target),
        staging = quote_table(staged.staging),
        same = same_key(&staged.publish.primary_key),
        set = set.join(", "),
        names = names.join(", "),
        values = values.join(", ")
    );
    session.execute(&sql).await?;
    drop_staging(session, staged).await
}

/// Closes versions whose data changed or whose key is gone, then adds the new versions. With a cursor the staged rows are a part of
/// the source, so that a missing key says nothing.
async fn versions(session: &mut dyn Session, staged: &Staged<'_>, exists: bool) -> Result<(), Failure> {
    let (staging, target, now) = (quote_table(staged.staging), quote_table(staged.target), &staged.now);
    let columns = session.columns(staged.staging).await?.unwrap_or_default();
    let names = quote_list(columns.iter().map(|column| column.name.as_str()));
    if !exists {
        let sql = format!(
            "CREATE TABLE {target} AS SELECT *, CAST({now} AS TIMESTAMP) AS {VALID_FROM}, CAST(NULL AS TIMESTAMP) AS {VALID_TO} FROM {staging}"
        );
        session.execute(&sql).await?;
        return drop_staging(session, staged).await;
    }
    let present = session.columns(staged.target).await?.unwrap_or_default();
    add_missing_columns(session, staged, &present).await?;
    let same = same_key(&staged.publish.primary_key);
    let changed: Vec<String> = data_columns(&columns, staged.metadata)
        .map(|name| format!("_errand_t.{0} IS DISTINCT FROM _errand_s.{0}", quote_identifier(name)))
        .collect();
    let changed = changed.join(" OR ");
    let close = format!(
        "UPDATE {target} AS _errand_t SET {VALID_TO} = {now} FROM {staging} AS _errand_s WHERE _errand_t.{VALID_TO} IS NULL AND {same} AND ({changed})"
    );
    session.execute(&close).await?;
    if staged.publish.cursor.is_none() {
        let gone = format!(
            "UPDATE {target} AS _errand_t SET {VALID_TO} = {now} WHERE _errand_t.{VALID_TO} IS NULL AND NOT EXISTS (SELECT 1 FROM {staging} AS _errand_s WHERE {same})"
        );
        session.execute(&gone).await?;
    }
    let open = format!(
        "INSERT INTO {target} ({names}, {VALID_FROM}, {VALID_TO}) SELECT {names}, {now}, NULL FROM {staging} AS _errand_s \
         WHERE NOT EXISTS (SELECT 1 FROM {target} AS _errand_t WHERE _errand_t.{VALID_TO} IS NULL AND {same})"
    );
    session.execute(&open).await?;
    drop_staging(session, staged).await
}

fn data_columns<'a>(columns: &'a [TableColumn], metadata: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    columns.iter().map(|column| column.name.as_str()).filter(|name| !metadata.contains(name))
}

fn same_key(columns: &[String]) -> String {
    let same = columns.iter().map(|column| format!("_errand_t.{0} IS NOT DISTINCT FROM _errand_s.{0}", quote_identifier(column)));
    same.collect::<Vec<_>>().join(" AND ")
}
