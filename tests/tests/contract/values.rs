//! Values: every type through `append` and back through `read` and `query`.

use std::sync::{Arc, Mutex};

use duckdb::arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use duckdb::arrow::compute::{cast, concat_batches};
use duckdb::arrow::datatypes::DataType;
use errand_engine::warehouse::{AppendTarget, Chunk, NextChunk, Session};
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::TableName;
use errand_model::value::ColumnType;

use super::site::{Place, Site, exact, is_failure, run, session, table, value};

type Column = (String, ColumnType, ArrayRef);

fn column(name: &str, kind: ColumnType, values: impl Array + 'static) -> Column {
    (name.to_owned(), kind, Arc::new(values))
}

fn batch(columns: &[Column]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, _, values)| (name.as_str(), Arc::clone(values), true)))
        .expect("columns of one length")
}

fn target(table: &TableName, columns: &[Column]) -> AppendTarget {
    AppendTarget { table: table.clone(), columns: columns.iter().map(|(name, kind, _)| (name.clone(), *kind)).collect() }
}

fn chunks(chunks: Vec<(usize, RecordBatch)>) -> NextChunk {
    let mut chunks = chunks.into_iter();
    Box::new(move || Ok(chunks.next().map(|(table, rows)| Chunk { table, rows })))
}

async fn create(session: &mut dyn Session, table: &TableName, columns: &[Column]) {
    let capabilities = session.capabilities();
    let list: Vec<String> =
        columns.iter().map(|(name, kind, _)| format!("{} {}", capabilities.quote(name), (capabilities.type_name)(*kind))).collect();
    run(session, &[&format!("CREATE TABLE {} ({})", capabilities.quote_table(table), list.join(", "))]).await;
}

/// Every row of a query, in one batch; none when there were no rows.
async fn read(session: &mut dyn Session, query: &str) -> (u64, Option<RecordBatch>) {
    let kept = Arc::new(Mutex::new(Vec::<RecordBatch>::new()));
    let keeping = Arc::clone(&kept);
    let put = Box::new(move |rows: RecordBatch| {
        keeping.lock().expect("no panic").push(rows);
        Ok(())
    });
    let count = session.read(query, put).await.unwrap_or_else(|failure| panic!("{query}: {failure}"));
    let batches = std::mem::take(&mut *kept.lock().expect("no panic"));
    let all = batches.first().map(|first| concat_batches(&first.schema(), &batches).expect("batches of one schema"));
    (count, all.filter(|all| all.num_rows() > 0))
}

/// Appends the columns, reads them again in the order of the first one, and compares types and values; JSON by what it means.
async fn there_and_back(site: &Site, columns: &[Column]) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let table = table("t");
    create(&mut *session, &table, columns).await;
    let sent = batch(columns);
    let counts = session.append(vec![target(&table, columns)], chunks(vec![(0, sent.clone())]), None).await.expect("appended");
    assert_eq!(counts, [sent.num_rows() as u64]);
    let capabilities = site.capabilities();
    let names = capabilities.quote_list(columns.iter().map(|(name, ..)| name.as_str()));
    let order = capabilities.quote(&columns[0].0);
    let (count, found) = read(&mut *session, &format!("SELECT {names} FROM {} ORDER BY {order}", capabilities.quote_table(&table))).await;
    let found = found.expect("rows");
    assert_eq!(count, sent.num_rows() as u64);
    let columns: Vec<Column> = columns.iter().map(|column| as_read(site, column)).collect();
    for (at, (name, kind, values)) in columns.iter().enumerate() {
        let back = found.column(at);
        assert_eq!(back.data_type(), values.data_type(), "{name}");
        if *kind == ColumnType::Json {
            assert_eq!(documents(back), documents(values), "{name}");
        } else {
            assert_eq!(back.as_ref(), values.as_ref(), "{name}");
        }
    }
    let known = session.columns(&table).await.expect("asked").expect("it is there");
    for ((name, kind, _), known) in columns.iter().zip(&known) {
        let is_kept = known.kind == Some(*kind) || *kind == ColumnType::Json && known.kind == Some(ColumnType::Text);
        assert!(is_kept, "{name} is {kind}, and {known:?} was found");
    }
}

/// Snowflake counts digits, not bits: a column that holds every `integer` holds more than that, and is read as a `bigint`.
fn as_read(site: &Site, (name, kind, values): &Column) -> Column {
    match (&site.place, kind) {
        (Place::Snowflake(_), ColumnType::Integer) => {
            (name.clone(), ColumnType::Bigint, cast(values, &DataType::Int64).expect("an integer is a bigint"))
        }
        _ => (name.clone(), *kind, Arc::clone(values)),
    }
}

fn documents(values: &ArrayRef) -> Vec<Option<serde_json::Value>> {
    let texts = values.as_any().downcast_ref::<StringArray>().expect("texts");
    texts.iter().map(|text| text.map(|text| serde_json::from_str(text).expect("JSON"))).collect()
}

const DAY: i64 = 86_400_000_000;

pub(crate) async fn every_type_goes_there_and_back(site: &Site) {
    let stamps = vec![Some(1_767_225_600_123_456), None, Some(0), Some(-1)];
    let columns = [
        column("id", ColumnType::Integer, Int32Array::from(vec![1, 2, 3, 4])),
        column("flag", ColumnType::Boolean, BooleanArray::from(vec![Some(true), None, Some(false), Some(true)])),
        column("small", ColumnType::Integer, Int32Array::from(vec![Some(i32::MAX), None, Some(0), Some(i32::MIN)])),
        column("big", ColumnType::Bigint, Int64Array::from(vec![Some(i64::MAX), None, Some(0), Some(i64::MIN)])),
        column(
            "price",
            ColumnType::Decimal(10, 2),
            Decimal128Array::from(vec![Some(9_999_999_999), None, Some(5), Some(-150)]).with_precision_and_scale(10, 2).expect("it fits"),
        ),
        column("ratio", ColumnType::Double, Float64Array::from(vec![Some(f64::MAX), None, Some(0.1), Some(-f64::MIN_POSITIVE)])),
        column(
            "word",
            ColumnType::Text,
            StringArray::from(vec![Some("naïve 漢字 🦀 e\u{301}"), None, Some("a\tb\nc\\d\"e'f,g|h"), Some(" \\N NULL ")]),
        ),
        column("day", ColumnType::Date, Date32Array::from(vec![Some(20_454), None, Some(0), Some(-1)])),
        column("clock", ColumnType::Time, Time64MicrosecondArray::from(vec![Some(DAY - 1), None, Some(0), Some(1)])),
        column("local", ColumnType::Timestamp, TimestampMicrosecondArray::from(stamps.clone())),
        column("moment", ColumnType::Timestamptz, TimestampMicrosecondArray::from(stamps).with_timezone("UTC")),
        column(
            "doc",
            ColumnType::Json,
            StringArray::from(vec![Some(r#"{"a":[1,2.5,"ü\n",null,true],"b":{}}"#), None, Some(r#""text""#), Some("[]")]),
        ),
    ];
    there_and_back(site, &columns).await;
}

/// A column that cannot hold its values says so when it is made or filled, and holds none of them.
async fn is_refused(site: &Site, columns: &[Column]) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let table = table("refused");
    let capabilities = site.capabilities();
    let list: Vec<String> =
        columns.iter().map(|(name, kind, _)| format!("{} {}", capabilities.quote(name), (capabilities.type_name)(*kind))).collect();
    let made = session.execute(&format!("CREATE TABLE {} ({})", capabilities.quote_table(&table), list.join(", "))).await;
    let failure = match made {
        Ok(_) => session.append(vec![target(&table, columns)], chunks(vec![(0, batch(columns))]), None).await.expect_err("it does not fit"),
        Err(failure) => failure,
    };
    assert_eq!(failure.kind, FailureKind::Permanent, "{failure:?}");
    if session.columns(&table).await.expect("asked").is_some() {
        assert_eq!(value(&mut *session, &format!("SELECT count(*) FROM {}", capabilities.quote_table(&table))).await, "0");
    }
}

pub(crate) async fn decimals_of_38_digits_go_there_and_back(site: &Site) {
    let most = 10_i128.pow(38) - 1;
    let decimals = |scale: u8| {
        let values = vec![Some(most), Some(-most), Some(1), Some(-1), Some(0), None, Some(10_i128.pow(37))];
        let values = Decimal128Array::from(values).with_precision_and_scale(38, scale.cast_signed()).expect("it fits");
        column(&format!("d{scale}"), ColumnType::Decimal(38, scale), values)
    };
    // Whole numbers of the stand-in have 64 bits, and the largest scale of Redshift is 37.
    let refused = match site.place {
        Place::Snowflake(_) if site.is_stand_in() => Some(0),
        Place::Redshift(_) => Some(38),
        Place::Duckdb | Place::Postgres(_) | Place::Snowflake(_) => None,
    };
    let mut columns = vec![column("id", ColumnType::Integer, Int32Array::from((0..7).collect::<Vec<_>>()))];
    for scale in [0_u8, 1, 9, 19, 37, 38] {
        if refused == Some(scale) {
            is_refused(site, &[decimals(scale)]).await;
        } else {
            columns.push(decimals(scale));
        }
    }
    columns.push(column(
        "d5",
        ColumnType::Decimal(5, 5),
        Decimal128Array::from(vec![Some(99_999), Some(-99_999), Some(1), None, Some(0), Some(10_000), Some(-1)])
            .with_precision_and_scale(5, 5)
            .expect("it fits"),
    ));
    there_and_back(site, &columns).await;
}

pub(crate) async fn extreme_moments_go_there_and_back(site: &Site) {
    // The first and the last day of four digits, and what lies around 1970 and a leap day.
    let days = vec![Some(-719_162), Some(2_932_896), Some(-1), Some(0), Some(11_016), None];
    let stamps: Vec<Option<i64>> =
        vec![Some(-719_162 * DAY), Some(2_932_897 * DAY - 1), Some(-1), Some(0), Some(11_016 * DAY + 43_200_000_000), None];
    let times = vec![Some(0), Some(DAY - 1), Some(1), Some(1_000_000), Some(43_200_000_000), None];
    let columns = [
        column("id", ColumnType::Integer, Int32Array::from((0..6).collect::<Vec<_>>())),
        column("day", ColumnType::Date, Date32Array::from(days)),
        column("clock", ColumnType::Time, Time64MicrosecondArray::from(times)),
        column("local", ColumnType::Timestamp, TimestampMicrosecondArray::from(stamps.clone())),
        column("moment", ColumnType::Timestamptz, TimestampMicrosecondArray::from(stamps).with_timezone("UTC")),
    ];
    there_and_back(site, &columns).await;
}

pub(crate) async fn an_empty_text_is_not_null(site: &Site) {
    let texts = StringArray::from(vec![Some(""), None, Some(" "), Some("NULL")]);
    let columns = [column("id", ColumnType::Integer, Int32Array::from(vec![1, 2, 3, 4])), column("a", ColumnType::Text, texts)];
    there_and_back(site, &columns).await;
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let rows = session.query("SELECT a FROM t ORDER BY id", 9).await.expect("read");
    let text = |text: &str| vec![Some(text.to_owned())];
    assert_eq!(rows, [text(""), vec![None], text(" "), text("NULL")]);
}

pub(crate) async fn no_rows_go_there_and_back(site: &Site) {
    let columns = [
        column("id", ColumnType::Integer, Int32Array::from(Vec::<i32>::new())),
        column("a", ColumnType::Text, StringArray::from(Vec::<&str>::new())),
    ];
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let table = table("t");
    create(&mut *session, &table, &columns).await;
    assert_eq!(session.append(vec![target(&table, &columns)], chunks(Vec::new()), None).await, Ok(vec![0]));
    assert_eq!(session.append(vec![target(&table, &columns)], chunks(vec![(0, batch(&columns))]), None).await, Ok(vec![0]));
    let (count, found) = read(&mut *session, "SELECT id, a FROM t").await;
    assert_eq!((count, found), (0, None));
    assert_eq!(session.query("SELECT id, a FROM t", 5).await, Ok(Vec::new()));
    assert_eq!(session.describe("SELECT id, a FROM t").await.expect("described").len(), 2);
}

pub(crate) async fn many_rows_go_there_and_back(site: &Site) {
    const ROWS: i64 = 60_000;
    let part = |from: i64| {
        let words = StringArray::from_iter_values((from..from + 10_000).map(|id| format!("row {id} {}", "x".repeat(60))));
        [column("id", ColumnType::Bigint, Int64Array::from_iter_values(from..from + 10_000)), column("a", ColumnType::Text, words)]
    };
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let table = table("t");
    create(&mut *session, &table, &part(0)).await;
    let parts = (0..ROWS / 10_000).map(|at| (0, batch(&part(at * 10_000)))).collect();
    assert_eq!(session.append(vec![target(&table, &part(0))], chunks(parts), None).await, Ok(vec![60_000]));
    assert_eq!(value(&mut *session, "SELECT count(DISTINCT a) FROM t").await, "60000");
    let (count, found) = read(&mut *session, "SELECT id, a FROM t").await;
    let found = found.expect("rows");
    let ids = found.column(0).as_any().downcast_ref::<Int64Array>().expect("numbers");
    assert_eq!((count, ids.iter().flatten().sum::<i64>()), (60_000, ROWS * (ROWS - 1) / 2));
}

pub(crate) async fn rows_go_to_two_tables(site: &Site) {
    let some = [column("a", ColumnType::Bigint, Int64Array::from(vec![1, 2]))];
    let others = [column("b", ColumnType::Text, StringArray::from(vec!["x", "y", "z"]))];
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let (one, two) = (table("one"), table("two"));
    create(&mut *session, &one, &some).await;
    create(&mut *session, &two, &others).await;
    let targets = vec![target(&one, &some), target(&two, &others)];
    let sent = vec![(0, batch(&some)), (1, batch(&others)), (0, batch(&some))];
    assert_eq!(session.append(targets, chunks(sent), None).await, Ok(vec![4, 3]));
    assert_eq!(value(&mut *session, "SELECT CAST(sum(a) AS INTEGER) FROM one").await, "6");
    assert_eq!(value(&mut *session, "SELECT max(b) FROM two").await, "z");
}

pub(crate) async fn rows_go_to_names_with_quotes_case_and_reserved_words(site: &Site) {
    let fifth = if site.is_stand_in() { "from" } else { "größe" };
    let names = ["select", "MiXed", "a\"b", "with space", fifth];
    let columns: Vec<Column> = names.iter().map(|name| column(name, ColumnType::Bigint, Int64Array::from(vec![1, 2]))).collect();
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let table = table("order");
    create(&mut *session, &table, &columns).await;
    assert_eq!(session.append(vec![target(&table, &columns)], chunks(vec![(0, batch(&columns))]), None).await, Ok(vec![2]));
    let known = session.columns(&table).await.expect("asked").expect("it is there");
    let sum = known.iter().map(|column| exact(&column.name)).collect::<Vec<_>>().join(" + ");
    assert_eq!(
        value(&mut *session, &format!("SELECT CAST(sum({sum}) AS INTEGER) FROM {}", site.capabilities().quote_table(&table))).await,
        "15"
    );
    let (count, found) = read(&mut *session, &format!("SELECT * FROM {}", site.capabilities().quote_table(&table))).await;
    assert_eq!((count, found.map(|found| found.num_columns())), (2, Some(5)));
}

pub(crate) async fn rows_that_are_undone_are_gone(site: &Site) {
    let columns = [column("a", ColumnType::Bigint, Int64Array::from(vec![1, 2]))];
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let table = table("t");
    create(&mut *session, &table, &columns).await;
    run(&mut *session, &["BEGIN TRANSACTION"]).await;
    assert_eq!(session.append(vec![target(&table, &columns)], chunks(vec![(0, batch(&columns))]), None).await, Ok(vec![2]));
    session.rollback().await.expect("undone");
    assert_eq!(value(&mut *session, "SELECT count(*) FROM t").await, "0");
}

pub(crate) async fn rows_that_fail_on_the_way_are_not_there(site: &Site) {
    let columns = [column("a", ColumnType::Bigint, Int64Array::from(vec![1, 2]))];
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let table = table("t");
    create(&mut *session, &table, &columns).await;
    let (rows, mut sent) = (batch(&columns), 0);
    let next: NextChunk = Box::new(move || {
        sent += 1;
        match sent {
            1..=3 => Ok(Some(Chunk { table: 0, rows: rows.clone() })),
            _ => Err(Failure::new(FailureKind::Rejected, "ingest::rejected", "the source is bad")),
        }
    });
    run(&mut *session, &["BEGIN TRANSACTION"]).await;
    is_failure(session.append(vec![target(&table, &columns)], next, None).await, "ingest::rejected");
    session.rollback().await.expect("undone");
    assert_eq!(value(&mut *session, "SELECT count(*) FROM t").await, "0");
}
