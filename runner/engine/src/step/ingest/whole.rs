//! Files that go into the staging table whole: in place where the warehouse reads them, else as parts of text with their records untouched.
//!
//! A way is taken only when it gives what parsing each row gives. What cannot be known beforehand the warehouse finds: then the table is
//! emptied, and the rows go the way that looks at each of them, which says what is wrong and where.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use errand_model::document::step::{Compression, Format};
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{IngestStep, TableName};
use errand_model::value::{ColumnType, Limit};

use super::super::Attempt;
use super::extraction::FileExtraction;
use super::reject::Tally;
use super::{Ingest, METADATA, blocking};
use crate::source::{Chunked, FileEntry, Rechunk, Resolved, Surveyed, survey};
use crate::store::Store;
use crate::warehouse::{Extraction, FileColumn, FileForm, FileGroup, FileLoads, GroupFile, MakeParts, Session, TextForm, TextPart};

/// The columns that a row's file and number go to.
const PLACE: [&str; 2] = [METADATA[1], METADATA[2]];

/// Loads the files whole, if that is exact; says how many rows there are. None when each row must be looked at.
pub(super) async fn load(
    ingest: &mut Ingest<'_>,
    attempt: &mut Attempt,
    session: &mut dyn Session,
    staging: &TableName,
    resolved: &Resolved,
) -> Result<Option<u64>, Failure> {
    if session.file_loads().is_none() || ingest.step.max_rejected != Limit::Count(0) {
        return Ok(None);
    }
    let reach = loads(session)?.reach().await?;
    let reaches_all = reach.as_ref().is_some_and(|reach| ingest.files.iter().all(|file| file.key_in(reach).is_some()));
    let mut why = "the warehouse does not reach all of them".to_owned();
    if ingest.step.files.format == Format::Parquet && !reaches_all {
        return Ok(by_row(&why));
    }
    let (files, step, wanted) = (ingest.files.clone(), ingest.step.clone(), resolved.clone());
    let surveyed = blocking(move || survey(&files, &step.files, &wanted, step.schema_contract)).await?;
    let surveyed = match surveyed {
        Ok(surveyed) => surveyed,
        Err(why) => return Ok(by_row(&why)),
    };
    let plan = Plan { resolved, surveyed };
    if let Some(groups) = reach.and_then(|reach| plan.in_place(ingest, &reach)) {
        match groups.iter().find_map(|group| session.file_loads()?.objection(group)) {
            Some(objection) => why = objection,
            None => match in_place(ingest, attempt, session, staging, &groups).await {
                Ok(rows) => return Ok(Some(rows)),
                Err(failure) => {
                    let is_content = is_about_content(&failure);
                    why.clone_from(&failure.message);
                    undo(attempt, session, staging, failure, "in place").await?;
                    if is_content {
                        return Ok(None);
                    }
                }
            },
        }
    }
    tracing::info!(reason = why, "files are not loaded in place");
    match plan.as_parts(ingest, session) {
        Ok(groups) => as_parts(ingest, attempt, session, staging, (resolved, groups)).await,
        Err(why) => Ok(by_row(&why)),
    }
}

/// The place whose files may be loaded in place, as far as the definition tells: their content is not read then.
pub(super) async fn reach(step: &IngestStep, session: &mut dyn Session, found: &[FileEntry]) -> Result<Option<Store>, Failure> {
    let may_be = match step.files.format {
        Format::Parquet => true,
        Format::Csv => !step.columns.is_empty() && step.columns.iter().all(|column| column.kind == ColumnType::Text),
        Format::Json | Format::Jsonl => false,
    };
    match session.file_loads() {
        Some(loads) if may_be && !found.is_empty() && step.max_rejected == Limit::Count(0) => loads.reach().await,
        Some(_) | None => Ok(None),
    }
}

fn loads(session: &mut dyn Session) -> Result<&mut dyn FileLoads, Failure> {
    session.file_loads().ok_or_else(|| Failure::new(FailureKind::Internal, "ingest::no_file_loads", "the warehouse loads no files"))
}

fn by_row(why: &str) -> Option<u64> {
    tracing::info!(reason = why, "rows are parsed");
    None
}

/// Whether it is the files that are wrong, so that no other way of loading them whole is any better.
fn is_about_content(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), "warehouse::value" | "warehouse::constraint")
}

/// Empties the table after a way that failed for good, and says so. Other failures are the step's.
async fn undo(attempt: &mut Attempt, session: &mut dyn Session, staging: &TableName, failure: Failure, how: &str) -> Result<(), Failure> {
    let is_final = matches!(failure.kind, FailureKind::Permanent | FailureKind::Definition | FailureKind::Internal | FailureKind::Rejected);
    if !is_final {
        return Err(failure);
    }
    let table = session.capabilities().quote_table(staging);
    attempt.send(session, &format!("DELETE FROM {table}")).await?;
    let said = failure.message.split("\n\n").next().unwrap_or_default().to_owned();
    tracing::warn!(error = said, how, "files could not be loaded whole");
    attempt.record.warnings.push(format!("the files could not be loaded {how}, and another way was taken: {said}"));
    Ok(())
}

/// What is known of the files.
struct Plan<'a> {
    resolved: &'a Resolved,
    surveyed: Vec<Surveyed>,
}

/// What files of one group have in common: the columns by field, and how they are compressed.
type Likeness = (Vec<(usize, String)>, Compression);

/// A group of parts, and the files that they are made of.
type Made = (FileGroup, Vec<usize>);

impl Plan<'_> {
    /// Files with rows, by what they have in common, in the order in which that appears.
    fn alike(&self) -> Vec<(Likeness, Vec<usize>)> {
        let mut groups: Vec<(Likeness, Vec<usize>)> = Vec::new();
        for (index, file) in self.surveyed.iter().enumerate().filter(|(_, file)| file.rows != Some(0)) {
            let likeness = (file.columns.clone(), file.compression);
            match groups.iter_mut().find(|(other, _)| *other == likeness) {
                Some((_, files)) => files.push(index),
                None => groups.push((likeness, vec![index])),
            }
        }
        groups
    }

    fn columns(&self, of: &[(usize, String)]) -> Vec<FileColumn> {
        let column = |(index, from): &(usize, String)| {
            let column = self.resolved.columns.get(*index)?;
            Some(FileColumn { name: column.name.clone(), kind: column.kind, from: from.clone() })
        };
        of.iter().filter_map(column).collect()
    }

    /// The groups, if the warehouse reaches all files and they lie there as they are to be read.
    fn in_place(&self, ingest: &Ingest<'_>, reach: &Store) -> Option<Vec<FileGroup>> {
        let group = |(likeness, files): (Likeness, Vec<usize>)| {
            let file = |index: &usize| {
                let entry = ingest.files.get(*index)?;
                self.surveyed.get(*index).filter(|file| file.is_plain)?;
                Some(GroupFile { key: entry.key_in(reach)?, path: entry.path.clone(), url: entry.url() })
            };
            Some(FileGroup {
                form: form(ingest, likeness.1, false),
                columns: self.columns(&likeness.0),
                metadata: ingest.step.metadata.then_some(PLACE),
                files: files.iter().map(file).collect::<Option<Vec<GroupFile>>>()?,
            })
        };
        self.alike().into_iter().map(group).collect()
    }

    /// The groups of the parts that text becomes, each with the files that it is made of.
    fn as_parts(&self, ingest: &Ingest<'_>, session: &mut dyn Session) -> Result<Vec<Made>, String> {
        if ingest.step.files.format != Format::Csv {
            return Err("the files are no delimited text".to_owned());
        }
        if let Some(why) = Rechunk::objection(&ingest.step.files, &ingest.files).filter(|_| ingest.step.metadata) {
            return Err(why);
        }
        let mut groups: Vec<Made> = Vec::new();
        for ((columns, _), files) in self.alike() {
            let mut columns = self.columns(&columns);
            if ingest.step.metadata {
                let kinds = [ColumnType::Text, ColumnType::Bigint];
                columns.extend(PLACE.iter().zip(kinds).map(|(name, kind)| FileColumn {
                    name: (*name).to_owned(),
                    kind,
                    from: (*name).to_owned(),
                }));
            }
            // How files are compressed is gone with the parts.
            match groups.iter_mut().find(|(group, _)| group.columns == columns) {
                Some((_, others)) => others.extend(files),
                None => {
                    let form = form(ingest, Compression::Zstd, true);
                    groups.push((FileGroup { form, columns, metadata: None, files: Vec::new() }, files));
                }
            }
        }
        let objection = groups.iter().find_map(|(group, _)| session.file_loads()?.objection(group));
        objection.map_or(Ok(groups), Err)
    }
}

/// What the files are, or the parts made of them.
fn form(ingest: &Ingest<'_>, compression: Compression, is_made: bool) -> FileForm {
    let files = &ingest.step.files;
    if files.format == Format::Parquet {
        return FileForm::Parquet;
    }
    FileForm::Text(TextForm {
        delimiter: files.delimiter,
        quote: files.quote,
        escape: files.escape.filter(|escape| files.quote.is_some_and(|quote| quote != *escape)),
        trailing_delimiter: files.trailing_delimiter && !is_made,
        nulls: files.null_values.clone(),
        header: files.header && !is_made,
        compression,
    })
}

async fn in_place(
    ingest: &mut Ingest<'_>,
    attempt: &mut Attempt,
    session: &mut dyn Session,
    staging: &TableName,
    groups: &[FileGroup],
) -> Result<u64, Failure> {
    let stopwatch = attempt.run.request.clock.stopwatch();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for group in groups {
        let rows = loads(session)?.load(staging, group).await?;
        counts.extend(group.files.iter().map(|file| file.path.as_str()).zip(rows));
    }
    ingest.tally().open(ingest.files.len());
    for (index, file) in ingest.files.iter().enumerate() {
        let rows = counts.get(file.path.as_str()).copied().unwrap_or(0);
        ingest.tally().add_counts(index, rows, Vec::new(), 0);
        attempt.progress.add_rows(rows);
        attempt.progress.add_bytes(file.bytes);
    }
    ingest.carried = 0;
    attempt.record.rows = ingest.tally().rows();
    let rows = attempt.record.rows.read;
    attempt.record_statement(&format!("load {} in place into {staging}", figure(ingest.files.len())), None, &stopwatch, Some(rows));
    Ok(rows)
}

fn figure(files: usize) -> String {
    crate::report::figure::plural(files, "file")
}

async fn as_parts(
    ingest: &mut Ingest<'_>,
    attempt: &mut Attempt,
    session: &mut dyn Session,
    staging: &TableName,
    (resolved, groups): (&Resolved, Vec<Made>),
) -> Result<Option<u64>, Failure> {
    let stopwatch = attempt.run.request.clock.stopwatch();
    let entry = |index: usize| ingest.files.get(index).map(|file| (index, file.clone().cancelled_by(attempt.cancelled.clone())));
    let source = |(group, files): &Made| {
        let added = if ingest.step.metadata { PLACE.len() } else { 0 };
        (group.columns.len() - added, files.iter().filter_map(|index| entry(*index)).collect())
    };
    let sources: Vec<(usize, Vec<(usize, FileEntry)>)> = groups.iter().map(source).collect();
    let rechunk = Rechunk::new(&ingest.step.files, sources, ingest.step.metadata, attempt.cancelled.clone());
    ingest.tally().open(ingest.files.len());
    let make = make(rechunk, Arc::clone(&ingest.tally), attempt);
    let groups: Vec<FileGroup> = groups.into_iter().map(|(group, _)| group).collect();
    let extraction = FileExtraction::new("parts of text", &ingest.files, resolved, &ingest.tally, &attempt.progress);
    let extraction = extraction.as_ref().map(|extraction| extraction as &dyn Extraction);
    let loaded = match loads(session)?.load_parts(staging, &groups, make, extraction).await {
        Ok(loaded) => loaded,
        Err(failure) => {
            undo(attempt, session, staging, failure, "as parts of text").await?;
            return Ok(None);
        }
    };
    attempt.record.rows = ingest.tally().rows();
    let rows = attempt.record.rows.read;
    if rows != loaded {
        let message = format!("{rows} records were cut, {loaded} rows are in the table");
        return Err(Failure::new(FailureKind::Internal, "ingest::accounting", message).help("nothing was published; run the step again"));
    }
    attempt.record_statement(&format!("load {} as parts of text into {staging}", figure(ingest.files.len())), None, &stopwatch, Some(rows));
    Ok(Some(rows))
}

fn make(rechunk: Rechunk, tally: Arc<Mutex<Tally>>, attempt: &Attempt) -> MakeParts {
    let progress = attempt.progress.clone();
    Box::new(move |put| {
        let mut hand_over = |part: Chunked| {
            let Chunked { group, file, rows, bytes, sha256 } = part;
            put(TextPart { group, file, extension: "csv.zst", rows, bytes, sha256 })
        };
        rechunk.run(&mut hand_over, &mut |file, rows, bytes| {
            progress.add_rows(rows);
            progress.add_bytes(bytes);
            tally.lock().unwrap_or_else(PoisonError::into_inner).add_counts(file, rows, Vec::new(), 0);
        })
    })
}
