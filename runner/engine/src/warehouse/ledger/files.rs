//! The files that were loaded into a table, so that none is loaded into it twice.

use errand_model::failure::{Failure, FailureKind};

use super::{Load, Writer, files_of, lost_to_another};
use crate::warehouse::{Fence, Session};

/// One file that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedFile {
    /// Its connection, `:`, and its path under it.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of its content; of a file that `replace` loaded, its time of change.
    pub digest: String,
    /// Records in it.
    pub rows_read: u64,
}

/// The digests under which files of this path and size were loaded into a table.
///
/// # Errors
///
/// What the warehouse says.
pub async fn known_digests(session: &mut dyn Session, target: &str, path: &str, bytes: u64) -> Result<Vec<String>, Failure> {
    let capabilities = session.capabilities();
    let text = |text: &str| capabilities.text(text);
    let sql = format!("SELECT digest FROM _errand.files WHERE target = {} AND path = {} AND bytes = {bytes}", text(target), text(path));
    Ok(session.query(&sql, 1000).await?.into_iter().flatten().flatten().collect())
}

/// Forgets the files of a table whose rows were replaced: they are not in it any more.
///
/// # Errors
///
/// What the warehouse says.
pub async fn forget_files(session: &mut dyn Session, target: &str) -> Result<(), Failure> {
    let capabilities = session.capabilities();
    let text = |text: &str| capabilities.text(text);
    session.execute(&format!("DELETE FROM _errand.files WHERE target = {}", text(target))).await.map(|_| ())
}

/// Records files; part of the transaction that wrote their rows.
///
/// Loads of other intervals, steps and jobs may load the same file into the same table at the same time: none of them sees the others' rows
/// of this table before they commit, and one of them wins.
///
/// # Errors
///
/// `Transient` when another load was faster with one of the files; what the warehouse says.
pub async fn record_files(session: &mut dyn Session, load: &Load, writer: &Writer, files: &[LoadedFile]) -> Result<(), Failure> {
    let capabilities = session.capabilities();
    let text = |text: &str| capabilities.text(text);
    let target = text(&load.target);
    if let (Fence::Claim, false) = (capabilities.fence, files.is_empty()) {
        // Waits for whoever records files of this table; what that one wrote is seen by the next statement.
        let turn = text(&format!("{}, {}", writer.now, load.id()));
        let wait = format!("UPDATE _errand.claims SET claimed_at = {turn} WHERE load_id = {}", text(&files_of(load)));
        if session.execute(&wait).await? == 0 {
            return Err(lost_to_another());
        }
    }
    for batch in files.chunks(500) {
        let known: Vec<String> =
            batch.iter().map(|file| format!("(path = {} AND digest = {})", text(&file.path), text(&file.digest))).collect();
        let found = format!("SELECT path FROM _errand.files WHERE target = {target} AND ({})", known.join(" OR "));
        if let Some(path) = session.query(&found, 1).await?.into_iter().flatten().flatten().next() {
            return Err(file_lost(&load.target, &path));
        }
        let rows: Vec<String> = batch
            .iter()
            .map(|file| {
                format!(
                    "({target}, {}, {}, {}, {}, {}, {})",
                    text(&file.path),
                    file.bytes,
                    text(&file.digest),
                    text(&load.id()),
                    file.rows_read,
                    text(&writer.now)
                )
            })
            .collect();
        let inserted = session.execute(&format!("INSERT INTO _errand.files VALUES {}", rows.join(", "))).await;
        inserted.map_err(|failure| {
            let is_there = failure.code == "warehouse::duplicate_key";
            if is_there { file_lost(&load.target, batch.first().map_or("", |file| file.path.as_str())) } else { failure }
        })?;
    }
    Ok(())
}

/// Another load was faster with a file.
fn file_lost(target: &str, path: &str) -> Failure {
    let message =
        format!("another run loaded files of this one into `{target}` at the same time, `{path}` among them; this one was rolled back");
    Failure::new(FailureKind::Transient, "ledger::fenced", message)
        .help("nothing is lost or doubled: the next attempt loads the files that are left")
}
