//! Types of Snowflake, and what it can do, as data.
//!
//! A `timestamptz` is a `TIMESTAMP_TZ`: it keeps the instant, always written in UTC, and looks the same to readers in every time zone.
//!
//! Whole numbers have digits, not bits. A column of 10 digits holds more than 32 bits do, so it is read as a `bigint`, whoever made it. One of 19 is
//! what Errand gives to a `bigint`, and is read as one: a value of somebody else's above 64 bits fails there, and is never cut.

use errand_model::value::ColumnType;
use snowflake_connector_rs::{Column, ColumnType as Wire};

use crate::warehouse::{Capabilities, Case, Fence, TableColumn, is_not_distinct};

pub(in crate::warehouse) static CAPABILITIES: Capabilities = Capabilities {
    name: "snowflake",
    case: Case::Upper,
    dialect: errand_model::template::scanner::Dialect::Snowflake,
    type_name,
    staging: "TRANSIENT TABLE",
    transactional_ddl: false,
    // https://docs.snowflake.com/en/sql-reference/transactions
    commits: &["CREATE", "ALTER", "DROP", "UNDROP", "TRUNCATE", "GRANT", "REVOKE", "COMMENT"],
    // `UPDATE`, `DELETE` and `MERGE` wait for each other, table by table.
    lock_table: None,
    moment_in_utc,
    renames: false,
    keeps_table: None,
    row_id: None,
    null_safe_equal: is_not_distinct,
    try_cast: false,
    merge: true,
    fence: Fence::Claim,
    scan_parquet: None,
    write_file: None,
    begin_reading: None,
};

/// A cast alone would keep the wall clock of a `TIMESTAMP_TZ` and drop its offset. What has no zone is in that of the session, UTC.
fn moment_in_utc(moment: &str) -> String {
    format!("CAST(CONVERT_TIMEZONE('UTC', CAST({moment} AS TIMESTAMP_TZ(6))) AS TIMESTAMP_NTZ(6))")
}

/// Snowflake's name of a type.
pub(super) fn type_name(kind: ColumnType) -> String {
    match kind {
        ColumnType::Boolean => "BOOLEAN".to_owned(),
        ColumnType::Integer => "NUMBER(10,0)".to_owned(),
        ColumnType::Bigint => "NUMBER(19,0)".to_owned(),
        ColumnType::Decimal(precision, scale) => format!("NUMBER({precision},{scale})"),
        ColumnType::Double => "FLOAT".to_owned(),
        ColumnType::Text => "VARCHAR".to_owned(),
        ColumnType::Date => "DATE".to_owned(),
        ColumnType::Time => "TIME(6)".to_owned(),
        ColumnType::Timestamp => "TIMESTAMP_NTZ(6)".to_owned(),
        ColumnType::Timestamptz => "TIMESTAMP_TZ(6)".to_owned(),
        ColumnType::Json => "VARIANT".to_owned(),
    }
}

/// Errand's word for a type as `DESC TABLE` writes it.
pub(super) fn parse(type_name: &str) -> Option<ColumnType> {
    let upper = type_name.trim().to_ascii_uppercase();
    let (word, arguments) = upper.split_once('(').map_or((upper.as_str(), ""), |(word, rest)| (word, rest.trim_end_matches(')')));
    let numbers: Vec<u8> = arguments.split(',').filter_map(|text| text.trim().parse().ok()).collect();
    Some(match word.trim() {
        "BOOLEAN" => ColumnType::Boolean,
        "NUMBER" | "DECIMAL" | "NUMERIC" => number(numbers.first().copied().unwrap_or(38), numbers.get(1).copied().unwrap_or(0)),
        "INT" | "INTEGER" | "BIGINT" | "SMALLINT" | "TINYINT" | "BYTEINT" => ColumnType::Decimal(38, 0),
        "FLOAT" | "FLOAT4" | "FLOAT8" | "DOUBLE" | "DOUBLE PRECISION" | "REAL" => ColumnType::Double,
        "VARCHAR" | "TEXT" | "STRING" | "CHAR" | "CHARACTER" => ColumnType::Text,
        "DATE" => ColumnType::Date,
        "TIME" => ColumnType::Time,
        "TIMESTAMP_NTZ" | "DATETIME" | "TIMESTAMP" => ColumnType::Timestamp,
        "TIMESTAMP_TZ" | "TIMESTAMP_LTZ" => ColumnType::Timestamptz,
        "VARIANT" | "OBJECT" | "ARRAY" => ColumnType::Json,
        _ => return None,
    })
}

fn number(precision: u8, scale: u8) -> ColumnType {
    match (precision, scale) {
        (10 | 19, 0) => ColumnType::Bigint,
        _ => ColumnType::Decimal(precision, scale),
    }
}

/// Errand's word for the type of a result's column.
pub(super) fn of(wire: &Wire) -> Option<ColumnType> {
    Some(match wire {
        Wire::Boolean => ColumnType::Boolean,
        Wire::Fixed { precision, scale, .. } => number(precision.unwrap_or(38), scale.unwrap_or(0)),
        Wire::Real => ColumnType::Double,
        Wire::Text { .. } => ColumnType::Text,
        Wire::Date => ColumnType::Date,
        Wire::Time { .. } => ColumnType::Time,
        Wire::TimestampNtz { .. } => ColumnType::Timestamp,
        Wire::TimestampLtz { .. } | Wire::TimestampTz { .. } => ColumnType::Timestamptz,
        Wire::Variant | Wire::Object | Wire::Array => ColumnType::Json,
        _ => return None,
    })
}

/// A column of a result.
pub(super) fn column(column: &Column) -> TableColumn {
    let kind = of(column.ty());
    let type_name = kind.map_or_else(|| column.ty().as_str().to_ascii_uppercase(), type_name);
    TableColumn { name: column.name().to_owned(), type_name, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_with_an_offset_is_compared_in_utc() {
        let sql = moment_in_utc("\"SEEN\"");
        assert_eq!(sql, "CAST(CONVERT_TIMEZONE('UTC', CAST(\"SEEN\" AS TIMESTAMP_TZ(6))) AS TIMESTAMP_NTZ(6))");
    }

    #[test]
    fn every_type_is_found_again_by_its_name() {
        let kinds = [
            ColumnType::Boolean,
            ColumnType::Integer,
            ColumnType::Bigint,
            ColumnType::Decimal(38, 9),
            ColumnType::Decimal(10, 2),
            ColumnType::Double,
            ColumnType::Text,
            ColumnType::Date,
            ColumnType::Time,
            ColumnType::Timestamp,
            ColumnType::Timestamptz,
            ColumnType::Json,
        ];
        for kind in kinds {
            let read = if kind == ColumnType::Integer { ColumnType::Bigint } else { kind };
            assert_eq!(parse(&type_name(kind)), Some(read), "{kind:?}");
        }
        assert_eq!(parse("NUMBER(38,0)"), Some(ColumnType::Decimal(38, 0)));
        assert_eq!(parse("VARCHAR(16777216)"), Some(ColumnType::Text));
        assert_eq!(parse("TIMESTAMP_LTZ(9)"), Some(ColumnType::Timestamptz));
        assert_eq!(parse("BINARY(8388608)"), None);
    }
}
