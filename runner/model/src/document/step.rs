//! Steps as written: one of five kinds, each a document of its own.

use crate::decode::{Context, Decode, Entries, Scalar, Spanned, document, words};
use crate::value::{ColumnType, Label, Limit, Name, OneByte, Rate, TimeSpan};
use crate::yaml::{Node, NodeKind};

use super::job::RetryDocument;
use super::project::{LocationDocument, SecretDocument};

document! {
    /// One step of a job: exactly one of `sql`, `ingest`, `check`, `export`, `command`.
    pub struct StepDocument as "the step" {
        /// Name of the step within the job.
        required id: Name,
        /// The step's name for people.
        optional name: String,
        /// The steps that must have succeeded; by default the one above. `[]` starts at once.
        optional needs: Vec<Spanned<Name>>,
        /// A template expression without braces; the step is skipped when it is false.
        optional r#if: String,
        /// Longest time for one attempt.
        optional timeout: TimeSpan,
        /// How a failure is tried again.
        optional retry: RetryDocument,
        /// Whether a failure fails the run; `fail` by default.
        optional on_failure: OnFailure,
        @one_of {
            /// Statements, or a table built from a SELECT.
            sql: SqlDocument,
            /// Rows from files into a table.
            ingest: IngestDocument,
            /// Expectations on a table.
            check: CheckDocument,
            /// Rows into a file.
            export: ExportDocument,
            /// A program.
            command: CommandDocument,
        }
    }
}

words! {
    /// What a step's failure does to the run.
    pub enum OnFailure as "a way to treat failure" {
        /// Fails it.
        Fail = "fail",
        /// Is reported; the run goes on.
        Warn = "warn",
    }
}

document! {
    /// Statements in one transaction, or one SELECT that a table is built from.
    pub struct SqlDocument as "`sql`" {
        /// The warehouse; `warehouse` by default.
        optional connection: Label,
        /// `false` sends each statement by itself, without a transaction around all of them.
        optional transaction: bool,
        /// Builds this table from the SELECT.
        optional materialize: MaterializeDocument,
        /// Run on the built rows, before readers see them.
        optional checks: Vec<Spanned<ExpectationDocument>>,
        @one_of {
            /// A file beside the definition.
            file: String,
            /// The SQL itself.
            text: String,
        }
    }
}

document! {
    /// The table that a SELECT becomes.
    pub struct MaterializeDocument as "`materialize`" {
        /// The table, `name` or `schema.name`.
        required table: String,
        /// How new rows meet the old ones; `replace` by default.
        optional mode: Mode,
        /// The columns that identify a row.
        optional primary_key: Vec<Spanned<String>>,
        /// The column whose values `delete_insert` replaces whole.
        optional partition: String,
    }
}

words! {
    /// How new rows meet those already in the table.
    pub enum Mode as "a mode" {
        /// Added.
        Append = "append",
        /// Instead of all the old ones.
        Replace = "replace",
        /// Updated by primary key, otherwise added.
        Merge = "merge",
        /// Old rows with the same key or partition are deleted, then the new ones added.
        DeleteInsert = "delete_insert",
        /// Every version of a row is kept, with the time it was valid.
        Scd2 = "scd2",
    }
}

document! {
    /// Rows from a source into a table.
    pub struct IngestDocument as "`ingest`" {
        /// Where the rows come from.
        required source: SourceDocument,
        /// Where they go.
        required target: TargetDocument,
        /// How they meet the rows already there; `append` by default.
        optional mode: Mode,
        /// How rows reach a Snowflake warehouse; `copy` by default.
        optional through: Through,
        /// The columns that identify a row.
        optional primary_key: Vec<Spanned<String>>,
        /// The column that orders versions of a row.
        optional cursor: CursorDocument,
        /// Columns with their types; declared types win over inference.
        optional columns: Vec<Spanned<ColumnDocument>>,
        /// What happens to columns that are not expected; `freeze` by default.
        optional schema_contract: SchemaContract,
        /// Most rows that may be refused, a count or a rate; 0 by default.
        optional max_rejected: Limit,
        /// What no rows at all means; `fail` by default, to be written when the job has a schedule.
        optional on_empty: OnEmpty,
        /// Whether each row carries `_errand_run_id`, `_errand_source`, `_errand_row`, `_errand_loaded_at`; true by default.
        optional metadata: bool,
        /// Run on the staged rows, before readers see them.
        optional checks: Vec<Spanned<ExpectationDocument>>,
    }
}

words! {
    /// How rows reach a Snowflake warehouse.
    pub enum Through as "a way to load" {
        /// The run loads them, checks them and publishes them in one transaction.
        Copy = "copy",
        /// The pipe of the table loads the files where they lie, and the run waits for it.
        Pipe = "pipe",
    }
}

document! {
    /// Where rows come from.
    pub struct SourceDocument as "`source`" {
        @one_of {
            /// Files under a connection.
            files: FilesDocument,
        }
    }
}

document! {
    /// Files under a connection.
    pub struct FilesDocument as "`files`" {
        /// The connection that holds them.
        required connection: Label,
        /// Path or pattern (`*`, `**`, `?`, `[ab]`, `{a,b}`) under it.
        required path: String,
        /// What they are.
        required format: Format,
        /// Between fields; `,` by default.
        optional delimiter: OneByte,
        /// Whether the first record names the columns; true by default.
        optional header: bool,
        /// Around fields; `"` by default, `""` for none.
        optional quote: OneByte,
        /// Before a quote inside a quoted field; by default the quote is doubled.
        optional escape: OneByte,
        /// Whether each record ends with a delimiter.
        optional trailing_delimiter: bool,
        /// How text is encoded; `utf-8` by default. A byte order mark wins.
        optional encoding: Encoding,
        /// By default told by the file's name.
        optional compression: Compression,
        /// Unquoted fields that stand for NULL; `[""]` by default.
        optional null_values: Vec<Spanned<String>>,
    }
}

words! {
    /// What a file holds.
    pub enum Format as "a file format" {
        /// Delimited text.
        Csv = "csv",
        /// One JSON object a line.
        Jsonl = "jsonl",
        /// One JSON array of objects.
        Json = "json",
        /// Parquet.
        Parquet = "parquet",
        }
}

words! {
    /// How text is encoded.
    pub enum Encoding as "an encoding" {
        /// UTF-8.
        Utf8 = "utf-8",
        /// UTF-16 with a byte order mark, little-endian without one.
        Utf16 = "utf-16",
        /// ISO 8859-1.
        Latin1 = "latin-1",
        /// Windows-1252.
        Windows1252 = "windows-1252",
    }
}

words! {
    /// How a file is compressed.
    pub enum Compression as "a compression" {
        /// Told by the file's name: `.gz`, `.zst`, else none.
        Auto = "auto",
        /// None.
        None = "none",
        /// Gzip.
        Gzip = "gzip",
        /// Zstandard.
        Zstd = "zstd",
    }
}

document! {
    /// The table that rows go to.
    pub struct TargetDocument as "`target`" {
        /// The warehouse; `warehouse` by default.
        optional connection: Label,
        /// The table, `name` or `schema.name`.
        required table: String,
    }
}

document! {
    /// The column that orders versions of a row.
    pub struct CursorDocument as "`cursor`" {
        /// Its name in the target.
        required column: String,
    }
}

document! {
    /// One column of the target.
    pub struct ColumnDocument as "the column" {
        /// Its name in the target.
        required name: String,
        /// Its type.
        required r#type: ColumnType,
        /// Whether it may be NULL; true by default.
        optional nullable: bool,
        /// Its name in the source, where that differs.
        optional from: String,
        /// How dates and times are written, in the signs of strftime.
        optional format: String,
    }
}

words! {
    /// What happens to columns that are not expected.
    pub enum SchemaContract as "a schema contract" {
        /// The table gets them.
        Evolve = "evolve",
        /// The step fails.
        Freeze = "freeze",
        /// Rows that have a value in them are refused and kept.
        Quarantine = "quarantine",
        /// Rows that have a value in them are left out and counted as refused.
        DiscardRow = "discard_row",
        /// They are not loaded.
        DiscardValue = "discard_value",
    }
}

words! {
    /// What no rows at all means.
    pub enum OnEmpty as "a way to treat an empty source" {
        /// The step fails.
        Fail = "fail",
        /// A warning.
        Warn = "warn",
        /// Nothing.
        Ok = "ok",
    }
}

document! {
    /// Expectations on a table or on the result of a query.
    pub struct CheckDocument as "`check`" {
        /// The warehouse; `warehouse` by default.
        optional connection: Label,
        /// What must hold.
        required expect: Vec<Spanned<ExpectationDocument>>,
        @one_of {
            /// The table.
            table: String,
            /// A SELECT.
            query: String,
        }
    }
}

document! {
    /// One expectation.
    pub struct ExpectationDocument as "the check" {
        /// Its name for people.
        optional name: String,
        /// `error` fails the step, `warn` only reports; `error` by default.
        optional severity: CheckSeverity,
        /// Whether rows that break it are kept in a table.
        optional store_failures: bool,
        @one_of {
            /// These columns hold no NULL.
            not_null: Vec<Spanned<String>>,
            /// These columns together identify a row.
            unique: Vec<Spanned<String>>,
            /// A column holds only these values.
            accepted_values: AcceptedValuesDocument,
            /// Every value of a column stands in a column of another table.
            relationships: RelationshipsDocument,
            /// How many rows there are.
            row_count: RowCountDocument,
            /// How old the newest row is.
            freshness: FreshnessDocument,
            /// A condition that is true of every row.
            expression: String,
            /// A SELECT whose rows are the failures.
            sql: QueryDocument,
        }
    }
}

words! {
    /// How much a check matters.
    pub enum CheckSeverity as "a severity" {
        /// The step fails.
        Error = "error",
        /// A warning.
        Warn = "warn",
    }
}

document! {
    /// A column holds only these values.
    pub struct AcceptedValuesDocument as "`accepted_values`" {
        /// The column.
        required column: String,
        /// The values; NULL is always accepted.
        required values: Vec<Spanned<Scalar>>,
    }
}

document! {
    /// Every value of a column stands in a column of another table.
    pub struct RelationshipsDocument as "`relationships`" {
        /// The column; NULL is accepted.
        required column: String,
        /// The other table.
        required to: String,
        /// Its column.
        required field: String,
    }
}

document! {
    /// How many rows there are.
    pub struct RowCountDocument as "`row_count`" {
        /// At least.
        optional min: u64,
        /// At most.
        optional max: u64,
        /// Most that the count may change since the last run, up or down.
        optional change: Rate,
    }
}

document! {
    /// How old the newest row is.
    pub struct FreshnessDocument as "`freshness`" {
        /// A date or timestamp column.
        required column: String,
        /// Oldest that its newest value may be.
        required max_age: TimeSpan,
    }
}

document! {
    /// A SELECT.
    pub struct QueryDocument as "`sql`" {
        @one_of {
            /// A file beside the definition.
            file: String,
            /// The SQL itself.
            text: String,
        }
    }
}

document! {
    /// Rows into a file.
    pub struct ExportDocument as "`export`" {
        /// The warehouse; `warehouse` by default.
        optional connection: Label,
        /// What the file is.
        required format: ExportFormat,
        /// Where it goes; a file that is there is replaced whole.
        required to: LocationDocument,
        @one_of {
            /// A table.
            table: String,
            /// A SELECT.
            query: String,
            /// A file beside the definition with a SELECT.
            file: String,
        }
    }
}

words! {
    /// What an exported file is.
    pub enum ExportFormat as "an export format" {
        /// Delimited text with a header.
        Csv = "csv",
        /// One JSON object a line.
        Jsonl = "jsonl",
        /// Parquet.
        Parquet = "parquet",
    }
}

document! {
    /// A program in the checkout.
    pub struct CommandDocument as "`command`" {
        /// The program and its arguments; no shell is in between.
        required run: Vec<Spanned<String>>,
        /// Where it runs, relative to the repository; the job's folder by default.
        optional working_dir: String,
        /// All of its environment, but for `PATH`, `HOME` and Errand's own variables.
        optional env: Entries<EnvValue>,
        /// The outputs it must write, as lines `name=value`, to the file that `ERRAND_OUTPUT` names.
        optional outputs: Vec<Spanned<Name>>,
    }
}

/// A value of a command's environment: text or a secret.
#[derive(Clone, Debug)]
pub enum EnvValue {
    /// Text, which may hold templates.
    Text(Spanned<String>),
    /// A secret.
    Secret(SecretDocument),
}

impl Decode for EnvValue {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self> {
        match &node.kind {
            NodeKind::Mapping(_) => SecretDocument::decode(node, cx).map(Self::Secret),
            NodeKind::Number(text) => Some(Self::Text(Spanned { value: text.clone(), span: node.span.clone() })),
            NodeKind::Bool(value) => Some(Self::Text(Spanned { value: value.to_string(), span: node.span.clone() })),
            NodeKind::Null | NodeKind::Text(_) | NodeKind::Sequence(_) => Spanned::decode(node, cx).map(Self::Text),
        }
    }
}

impl schemars::JsonSchema for EnvValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EnvValue".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let secret = generator.subschema_for::<SecretDocument>();
        schemars::json_schema!({ "anyOf": [{ "type": ["string", "number", "boolean"] }, secret] })
    }
}
