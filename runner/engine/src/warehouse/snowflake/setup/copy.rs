//! Tables and pipes of ingests with `through: pipe`.

use errand_model::document::step::{Compression, Encoding, Format};
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Column, Connection, Files, IngestStep, TableName};
use errand_model::value::ColumnType;

use super::super::kind::{self, CAPABILITIES};
use super::super::pipe;
use super::pattern::expression;
use super::{Place, Request, Section};
use crate::warehouse::quote_exact;

/// Columns that the pipe writes, and from what; the first is the run's and stays NULL.
const METADATA: [(&str, ColumnType, Option<&str>); 4] = [
    ("_errand_run_id", ColumnType::Text, None),
    ("_errand_source", ColumnType::Text, Some("METADATA$FILENAME")),
    ("_errand_row", ColumnType::Bigint, Some("METADATA$FILE_ROW_NUMBER")),
    ("_errand_loaded_at", ColumnType::Timestamp, Some("METADATA$START_SCAN_TIME")),
];

/// The section of each pipe: its table, then the pipe; none when there are no pipes.
pub(super) fn sections(request: &Request<'_>, place: &Place) -> Result<Vec<Section>, Failure> {
    let mut statements = Vec::new();
    let mut tables: Vec<(TableName, &str)> = Vec::new();
    for (name, step) in request.piped {
        let refused = |message: &str, help: &str| {
            let message = format!("{name} cannot be loaded through a pipe: {message}");
            Failure::new(FailureKind::Definition, "setup::no_pipe", message).help(help)
        };
        // A schema that is made becomes the current one: names say theirs.
        let schema = step.table.schema.clone().unwrap_or_else(|| request.account.schema.clone());
        let table = TableName { schema: Some(CAPABILITIES.fold(&schema)), name: CAPABILITIES.fold(&step.table.name) };
        if let Some((_, other)) = tables.iter().find(|(known, _)| *known == table) {
            let message = format!("`{}` has a pipe already, that of {other}", step.table);
            return Err(refused(&message, "write `through: copy` in one of them, or let one step load the files of both"));
        }
        tables.push((table.clone(), name));
        let pipe = Pipe { request, place, name, step, table, refused: &refused };
        statements.push(pipe.table()?);
        statements.push(pipe.create()?);
    }
    if statements.is_empty() {
        return Ok(Vec::new());
    }
    let why = "One pipe beside each table that an ingest with `through: pipe` fills. A file is loaded whole or not at all (SKIP_FILE is what a pipe knows of \
               that), and the run names one that was not. Let the bucket send its events (s3:ObjectCreated:*) to the `notification_channel` that SHOW PIPES \
               shows. Files that were there before are loaded by `ALTER PIPE ... REFRESH`. A pipe whose ingest has changed is not changed here: drop it first, \
               and mind that a new one may load a file again."
        .to_owned();
    statements.push("SHOW PIPES".to_owned());
    Ok(vec![Section { title: "Pipes", why, statements }])
}

struct Pipe<'a> {
    request: &'a Request<'a>,
    place: &'a Place,
    name: &'a str,
    step: &'a IngestStep,
    /// The target with its schema.
    table: TableName,
    refused: &'a dyn Fn(&str, &str) -> Failure,
}

impl Pipe<'_> {
    fn table(&self) -> Result<String, Failure> {
        if self.step.columns.is_empty() {
            return Err((self.refused)("a pipe must know its columns beforehand", "declare `columns`, or write `through: copy`"));
        }
        let column = |column: &Column| {
            let not_null = if column.nullable { "" } else { " NOT NULL" };
            format!("{} {}{not_null}", CAPABILITIES.quote(&column.name), kind::type_name(column.kind))
        };
        let mut columns: Vec<String> = self.step.columns.iter().map(column).collect();
        if self.step.metadata {
            columns.extend(METADATA.iter().map(|(name, kind, _)| format!("{} {}", CAPABILITIES.quote(name), kind::type_name(*kind))));
        }
        Ok(format!("CREATE TABLE IF NOT EXISTS {} (\n{}\n)", CAPABILITIES.quote_table(&self.table), columns.join(",\n")))
    }

    fn create(&self) -> Result<String, Failure> {
        let table = CAPABILITIES.quote_table(&self.table);
        let pipe = CAPABILITIES.quote_table(&self.table.sibling(pipe::name(&self.table.name)));
        let (files, comment) = (&self.step.files, CAPABILITIES.text(&format!("errand: {}", self.name)));
        let by_name = files.format == Format::Csv && files.header;
        let copy = if by_name { self.matched()? } else { self.selected()? };
        let (into, after) = copy;
        Ok(format!(
            "CREATE PIPE IF NOT EXISTS {pipe}\nAUTO_INGEST = TRUE\nCOMMENT = {comment}\nAS COPY INTO {table}{into}\nPATTERN = {}\n\
             FILE_FORMAT = ({})\n{after}ON_ERROR = SKIP_FILE",
            CAPABILITIES.text(&self.pattern()?),
            self.format()?.join("\n    "),
        ))
    }

    /// CSV with a header: columns by their names, in whichever order a file has them.
    fn matched(&self) -> Result<(String, String), Failure> {
        let same = |column: &&Column| column.format.is_some() || !column.from.eq_ignore_ascii_case(&column.name);
        if let Some(column) = self.step.columns.iter().find(same) {
            let message = format!("column `{}` has another name or a `format` in files with a header", column.name);
            let help = "remove `from` and `format`, or write files with `header: false`, or `through: copy`";
            return Err((self.refused)(&message, help));
        }
        let mut after = "MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE\n".to_owned();
        if self.step.metadata {
            let include = METADATA.iter().filter_map(|(name, _, from)| Some(format!("{} = {}", CAPABILITIES.quote(name), (*from)?)));
            after.push_str(&format!("INCLUDE_METADATA = ({})\n", include.collect::<Vec<_>>().join(", ")));
        }
        Ok((format!("\nFROM {}", self.place.with_path), after))
    }

    /// Other files: values by place or by key.
    fn selected(&self) -> Result<(String, String), Failure> {
        let mut names: Vec<String> = self.step.columns.iter().map(|column| CAPABILITIES.quote(&column.name)).collect();
        let mut values = Vec::new();
        for (at, column) in self.step.columns.iter().enumerate() {
            let source = match self.step.files.format {
                Format::Csv => format!("${}", at + 1),
                Format::Json | Format::Jsonl | Format::Parquet => format!("$1:{}", quote_exact(&column.from)),
            };
            values.push(self.value(&source, column)?);
        }
        if self.step.metadata {
            for (name, _, from) in METADATA {
                let Some(from) = from else { continue };
                names.push(CAPABILITIES.quote(name));
                values.push(if from == "METADATA$START_SCAN_TIME" {
                    format!("CONVERT_TIMEZONE('UTC', {from})::TIMESTAMP_NTZ(6)")
                } else {
                    from.to_owned()
                });
            }
        }
        let (names, values) = (names.join(", "), values.join(",\n    "));
        Ok((format!("\n({names})\nFROM (SELECT\n    {values}\n    FROM {})", self.place.with_path), String::new()))
    }

    fn value(&self, source: &str, column: &Column) -> Result<String, Failure> {
        let Some(format) = &column.format else {
            return Ok(match column.kind {
                ColumnType::Json if self.step.files.format == Format::Jsonl => source.to_owned(),
                ColumnType::Json => format!("PARSE_JSON({source}::VARCHAR)"),
                kind => format!("{source}::{}", kind::type_name(kind)),
            });
        };
        let function = match column.kind {
            ColumnType::Date => "TO_DATE",
            ColumnType::Time => "TO_TIME",
            ColumnType::Timestamp => "TO_TIMESTAMP_NTZ",
            ColumnType::Timestamptz => "TO_TIMESTAMP_TZ",
            _ => return Ok(format!("{source}::{}", kind::type_name(column.kind))),
        };
        let signs = signs(format).ok_or_else(|| {
            let message = format!("the `format` of column `{}`, `{format}`, has no counterpart in Snowflake", column.name);
            (self.refused)(&message, "write the column in the files as in `2026-11-19`, or `through: copy`")
        })?;
        Ok(format!("{function}({source}::VARCHAR, {})", CAPABILITIES.text(&signs)))
    }

    /// The paths of its files under the stage.
    fn pattern(&self) -> Result<String, Failure> {
        let files = &self.step.files;
        let lake = match self.request.environment.connections.get(files.connection.as_str()) {
            Some(Connection::S3(s3)) => format!("s3://{}/{}", s3.bucket, s3.prefix),
            Some(Connection::Directory { path }) => format!("file://{path}"),
            _ => String::new(),
        };
        let lake = format!("{}/", lake.trim_end_matches('/'));
        let Some(prefix) = lake.strip_prefix(&self.place.root) else {
            let message = format!("its files lie at `{lake}`, not under `{}`, the URL of the stage", self.place.root);
            return Err((self.refused)(&message, "let `staging` be a place above the files, or write `through: copy`"));
        };
        let expression = expression(prefix, files.path.source());
        if [".*", "(.*/)?", "[^/]*/"].iter().any(|start| expression.starts_with(start)) && files.format == Format::Parquet {
            let message = "its pattern would also name the files that errand stages for other loads".to_owned();
            return Err((self.refused)(&message, "bring its files into a directory of their own, and name that in `path`"));
        }
        Ok(expression)
    }

    /// Options of the file format: nothing trimmed, replaced or skipped.
    fn format(&self) -> Result<Vec<String>, Failure> {
        let files = &self.step.files;
        let compression = match files.compression {
            Compression::Auto => "AUTO",
            Compression::None => "NONE",
            Compression::Gzip => "GZIP",
            Compression::Zstd => "ZSTD",
        };
        Ok(match files.format {
            Format::Parquet => vec!["TYPE = PARQUET".to_owned(), "USE_VECTORIZED_SCANNER = TRUE".to_owned()],
            Format::Json | Format::Jsonl => {
                if files.encoding != Encoding::Utf8 {
                    return Err((self.refused)("JSON is read as UTF-8", "write the files in UTF-8, or `through: copy`"));
                }
                let not = ["STRIP_OUTER_ARRAY", "STRIP_NULL_VALUES", "ALLOW_DUPLICATE", "TRIM_SPACE", "REPLACE_INVALID_CHARACTERS"];
                let options = not.map(|option| format!("{option} = FALSE"));
                ["TYPE = JSON".to_owned()].into_iter().chain(options).chain([format!("COMPRESSION = {compression}")]).collect()
            }
            Format::Csv => {
                if files.trailing_delimiter {
                    let help = "write the files without it, or `through: copy`";
                    return Err((self.refused)("records end with a delimiter, which would be one more column", help));
                }
                csv(files, compression)
            }
        })
    }
}

fn csv(files: &Files, compression: &str) -> Vec<String> {
    let sign = |byte: u8| CAPABILITIES.text(&char::from(byte).to_string());
    let encoding = match files.encoding {
        Encoding::Utf8 => "UTF8",
        Encoding::Utf16 => "UTF16",
        Encoding::Latin1 => "ISO88591",
        Encoding::Windows1252 => "WINDOWS1252",
    };
    let nulls: Vec<String> = files.null_values.iter().filter(|word| !word.is_empty()).map(|word| CAPABILITIES.text(word)).collect();
    let empty = if files.null_values.iter().any(String::is_empty) { "TRUE" } else { "FALSE" };
    let mut options = vec![
        "TYPE = CSV".to_owned(),
        format!("FIELD_DELIMITER = {}", sign(files.delimiter)),
        format!("FIELD_OPTIONALLY_ENCLOSED_BY = {}", files.quote.map_or("NONE".to_owned(), sign)),
        format!("ESCAPE = {}", files.escape.map_or("NONE".to_owned(), sign)),
        "ESCAPE_UNENCLOSED_FIELD = NONE".to_owned(),
        format!("NULL_IF = ({})", nulls.join(", ")),
        format!("EMPTY_FIELD_AS_NULL = {empty}"),
        "TRIM_SPACE = FALSE".to_owned(),
        "REPLACE_INVALID_CHARACTERS = FALSE".to_owned(),
        format!("ENCODING = '{encoding}'"),
        format!("COMPRESSION = {compression}"),
    ];
    // Columns are matched by name, and those of the metadata are in no file: their numbers differ.
    options.push(if files.header { "PARSE_HEADER = TRUE".to_owned() } else { "SKIP_HEADER = 0".to_owned() });
    options.push(format!("ERROR_ON_COLUMN_COUNT_MISMATCH = {}", if files.header { "FALSE" } else { "TRUE" }));
    options
}

/// The signs of strftime in those of Snowflake; none when one has no counterpart.
fn signs(format: &str) -> Option<String> {
    let (mut out, mut chars) = (String::new(), format.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '%' => out.push_str(match chars.next()? {
                'Y' => "YYYY",
                'y' => "YY",
                'm' => "MM",
                'd' => "DD",
                'b' => "MON",
                'H' => "HH24",
                'I' => "HH12",
                'p' => "AM",
                'M' => "MI",
                'S' => "SS",
                'f' => "FF",
                'z' => "TZHTZM",
                'F' => "YYYY-MM-DD",
                'T' => "HH24:MI:SS",
                _ => return None,
            }),
            c if c.is_ascii_alphabetic() || c == '"' => {
                out.push('"');
                out.push(c);
                out.push('"');
            }
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::signs;

    #[test]
    fn formats_of_dates_are_translated_or_refused() {
        assert_eq!(signs("%d/%m/%Y").as_deref(), Some("DD/MM/YYYY"));
        assert_eq!(signs("%Y-%m-%dT%H:%M:%S").as_deref(), Some("YYYY-MM-DD\"T\"HH24:MI:SS"));
        assert_eq!(signs("%j"), None);
    }
}
