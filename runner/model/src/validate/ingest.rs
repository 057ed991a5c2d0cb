//! `ingest`, and the keys that modes want.

use jiff::civil;
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::TimeZone;

use super::{Capability, Cx, check, piped, step};
use crate::decode::Spanned;
use crate::document::step::{
    ColumnDocument, Compression, CursorDocument, Encoding, FilesDocument, Format, IngestDocument, Mode, OnEmpty, SchemaContract, Through,
};
use crate::job::{Column, Files, IngestStep, Publish};
use crate::problem::nearest;
use crate::value::{ColumnType, Limit};
use crate::yaml::Span;

/// Columns that every loaded row carries.
const METADATA: &[&str] = &["_errand_run_id", "_errand_source", "_errand_row", "_errand_loaded_at"];

/// The keys of a definition that say how rows are published.
pub(super) struct Keys<'d> {
    pub(super) mode: Option<&'d Spanned<Mode>>,
    pub(super) default: Mode,
    pub(super) primary_key: Option<&'d Spanned<Vec<Spanned<String>>>>,
    pub(super) partition: Option<&'d Spanned<String>>,
    pub(super) cursor: Option<&'d Spanned<CursorDocument>>,
}

pub(super) fn ingest(document: &Spanned<IngestDocument>, has_schedule: bool, cx: &mut Cx<'_>) -> Option<IngestStep> {
    let contract = document.schema_contract.as_ref().map_or(SchemaContract::Freeze, |contract| contract.value);
    let columns = columns(document, cx);
    let written = document.columns.iter().flat_map(|columns| &columns.value);
    let mut known: Vec<&str> = written.filter_map(|column| column.name.as_ref()).map(|name| name.as_str()).collect();
    let is_closed = !known.is_empty() && contract != SchemaContract::Evolve;
    let keys = Keys {
        mode: document.mode.as_ref(),
        default: Mode::Append,
        primary_key: document.primary_key.as_ref(),
        partition: None,
        cursor: document.cursor.as_ref(),
    };
    let publish = publish(&keys, &document.span, is_closed.then_some(known.as_slice()), cx);
    let metadata = document.metadata.as_ref().is_none_or(|metadata| metadata.value);
    if metadata {
        known.extend(METADATA);
    }
    let checks = check::list(document.checks.as_ref(), is_closed.then_some(known.as_slice()), cx);
    let files = document.source.as_ref().and_then(|source| source.files.as_ref());
    let files = files.and_then(|files| self::files(files, document, cx));
    let target = document.target.as_ref();
    let table = target.and_then(|target| target.table.as_ref()).and_then(|table| step::table(table, cx));
    let connection = target.and_then(|target| cx.connection(target.connection.as_ref(), &target.span, Capability::Warehouse));
    if document.on_empty.is_none() && has_schedule {
        let span = cx.head(&document.span);
        let help = "add `on_empty: fail`, `warn` or `ok`: an empty source must never be a silent success";
        cx.error("definition::missing_on_empty", "a scheduled job must say what no rows at all mean", help, &span);
    }
    let through = document.through.as_ref().map_or(Through::Copy, |through| through.value);
    if through == Through::Pipe {
        piped::check(document, cx);
    }
    Some(IngestStep {
        files: files?,
        connection: connection?,
        table: table?,
        publish: publish?,
        through,
        schema_contract: contract,
        max_rejected: document.max_rejected.as_ref().map_or(Limit::Count(0), |limit| limit.value),
        on_empty: document.on_empty.as_ref().map_or(OnEmpty::Fail, |on_empty| on_empty.value),
        metadata,
        columns,
        checks,
    })
}

/// The mode with the keys it wants. `columns`: the only ones the table will have.
pub(super) fn publish(keys: &Keys<'_>, at: &Span, columns: Option<&[&str]>, cx: &mut Cx<'_>) -> Option<Publish> {
    let mode = keys.mode.map_or(keys.default, |mode| mode.value);
    let primary_key: Vec<String> = keys.primary_key.iter().flat_map(|key| &key.value).map(|column| column.value.clone()).collect();
    let span = keys.mode.map_or_else(|| cx.head(at), |mode| mode.span.clone());
    let is_missing = match mode {
        Mode::Merge | Mode::Scd2 => keys.primary_key.is_none(),
        Mode::DeleteInsert => keys.primary_key.is_none() && keys.partition.is_none(),
        Mode::Append | Mode::Replace => false,
    };
    if is_missing {
        let help = match mode {
            Mode::DeleteInsert => "add `primary_key: [column]`, or `partition: column` where a table is built",
            Mode::Append | Mode::Replace | Mode::Merge | Mode::Scd2 => "add `primary_key: [column]`: the columns that identify a row",
        };
        cx.error("definition::missing_primary_key", format!("mode `{mode}` needs a `primary_key`"), help, &span);
    }
    if let Some(partition) = keys.partition.filter(|_| mode != Mode::DeleteInsert) {
        let help = "write `mode: delete_insert`, or remove `partition`";
        cx.error("definition::conflict", format!("mode `{mode}` has no use for `partition`"), help, &partition.span);
    }
    if let Some(cursor) = keys.cursor.filter(|_| keys.primary_key.is_none() && !is_missing) {
        let help = "add `primary_key: [column]`, or remove `cursor`";
        cx.error("definition::conflict", "`cursor` orders rows that share a `primary_key`, and there is none", help, &cursor.span);
    }
    if let Some(key) = keys.primary_key {
        if cx.is_empty(key) {
            cx.error("definition::empty_value", "`primary_key` has no column", "name at least one column, or remove the key", &key.span);
        }
        distinct(&key.value, cx);
        key.value.iter().for_each(|column| known_column(column, columns, cx));
    }
    let cursor = keys.cursor.and_then(|cursor| cursor.column.as_ref());
    cursor.into_iter().chain(keys.partition).for_each(|column| known_column(column, columns, cx));
    Some(Publish {
        mode,
        primary_key,
        partition: keys.partition.map(|column| column.value.clone()),
        cursor: cursor.map(|column| column.value.clone()),
    })
}

/// Reports a column that the table cannot have.
pub(super) fn known_column(column: &Spanned<String>, columns: Option<&[&str]>, cx: &mut Cx<'_>) {
    if column.trim().is_empty() || column.chars().any(char::is_control) {
        cx.error("definition::bad_value", "this is no name of a column", "write the column's name", &column.span);
        return;
    }
    let Some(columns) = columns else { return };
    if !columns.iter().any(|known| known.eq_ignore_ascii_case(column)) {
        let help = match nearest(column, columns.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "declare it under `columns`".to_owned(),
        };
        cx.error("definition::unknown_column", format!("there is no column `{}`", column.value), help, &column.span);
    }
}

/// Reports names that stand twice, whatever their case.
pub(super) fn distinct(names: &[Spanned<String>], cx: &mut Cx<'_>) {
    for (index, name) in names.iter().enumerate() {
        if names[..index].iter().any(|other| other.eq_ignore_ascii_case(name)) {
            cx.error(
                "definition::duplicate_column",
                format!("column `{}` stands here twice", name.value),
                "remove one of them",
                &name.span,
            );
        }
    }
}

fn columns(document: &IngestDocument, cx: &mut Cx<'_>) -> Vec<Column> {
    let Some(columns) = &document.columns else { return Vec::new() };
    if cx.is_empty(columns) {
        cx.error("definition::empty_value", "`columns` has no column", "name the columns, or remove the key", &columns.span);
    }
    let names: Vec<Spanned<String>> = columns.iter().filter_map(|column| column.name.clone()).collect();
    distinct(&names, cx);
    columns.value.iter().filter_map(|document| column(document, cx)).collect()
}

fn column(document: &ColumnDocument, cx: &mut Cx<'_>) -> Option<Column> {
    if let Some(name) = &document.name {
        known_column(name, None, cx);
        if name.to_lowercase().starts_with("_errand_") {
            cx.error(
                "definition::reserved_name",
                format!("column `{}` is reserved", name.value),
                "names that start with `_errand_` are Errand's own",
                &name.span,
            );
        }
        if name.len() > 63 {
            cx.error(
                "definition::bad_value",
                format!("`{}` is longer than 63 bytes", name.value),
                "choose a shorter name; `from` holds the name in the source",
                &name.span,
            );
        }
    }
    if let (Some(format), Some(kind)) = (&document.format, &document.r#type) {
        let is_time = matches!(kind.value, ColumnType::Date | ColumnType::Time | ColumnType::Timestamp | ColumnType::Timestamptz);
        if !is_time {
            let help = "only dates and times have a format; remove it, or change the type";
            cx.error("definition::conflict", format!("a column of type `{}` has no `format`", kind.value), help, &format.span);
        } else if let Some((message, help)) = unreadable(format, kind.value) {
            cx.error("definition::bad_value", message, help, &format.span);
        }
    }
    let name = document.name.as_ref()?.value.clone();
    Some(Column {
        from: document.from.as_ref().map_or_else(|| name.clone(), |from| from.value.clone()),
        kind: document.r#type.as_ref()?.value,
        nullable: document.nullable.as_ref().is_none_or(|nullable| nullable.value),
        format: document.format.as_ref().map(|format| format.value.clone()),
        name,
    })
}

/// Why no value of a type can be read by a format, and what to do.
fn unreadable(format: &str, kind: ColumnType) -> Option<(String, &'static str)> {
    if !format.contains('%') {
        return Some((format!("`{format}` has no sign of strftime"), "write such as `%d/%m/%Y`"));
    }
    let signs = match signs(format) {
        Ok(signs) => signs,
        Err(unknown) => {
            let help = "write signs such as `%Y`, `%m`, `%d`, `%b`, `%H`, `%M`, `%S`, `%.f`, `%z`; `%%` is a percent sign";
            return Some((format!("`{unknown}` in `{format}` is no sign that values are read by"), help));
        }
    };
    let has = |letters: &str| signs.chars().any(|sign| letters.contains(sign));
    if has("Il") && !has("pP") {
        return Some((format!("`{format}` has hours from 1 to 12 and does not say of which half of the day"), "add `%p`, or write `%H`"));
    }
    if has("pP") && has("HkTR") {
        return Some((format!("`{format}` has hours from 0 to 23 and `%p` beside them"), "write `%I`, or remove `%p`"));
    }
    let sample = civil::date(2026, 11, 19).at(14, 25, 36, 123_456_000).to_zoned(TimeZone::UTC).ok()?;
    let parts = strtime::format(format, &sample).and_then(|text| strtime::parse(format, text)).ok();
    let reads = |read: fn(&BrokenDownTime) -> bool| parts.as_ref().is_some_and(read);
    let refusal = |what: &str, help: &'static str| Some((format!("`{format}` {what}"), help));
    match kind {
        ColumnType::Date if !reads(|parts| parts.to_date().is_ok()) => {
            refusal("makes no date", "a date has a year, a month and a day, such as `%d/%m/%Y`")
        }
        ColumnType::Time if !reads(|parts| parts.hour().is_some() && parts.to_time().is_ok()) => {
            refusal("makes no time of day", "write such as `%H:%M:%S`")
        }
        ColumnType::Timestamp if has("zQs") => refusal("has a zone, or says the moment by itself", "declare `timestamptz`"),
        ColumnType::Timestamp if !reads(|parts| parts.to_datetime().is_ok()) => {
            refusal("makes no date and time", "write such as `%d/%m/%Y %H:%M:%S`")
        }
        ColumnType::Timestamptz if !reads(|parts| parts.to_timestamp().is_ok() || parts.to_zoned().is_ok()) => {
            refusal("makes no moment", "write such as `%d/%m/%Y %H:%M:%S %z`, or declare `timestamp` for times without a zone")
        }
        ColumnType::Date
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::Timestamptz
        | ColumnType::Boolean
        | ColumnType::Integer
        | ColumnType::Bigint
        | ColumnType::Decimal(..)
        | ColumnType::Double
        | ColumnType::Text
        | ColumnType::Json => None,
    }
}

/// The letters of the signs of a format, or the first sign that values cannot be read by.
fn signs(format: &str) -> Result<String, String> {
    let mut letters = String::new();
    let mut rest = format;
    while let Some((_, sign)) = rest.split_once('%') {
        let bare = sign.trim_start_matches(['_', '-', '0', '^', '#']);
        let bare = bare.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let is_fraction = bare.strip_prefix('.').is_some_and(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('f'));
        let bare = bare.trim_start_matches(':');
        let letter = bare.chars().next();
        let known = letter.filter(|letter| is_fraction || "AaBbDdeFfGgHhIjklMmNnPpQRSsTtUuVWwYyz%".contains(*letter));
        let length = sign.len() - bare.len() + letter.map_or(0, char::len_utf8);
        letters.push(known.ok_or_else(|| format!("%{}", &sign[..length]))?);
        rest = &sign[length..];
    }
    Ok(letters)
}

fn files(document: &Spanned<FilesDocument>, ingest: &IngestDocument, cx: &mut Cx<'_>) -> Option<Files> {
    let connection = document.connection.as_ref().and_then(|label| cx.connection(Some(label), &document.span, Capability::Files));
    let path = document.path.as_ref().and_then(|path| cx.path_template(path));
    let format = document.format.as_ref().map(|format| format.value);
    if let Some(format) = format {
        foreign_keys(document, format, cx);
    }
    let header = document.header.as_ref().is_none_or(|header| header.value);
    if !header {
        headless(document, ingest, cx);
    }
    let delimiter = delimiter(document, cx);
    let quote = document.quote.as_ref().map_or(Some(b'"'), |quote| quote.value.0);
    let escape = document.escape.as_ref().and_then(|escape| escape.value.0);
    if let Some(written) = document.quote.as_ref().or(document.delimiter.as_ref()).filter(|_| quote == Some(delimiter)) {
        cx.error("definition::conflict", "`quote` and `delimiter` are the same character", "change one of them", &written.span);
    }
    if let Some(written) = document.escape.as_ref().filter(|_| quote.is_none() || escape == Some(delimiter)) {
        cx.error(
            "definition::conflict",
            "`escape` stands before a quote in quoted fields; here it cannot",
            "remove it, or set `quote`",
            &written.span,
        );
    }
    Some(Files {
        connection: connection?,
        path: path?,
        format: format?,
        delimiter,
        header,
        quote,
        escape,
        trailing_delimiter: document.trailing_delimiter.as_ref().is_some_and(|trailing| trailing.value),
        encoding: document.encoding.as_ref().map_or(Encoding::Utf8, |encoding| encoding.value),
        compression: document.compression.as_ref().map_or(Compression::Auto, |compression| compression.value),
        null_values: document
            .null_values
            .as_ref()
            .map_or_else(|| vec![String::new()], |values| values.iter().map(|value| value.value.clone()).collect()),
    })
}

fn delimiter(document: &FilesDocument, cx: &mut Cx<'_>) -> u8 {
    let Some(delimiter) = &document.delimiter else { return b',' };
    delimiter.value.0.unwrap_or_else(|| {
        cx.error("definition::bad_value", "fields need a character between them", "write one, such as `\",\"`", &delimiter.span);
        b','
    })
}

/// Keys that say something only of other formats.
fn foreign_keys(document: &FilesDocument, format: Format, cx: &mut Cx<'_>) {
    let csv_only = [
        ("delimiter", document.delimiter.as_ref().map(|key| &key.span)),
        ("header", document.header.as_ref().map(|key| &key.span)),
        ("quote", document.quote.as_ref().map(|key| &key.span)),
        ("escape", document.escape.as_ref().map(|key| &key.span)),
        ("trailing_delimiter", document.trailing_delimiter.as_ref().map(|key| &key.span)),
        ("null_values", document.null_values.as_ref().map(|key| &key.span)),
    ];
    let text_only = [
        ("encoding", document.encoding.as_ref().map(|key| &key.span)),
        ("compression", document.compression.as_ref().map(|key| &key.span)),
    ];
    let refused = match format {
        Format::Csv => Vec::new(),
        Format::Jsonl | Format::Json => csv_only.to_vec(),
        Format::Parquet => csv_only.into_iter().chain(text_only).collect(),
    };
    for (key, span) in refused {
        let Some(span) = span.cloned() else { continue };
        cx.error("definition::conflict", format!("`{key}` means nothing to a `{format}` file"), "remove it, or change `format`", &span);
    }
}

/// Without a header, columns are told by their order.
fn headless(document: &FilesDocument, ingest: &IngestDocument, cx: &mut Cx<'_>) {
    let Some(header) = &document.header else { return };
    match &ingest.columns {
        None => cx.error(
            "definition::missing_key",
            "a file without a header needs `columns`",
            "list them in the order of the file",
            &header.span,
        ),
        Some(columns) => {
            for from in columns.iter().filter_map(|column| column.from.as_ref()) {
                let help = "remove it: columns are told by their order";
                cx.error("definition::conflict", "a file without a header has no names to read `from`", help, &from.span);
            }
        }
    }
}
