//! `export`: rows into one file, written beside its place and moved there whole.

use std::path::{Component, Path, PathBuf};

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{ExportStep, Subject};
use errand_model::report::{FileReport, Rows};

use super::{Attempt, Effect, single_query};
use crate::warehouse::{Session, ledger, quote_table};

pub(super) async fn run(attempt: &mut Attempt, step: &ExportStep) -> Result<Effect, Failure> {
    let (mut session, capabilities) = attempt.session(&step.connection).await?;
    let write_file = capabilities.write_file.ok_or_else(|| {
        let message = format!("warehouse {} cannot write files on this machine", capabilities.name);
        Failure::new(FailureKind::Definition, "export::not_supported", message)
    })?;
    let relative = attempt.render(&step.path)?;
    let path = attempt.run.directory(&step.to)?.join(checked(&relative)?);
    let load = attempt.load(&format!("{}:{relative}", step.to));
    if path.exists()
        && let Some(mut effect) = attempt.already(ledger::find(session.as_mut(), &load).await?)
    {
        effect.outputs.insert("path".to_owned(), relative.into());
        return Ok(effect);
    }
    let query = match &step.subject {
        Subject::Table(table) => format!("SELECT * FROM {}", quote_table(table)),
        Subject::Query(query) => {
            let rendered = attempt.render(query)?;
            single_query(query, &rendered)?.0.to_owned()
        }
    };
    let partial = partial(&path, &load.id())?;
    let place = match &step.subject {
        Subject::Table(_) => None,
        Subject::Query(query) => Some(errand_model::failure::Place { file: query.file().to_owned(), line: query.line() as u64, column: 0 }),
    };
    let written = attempt.send_at(session.as_mut(), &write_file(&query, &partial, step.format), place).await;
    let written = match written {
        Ok(written) => written,
        Err(failure) => {
            remove(&partial)?;
            return Err(failure);
        }
    };
    let bytes = publish(&partial, &path)?;
    finish(attempt, session.as_mut(), &load, relative, written, bytes).await
}

async fn finish(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    load: &ledger::Load,
    relative: String,
    written: u64,
    bytes: u64,
) -> Result<Effect, Failure> {
    let rows = Rows { read: written, written, ..Rows::default() };
    attempt.record.rows = rows;
    attempt.record.files.push(FileReport { path: relative.clone(), bytes, rows, already_loaded: false });
    let writer = attempt.writer();
    session.execute(&format!("DELETE FROM _errand.ledger WHERE load_id = '{}'", load.id())).await?;
    ledger::record(session, load, &writer, rows).await?;
    let mut effect = Effect::of_rows(rows);
    effect.bytes_written = bytes;
    effect.outputs.insert("path".to_owned(), relative.into());
    Ok(effect)
}

/// A path that stays under its connection.
fn checked(relative: &str) -> Result<&Path, Failure> {
    let path = Path::new(relative);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if plain && !relative.is_empty() && !relative.ends_with('/') {
        return Ok(path);
    }
    let message = format!("`{relative}` is not a path under the connection");
    Err(Failure::new(FailureKind::Definition, "export::bad_path", message)
        .help("write a relative path without `..`, ending in a file name"))
}

fn partial(path: &Path, load_id: &str) -> Result<PathBuf, Failure> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|error| file_failure("make directory", parent, &error))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(parent.join(format!(".{name}.{}.partial", &load_id[..8])))
}

/// Durable before it is visible: contents, then name, then directory.
fn publish(partial: &Path, path: &Path) -> Result<u64, Failure> {
    let file = std::fs::File::open(partial).map_err(|error| file_failure("open", partial, &error))?;
    file.sync_all().map_err(|error| file_failure("write", partial, &error))?;
    let bytes = file.metadata().map_err(|error| file_failure("read", partial, &error))?.len();
    std::fs::rename(partial, path).map_err(|error| file_failure("move a file to", path, &error))?;
    if let Some(parent) = path.parent() {
        let directory = std::fs::File::open(parent).map_err(|error| file_failure("open", parent, &error))?;
        directory.sync_all().map_err(|error| file_failure("write", parent, &error))?;
    }
    Ok(bytes)
}

fn remove(partial: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_failure("remove", partial, &error)),
        _ => Ok(()),
    }
}

fn file_failure(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Permanent, "export::file", format!("cannot {verb} `{}`: {error}", path.display()))
        .help("check free space and permissions")
}
