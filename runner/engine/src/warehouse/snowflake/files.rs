//! Whole files, where they lie or as parts of text that the runner brings: loaded by the server, counted file by file.

use std::collections::BTreeMap;

use async_trait::async_trait;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::TableName;

use super::result::Loaded;
use super::session::SnowflakeSession;
use super::{copy, load};
use crate::store::Store;
use crate::warehouse::parts::{self, Finished, Parts, Staging};
use crate::warehouse::{Extraction, FileGroup, FileLoads, GroupFile, MakeParts, TextPart};

mod sql;

#[async_trait]
impl FileLoads for SnowflakeSession {
    async fn reach(&mut self) -> Result<Option<Store>, Failure> {
        let staged = self.runner.stage(&self.cancelled).await?;
        // Paths of this machine have no METADATA$FILENAME to compare with.
        Ok(staged.map(|(_, store)| store).filter(|store| store.local("").is_none()))
    }

    fn objection(&self, group: &FileGroup) -> Option<String> {
        sql::objection(group)
    }

    async fn load(&mut self, table: &TableName, group: &FileGroup) -> Result<Vec<u64>, Failure> {
        let (stage, _) = self.runner.stage(&self.cancelled).await?.ok_or_else(load::no_stage)?;
        let mut rows = Vec::with_capacity(group.files.len());
        for files in group.files.chunks(copy::FILES) {
            if let Some(validate) = sql::validate(table, &stage, group, files) {
                let wrong = self.runner.texts(&validate, 1, &self.cancelled).await?;
                if let Some(first) = wrong.into_iter().next() {
                    return Err(misfit(first.into_iter().flatten().next().unwrap_or_default().trim()));
                }
            }
            let loaded = load::copied(&mut self.runner, &sql::load(table, &stage, group, files), &self.cancelled).await?;
            for file in files {
                rows.push(rows_of(file, &loaded)?);
            }
        }
        self.check(table, group, &rows).await?;
        Ok(rows)
    }

    async fn load_parts(
        &mut self,
        table: &TableName,
        groups: &[FileGroup],
        make: MakeParts,
        extraction: Option<&dyn Extraction>,
    ) -> Result<u64, Failure> {
        let (stage, store) = self.runner.stage(&self.cancelled).await?.ok_or_else(load::no_stage)?;
        let load = load::directory(&self.runner.purpose);
        let staging = Staging::new(&store, &load, extraction, &self.cancelled);
        let staged = staging
            .files(groups.len(), move |sink| {
                make(&mut |part: TextPart| {
                    let TextPart { group, file, extension, rows, bytes, sha256 } = part;
                    !sink.is_closed() && sink.put(Finished { table: group, file, extension, rows, bytes, sha256 })
                })
            })
            .await?;
        let mut rows = 0;
        for (group, parts) in groups.iter().zip(&staged.tables) {
            match self.copy_parts(table, &stage, group, parts).await {
                Ok(()) => rows += parts.rows(),
                Err(failure) => return Err(staged.failed(failure).await),
            }
        }
        staged.loaded().await;
        Ok(rows)
    }
}

impl SnowflakeSession {
    async fn copy_parts(&mut self, table: &TableName, stage: &str, group: &FileGroup, parts: &Parts) -> Result<(), Failure> {
        for parts in parts.0.chunks(copy::FILES) {
            let named = |part: &parts::Part| GroupFile { key: part.key.clone(), path: part.key.clone(), url: part.key.clone() };
            let files: Vec<GroupFile> = parts.iter().map(named).collect();
            let loaded = load::copied(&mut self.runner, &sql::load(table, stage, group, &files), &self.cancelled).await?;
            for part in parts {
                load::check(&part.key, part.rows, &loaded, &table.to_string())?;
            }
        }
        Ok(())
    }

    /// Asks the table itself: rows and their numbers by file, and values that Errand would not have loaded so.
    async fn check(&mut self, table: &TableName, group: &FileGroup, rows: &[u64]) -> Result<(), Failure> {
        let told = self.runner.texts(&sql::check(table, group), usize::MAX, &self.cancelled).await?;
        let mut found = BTreeMap::new();
        let mut bad = 0;
        for row in told {
            let mut row = row.into_iter();
            let path = row.next().flatten();
            let mut number = || row.next().flatten().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
            let (count, first, last) = (number(), number(), number());
            bad += number();
            found.insert(path.unwrap_or_default(), (count, first, last));
        }
        if bad > 0 {
            return Err(misfit("a text holds NUL or a carriage return"));
        }
        if group.metadata.is_none() {
            return Ok(());
        }
        let mut firsts = Vec::new();
        for (file, rows) in group.files.iter().zip(rows).filter(|(_, rows)| **rows > 0) {
            let count = i64::try_from(*rows).unwrap_or(i64::MAX);
            match found.get(&file.path) {
                Some((found, first, last)) if *found == count && last - first + 1 == count => firsts.push(*first),
                Some((found, first, last)) => {
                    let why = format!("`{}` has {count} rows, and {found} numbered {first} to {last} are in the table", file.path);
                    return Err(unaccounted(&why));
                }
                None => return Err(unaccounted(&format!("no row says that it is from `{}`", file.path))),
            }
        }
        match firsts.first() {
            None | Some(1) if firsts.iter().all(|first| *first == 1) => Ok(()),
            Some(first) if firsts.iter().all(|other| other == first) => self.renumber(table, group, *first).await,
            _ => Err(unaccounted("the files begin with different row numbers")),
        }
    }

    async fn renumber(&mut self, table: &TableName, group: &FileGroup, first: i64) -> Result<(), Failure> {
        for files in group.files.chunks(copy::FILES) {
            if let Some(sql) = sql::renumber(table, group, first, files) {
                self.runner.run(&sql, &self.cancelled).await?;
            }
        }
        Ok(())
    }
}

/// The rows of a file by the answer to `COPY`, which names files by URL or by a path under the stage.
fn rows_of(file: &GroupFile, loaded: &[Loaded]) -> Result<u64, Failure> {
    let is_it = |said: &str| said == file.url || file.url.strip_suffix(said).is_some_and(|before| before.ends_with('/'));
    let named: Vec<&Loaded> = loaded.iter().filter(|loaded| !loaded.file.is_empty() && is_it(&loaded.file)).collect();
    match named.as_slice() {
        [only] if only.status.eq_ignore_ascii_case("LOADED") => Ok(only.rows),
        [only] => Err(unaccounted(&format!("of `{}` Snowflake says `{}`", file.key, only.status))),
        [] => Err(unaccounted(&format!("Snowflake does not mention `{}`", file.key))),
        _ => Err(unaccounted(&format!("Snowflake mentions `{}` twice", file.key))),
    }
}

fn misfit(why: &str) -> Failure {
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    Failure::new(FailureKind::Permanent, "warehouse::value", format!("a file does not fit its columns: {why}"))
}

fn unaccounted(why: &str) -> Failure {
    Failure::new(FailureKind::Internal, "warehouse::internal", format!("files were not loaded whole: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(key: &str) -> GroupFile {
        GroupFile { key: key.into(), path: key.into(), url: format!("s3://lake/in/{key}") }
    }

    #[test]
    fn a_file_is_counted_by_all_of_its_path() {
        let loaded = |file: &str, status: &str, rows| Loaded { file: file.into(), status: status.into(), rows };
        let told = [loaded("s3://lake/in/a/x.csv", "LOADED", 3), loaded("in/b/x.csv", "LOADED", 4), loaded("c.csv", "LOAD_FAILED", 0)];
        assert_eq!(rows_of(&file("a/x.csv"), &told).expect("counted"), 3);
        assert_eq!(rows_of(&file("b/x.csv"), &told).expect("counted"), 4);
        for (key, why) in [("c.csv", "`LOAD_FAILED`"), ("x.csv", "does not mention")] {
            let failure = rows_of(&file(key), &told).expect_err("refused");
            assert!(failure.message.contains(why), "{}", failure.message);
        }
        let twice = [loaded("x.csv", "LOADED", 1), loaded("in/x.csv", "LOADED", 1)];
        assert!(rows_of(&file("x.csv"), &twice).expect_err("refused").message.contains("twice"));
    }
}
