//! Says what lies in a DuckDB file, without Errand: for each table the number of rows and a fingerprint of all they hold.
//!
//! The fingerprint is a sum of row hashes: the same for the same rows in any order. Must not write: it opens the file read-only.

use std::path::Path;
use std::process::ExitCode;

use duckdb::{AccessMode, Config, Connection};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks to the person who started it")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, tables @ ..] = arguments.as_slice() else {
        eprintln!("usage: rows <file.duckdb> <table>...");
        return ExitCode::from(2);
    };
    match describe(Path::new(file), tables) {
        Ok(lines) => {
            println!("{}", lines.join("\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rows: cannot read `{file}`: {error}");
            ExitCode::FAILURE
        }
    }
}

fn describe(file: &Path, tables: &[String]) -> duckdb::Result<Vec<String>> {
    let connection = Connection::open_with_flags(file, Config::default().access_mode(AccessMode::ReadOnly)?)?;
    tables.iter().map(|table| describe_table(&connection, table)).collect()
}

fn describe_table(connection: &Connection, table: &str) -> duckdb::Result<String> {
    let name = table.replace('"', "\"\"");
    let query = format!("select count(*), (coalesce(sum(hash(t)), 0) % 18446744073709551616)::ubigint from \"{name}\" as t");
    connection.query_row(&query, [], |row| {
        let (rows, fingerprint): (i64, u64) = (row.get(0)?, row.get(1)?);
        Ok(format!("{table:<26}{rows:>9} rows   fingerprint {fingerprint:016x}"))
    })
}
