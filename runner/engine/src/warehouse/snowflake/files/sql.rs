//! SQL texts of loading whole files, and what Snowflake would read otherwise than Errand.
//!
//! The rules are those of <https://docs.snowflake.com/en/sql-reference/sql/copy-into-table> and, for queries inside of `COPY`, of
//! <https://docs.snowflake.com/en/user-guide/data-load-transform>. Where they leave something open, [`check`] asks the loaded rows.

use errand_model::document::step::Compression;
use errand_model::job::TableName;
use errand_model::value::ColumnType;

use super::super::copy;
use super::super::history::quote;
use super::super::kind::{self, CAPABILITIES};
use crate::warehouse::{FileColumn, FileForm, FileGroup, GroupFile, TextForm};

/// Why Snowflake would not find the values of a group's files that Errand finds; none when it does.
pub(super) fn objection(group: &FileGroup) -> Option<String> {
    if group.columns.is_empty() {
        return Some("the files have none of the columns".to_owned());
    }
    match &group.form {
        // A time of day goes as text on all ways; JSON is checked by Errand before it is a VARIANT.
        FileForm::Parquet => {
            let other = group.columns.iter().find(|column| matches!(column.kind, ColumnType::Time | ColumnType::Json))?;
            Some(format!("column `{}` is `{}`", other.name, other.kind))
        }
        FileForm::Text(form) => text_objection(form, group.columns.len()),
    }
}

fn text_objection(form: &TextForm, fields: usize) -> Option<String> {
    let char = char::from;
    match form {
        // Of a field alone on its line, Errand says that a blank line is one; Snowflake calls that an error.
        _ if fields == 1 => Some("records have one field, and a blank line is one of them".to_owned()),
        // FIELD_OPTIONALLY_ENCLOSED_BY takes these two or none.
        TextForm { quote: Some(quote), .. } if !matches!(quote, b'"' | b'\'') => Some(format!("fields are quoted by `{}`", char(*quote))),
        // ESCAPE changes what follows it, whatever that is: `\n` becomes a line end.
        TextForm { escape: Some(escape), .. } => Some(format!("quotes are escaped by `{}`", char(*escape))),
        TextForm { delimiter: b'\\', .. } => Some("fields are separated by a backslash".to_owned()),
        TextForm { trailing_delimiter: true, .. } => Some("records end with a delimiter, which would be one more field".to_owned()),
        // NULL_IF replaces all instances of a value, those in quotes, too.
        TextForm { nulls, .. } => {
            nulls.iter().find(|null| !null.is_empty()).map(|null| format!("`{null}` stands for NULL, and in quotes for itself"))
        }
    }
}

/// Loads files of the stage. What is wrong with one row ends the statement; a query ignores ERROR_ON_COLUMN_COUNT_MISMATCH, so that
/// [`validate`] must have found nothing.
pub(super) fn load(table: &TableName, stage: &str, group: &FileGroup, files: &[GroupFile]) -> String {
    let (into, options) = (CAPABILITIES.quote_table(table), options(&group.form));
    let names = names(&group.columns).chain(group.metadata.iter().flatten().map(|name| CAPABILITIES.quote(name)));
    let (names, files) = (names.collect::<Vec<_>>().join(", "), keys(files));
    let from = match values(group) {
        Some(values) => format!("(SELECT {values} FROM {stage})"),
        None => stage.to_owned(),
    };
    format!("COPY INTO {into} ({names}) FROM {from} FILES = ({files}) FILE_FORMAT = ({options}) ON_ERROR = ABORT_STATEMENT")
}

/// Reads files of text as [`load`] would, loads nothing and returns what is wrong. None where the copy itself counts fields.
pub(super) fn validate(table: &TableName, stage: &str, group: &FileGroup, files: &[GroupFile]) -> Option<String> {
    if matches!(group.form, FileForm::Parquet) || group.metadata.is_none() {
        return None;
    }
    let (into, options, files) = (CAPABILITIES.quote_table(table), options(&group.form), keys(files));
    let names = names(&group.columns).collect::<Vec<_>>().join(", ");
    Some(format!("COPY INTO {into} ({names}) FROM {stage} FILES = ({files}) FILE_FORMAT = ({options}) VALIDATION_MODE = RETURN_ERRORS"))
}

/// Of each file its path, rows, first and last number, and how many rows hold what Errand would not have loaded so: NUL, which no text
/// has, and CR, which may be the end of a record.
pub(super) fn check(table: &TableName, group: &FileGroup) -> String {
    let table = CAPABILITIES.quote_table(table);
    let bad: Vec<String> = group
        .columns
        .iter()
        .filter(|column| column.kind == ColumnType::Text)
        .flat_map(|column| {
            let signs = if matches!(group.form, FileForm::Parquet) { &["CHR(0)"][..] } else { &["CHR(0)", "CHR(13)"] };
            signs.iter().map(|sign| format!("CONTAINS({}, {sign})", CAPABILITIES.quote(&column.name)))
        })
        .collect();
    let bad = if bad.is_empty() { "0".to_owned() } else { format!("COUNT_IF({})", bad.join(" OR ")) };
    match group.metadata.map(|names| names.map(|name| CAPABILITIES.quote(name))) {
        Some([source, row]) => {
            format!("SELECT {source}, COUNT(*), MIN({row}), MAX({row}), {bad} FROM {table} GROUP BY {source}")
        }
        None => format!("SELECT NULL, COUNT(*), NULL, NULL, {bad} FROM {table}"),
    }
}

/// Moves row numbers that do not begin at 1.
pub(super) fn renumber(table: &TableName, group: &FileGroup, first: i64, group_files: &[GroupFile]) -> Option<String> {
    let [source, row] = group.metadata?.map(|name| CAPABILITIES.quote(name));
    let paths = group_files.iter().map(|file| quote(&file.path)).collect::<Vec<_>>().join(", ");
    let (table, shift) = (CAPABILITIES.quote_table(table), first - 1);
    Some(format!("UPDATE {table} SET {row} = {row} - ({shift}) WHERE {source} IN ({paths})"))
}

fn names(columns: &[FileColumn]) -> impl Iterator<Item = String> + '_ {
    columns.iter().map(|column| CAPABILITIES.quote(&column.name))
}

fn keys(files: &[GroupFile]) -> String {
    files.iter().map(|file| quote(&file.key)).collect::<Vec<_>>().join(", ")
}

/// What a query inside of `COPY` selects; none where fields are taken as they come, which is when they are counted.
fn values(group: &FileGroup) -> Option<String> {
    let field = |(at, column): (usize, &FileColumn)| match group.form {
        FileForm::Text(_) => format!("${}", at + 1),
        FileForm::Parquet => format!("{}::{}", copy::field(&column.from), kind::type_name(column.kind)),
    };
    let mut values: Vec<String> = group.columns.iter().enumerate().map(field).collect();
    match (&group.form, group.metadata) {
        (FileForm::Text(_), None) => return None,
        (FileForm::Parquet, None) => {}
        (FileForm::Text(_) | FileForm::Parquet, Some(_)) => {
            values.push(source(&group.files));
            values.push("METADATA$FILE_ROW_NUMBER".to_owned());
        }
    }
    Some(values.join(", "))
}

/// `METADATA$FILENAME` is the path from the bucket on (<https://docs.snowflake.com/en/user-guide/querying-metadata>), a connection's begins
/// after its prefix.
fn source(files: &[GroupFile]) -> String {
    let before = files.first().and_then(|file| {
        let key = file.url.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).map_or(file.url.as_str(), |(_, key)| key);
        key.strip_suffix(&file.path).map(|prefix| prefix.chars().count())
    });
    match before {
        None | Some(0) => "METADATA$FILENAME".to_owned(),
        Some(before) => format!("SUBSTR(METADATA$FILENAME, {})", before + 1),
    }
}

/// Options of the file format: nothing is trimmed, replaced or skipped. What stands for NULL is what the definition says.
fn options(form: &FileForm) -> String {
    let FileForm::Text(form) = form else { return "TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE".to_owned() };
    let compression = match form.compression {
        Compression::Auto => "AUTO",
        Compression::None => "NONE",
        Compression::Gzip => "GZIP",
        Compression::Zstd => "ZSTD",
    };
    let word = |is: bool| if is { "TRUE" } else { "FALSE" };
    format!(
        "TYPE = CSV COMPRESSION = {compression} FIELD_DELIMITER = {} SKIP_HEADER = {} FIELD_OPTIONALLY_ENCLOSED_BY = {} ESCAPE = NONE \
         ESCAPE_UNENCLOSED_FIELD = NONE NULL_IF = () EMPTY_FIELD_AS_NULL = {} ERROR_ON_COLUMN_COUNT_MISMATCH = TRUE TRIM_SPACE = FALSE \
         REPLACE_INVALID_CHARACTERS = FALSE SKIP_BLANK_LINES = FALSE SKIP_BYTE_ORDER_MARK = TRUE ENCODING = 'UTF8'",
        sign(form.delimiter),
        u8::from(form.header),
        form.quote.map_or_else(|| "NONE".to_owned(), sign),
        word(form.nulls.iter().any(String::is_empty))
    )
}

/// A sign as an option takes it: in hexadecimal where it means something inside of quotes.
fn sign(byte: u8) -> String {
    if byte.is_ascii_graphic() && byte != b'\'' { format!("'{}'", char::from(byte)) } else { format!("'0x{byte:02x}'") }
}

#[cfg(test)]
mod tests;
