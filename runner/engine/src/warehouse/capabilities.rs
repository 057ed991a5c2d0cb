//! What differs between warehouses and can be said as data, and how names and values are written in their SQL.

use std::path::{Path, PathBuf};

use errand_model::document::step::ExportFormat;
use errand_model::job::TableName;
use errand_model::template::Values;
use errand_model::template::scanner::Dialect;
pub use errand_model::template::sql::IdentifierCase as Case;
use errand_model::value::ColumnType;

use super::TableColumn;

/// What differs between warehouses and can be said as data.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// The word of the project file.
    pub name: &'static str,
    /// What becomes of a name that is written without quotes.
    pub case: Case,
    /// How it reads quotes and comments.
    pub dialect: Dialect,
    /// The SQL name of a column type.
    pub type_name: fn(ColumnType) -> String,
    /// What `CREATE` is followed by for a staging table that never takes its target's name.
    pub staging: &'static str,
    /// Whether `CREATE`, `ALTER` and `DROP` belong to the open transaction. Where they do not, they commit it.
    pub transactional_ddl: bool,
    /// First words of statements that commit the open transaction by themselves, in capitals.
    pub commits: &'static [&'static str],
    /// A statement that keeps other writers of a table out until the transaction ends, where two that write the same keys would not meet
    /// otherwise.
    pub lock_table: Option<fn(table: &str) -> String>,
    /// An expression of a moment, of whatever type, as a timestamp without a time zone, in UTC.
    pub moment_in_utc: fn(&str) -> String,
    /// Whether a staging table may take its target's place inside a transaction.
    pub renames: bool,
    /// A query that has a row when something hangs on this very table (views, grants, indexes), so that it must not be replaced by another.
    pub keeps_table: Option<fn(&Capabilities, &TableName) -> String>,
    /// The hidden column that tells equal rows apart.
    pub row_id: Option<&'static str>,
    /// A condition that two expressions are equal or both NULL.
    pub null_safe_equal: fn(&str, &str) -> String,
    /// Whether `TRY_CAST` takes every type; else a cast that fails is an error.
    pub try_cast: bool,
    /// Whether `MERGE` is there; else rows are deleted and inserted.
    pub merge: bool,
    /// How a second runner is kept from writing a load.
    pub fence: Fence,
    /// A table expression over Parquet files on this machine, with the columns `filename` and `file_row_number` beside the data.
    pub scan_parquet: Option<fn(&[PathBuf]) -> String>,
    /// How the rows of a table become a file on this machine, where it writes files itself.
    pub write_file: Option<WriteFile>,
    /// The statement that begins a transaction in which nothing can be changed but what is temporary: `warehouse::read_only` else.
    pub begin_reading: Option<&'static str>,
}

/// Tells how the rows of a table become a file.
pub type WriteFile = fn(table: &str, columns: &[TableColumn], path: &Path, format: ExportFormat) -> FileWrite;

/// How the rows of a table become a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileWrite {
    /// This statement writes it.
    Statement(String),
    /// The warehouse would write some values otherwise than they are: the rows of this query are to be read, and the file written from them.
    Rows(String),
}

/// How a second runner is kept from writing a load that another one writes.
#[derive(Clone, Copy, Debug)]
pub enum Fence {
    /// The primary key of the ledger is enforced: of two transactions with one load id, the slower fails.
    PrimaryKey,
    /// A statement at the start of the transaction makes the slower one wait; the ledger is read after it.
    Lock(fn(load_id: &str) -> String),
    /// The same, where there are no locks but those of tables: one that holds nothing is locked, so that writers of all loads take turns, and
    /// whoever reads or writes the ledger waits for none of them.
    Turn,
    /// Compare and set: whoever claims a load last may write it; an older claim is refused before it publishes.
    Claim,
}

impl Capabilities {
    /// A name from a definition as the warehouse keeps it: one that needs no quotes is folded as SQL without quotes is, so that
    /// statements of authors find it.
    #[must_use]
    pub fn fold(&self, name: &str) -> String {
        let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'));
        match self.case {
            Case::Lower if is_plain => name.to_ascii_lowercase(),
            Case::Upper if is_plain => name.to_ascii_uppercase(),
            Case::Keep | Case::Lower | Case::Upper => name.to_owned(),
        }
    }

    /// A name that the warehouse keeps as files show it: one that was written without quotes is lower case everywhere.
    #[must_use]
    pub fn unfold(&self, name: &str) -> String {
        let lower = name.to_ascii_lowercase();
        if self.fold(&lower) == name { lower } else { name.to_owned() }
    }

    /// A name from a definition, in quotes.
    #[must_use]
    pub fn quote(&self, name: &str) -> String {
        quote_exact(&self.fold(name))
    }

    /// Names from a definition, in quotes, separated by commas.
    #[must_use]
    pub fn quote_list<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> String {
        names.into_iter().map(|name| self.quote(name)).collect::<Vec<_>>().join(", ")
    }

    /// A table from a definition, each part in quotes.
    #[must_use]
    pub fn quote_table(&self, table: &TableName) -> String {
        match &table.schema {
            Some(schema) => format!("{}.{}", self.quote(schema), self.quote(&table.name)),
            None => self.quote(&table.name),
        }
    }

    /// One spelling for every way to name a table: `t`, `T` and `main.t` are one where the default schema is `main`.
    #[must_use]
    pub fn table_key(default_schema: &str, table: &TableName) -> String {
        format!("{}.{}", table.schema.as_deref().unwrap_or(default_schema), table.name).to_lowercase()
    }

    /// A text literal.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        if self.dialect.escapes() { quote_text(&text.replace('\\', "\\\\")) } else { quote_text(text) }
    }

    /// A JSON scalar as a literal.
    #[must_use]
    pub fn literal(&self, value: &serde_json::Value) -> String {
        match value {
            serde_json::Value::Null => "NULL".to_owned(),
            serde_json::Value::Bool(true) => "TRUE".to_owned(),
            serde_json::Value::Bool(false) => "FALSE".to_owned(),
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::String(text) => self.text(text),
            other @ (serde_json::Value::Array(_) | serde_json::Value::Object(_)) => self.text(&other.to_string()),
        }
    }

    /// Values for templates of SQL: names and texts as this warehouse reads them.
    #[must_use]
    pub fn quoting(&self, values: Values) -> Values {
        values.with_identifier_case(self.case).with_backslash_escapes(self.dialect.escapes())
    }

    /// The moment `text` (`YYYY-MM-DD hh:mm:ss[.ffffff]`, UTC) as a literal without a time zone.
    #[must_use]
    pub fn moment(&self, text: &str) -> String {
        format!("CAST({} AS {})", quote_text(text), (self.type_name)(ColumnType::Timestamp))
    }
}

/// A name as the warehouse keeps it, in double quotes.
#[must_use]
pub fn quote_exact(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names as the warehouse keeps them, in double quotes, separated by commas.
#[must_use]
pub fn quote_exact_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote_exact).collect::<Vec<_>>().join(", ")
}

/// A text literal in single quotes, for warehouses in which a backslash means itself.
#[must_use]
pub fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The standard's way to compare NULLs too.
#[must_use]
pub fn is_not_distinct(a: &str, b: &str) -> String {
    format!("{a} IS NOT DISTINCT FROM {b}")
}

/// For warehouses that lack the standard's way.
#[must_use]
pub fn equal_or_both_null(a: &str, b: &str) -> String {
    format!("({a} = {b} OR ({a} IS NULL AND {b} IS NULL))")
}

#[cfg(test)]
mod tests {
    use super::Case;
    use crate::warehouse::snowflake;

    #[test]
    fn plain_names_are_folded_and_shown_in_lower_case() {
        let capabilities = &snowflake::kind::CAPABILITIES;
        assert_eq!(capabilities.case, Case::Upper);
        let quoted = ["c_custkey", "C_Custkey", "order", "Order ID", "1st", "ä"].map(|name| capabilities.quote(name));
        assert_eq!(quoted, ["\"C_CUSTKEY\"", "\"C_CUSTKEY\"", "\"ORDER\"", "\"Order ID\"", "\"1st\"", "\"ä\""]);
        let shown = ["C_CUSTKEY", "c_custkey", "Order ID"].map(|name| capabilities.unfold(name));
        assert_eq!(shown, ["c_custkey", "c_custkey", "Order ID"]);
        assert_eq!(capabilities.text("it's \\"), "'it''s \\\\'");
    }
}
