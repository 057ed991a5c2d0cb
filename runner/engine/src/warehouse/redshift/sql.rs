//! The texts of Redshift's SQL, as functions of their parts.

use errand_model::value::ColumnType;

use super::CAPABILITIES;
use crate::warehouse::{AppendTarget, TableColumn, quote_exact, quote_text};

/// Bytes of the longest text that a column holds.
pub(super) const TEXT_BYTES: usize = 65_535;
/// The temporary table that a load goes through.
const LOAD: &str = "_errand_load";
/// The temporary table that tells the columns of a query.
const DESCRIBE: &str = "_errand_describe";

/// The SQL name of a column type.
pub(super) fn type_name(kind: ColumnType) -> String {
    match kind {
        ColumnType::Boolean => "BOOLEAN".to_owned(),
        ColumnType::Integer => "INTEGER".to_owned(),
        ColumnType::Bigint => "BIGINT".to_owned(),
        ColumnType::Decimal(precision, scale) => format!("DECIMAL({precision},{scale})"),
        ColumnType::Double => "DOUBLE PRECISION".to_owned(),
        ColumnType::Text => format!("VARCHAR({TEXT_BYTES})"),
        ColumnType::Date => "DATE".to_owned(),
        ColumnType::Time => "TIME".to_owned(),
        ColumnType::Timestamp => "TIMESTAMP".to_owned(),
        ColumnType::Timestamptz => "TIMESTAMPTZ".to_owned(),
        ColumnType::Json => "SUPER".to_owned(),
    }
}

/// The table that files are copied into: their columns in their order, each of a type that `COPY` takes from Parquet.
pub(super) fn create_load(columns: &[(String, ColumnType)]) -> String {
    let column = |(at, (_, kind)): (usize, &(String, ColumnType))| {
        let kind = match kind {
            ColumnType::Time => "VARCHAR(32)".to_owned(),
            ColumnType::Timestamptz => "TIMESTAMP".to_owned(),
            ColumnType::Json => format!("VARCHAR({TEXT_BYTES})"),
            other => type_name(*other),
        };
        format!("c{} {kind}", at + 1)
    };
    let columns: Vec<String> = columns.iter().enumerate().map(column).collect();
    format!("CREATE TEMP TABLE {LOAD} ({})", columns.join(", "))
}

/// Copies the files of a manifest.
pub(super) fn copy(manifest: &str, iam_role: &str) -> String {
    format!("COPY {LOAD} FROM {} IAM_ROLE {} FORMAT AS PARQUET MANIFEST", quote_text(manifest), quote_text(iam_role))
}

/// Rows that the last `COPY` of the session loaded.
pub(super) const COPIED: &str = "SELECT pg_last_copy_count()";
/// Rows that the last `UNLOAD` of the session wrote.
pub(super) const UNLOADED: &str = "SELECT pg_last_unload_count()";

/// Moves the rows from the temporary table into their target.
pub(super) fn insert_loaded(target: &AppendTarget) -> String {
    let names = CAPABILITIES.quote_list(target.columns.iter().map(|(name, _)| name.as_str()));
    let value = |(at, (_, kind)): (usize, &(String, ColumnType))| {
        let column = format!("c{}", at + 1);
        match kind {
            ColumnType::Time => format!("CAST({column} AS TIME)"),
            ColumnType::Timestamptz => format!("{column} AT TIME ZONE 'UTC'"),
            ColumnType::Json => format!("JSON_PARSE({column})"),
            _ => column,
        }
    };
    let values: Vec<String> = target.columns.iter().enumerate().map(value).collect();
    format!("INSERT INTO {} ({names}) SELECT {} FROM {LOAD}", CAPABILITIES.quote_table(&target.table), values.join(", "))
}

/// Drops the temporary table of a load.
pub(super) fn drop_load() -> String {
    format!("DROP TABLE IF EXISTS {LOAD}")
}

/// An empty table with the columns of a query.
pub(super) fn create_describe(query: &str) -> String {
    format!("CREATE TEMP TABLE {DESCRIBE} AS SELECT * FROM ({query}\n) AS q LIMIT 0")
}

/// How many characters of [`create_describe`] stand before the query.
pub(super) fn describe_head() -> usize {
    format!("CREATE TEMP TABLE {DESCRIBE} AS SELECT * FROM (").chars().count()
}

/// The columns of that table.
pub(super) fn described() -> String {
    format!(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute \
         WHERE attrelid = '{DESCRIBE}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
}

/// Drops that table.
pub(super) fn drop_describe() -> String {
    format!("DROP TABLE IF EXISTS {DESCRIBE}")
}

/// Writes the rows of a query as Parquet files and a manifest of them, in the order of the query.
pub(super) fn unload(query: &str, columns: &[TableColumn], url: &str, iam_role: &str) -> String {
    let list: Vec<Option<String>> = columns.iter().enumerate().map(|(at, column)| unloaded(at + 1, column.kind)).collect();
    let query = if list.iter().all(Option::is_none) && !has_limit(query) {
        query.to_owned()
    } else {
        let names: Vec<String> = (1..=columns.len()).map(|at| format!("c{at}")).collect();
        let select: Vec<String> = list
            .into_iter()
            .zip(columns)
            .zip(&names)
            .map(|((value, column), name)| format!("{} AS {}", value.as_ref().unwrap_or(name), quote_exact(&column.name)))
            .collect();
        format!("SELECT {} FROM ({query}\n) AS q({})", select.join(", "), names.join(", "))
    };
    format!(
        "UNLOAD ({}) TO {} IAM_ROLE {} FORMAT AS PARQUET MANIFEST PARALLEL OFF MAXFILESIZE 128 MB ALLOWOVERWRITE",
        quote_query(&query),
        quote_text(url),
        quote_text(iam_role)
    )
}

/// What a column becomes on its way into Parquet, where it cannot stay as it is.
fn unloaded(at: usize, kind: Option<ColumnType>) -> Option<String> {
    match kind {
        Some(ColumnType::Json) => Some(format!("JSON_SERIALIZE(c{at})")),
        Some(ColumnType::Timestamptz) => Some(format!("c{at} AT TIME ZONE 'UTC'")),
        Some(ColumnType::Time) => Some(format!("CAST(c{at} AS VARCHAR(32))")),
        Some(_) => None,
        None => Some(format!("CAST(c{at} AS VARCHAR({TEXT_BYTES}))")),
    }
}

/// The outermost `SELECT` of an `UNLOAD` must have no `LIMIT`.
fn has_limit(query: &str) -> bool {
    query
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .any(|word| word.eq_ignore_ascii_case("limit") || word.eq_ignore_ascii_case("top"))
}

/// A query as a text literal: a backslash escapes there, as a quote does.
fn quote_query(query: &str) -> String {
    format!("'{}'", query.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The manifest that `COPY` reads: every file, and how long it must be.
pub(super) fn manifest(files: &[(String, u64)]) -> String {
    let entry = |(url, bytes): &(String, u64)| serde_json::json!({ "url": url, "mandatory": true, "meta": { "content_length": bytes } });
    serde_json::json!({ "entries": files.iter().map(entry).collect::<Vec<_>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use errand_model::job::TableName;

    use super::*;

    fn kinds() -> Vec<(String, ColumnType)> {
        [
            ("ok", ColumnType::Boolean),
            ("n", ColumnType::Integer),
            ("Id", ColumnType::Bigint),
            ("amount", ColumnType::Decimal(15, 2)),
            ("rate", ColumnType::Double),
            ("na me", ColumnType::Text),
            ("day", ColumnType::Date),
            ("at", ColumnType::Time),
            ("seen", ColumnType::Timestamp),
            ("moment", ColumnType::Timestamptz),
            ("extra", ColumnType::Json),
        ]
        .map(|(name, kind)| (name.to_owned(), kind))
        .to_vec()
    }

    #[test]
    fn a_load_goes_through_a_table_of_what_parquet_carries() {
        let target = AppendTarget { table: TableName { schema: Some("Raw".to_owned()), name: "orders".to_owned() }, columns: kinds() };
        let texts = [
            create_load(&target.columns),
            copy("s3://b/load/t/redshift.manifest", "arn:aws:iam::1:role/r"),
            insert_loaded(&target),
            drop_load(),
        ];
        insta::assert_snapshot!(texts.join(";\n"), @r#"
        CREATE TEMP TABLE _errand_load (c1 BOOLEAN, c2 INTEGER, c3 BIGINT, c4 DECIMAL(15,2), c5 DOUBLE PRECISION, c6 VARCHAR(65535), c7 DATE, c8 VARCHAR(32), c9 TIMESTAMP, c10 TIMESTAMP, c11 VARCHAR(65535));
        COPY _errand_load FROM 's3://b/load/t/redshift.manifest' IAM_ROLE 'arn:aws:iam::1:role/r' FORMAT AS PARQUET MANIFEST;
        INSERT INTO "raw"."orders" ("ok", "n", "id", "amount", "rate", "na me", "day", "at", "seen", "moment", "extra") SELECT c1, c2, c3, c4, c5, c6, c7, CAST(c8 AS TIME), c9, c10 AT TIME ZONE 'UTC', JSON_PARSE(c11) FROM _errand_load;
        DROP TABLE IF EXISTS _errand_load
        "#);
    }

    #[test]
    fn an_unload_that_needs_no_cast_keeps_the_query_and_its_order() {
        let columns = [TableColumn { name: "a".to_owned(), type_name: "integer".to_owned(), kind: Some(ColumnType::Integer) }];
        let sql = unload("SELECT a FROM t WHERE b = 'it''s \\ ' ORDER BY a", &columns, "s3://b/unload/x/", "arn:aws:iam::1:role/r");
        insta::assert_snapshot!(sql, @r"UNLOAD ('SELECT a FROM t WHERE b = \'it\'\'s \\ \' ORDER BY a') TO 's3://b/unload/x/' IAM_ROLE 'arn:aws:iam::1:role/r' FORMAT AS PARQUET MANIFEST PARALLEL OFF MAXFILESIZE 128 MB ALLOWOVERWRITE");
    }

    #[test]
    fn an_unload_casts_what_parquet_cannot_hold() {
        let column = |name: &str, kind| TableColumn { name: name.to_owned(), type_name: String::new(), kind };
        let columns = [
            column("a", Some(ColumnType::Integer)),
            column("j", Some(ColumnType::Json)),
            column("t", Some(ColumnType::Time)),
            column("m", Some(ColumnType::Timestamptz)),
            column("g \"x\"", None),
        ];
        let sql = unload("SELECT * FROM t LIMIT 5 -- five", &columns, "s3://b/unload/x/", "arn:aws:iam::1:role/r");
        insta::assert_snapshot!(sql, @r#"
        UNLOAD ('SELECT c1 AS "a", JSON_SERIALIZE(c2) AS "j", CAST(c3 AS VARCHAR(32)) AS "t", c4 AT TIME ZONE \'UTC\' AS "m", CAST(c5 AS VARCHAR(65535)) AS "g ""x""" FROM (SELECT * FROM t LIMIT 5 -- five
        ) AS q(c1, c2, c3, c4, c5)') TO 's3://b/unload/x/' IAM_ROLE 'arn:aws:iam::1:role/r' FORMAT AS PARQUET MANIFEST PARALLEL OFF MAXFILESIZE 128 MB ALLOWOVERWRITE
        "#);
    }

    #[test]
    fn a_query_is_described_by_an_empty_table() {
        let texts = [create_describe("SELECT 1 AS a"), described(), drop_describe()];
        insta::assert_snapshot!(texts.join(";\n"), @r"
        CREATE TEMP TABLE _errand_describe AS SELECT * FROM (SELECT 1 AS a
        ) AS q LIMIT 0;
        SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '_errand_describe'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
        DROP TABLE IF EXISTS _errand_describe
        ");
        assert!(create_describe("SELECT 1").chars().skip(describe_head()).collect::<String>().starts_with("SELECT 1"));
    }

    #[test]
    fn the_manifest_names_every_file_and_its_length() {
        let text = manifest(&[("s3://b/p/00000-ab.parquet".to_owned(), 12), ("s3://b/p/00001-cd.parquet".to_owned(), 7)]);
        insta::assert_snapshot!(text, @r#"{"entries":[{"url":"s3://b/p/00000-ab.parquet","mandatory":true,"meta":{"content_length":12}},{"url":"s3://b/p/00001-cd.parquet","mandatory":true,"meta":{"content_length":7}}]}"#);
    }
}
