//! Rows into tables: staged as Parquet, copied by the server, counted file by file.

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Connection as Place, S3};
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::history::quote;
use super::run::Runner;
use super::{copy, error, result};
use crate::store::Store;
use crate::warehouse::parts::{self, Parts, StagedTable, Staging};
use crate::warehouse::{AppendTarget, Extraction, NextChunk, Purpose};

/// Loads every chunk; says how many rows went to each target.
pub(super) async fn append(
    runner: &mut Runner,
    targets: &[AppendTarget],
    next: NextChunk,
    extraction: Option<&dyn Extraction>,
    cancelled: &CancellationToken,
) -> Result<Vec<u64>, Failure> {
    let (stage, store) = runner.stage(cancelled).await?.ok_or_else(no_stage)?;
    let load = directory(&runner.purpose);
    let staged = Staging::new(&store, &load, extraction, cancelled).rows(targets.iter().map(table).collect(), next).await?;
    let mut rows = Vec::with_capacity(targets.len());
    for (target, parts) in targets.iter().zip(&staged.tables) {
        match load_files(runner, target, parts, &stage, cancelled).await {
            Ok(loaded) => rows.push(loaded),
            Err(failure) => return Err(staged.failed(failure).await),
        }
    }
    staged.loaded().await;
    Ok(rows)
}

/// The directory of the files of a session's load.
pub(super) fn directory(purpose: &Purpose) -> String {
    let own = || format!("{}-{:016x}", purpose.run_id, fastrand::u64(..));
    parts::directory(&purpose.load_id.clone().unwrap_or_else(own))
}

/// Removes what is staged for the load of a session, which is committed.
pub(super) async fn sweep(runner: &mut Runner) {
    let Some(load) = runner.purpose.load_id.clone() else { return };
    match runner.stage(&CancellationToken::new()).await {
        Ok(Some((_, store))) => parts::sweep(&store, &parts::directory(&load)).await,
        Ok(None) => {}
        Err(failure) => tracing::warn!(error = %failure, "staged files stay, the stage does not tell where it lies"),
    }
}

fn table(target: &AppendTarget) -> StagedTable {
    let capabilities = Account::capabilities();
    let columns = target.columns.iter().map(|(name, kind)| (capabilities.fold(name), *kind)).collect();
    StagedTable { columns, time_as_text: true }
}

async fn load_files(
    runner: &mut Runner,
    target: &AppendTarget,
    parts: &Parts,
    stage: &str,
    cancelled: &CancellationToken,
) -> Result<u64, Failure> {
    for files in parts.0.chunks(copy::FILES) {
        let names: Vec<&str> = files.iter().map(|part| part.key.as_str()).collect();
        let sql = copy::into_table(Account::capabilities(), target, stage, &names);
        let loaded = copied(runner, &sql, cancelled).await?;
        for part in files {
            check(&part.key, part.rows, &loaded, &target.table.to_string())?;
        }
    }
    Ok(parts.rows())
}

/// Runs a `COPY` into a table; what it says of each file.
pub(super) async fn copied(runner: &mut Runner, sql: &str, cancelled: &CancellationToken) -> Result<Vec<result::Loaded>, Failure> {
    let mut loaded = Vec::new();
    if let Some(mut cursor) = runner.run(sql, cancelled).await?.cursor {
        while let Some(table) = runner.chunk(&mut cursor, cancelled).await? {
            loaded.extend(result::loaded(&table).map_err(|problem| error::internal(&problem.to_string()))?);
        }
    }
    Ok(loaded)
}

/// Every row that was written must have been loaded, file by file.
pub(super) fn check(key: &str, rows: u64, loaded: &[result::Loaded], table: &str) -> Result<(), Failure> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let found = loaded.iter().find(|file| name(&file.file) == name(key));
    let said = match found {
        Some(file) if file.status.eq_ignore_ascii_case("LOADED") && file.rows == rows => return Ok(()),
        Some(file) => format!("Snowflake says `{}` with {} rows", file.status, file.rows),
        None => "Snowflake does not mention it".to_owned(),
    };
    let message = format!("file `{key}` with {rows} rows was not loaded whole into `{table}`: {said}");
    Err(Failure::new(FailureKind::Internal, "warehouse::internal", message).help("nothing was published; run the step again"))
}

pub(super) fn no_stage() -> Failure {
    Failure::new(
        FailureKind::Definition,
        "warehouse::no_stage",
        "rows go into Snowflake through an external stage, and the connection names none",
    )
    .help("set `stage` on the connection; `errand setup snowflake` prints the SQL that makes one")
}

impl Runner {
    /// The stage of the connection and the files under its URL; none when the connection names no stage.
    pub(super) async fn stage(&mut self, cancelled: &CancellationToken) -> Result<Option<(String, Store)>, Failure> {
        let Some(stage) = self.account.stage.clone() else { return Ok(None) };
        if let Some(store) = &self.account.staging {
            return Ok(Some((stage, store.clone())));
        }
        if let Some(store) = self.account.found_staging.get() {
            return Ok(Some((stage, store.clone())));
        }
        let url = self.stage_url(&stage, cancelled).await?;
        let store = open(&stage, &url)?;
        Ok(Some((stage, self.account.found_staging.get_or_init(|| store).clone())))
    }

    async fn stage_url(&mut self, stage: &str, cancelled: &CancellationToken) -> Result<String, Failure> {
        let name = stage.trim_start_matches('@');
        let described = self.texts(&format!("DESC STAGE {name}"), usize::MAX, cancelled).await;
        if let Err(failure) = &described
            && (failure.code == "warehouse::missing_object" || failure.code == "warehouse::permission")
        {
            let help = "make the stage and grant its use to the role: `errand setup snowflake` prints the SQL";
            return Err(failure.clone().help(help));
        }
        if let Some(url) = described.as_ref().ok().and_then(|rows| copy::stage_url(rows)) {
            return Ok(url);
        }
        // Not every server describes stages.
        let last = name.rsplit('.').next().unwrap_or(name).trim_matches('"').to_uppercase();
        let shown = self.texts(&format!("SHOW STAGES LIKE {}", quote(&last)), usize::MAX, cancelled).await;
        shown.ok().and_then(|rows| copy::stage_url(&rows)).ok_or_else(|| {
            let message = format!("stage `{stage}` has no URL: it is an internal stage, or it cannot be described");
            Failure::new(FailureKind::Definition, "warehouse::no_stage", message)
                .help("use an external stage, or name the connection with its files as `staging`; `errand setup snowflake` prints the SQL")
        })
    }
}

/// The files under a stage's URL.
fn open(stage: &str, url: &str) -> Result<Store, Failure> {
    if let Some(path) = url.strip_prefix("file://") {
        return Ok(Store::directory(path));
    }
    let Some((bucket, prefix)) = url.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) else {
        let message = format!("stage `{stage}` lies at `{url}`: errand writes to S3 only");
        return Err(Failure::new(FailureKind::Definition, "warehouse::no_stage", message).help("make the stage over an `s3://` URL"));
    };
    let prefix = if prefix.is_empty() || prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") };
    let place = Place::S3(S3 { bucket: bucket.to_owned(), prefix, region: None, endpoint: None });
    Store::open(&place, std::path::Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warehouse::snowflake::result::Loaded;

    #[test]
    fn a_file_that_is_not_loaded_whole_fails_the_step() {
        let file = |status: &str, rows| Loaded { file: "s3://b/p/l/t/00000-ab.parquet".into(), status: status.into(), rows };
        assert!(check("l/t/00000-ab.parquet", 5, &[file("LOADED", 5)], "t").is_ok());
        for (loaded, said) in [
            (vec![file("LOADED", 4)], "`LOADED` with 4 rows"),
            (vec![file("LOAD_SKIPPED", 0)], "`LOAD_SKIPPED` with 0 rows"),
            (vec![], "does not mention it"),
        ] {
            let failure = check("l/t/00000-ab.parquet", 5, &loaded, "t").expect_err("refused");
            assert!(failure.message.contains(said), "{}", failure.message);
        }
    }

    #[test]
    fn a_stage_is_a_directory_or_a_bucket() {
        assert_eq!(open("@s", "file:///tmp/stage/").expect("a store"), Store::directory("/tmp/stage/"));
        assert_eq!(open("@s", "azure://x/y").expect_err("refused").code, "warehouse::no_stage");
    }
}
