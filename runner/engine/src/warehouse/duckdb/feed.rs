//! Rows from outside as a table function, so that a load is one streaming `INSERT` that keeps their order.
//!
//! DuckDB's appender runs a statement for every 204,800 rows: every row is copied once more, row groups are filled by halves and
//! merged again on one thread while the calling thread spins. That is 1.5 times the work, on the cores that parse.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use duckdb::Connection;
use duckdb::core::{DataChunkHandle, LogicalTypeHandle, LogicalTypeId};
use duckdb::vtab::arrow::{record_batch_to_duckdb_data_chunk, to_duckdb_logical_type_for_field};
use duckdb::vtab::{BindInfo, InitInfo, TableFunctionInfo, VTab};
use errand_model::failure::Failure;

use super::{CAPABILITIES, failure};
use crate::warehouse::queue::Queue;
use crate::warehouse::{AppendTarget, NextChunk};

/// The table function; its argument is the number of a feed.
const FUNCTION: &str = "_errand_feed";
/// Rows of one of DuckDB's vectors.
const VECTOR: usize = 2048;

/// Feeds of running statements: a table function is told nothing but values of SQL, hence numbers.
static FEEDS: Mutex<BTreeMap<u64, Arc<Mutex<Feed>>>> = Mutex::new(BTreeMap::new());
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// Makes the table function known to a database.
pub(super) fn register(connection: &Connection) -> duckdb::Result<()> {
    connection.register_table_function::<FeedFunction>(FUNCTION)
}

/// Appends all chunks, those of one table in their order; says how many rows went to each table.
pub(super) fn append(connection: &Connection, targets: &[AppendTarget], next: NextChunk) -> Result<Vec<u64>, Failure> {
    let mut counts = vec![0; targets.len()];
    let feed = Arc::new(Mutex::new(Feed::new(next)));
    let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
    lock(&FEEDS).insert(number, Arc::clone(&feed));
    let result = statements(connection, targets, &feed, number, &mut counts);
    lock(&FEEDS).remove(&number);
    result.map(|()| counts)
}

fn statements(
    connection: &Connection,
    targets: &[AppendTarget],
    feed: &Mutex<Feed>,
    number: u64,
    counts: &mut [u64],
) -> Result<(), Failure> {
    loop {
        let Some(table) = lock(feed).open()? else { return Ok(()) };
        let target = &targets[table];
        let columns = CAPABILITIES.quote_list(target.columns.iter().map(|(name, _)| name.as_str()));
        let sql = format!("INSERT INTO {} ({columns}) SELECT * FROM {FUNCTION}({number})", CAPABILITIES.quote_table(&target.table));
        let inserted = connection.execute(&sql, []);
        if let Some(failure) = lock(feed).failure.take() {
            return Err(failure);
        }
        counts[table] += inserted.map_err(|error| failure(&error))? as u64;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows on their way, cut into statements: each one fills one table.
struct Feed {
    queue: Queue,
    /// The table of the running statement, its columns, and the batch that it reads, with the rows of it that are read.
    table: usize,
    schema: SchemaRef,
    batch: Option<RecordBatch>,
    read: usize,
    failure: Option<Failure>,
}

impl Feed {
    fn new(next: NextChunk) -> Self {
        Self { queue: Queue::new(next), table: 0, schema: SchemaRef::new(Schema::empty()), batch: None, read: 0, failure: None }
    }

    /// The table of the next statement, whose first rows are at hand; none at the end.
    fn open(&mut self) -> Result<Option<usize>, Failure> {
        let Some(first) = self.queue.first()? else { return Ok(None) };
        self.table = first.table;
        self.schema = first.rows.schema();
        self.batch = Some(first.rows);
        self.read = 0;
        Ok(Some(self.table))
    }

    /// The next rows of the running statement, at most a vector of them.
    fn rows(&mut self) -> Result<Option<RecordBatch>, Failure> {
        if self.batch.as_ref().is_some_and(|batch| self.read == batch.num_rows()) {
            self.batch = self.queue.more(self.table)?;
            self.read = 0;
        }
        let Some(batch) = &self.batch else { return Ok(None) };
        let rows = VECTOR.min(batch.num_rows() - self.read);
        let slice = batch.slice(self.read, rows);
        self.read += rows;
        Ok(Some(slice))
    }
}

struct FeedFunction;

impl VTab for FeedFunction {
    type InitData = ();
    type BindData = Arc<Mutex<Feed>>;

    fn bind(bind: &BindInfo) -> Result<Self::BindData, Box<dyn Error>> {
        let number = u64::try_from(bind.get_parameter(0).to_int64())?;
        let feed = lock(&FEEDS).get(&number).map(Arc::clone).ok_or("no such feed")?;
        for field in lock(&feed).schema.fields() {
            bind.add_result_column(field.name(), to_duckdb_logical_type_for_field(field)?);
        }
        Ok(feed)
    }

    fn init(_: &InitInfo) -> Result<Self::InitData, Box<dyn Error>> {
        Ok(())
    }

    fn func(call: &TableFunctionInfo<Self>, output: &mut DataChunkHandle) -> Result<(), Box<dyn Error>> {
        let mut feed = lock(call.get_bind_data());
        match feed.rows() {
            Ok(Some(rows)) => record_batch_to_duckdb_data_chunk(&rows, output)?,
            Ok(None) => output.set_len(0),
            Err(failure) => {
                feed.failure = Some(failure);
                return Err("the feed failed".into());
            }
        }
        Ok(())
    }

    fn parameters() -> Option<Vec<LogicalTypeHandle>> {
        Some(vec![LogicalTypeHandle::from(LogicalTypeId::Bigint)])
    }
}
