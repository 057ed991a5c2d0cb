//! The target before rows come: made where it is missing, given the columns that it lacks, and able to hold every value.

use errand_model::document::step::Mode;
use errand_model::failure::{Failure, FailureKind};
use errand_model::value::ColumnType;

use super::{Staged, VALID_FROM, VALID_TO, Way, find, raced};
use crate::warehouse::{Session, TableColumn, quote_exact};

/// Makes the target fit the staging table, with DDL.
///
/// # Errors
///
/// `Rejected` when a column of the target would change a staged value.
pub async fn shape(session: &mut dyn Session, staged: &Staged<'_>) -> Result<(), Failure> {
    if staged.way != Way::Rows {
        return Ok(());
    }
    let capabilities = session.capabilities();
    let columns = staged.columns(session).await?;
    let Some(target) = session.columns(staged.target).await? else {
        let mut list: Vec<String> = columns.iter().map(|column| format!("{} {}", quote_exact(&column.name), column.type_name)).collect();
        if staged.publish.mode == Mode::Scd2 {
            let moment = (capabilities.type_name)(ColumnType::Timestamp);
            list.extend([VALID_FROM, VALID_TO].map(|name| format!("{name} {moment}")));
        }
        let sql = format!("CREATE TABLE {} ({})", capabilities.quote_table(staged.target), list.join(", "));
        return session.execute(&sql).await.map(|_| ()).map_err(raced);
    };
    for column in &columns {
        match find(&target, &column.name) {
            Some(known) if known.type_name != column.type_name => refuse_narrowing(session, staged, known, column).await?,
            Some(_) => {}
            // What the target lacks was decided on before: by the schema contract, or it is Errand's own.
            None => {
                let table = capabilities.quote_table(staged.target);
                let sql = format!("ALTER TABLE {table} ADD COLUMN {} {}", quote_exact(&column.name), column.type_name);
                session.execute(&sql).await.map_err(raced)?;
            }
        }
    }
    Ok(())
}

/// A value that the target's type would change is refused: an implicit cast would round it.
async fn refuse_narrowing(
    session: &mut dyn Session,
    staged: &Staged<'_>,
    known: &TableColumn,
    column: &TableColumn,
) -> Result<(), Failure> {
    let capabilities = session.capabilities();
    let name = quote_exact(&column.name);
    let cast = if capabilities.try_cast { "TRY_CAST" } else { "CAST" };
    let there_and_back = format!("CAST({cast}({name} AS {}) AS {})", known.type_name, column.type_name);
    let same = (capabilities.null_safe_equal)(&name, &there_and_back);
    let changed = format!("SELECT {name} FROM {} WHERE NOT ({same})", capabilities.quote_table(staged.staging));
    let row = match session.query(&changed, 1).await {
        Ok(rows) => rows.into_iter().next(),
        // Where a cast that fails is an error, the error names the value.
        Err(failure) if failure.code == "warehouse::value" => return Err(narrowed(staged, known, column, &failure.message)),
        Err(failure) => return Err(failure),
    };
    let Some(row) = row else { return Ok(()) };
    let value = row.into_iter().flatten().next().unwrap_or_else(|| "NULL".to_owned());
    Err(narrowed(staged, known, column, &format!("`{value}`")))
}

fn narrowed(staged: &Staged<'_>, known: &TableColumn, column: &TableColumn, what: &str) -> Failure {
    let message =
        format!("column `{}` of `{}` is {} and cannot hold {what} ({})", known.name, staged.target, known.type_name, column.type_name);
    Failure::new(FailureKind::Rejected, "publish::narrowed", message).help("change the type of the table's column first, or the rows")
}
