//! SQL texts of loading and unloading, and what their results say.

use errand_model::value::ColumnType;

use super::history::quote;
use super::kind;
use crate::warehouse::{AppendTarget, Capabilities, TableColumn, quote_exact};

/// Most files that one `COPY` may name.
pub(super) const FILES: usize = 1000;

/// Loads files of the stage, named relative to it, into the table. What is wrong with one row ends the statement.
///
/// By a query, not by MATCH_BY_COLUMN_NAME: that one gives NULL to columns that the files lack, in place of their defaults, and replaces
/// texts that NULL_IF names, `\N` by default (<https://docs.snowflake.com/en/sql-reference/sql/copy-into-table>).
pub(super) fn into_table(capabilities: &Capabilities, target: &AppendTarget, stage: &str, files: &[&str]) -> String {
    let table = capabilities.quote_table(&target.table);
    let files = files.iter().map(|file| quote(file)).collect::<Vec<_>>().join(", ");
    let names = capabilities.quote_list(target.columns.iter().map(|(name, _)| name.as_str()));
    let values = target.columns.iter().map(|(name, kind)| value(capabilities, name, *kind)).collect::<Vec<_>>().join(", ");
    format!(
        "COPY INTO {table} ({names}) FROM (SELECT {values} FROM {stage}) FILES = ({files}) \
         FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE) ON_ERROR = ABORT_STATEMENT"
    )
}

/// A column of a Parquet file, by its name to the letter.
pub(super) fn field(name: &str) -> String {
    // A path has no way to write a quote that is documented.
    if name.contains(['"', '\\']) { format!("GET($1, {})", quote(name)) } else { format!("$1:\"{name}\"") }
}

fn value(capabilities: &Capabilities, name: &str, column: ColumnType) -> String {
    let field = field(&capabilities.fold(name));
    match column {
        // Text does not become JSON by itself.
        ColumnType::Json => format!("PARSE_JSON({field}::VARCHAR)"),
        other => format!("{field}::{}", kind::type_name(other)),
    }
}

/// Writes the rows of a query to files under a path of the stage, in types that Parquet and Snowflake agree on: moments and times of day
/// as counts of microseconds, JSON as text.
pub(super) fn into_stage(stage: &str, path: &str, query: &str, columns: &[TableColumn]) -> String {
    let column = |column: &TableColumn| {
        let name = quote_exact(&column.name);
        let value = match column.kind {
            Some(ColumnType::Timestamp | ColumnType::Timestamptz) => format!("DATE_PART(EPOCH_MICROSECOND, {name})"),
            Some(ColumnType::Time) => format!("TIMEDIFF(MICROSECOND, '00:00:00'::TIME, {name})"),
            Some(ColumnType::Json) => format!("TO_JSON({name})"),
            Some(
                ColumnType::Boolean
                | ColumnType::Integer
                | ColumnType::Bigint
                | ColumnType::Decimal(..)
                | ColumnType::Double
                | ColumnType::Text
                | ColumnType::Date,
            ) => return name,
            None => format!("TO_VARCHAR({name})"),
        };
        format!("{value} AS {name}")
    };
    let list = columns.iter().map(column).collect::<Vec<_>>().join(", ");
    format!(
        "COPY INTO {stage}/{path}/ FROM (SELECT {list} FROM ({query}\n)) \
         FILE_FORMAT = (TYPE = PARQUET) HEADER = TRUE MAX_FILE_SIZE = 134217728 DETAILED_OUTPUT = TRUE"
    )
}

/// The URL in the answer to `DESC STAGE`, whose rows are of property, value and more; or in that to `SHOW STAGES`.
pub(super) fn stage_url(rows: &[Vec<Option<String>>]) -> Option<String> {
    let is_url = |text: &str| text.contains("://");
    let texts = rows.iter().flatten().flatten();
    let found = texts.map(|text| text.trim_matches(|c| matches!(c, '[' | ']' | '"'))).find(|text| is_url(text) && !text.contains(','))?;
    Some(found.to_owned())
}

#[cfg(test)]
mod tests {
    use errand_model::job::TableName;

    use super::*;

    fn target(columns: &[(&str, ColumnType)]) -> AppendTarget {
        let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        AppendTarget { table: TableName { schema: Some("raw".into()), name: "orders__stg".into() }, columns }
    }

    #[test]
    fn files_are_named_one_by_one_and_nothing_is_skipped() {
        let plain = target(&[("id", ColumnType::Bigint), ("At", ColumnType::Timestamptz)]);
        let twins = target(&[("a b", ColumnType::Bigint), ("A B", ColumnType::Bigint)]);
        let json = target(&[("id", ColumnType::Decimal(38, 2)), ("order", ColumnType::Json), ("t", ColumnType::Time)]);
        let sql = |target: &AppendTarget| into_table(&kind::CAPABILITIES, target, "@db.raw.stage", &["l/t/00000-ab.parquet", "l/t/o'x"]);
        insta::assert_snapshot!([sql(&plain), sql(&twins), sql(&json)].join("\n"), @r#"
        COPY INTO "RAW"."ORDERS__STG" ("ID", "AT") FROM (SELECT $1:"ID"::NUMBER(19,0), $1:"AT"::TIMESTAMP_TZ(6) FROM @db.raw.stage) FILES = ('l/t/00000-ab.parquet', 'l/t/o''x') FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE) ON_ERROR = ABORT_STATEMENT
        COPY INTO "RAW"."ORDERS__STG" ("a b", "A B") FROM (SELECT $1:"a b"::NUMBER(19,0), $1:"A B"::NUMBER(19,0) FROM @db.raw.stage) FILES = ('l/t/00000-ab.parquet', 'l/t/o''x') FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE) ON_ERROR = ABORT_STATEMENT
        COPY INTO "RAW"."ORDERS__STG" ("ID", "ORDER", "T") FROM (SELECT $1:"ID"::NUMBER(38,2), PARSE_JSON($1:"ORDER"::VARCHAR), $1:"T"::TIME(6) FROM @db.raw.stage) FILES = ('l/t/00000-ab.parquet', 'l/t/o''x') FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE) ON_ERROR = ABORT_STATEMENT
        "#);
    }

    #[test]
    fn unloaded_moments_are_counts() {
        let column = |name: &str, kind: Option<ColumnType>| TableColumn { name: name.into(), type_name: String::new(), kind };
        let columns = [
            column("ID", Some(ColumnType::Bigint)),
            column("At", Some(ColumnType::Timestamptz)),
            column("T", Some(ColumnType::Time)),
            column("J", Some(ColumnType::Json)),
            column("B", None),
        ];
        insta::assert_snapshot!(into_stage("@s", "unload/x", "select * from t", &columns), @r#"
        COPY INTO @s/unload/x/ FROM (SELECT "ID", DATE_PART(EPOCH_MICROSECOND, "At") AS "At", TIMEDIFF(MICROSECOND, '00:00:00'::TIME, "T") AS "T", TO_JSON("J") AS "J", TO_VARCHAR("B") AS "B" FROM (select * from t
        )) FILE_FORMAT = (TYPE = PARQUET) HEADER = TRUE MAX_FILE_SIZE = 134217728 DETAILED_OUTPUT = TRUE
        "#);
    }

    #[test]
    fn the_stage_says_its_url() {
        let row = |values: &[&str]| values.iter().map(|value| Some((*value).to_owned())).collect::<Vec<_>>();
        let rows = [row(&["STAGE_LOCATION", "URL", "String", "[\"s3://lake/errand/\"]", "[]"])];
        assert_eq!(stage_url(&rows).as_deref(), Some("s3://lake/errand/"));
        assert_eq!(stage_url(&[row(&["X", "file:///tmp/stage/"])]).as_deref(), Some("file:///tmp/stage/"));
        assert_eq!(stage_url(&[row(&["X", ""])]), None);
    }
}
