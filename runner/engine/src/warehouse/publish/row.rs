//! Staged rows into a target that keeps its place: `INSERT`, `UPDATE`, `DELETE` and `MERGE`, which every warehouse has in transactions.
//!
//! `UPDATE` and `DELETE` name the target in full and give it no other name, which not every warehouse allows.

use errand_model::document::step::Mode;
use errand_model::failure::Failure;

use super::{Staged, VALID_FROM, VALID_TO, counted, data, find, named};
use crate::warehouse::{Session, TableColumn, quote_exact};

/// The name of the staging table in statements.
const S: &str = "_errand_s";

/// Both tables as statements name them.
struct Tables {
    target: String,
    staging: String,
    /// Columns of the staging table, and the same columns of the target, in quotes.
    columns: Vec<(String, String)>,
    /// Staged keys equal those of the target.
    same: String,
    /// Some data differ.
    changed: String,
    /// The row of the target is newer than the staged one; none where no cursor orders them.
    newer: Option<String>,
}

/// Publishes the staged rows; says how many were left out because the target has a newer row of their key.
pub(super) async fn publish(session: &mut dyn Session, staged: &Staged<'_>) -> Result<u64, Failure> {
    let capabilities = session.capabilities();
    if let (Some(lock_table), true) = (capabilities.lock_table, staged.publish.mode != Mode::Append) {
        session.execute(&lock_table(&capabilities.quote_table(staged.target))).await?;
    }
    let tables = Tables::of(session, staged).await?;
    let older = match tables.count_older(staged) {
        Some(sql) => counted(session, &sql).await?,
        None => 0,
    };
    for statement in statements(session, staged, &tables) {
        session.execute(&statement).await?;
    }
    Ok(older)
}

impl Tables {
    async fn of(session: &mut dyn Session, staged: &Staged<'_>) -> Result<Self, Failure> {
        let capabilities = session.capabilities();
        let (target, staging) = (capabilities.quote_table(staged.target), capabilities.quote_table(staged.staging));
        let (columns, known) = (staged.columns(session).await?, session.columns(staged.target).await?.unwrap_or_default());
        let key = match (&staged.publish.mode, &staged.publish.partition) {
            (Mode::DeleteInsert, Some(partition)) => std::slice::from_ref(partition),
            _ => staged.publish.primary_key.as_slice(),
        };
        let same = same_key(session, &staging, &target, &columns, &known, key).await?;
        let distinct = |column: &TableColumn| {
            let (staged_column, kept) = (quote_exact(&column.name), in_target(&known, column));
            format!("NOT ({})", (capabilities.null_safe_equal)(&format!("{target}.{kept}"), &format!("{S}.{staged_column}")))
        };
        let changed = data(&columns, staged.metadata).map(distinct).collect::<Vec<_>>().join(" OR ");
        let newer = newer(staged, &target, &columns, &known);
        let columns = columns.iter().map(|column| (quote_exact(&column.name), in_target(&known, column))).collect();
        Ok(Self { target, staging, columns, same, changed, newer })
    }

    fn in_staging(&self, before: &str) -> String {
        self.columns.iter().map(|(name, _)| format!("{before}{name}")).collect::<Vec<_>>().join(", ")
    }

    fn in_target(&self) -> String {
        self.columns.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn set(&self) -> String {
        self.columns.iter().map(|(staged, kept)| format!("{kept} = {S}.{staged}")).collect::<Vec<_>>().join(", ")
    }

    fn insert(&self) -> String {
        format!("INSERT INTO {} ({}) SELECT {} FROM {}", self.target, self.in_target(), self.in_staging(""), self.staging)
    }
}

/// Whether the row of the target is newer than the staged one, by the cursor: any value is newer than NULL. A staged value is compared as the
/// target would keep it.
fn newer(staged: &Staged<'_>, target: &str, columns: &[TableColumn], known: &[TableColumn]) -> Option<String> {
    if !matches!(staged.publish.mode, Mode::Merge | Mode::Scd2) {
        return None;
    }
    let column = find(columns, staged.publish.cursor.as_ref()?)?;
    let kept = find(known, &column.name)?;
    let (old, new) = (format!("{target}.{}", quote_exact(&kept.name)), format!("{S}.{}", quote_exact(&column.name)));
    let new = if kept.type_name == column.type_name { new } else { format!("CAST({new} AS {})", kept.type_name) };
    Some(format!("{old} IS NOT NULL AND ({new} IS NULL OR {new} < {old})"))
}

/// The column of the target that a staged column goes to.
fn in_target(target: &[TableColumn], column: &TableColumn) -> String {
    quote_exact(find(target, &column.name).map_or(column.name.as_str(), |known| known.name.as_str()))
}

/// The key of the target equals the staged one. Where no staged key is NULL a plain comparison says the same, and can be hashed.
async fn same_key(
    session: &mut dyn Session,
    staging: &str,
    target: &str,
    columns: &[TableColumn],
    known: &[TableColumn],
    key: &[String],
) -> Result<String, Failure> {
    if key.is_empty() {
        return Ok("TRUE".to_owned());
    }
    let names = named(columns, key);
    let nulls: Vec<String> = names.iter().map(|name| format!("count(*) - count({name})")).collect();
    let counts = session.query(&format!("SELECT {} FROM {staging}", nulls.join(", ")), 1).await?.into_iter().next().unwrap_or_default();
    let equal = |(at, name): (usize, &String)| {
        let kept = find(columns, &key[at]).map_or_else(|| name.clone(), |column| in_target(known, column));
        let (kept, staged) = (format!("{target}.{kept}"), format!("{S}.{name}"));
        let has_null = counts.get(at).cloned().flatten().is_none_or(|count| count != "0");
        if has_null { (session.capabilities().null_safe_equal)(&kept, &staged) } else { format!("{kept} = {staged}") }
    };
    Ok(names.iter().enumerate().map(equal).collect::<Vec<_>>().join(" AND "))
}

fn statements(session: &dyn Session, staged: &Staged<'_>, tables: &Tables) -> Vec<String> {
    let Tables { target, staging, same, .. } = tables;
    match staged.publish.mode {
        Mode::Append => vec![tables.insert()],
        Mode::Replace => vec![format!("DELETE FROM {target}"), tables.insert()],
        Mode::DeleteInsert => {
            let key = match &staged.publish.partition {
                Some(partition) => vec![partition.clone()],
                None => staged.publish.primary_key.clone(),
            };
            let keys = tables.keys(&key).join(", ");
            vec![format!("DELETE FROM {target} USING (SELECT DISTINCT {keys} FROM {staging}) AS {S} WHERE {same}"), tables.insert()]
        }
        Mode::Merge if session.capabilities().merge => {
            vec![format!(
                "MERGE INTO {target} USING {staging} AS {S} ON {same} WHEN MATCHED{} THEN UPDATE SET {} \
                 WHEN NOT MATCHED THEN INSERT ({}) VALUES ({})",
                tables.unless_newer(),
                tables.set(),
                tables.in_target(),
                tables.in_staging(&format!("{S}."))
            )]
        }
        Mode::Merge => {
            let update = format!("UPDATE {target} SET {} FROM {staging} AS {S} WHERE {same}{}", tables.set(), tables.unless_newer());
            vec![update, tables.insert_missing()]
        }
        Mode::Scd2 => versions(staged, tables),
    }
}

impl Tables {
    fn keys(&self, key: &[String]) -> Vec<String> {
        let staged = |name: &String| {
            self.columns.iter().find(|(_, kept)| kept.trim_matches('"').eq_ignore_ascii_case(name)).map(|(staged, _)| staged.clone())
        };
        key.iter().filter_map(staged).collect()
    }

    /// A further condition of what changes rows of the target.
    fn unless_newer(&self) -> String {
        self.newer.as_ref().map_or_else(String::new, |newer| format!(" AND NOT ({newer})"))
    }

    /// Counts the staged rows that are older than the row of their key, of which there is one.
    fn count_older(&self, staged: &Staged<'_>) -> Option<String> {
        let (Self { target, staging, same, .. }, newer) = (self, self.newer.as_ref()?);
        let valid = if staged.publish.mode == Mode::Scd2 { valid(target) } else { String::new() };
        let keys: Vec<String> = self.keys(&staged.publish.primary_key).iter().map(|key| format!("{S}.{key}")).collect();
        let older = format!("SELECT DISTINCT {} FROM {staging} AS {S} JOIN {target} ON {valid}{same} AND {newer}", keys.join(", "));
        Some(format!("SELECT count(*) FROM ({older}) AS older"))
    }

    /// Inserts the staged rows whose key no row of the target has.
    fn insert_missing(&self) -> String {
        let (target, names, same) = (&self.target, self.in_target(), &self.same);
        let (values, staging) = (self.in_staging(&format!("{S}.")), &self.staging);
        format!(
            "INSERT INTO {target} ({names}) SELECT {values} FROM {staging} AS {S} WHERE NOT EXISTS (SELECT 1 FROM {target} WHERE {same})"
        )
    }
}

/// The beginning of a condition: this row of the target is a version that is valid.
fn valid(target: &str) -> String {
    format!("{target}.{VALID_TO} IS NULL AND ")
}

/// Closes versions whose data changed or whose key is gone, then adds the new versions. With a cursor the staged rows are a part of
/// the source, so that a missing key says nothing, and one that is older than the version that is valid closes nothing.
fn versions(staged: &Staged<'_>, tables: &Tables) -> Vec<String> {
    let (Tables { target, staging, same, changed, .. }, now) = (tables, &staged.now);
    let (valid, unless_newer) = (valid(target), tables.unless_newer());
    let mut statements =
        vec![format!("UPDATE {target} SET {VALID_TO} = {now} FROM {staging} AS {S} WHERE {valid}{same} AND ({changed}){unless_newer}")];
    if staged.publish.cursor.is_none() {
        statements
            .push(format!("UPDATE {target} SET {VALID_TO} = {now} WHERE {valid}NOT EXISTS (SELECT 1 FROM {staging} AS {S} WHERE {same})"));
    }
    statements.push(format!(
        "INSERT INTO {target} ({}, {VALID_FROM}, {VALID_TO}) SELECT {}, {now}, NULL FROM {staging} AS {S} \
         WHERE NOT EXISTS (SELECT 1 FROM {target} WHERE {valid}{same})",
        tables.in_target(),
        tables.in_staging(&format!("{S}."))
    ));
    statements
}
