//! Names, manifests and uploads, on a directory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{Int64Array, RecordBatch, Time64MicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde_json::{Value, json};

use super::*;
use crate::warehouse::Chunk;

fn chunks(table: usize) -> NextChunk {
    let fields = vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Time64(TimeUnit::Microsecond), true)];
    let schema = Arc::new(Schema::new(fields));
    let mut left = 3;
    Box::new(move || {
        if left == 0 {
            return Ok(None);
        }
        left -= 1;
        let numbers = Arc::new(Int64Array::from(vec![Some(i64::from(left)), None]));
        let times = Arc::new(Time64MicrosecondArray::from(vec![Some(3_723_000_004), None]));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![numbers, times]).expect("a batch");
        Ok(Some(Chunk { table, rows }))
    })
}

/// Rows that nobody may ask for.
fn no_chunks() -> NextChunk {
    Box::new(|| -> Result<Option<Chunk>, Failure> { panic!("rows are extracted again") })
}

fn tables() -> Vec<StagedTable> {
    let columns = vec![("N".to_owned(), ColumnType::Bigint), ("T".to_owned(), ColumnType::Time)];
    vec![StagedTable { columns, time_as_text: true }; 2]
}

/// An extraction of some source in some version.
struct Source {
    version: Mutex<Value>,
    account: Option<Value>,
    restored: Mutex<Option<Value>>,
}

impl Source {
    fn new(version: &str) -> Self {
        Self { version: Mutex::new(json!(version)), account: Some(json!({ "read": 6 })), restored: Mutex::default() }
    }

    fn restored(&self) -> Option<Value> {
        self.restored.lock().expect("nobody panics").take()
    }
}

impl Extraction for Source {
    fn inputs(&self) -> Value {
        self.version.lock().expect("nobody panics").clone()
    }

    fn account(&self) -> Option<Value> {
        self.account.clone()
    }

    fn restore(&self, account: Value) -> Result<(), Failure> {
        *self.restored.lock().expect("nobody panics") = Some(account);
        Ok(())
    }
}

struct Place {
    root: tempfile::TempDir,
    store: Store,
    token: CancellationToken,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        Self { store: Store::directory(root.path()), root, token: CancellationToken::new() }
    }

    fn staging<'a>(&self, extraction: Option<&'a dyn Extraction>) -> Staging<'a> {
        Staging::new(&self.store, "load", extraction, &self.token)
    }

    async fn keys(&self) -> Vec<String> {
        self.store.list("**").await.expect("listed").into_iter().map(|entry| entry.path).collect()
    }
}

#[tokio::test]
async fn names_follow_from_load_table_and_content() {
    let place = Place::new();
    let first = place.staging(None).rows(tables(), chunks(1)).await.expect("staged");
    let second = place.staging(None).rows(tables(), chunks(1)).await.expect("staged again");
    assert_eq!(first, second);
    assert_eq!((first.tables[0].0.len(), first.tables[1].rows()), (0, 6));
    let keys = place.keys().await;
    assert_eq!(keys, [first.tables[1].0[0].key.clone()], "without an extraction to take again there is no manifest");
    assert!(keys[0].starts_with("load/1/00000-") && keys[0].ends_with(".parquet"), "{keys:?}");
    first.loaded().await;
    assert!(place.keys().await.is_empty());
}

#[tokio::test]
async fn a_later_attempt_takes_what_an_earlier_one_staged() {
    let place = Place::new();
    let source = Source::new("v1");
    let first = place.staging(Some(&source)).rows(tables(), chunks(0)).await.expect("staged");
    assert_eq!(source.restored(), None);
    let manifest = place.keys().await.pop().expect("keys");
    assert!(manifest.starts_with("load/manifest-") && manifest.ends_with(".json"), "{manifest}");
    first.loaded().await;
    assert_eq!(place.keys().await.len(), 2, "files stay until their load is committed");
    let second = place.staging(Some(&source)).rows(tables(), no_chunks()).await.expect("taken");
    assert_eq!(first, second);
    assert_eq!(source.restored(), Some(json!({ "read": 6 })));
    sweep(&place.store, "load").await;
    assert!(place.keys().await.is_empty());
}

#[tokio::test]
async fn another_source_and_missing_or_damaged_files_are_extracted_anew() {
    let place = Place::new();
    let source = Source::new("v1");
    let first = place.staging(Some(&source)).rows(tables(), chunks(0)).await.expect("staged");
    let other = place.staging(Some(&Source::new("v2"))).rows(tables(), chunks(1)).await.expect("staged");
    assert_ne!(first.tables, other.tables);
    assert_eq!(place.keys().await.iter().filter(|key| key.contains("manifest")).count(), 2);
    let part = place.root.path().join(&first.tables[0].0[0].key);
    for is_short in [true, false] {
        std::fs::remove_file(&part).expect("removed");
        if is_short {
            std::fs::write(&part, "short").expect("written");
        }
        let again = place.staging(Some(&source)).rows(tables(), chunks(0)).await.expect("staged again");
        assert_eq!(again.tables, first.tables);
        // Nothing but another extraction writes it again.
        assert_eq!(std::fs::metadata(&part).expect("it is there").len(), first.tables[0].0[0].bytes);
    }
    let manifest = place.keys().await.into_iter().find(|key| key.contains("manifest")).expect("a manifest");
    std::fs::write(place.root.path().join(manifest), "{").expect("written");
    for version in ["v1", "v2"] {
        place.staging(Some(&Source::new(version))).rows(tables(), chunks(0)).await.expect("a manifest that is none is passed over");
    }
}

#[tokio::test]
async fn rows_that_are_not_all_leave_no_manifest() {
    let place = Place::new();
    let source = Source { account: None, ..Source::new("v1") };
    place.staging(Some(&source)).rows(tables(), chunks(0)).await.expect("staged").loaded().await;
    let next: NextChunk = Box::new(|| Err(Failure::new(FailureKind::Rejected, "ingest::bad", "bad file")));
    let failed = place.staging(Some(&Source::new("v1"))).rows(tables(), next).await;
    assert_eq!(failed.expect_err("refused").code, "ingest::bad");
    assert!(place.keys().await.is_empty());
}

#[tokio::test]
async fn of_two_runners_the_slower_takes_the_files_of_the_faster() {
    let place = Place::new();
    let (fast, slow) = (Source::new("v1"), Source { account: Some(json!("mine")), ..Source::new("v1") });
    // The slower one looks before the faster one has written its manifest, and comes to its own end after it.
    let (store, inputs) = (place.store.clone(), fast.inputs());
    let faster = Manifest::new(inputs, vec![Parts(Vec::new()), Parts(Vec::new())], json!("theirs"));
    let mut next = chunks(0);
    let runtime = tokio::runtime::Handle::current();
    let mut faster = Some(faster);
    let racing: NextChunk = Box::new(move || {
        if let Some(faster) = faster.take() {
            let (_, is_first) = runtime.block_on(faster.commit(&store, "load"))?;
            assert!(is_first);
        }
        next()
    });
    let staged = place.staging(Some(&slow)).rows(tables(), racing).await.expect("taken");
    assert_eq!((staged.tables[0].rows(), slow.restored()), (0, Some(json!("theirs"))));
}

#[tokio::test]
async fn files_that_another_runner_removed_are_a_conflict() {
    let place = Place::new();
    let staged = place.staging(Some(&Source::new("v1"))).rows(tables(), chunks(0)).await.expect("staged");
    let copy = || Failure::new(FailureKind::Permanent, "warehouse::refused", "file not found");
    assert_eq!(staged.failed(copy()).await.code, "warehouse::refused");
    sweep(&place.store, "load").await;
    let failed = staged.failed(copy()).await;
    assert_eq!((failed.kind, failed.code.as_str()), (FailureKind::Transient, "warehouse::conflict"));
    assert!(failed.message.contains("file not found"), "{failed}");
}

/// A finished file of its own content.
fn finished(table: usize, number: u64) -> Finished {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), number.to_string()).expect("written");
    let sha256 = format!("{number:064x}");
    Finished { table, file: file.into_temp_path(), extension: "csv.zst", rows: number, bytes: 200 << 20, sha256 }
}

#[tokio::test]
async fn names_and_order_do_not_depend_on_which_upload_ends_first() {
    let place = Place::new();
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let staged = place
        .staging(None)
        .files(2, move |sink| {
            for number in 0..40 {
                assert!(sink.put(finished(usize::from(number % 2 == 1), number)));
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
        .await
        .expect("staged");
    assert_eq!(made.load(Ordering::Relaxed), 40);
    for (table, parts) in staged.tables.iter().enumerate() {
        let expected: Vec<u64> = (0..20).map(|at| at * 2 + table as u64).collect();
        assert_eq!(parts.0.iter().map(|part| part.rows).collect::<Vec<_>>(), expected);
        for (at, part) in parts.0.iter().enumerate() {
            assert_eq!(part.key, format!("load/{table}/{at:05}-{}.csv.zst", &part.sha256[..16]));
            let content = std::fs::read_to_string(place.root.path().join(&part.key)).expect("uploaded");
            assert_eq!(content, part.rows.to_string());
        }
    }
}

#[tokio::test]
async fn an_upload_that_fails_ends_the_work_and_is_the_failure() {
    let place = Place::new();
    // A directory stands where the file is to be.
    std::fs::write(place.root.path().join("load"), "a file where a directory is to be").expect("written");
    let result = place
        .staging(None)
        .files(1, |sink| {
            for number in 0.. {
                if !sink.put(finished(0, number)) {
                    assert!(sink.is_closed());
                    return Ok(());
                }
            }
            Ok(())
        })
        .await;
    let failure = result.expect_err("no directory can be made");
    assert!(failure.code.starts_with("store::"), "{failure:?}");
}

#[tokio::test]
async fn a_table_that_nobody_named_is_a_defect() {
    let place = Place::new();
    let result = place.staging(None).rows(tables(), chunks(2)).await;
    assert_eq!(result.expect_err("refused").code, "warehouse::internal");
}

#[test]
fn directories_are_plain() {
    assert_eq!(directory("run/1.a \u{e9}-b_2"), "run_1_a__-b_2");
}
