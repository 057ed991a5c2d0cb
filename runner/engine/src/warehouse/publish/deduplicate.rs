//! One staged row for each primary key, or the names of the keys for which nothing says which row is newer.

use errand_model::failure::{Failure, FailureKind};

use super::{Staged, count, data, find, named};
use crate::warehouse::{Session, TableColumn, quote_exact, quote_exact_list};

/// Leaves one row for each primary key in the staging table; says how many were left out.
///
/// Rows with the same key are ordered by the cursor; without one, only rows that are equal in every data column count as one.
///
/// # Errors
///
/// `Rejected`, naming keys, when rows with the same key differ and nothing says which is newer.
pub async fn deduplicate(session: &mut dyn Session, staged: &Staged<'_>) -> Result<u64, Failure> {
    let publish = staged.publish;
    let columns = staged.columns(session).await?;
    for wanted in publish.primary_key.iter().chain(&publish.partition).chain(&publish.cursor) {
        if find(&columns, wanted).is_none() {
            let message = format!("the rows for `{}` have no column `{wanted}`", staged.target);
            let failure = Failure::new(FailureKind::Definition, "publish::unknown_column", message);
            return Err(failure.help("correct `primary_key`, `partition` or `cursor`, or add the column"));
        }
    }
    if publish.primary_key.is_empty() {
        return Ok(0);
    }
    let (table, keys) = (session.capabilities().quote_table(staged.staging), named(&columns, &publish.primary_key).join(", "));
    let duplicated = format!("SELECT {keys} FROM {table} GROUP BY {keys} HAVING count(*) > 1");
    if session.query(&duplicated, 1).await?.is_empty() {
        return Ok(0);
    }
    let removed = match session.capabilities().row_id {
        Some(row_id) => delete_others(session, staged, &columns, row_id).await?,
        None => keep_one(session, staged, &columns).await?,
    };
    let left =
        session.query(&format!("SELECT {keys}, count(*) FROM {table} GROUP BY {keys} HAVING count(*) > 1 ORDER BY {keys}"), 5).await?;
    if left.is_empty() { Ok(removed) } else { Err(duplicate_keys(staged, &left)) }
}

/// Deletes rows of the staging table where a hidden column tells equal ones apart.
async fn delete_others(session: &mut dyn Session, staged: &Staged<'_>, columns: &[TableColumn], row_id: &str) -> Result<u64, Failure> {
    let (table, keys) = (session.capabilities().quote_table(staged.staging), named(columns, &staged.publish.primary_key).join(", "));
    let list = quote_exact_list(data(columns, staged.metadata).map(|column| column.name.as_str()));
    let delete = |ranked: String| {
        format!(
            "DELETE FROM {table} WHERE {row_id} IN (SELECT r FROM (SELECT {row_id} AS r, {ranked} AS n FROM {table}) AS numbered WHERE n > 1)"
        )
    };
    let mut removed = session.execute(&delete(format!("row_number() OVER (PARTITION BY {list} ORDER BY {row_id})"))).await?;
    if let Some(cursor) = &staged.publish.cursor {
        let cursor = named(columns, std::slice::from_ref(cursor)).join("");
        removed += session.execute(&delete(format!("rank() OVER (PARTITION BY {keys} ORDER BY {cursor} DESC NULLS LAST)"))).await?;
    }
    Ok(removed)
}

/// Makes the staging table anew with one row of each, where nothing tells equal rows apart.
async fn keep_one(session: &mut dyn Session, staged: &Staged<'_>, columns: &[TableColumn]) -> Result<u64, Failure> {
    let capabilities = session.capabilities();
    let before = count(session, staged.staging).await?;
    let unique = staged.staging.sibling(format!("{}_unique", staged.staging.name));
    for sql in
        one_of_each(staged, columns, &capabilities.quote_table(staged.staging), &capabilities.quote_table(&unique), capabilities.staging)
    {
        session.execute(&sql).await?;
    }
    let rename = format!("ALTER TABLE {} RENAME TO {}", capabilities.quote_table(&unique), capabilities.quote(&staged.staging.name));
    session.execute(&rename).await?;
    Ok(before - count(session, staged.staging).await?)
}

fn one_of_each(staged: &Staged<'_>, columns: &[TableColumn], table: &str, unique: &str, kind: &str) -> [String; 3] {
    let all = quote_exact_list(columns.iter().map(|column| column.name.as_str()));
    let data_list = quote_exact_list(data(columns, staged.metadata).map(|column| column.name.as_str()));
    let keys = named(columns, &staged.publish.primary_key).join(", ");
    let metadata: Vec<String> = columns
        .iter()
        .filter(|column| staged.metadata.iter().any(|own| own.eq_ignore_ascii_case(&column.name)))
        .map(|column| quote_exact(&column.name))
        .collect();
    let order = if metadata.is_empty() { keys.clone() } else { metadata.join(", ") };
    let mut rows = format!(
        "SELECT {all} FROM (SELECT {all}, row_number() OVER (PARTITION BY {data_list} ORDER BY {order}) AS _errand_n FROM {table}) AS numbered \
         WHERE _errand_n = 1"
    );
    if let Some(cursor) = &staged.publish.cursor {
        let cursor = named(columns, std::slice::from_ref(cursor)).join("");
        rows = format!(
            "SELECT {all} FROM (SELECT {all}, rank() OVER (PARTITION BY {keys} ORDER BY {cursor} DESC NULLS LAST) AS _errand_r \
             FROM ({rows}) AS different) AS ranked WHERE _errand_r = 1"
        );
    }
    [format!("DROP TABLE IF EXISTS {unique}"), format!("CREATE {kind} {unique} AS {rows}"), format!("DROP TABLE {table}")]
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
