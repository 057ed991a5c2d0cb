//! Parquet, read in place by a warehouse that can: typed already, so that only narrowing to a declared type can refuse a row.

use std::path::PathBuf;

use errand_model::document::step::SchemaContract;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::TableName;
use errand_model::value::ColumnType;

use super::super::Attempt;
use super::reject::Rejects;
use super::{Ingest, existing_columns};
use crate::source::{FileEntry, Rejected};
use crate::warehouse::{Session, quote_exact, quote_exact_list, quote_text};

/// One column on its way: its name here and in the files, the type it gets, the type it has.
struct Mapped {
    name: String,
    from: String,
    wanted: String,
    found: String,
    nullable: bool,
}

impl Mapped {
    fn needs_cast(&self) -> bool {
        !self.wanted.eq_ignore_ascii_case(&self.found)
    }

    fn cast(&self) -> String {
        if self.needs_cast() { format!("TRY_CAST({} AS {})", quote_exact(&self.from), self.wanted) } else { quote_exact(&self.from) }
    }

    /// True of values that the wanted type would change or cannot hold.
    fn refused(&self) -> Option<String> {
        let from = quote_exact(&self.from);
        let narrowed = format!("({from} IS NOT NULL AND TRY_CAST({} AS {}) IS DISTINCT FROM {from})", self.cast(), self.found);
        match (self.needs_cast(), self.nullable) {
            (true, true) => Some(narrowed),
            (true, false) => Some(format!("({from} IS NULL OR {narrowed})")),
            (false, true) => None,
            (false, false) => Some(format!("({from} IS NULL)")),
        }
    }
}

/// Stages Parquet files; the transaction is open.
pub(super) async fn stage(
    ingest: &mut Ingest<'_>,
    attempt: &mut Attempt,
    session: &mut dyn Session,
    staging: &TableName,
    files: &[FileEntry],
) -> Result<Rejects, Failure> {
    let scan = ingest.capabilities.scan_parquet.ok_or_else(|| {
        let message = format!("warehouse {} cannot read Parquet files of this machine", ingest.capabilities.name);
        Failure::new(FailureKind::Definition, "ingest::no_parquet", message)
    })?;
    let paths: Vec<PathBuf> = files.iter().map(|file| file.absolute.clone()).collect();
    let source = scan(&paths);
    let columns = columns(ingest, attempt, session, &source, files).await?;
    ingest.tally().open(files.len());
    let mut list: Vec<String> = columns.iter().map(|column| format!("{} AS {}", column.cast(), quote_exact(&column.name))).collect();
    if ingest.step.metadata {
        let request = &attempt.run.request;
        let now = request.clock.now().strftime("%Y-%m-%d %H:%M:%S%.6f").to_string();
        list.push(format!("{} AS _errand_run_id", quote_text(&request.run_id)));
        list.push(format!("{} AS _errand_source", relative_path(files)));
        list.push("file_row_number + 1 AS _errand_row".to_owned());
        list.push(format!("CAST('{now}' AS TIMESTAMP) AS _errand_loaded_at"));
    }
    let refused: Vec<String> = columns.iter().filter_map(Mapped::refused).collect();
    let fits = if refused.is_empty() { String::new() } else { format!(" WHERE NOT ({})", refused.join(" OR ")) };
    let sql = format!("CREATE TABLE {} AS SELECT {} FROM {source}{fits}", ingest.capabilities.quote_table(staging), list.join(", "));
    attempt.send(session, &sql).await.map_err(unreadable)?;
    count(ingest, attempt, session, &source, files, &columns).await?;
    let refusal = ingest.tally().refusal(&ingest.step.table);
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let kept = ingest.tally().rows().rejected;
    let mut rejects = Rejects::open(attempt, session, staging, &ingest.step.table, ingest.load.id()).await?;
    if kept > 0 {
        let into = ingest.capabilities.quote_table(rejects.staging());
        let sql = format!("INSERT INTO {into} {}", rejected_rows(&ingest.load.id(), &source, files, &columns));
        attempt.send(session, &sql).await?;
    }
    rejects.rows = kept;
    Ok(rejects)
}

fn unreadable(failure: Failure) -> Failure {
    let message = failure.message.lines().next().unwrap_or_default().to_owned();
    Failure { kind: FailureKind::Rejected, code: "ingest::unreadable".to_owned(), message, ..failure }
        .help("check that every file is whole and is Parquet")
}

/// Paths as the connection names them, from the paths that the warehouse saw.
fn relative_path(files: &[FileEntry]) -> String {
    let cases: Vec<String> =
        files.iter().map(|file| format!("WHEN {} THEN {}", quote_text(&file.absolute.to_string_lossy()), quote_text(&file.path))).collect();
    format!("CASE filename {} ELSE filename END", cases.join(" "))
}

async fn columns(
    ingest: &Ingest<'_>,
    attempt: &mut Attempt,
    session: &mut dyn Session,
    source: &str,
    files: &[FileEntry],
) -> Result<Vec<Mapped>, Failure> {
    let found: Vec<(String, String)> = session
        .describe(&format!("SELECT * EXCLUDE (filename, file_row_number) FROM {source}"))
        .await
        .map_err(unreadable)?
        .into_iter()
        .map(|column| (column.name, column.type_name))
        .collect();
    let type_name = |kind: ColumnType| (ingest.capabilities.type_name)(kind);
    let existing = existing_columns(session, &ingest.step.table).await?;
    let mut mapped = Vec::new();
    for column in &ingest.step.columns {
        let Some((from, kind)) = found.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.from)) else {
            let message = format!("column `{}` is not in `{}`", column.from, files[0].path);
            return Err(Failure::new(FailureKind::Rejected, "ingest::missing_column", message).help("correct `columns`, or the files"));
        };
        mapped.push(Mapped {
            name: column.name.clone(),
            from: from.clone(),
            wanted: type_name(column.kind),
            found: kind.clone(),
            nullable: column.nullable,
        });
    }
    for (name, kind) in found.iter().filter(|(name, _)| !ingest.step.columns.iter().any(|column| column.from.eq_ignore_ascii_case(name))) {
        let known = existing.as_ref().and_then(|columns| columns.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)));
        let wanted = match known {
            Some((_, wanted)) => type_name(*wanted),
            None if ingest.step.columns.is_empty() && existing.is_none() => kind.clone(),
            None => match ingest.step.schema_contract {
                SchemaContract::Evolve => {
                    attempt.record.warnings.push(format!("column `{name}` ({kind}) is new"));
                    kind.clone()
                }
                SchemaContract::DiscardValue => continue,
                SchemaContract::Freeze | SchemaContract::Quarantine | SchemaContract::DiscardRow => {
                    return Err(unexpected(name, kind, ingest));
                }
            },
        };
        mapped.push(Mapped { name: name.clone(), from: name.clone(), wanted, found: kind.clone(), nullable: true });
    }
    ingest.refuse_own_columns(mapped.iter().map(|column| column.name.as_str()))?;
    Ok(mapped)
}

/// In Parquet a column belongs to the whole file, so that contracts over single rows cannot let the others through.
fn unexpected(name: &str, kind: &str, ingest: &Ingest<'_>) -> Failure {
    let message = format!("column `{name}` ({kind}) is not expected in `{}`", ingest.step.table);
    let failure = Failure::new(FailureKind::Rejected, "ingest::unexpected_column", message);
    failure.help("declare it in `columns`, or choose `schema_contract: evolve` to load it, `discard_value` to leave it out")
}

/// Rows by file, and the first refused ones.
async fn count(
    ingest: &Ingest<'_>,
    attempt: &mut Attempt,
    session: &mut dyn Session,
    source: &str,
    files: &[FileEntry],
    columns: &[Mapped],
) -> Result<(), Failure> {
    let refused: Vec<String> = columns.iter().filter_map(Mapped::refused).collect();
    let refused = if refused.is_empty() { "FALSE".to_owned() } else { refused.join(" OR ") };
    let rows = session
        .query(&format!("SELECT filename, count(*), count(*) FILTER ({refused}) FROM {source} GROUP BY filename"), files.len())
        .await?;
    let mut total = 0;
    for row in rows {
        let mut row = row.into_iter().flatten();
        let (file, read, rejected) = (row.next().unwrap_or_default(), row.next(), row.next());
        let number = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let (read, rejected) = (number(read), number(rejected));
        total += rejected;
        if let Some(at) = files.iter().position(|entry| entry.absolute.to_string_lossy() == file) {
            ingest.tally().add_counts(at, read, Vec::new(), rejected);
        }
    }
    attempt.record.rows = ingest.tally().rows();
    if total > 0 {
        let sql =
            format!("SELECT file, \"row\", \"column\", error, raw FROM ({})", rejected_rows(&ingest.load.id(), source, files, columns));
        let first = session.query(&sql, 1000).await?.into_iter().map(|row| {
            let mut row = row.into_iter();
            let mut text = || row.next().flatten();
            let (file, number) = (text().unwrap_or_default(), text().and_then(|text| text.parse().ok()).unwrap_or(0));
            Rejected {
                file,
                row: number,
                line: 0,
                position: 0,
                byte_offset: 0,
                column: text(),
                error: text().unwrap_or_default(),
                raw: text().unwrap_or_default(),
                by_contract: false,
            }
        });
        ingest.tally().add_counts(0, 0, first.collect(), 0);
    }
    Ok(())
}

/// Refused rows in the columns of their table: Parquet has neither lines nor offsets.
fn rejected_rows(load_id: &str, source: &str, files: &[FileEntry], columns: &[Mapped]) -> String {
    let case = |of: fn(&Mapped) -> String| {
        let whens: Vec<String> =
            columns.iter().filter_map(|column| Some(format!("WHEN {} THEN {}", column.refused()?, of(column)))).collect();
        format!("CASE {} END", whens.join(" "))
    };
    let error = case(|column| {
        let expected = quote_text(&format!("expected {}, found `", column.wanted));
        format!("concat({expected}, coalesce(CAST({} AS VARCHAR), 'NULL'), '`')", quote_exact(&column.from))
    });
    let refused: Vec<String> = columns.iter().filter_map(Mapped::refused).collect();
    let data = quote_exact_list(columns.iter().map(|column| column.from.as_str()));
    format!(
        "SELECT {} AS load_id, {} AS file, file_row_number + 1 AS \"row\", 0 AS line, 0 AS byte_offset, {} AS \"column\", {error} AS error, \
         CAST(to_json(struct_pack({})) AS VARCHAR) AS raw FROM {source} WHERE {}",
        quote_text(load_id),
        relative_path(files),
        case(|column| quote_text(&column.name)),
        data.split(", ").zip(columns).map(|(_, column)| format!("{0} := {0}", quote_exact(&column.from))).collect::<Vec<_>>().join(", "),
        refused.join(" OR ")
    )
}
