//! Types and tables as the server's catalog names them.

use errand_model::job::TableName;
use errand_model::value::ColumnType;
use tokio_postgres::Column;
use tokio_postgres::types::Type;

use super::connect::Dialect;
use crate::warehouse::{Capabilities, TableColumn, quote_text};

/// The SQL name of a column type.
pub(super) fn type_name(kind: ColumnType) -> String {
    match kind {
        ColumnType::Boolean => "boolean".to_owned(),
        ColumnType::Integer => "integer".to_owned(),
        ColumnType::Bigint => "bigint".to_owned(),
        ColumnType::Decimal(precision, scale) => format!("numeric({precision},{scale})"),
        ColumnType::Double => "double precision".to_owned(),
        ColumnType::Text => "text".to_owned(),
        ColumnType::Date => "date".to_owned(),
        ColumnType::Time => "time".to_owned(),
        ColumnType::Timestamp => "timestamp".to_owned(),
        ColumnType::Timestamptz => "timestamptz".to_owned(),
        ColumnType::Json => "jsonb".to_owned(),
    }
}

/// Errand's word for a type, by its name in the catalog; none for types that have no such word.
pub(in crate::warehouse) fn kind(type_name: &str) -> Option<ColumnType> {
    let (head, arguments) = match type_name.split_once('(') {
        Some((head, rest)) => {
            let (arguments, tail) = rest.split_once(')')?;
            (format!("{head}{tail}"), Some(arguments))
        }
        None => (type_name.to_owned(), None),
    };
    Some(match head.as_str() {
        "boolean" => ColumnType::Boolean,
        "smallint" | "integer" => ColumnType::Integer,
        "bigint" => ColumnType::Bigint,
        "numeric" => return decimal(arguments?),
        "real" | "double precision" => ColumnType::Double,
        "text" | "character varying" | "character" | "name" | "\"char\"" => ColumnType::Text,
        "date" => ColumnType::Date,
        "time without time zone" => ColumnType::Time,
        "timestamp without time zone" => ColumnType::Timestamp,
        "timestamp with time zone" => ColumnType::Timestamptz,
        "json" | "jsonb" | "super" => ColumnType::Json,
        _ => return None,
    })
}

fn decimal(arguments: &str) -> Option<ColumnType> {
    let (precision, scale) = arguments.split_once(',').unwrap_or((arguments, "0"));
    let (precision, scale): (u8, u8) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    ((1..=38).contains(&precision) && scale <= precision).then_some(ColumnType::Decimal(precision, scale))
}

/// A column of a query that was parsed and not run.
#[derive(Clone, Debug)]
pub(in crate::warehouse) struct Described {
    /// Its name, its type, and Errand's word for it.
    pub(in crate::warehouse) column: TableColumn,
    /// The type as the protocol has it.
    pub(super) wire: Type,
}

impl Described {
    pub(super) fn of(column: &Column) -> Self {
        let type_name = described_type(column.type_(), column.type_modifier());
        let kind = kind(&type_name);
        Self { column: TableColumn { name: column.name().to_owned(), type_name, kind }, wire: column.type_().clone() }
    }

    /// The expression that makes text of the column `c<at>`.
    pub(super) fn as_text(&self, at: usize, dialect: Dialect) -> String {
        match (dialect, self.column.kind) {
            (Dialect::Postgres, _) => format!("CAST(c{at} AS text)"),
            // Older clusters have no cast for it.
            (Dialect::Redshift, Some(ColumnType::Boolean)) => format!("CASE WHEN c{at} THEN 'true' WHEN NOT c{at} THEN 'false' END"),
            (Dialect::Redshift, _) => format!("CAST(c{at} AS VARCHAR(65535))"),
        }
    }
}

/// The name that `format_type` gives a type.
fn described_type(wire: &Type, modifier: i32) -> String {
    let length = (modifier >= 4).then(|| modifier - 4);
    let sized = |name: &str| length.map_or_else(|| name.to_owned(), |length| format!("{name}({length})"));
    match *wire {
        Type::BOOL => "boolean".to_owned(),
        Type::INT2 => "smallint".to_owned(),
        Type::INT4 => "integer".to_owned(),
        Type::INT8 => "bigint".to_owned(),
        Type::FLOAT4 => "real".to_owned(),
        Type::FLOAT8 => "double precision".to_owned(),
        Type::VARCHAR => sized("character varying"),
        Type::BPCHAR => sized("character"),
        Type::CHAR => "\"char\"".to_owned(),
        Type::TIME => "time without time zone".to_owned(),
        Type::TIMETZ => "time with time zone".to_owned(),
        Type::TIMESTAMP => "timestamp without time zone".to_owned(),
        Type::TIMESTAMPTZ => "timestamp with time zone".to_owned(),
        Type::NUMERIC => match length {
            // The scale has 11 bits and a sign since Postgres 15.
            Some(packed) => format!("numeric({},{})", (packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024),
            None => "numeric".to_owned(),
        },
        _ => wire.name().to_owned(),
    }
}

/// A query for the columns of a table by the names that the catalog has: name, type, and the type that a domain stands for.
pub(super) fn columns(schema: &str, table: &str) -> String {
    format!(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), \
         CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END \
         FROM pg_catalog.pg_attribute AS a \
         JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid \
         WHERE n.nspname = {} AND c.relname = {} AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY a.attnum",
        quote_text(schema),
        quote_text(table)
    )
}

/// A row of [`columns`].
pub(super) fn column(row: Vec<Option<String>>) -> Option<TableColumn> {
    let mut values = row.into_iter();
    let (name, type_name, base) = (values.next()??, values.next()??, values.next()?);
    let kind = kind(base.as_deref().unwrap_or(&type_name));
    Some(TableColumn { name, type_name, kind })
}

/// A query with a row when something hangs on a table, or it has a property, that a new table in its place would lack.
///
/// `pg_depend` knows views, indexes, constraints of either side, triggers, policies, defaults, owned sequences, partitions,
/// children, publications and functions; the rest are the table's own properties.
pub(super) fn keeps_table(capabilities: &Capabilities, table: &TableName) -> String {
    let name = quote_text(&capabilities.quote_table(table));
    format!(
        "SELECT c.relname FROM pg_catalog.pg_class AS c WHERE c.oid = to_regclass({name}) AND (\
         c.relkind <> 'r' OR c.relpersistence <> 'p' OR c.relispartition OR c.relrowsecurity OR c.relacl IS NOT NULL \
         OR c.reloptions IS NOT NULL OR c.reltablespace <> 0 OR c.reloftype <> 0 OR c.relreplident <> 'd' \
         OR c.relowner <> (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user) \
         OR EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid \
         AND d.deptype IN ('n', 'a')) \
         OR EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid) \
         OR EXISTS (SELECT FROM pg_catalog.pg_description AS t WHERE t.classoid = 'pg_catalog.pg_class'::regclass AND t.objoid = c.oid) \
         OR EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         AND (a.attacl IS NOT NULL OR a.attidentity <> '' OR a.attgenerated <> '' OR a.attoptions IS NOT NULL)))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_errand_makes_is_known_again() {
        let kinds = [
            (ColumnType::Boolean, "boolean"),
            (ColumnType::Integer, "integer"),
            (ColumnType::Bigint, "bigint"),
            (ColumnType::Decimal(38, 10), "numeric(38,10)"),
            (ColumnType::Double, "double precision"),
            (ColumnType::Text, "text"),
            (ColumnType::Date, "date"),
            (ColumnType::Time, "time without time zone"),
            (ColumnType::Timestamp, "timestamp without time zone"),
            (ColumnType::Timestamptz, "timestamp with time zone"),
            (ColumnType::Json, "jsonb"),
        ];
        for (expected, name) in kinds {
            assert_eq!(kind(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn types_of_others_have_the_nearest_word_that_loses_nothing() {
        let cases = [
            ("smallint", Some(ColumnType::Integer)),
            ("character varying(20)", Some(ColumnType::Text)),
            ("timestamp(3) without time zone", Some(ColumnType::Timestamp)),
            ("numeric(10,0)", Some(ColumnType::Decimal(10, 0))),
            ("numeric", None),
            ("numeric(50,2)", None),
            ("numeric(4,-2)", None),
            ("numeric(2,4)", None),
            ("uuid", None),
            ("integer[]", None),
            ("time with time zone", None),
        ];
        for (name, expected) in cases {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    #[test]
    fn a_packed_modifier_is_precision_and_scale() {
        let packed = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        assert_eq!(described_type(&Type::NUMERIC, packed(38, 10)), "numeric(38,10)");
        assert_eq!(described_type(&Type::NUMERIC, packed(5, -3)), "numeric(5,-3)");
        assert_eq!(described_type(&Type::NUMERIC, -1), "numeric");
        assert_eq!(described_type(&Type::VARCHAR, 24), "character varying(20)");
        assert_eq!(described_type(&Type::UUID, -1), "uuid");
    }
}
