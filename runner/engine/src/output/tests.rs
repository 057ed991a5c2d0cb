//! What is written: fixed forms, and that it is read back equal.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};
use errand_model::document::step::{Compression, Encoding, ExportFormat, Format, SchemaContract};
use errand_model::job::{Column, Files};
use errand_model::template::{Syntax, Template};
use errand_model::value::{ColumnType, Label};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::{Writer, Written, form};
use crate::source;

type Columns = Vec<(String, ColumnType)>;

struct Target {
    root: tempfile::TempDir,
    path: PathBuf,
}

fn target(end: &str) -> Target {
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().join(format!("out.{end}"));
    Target { root, path }
}

fn batch(columns: Vec<(&str, &str, ArrayRef)>) -> (Columns, RecordBatch) {
    let kinds = columns.iter().map(|(name, kind, _)| ((*name).to_owned(), ColumnType::parse(kind).expect("a type"))).collect();
    let fields: Vec<Field> = columns.iter().map(|(name, _, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, _, array)| array).collect();
    (kinds, RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("a batch"))
}

fn write(path: &std::path::Path, format: ExportFormat, columns: &Columns, batches: &[RecordBatch]) -> Written {
    let mut writer = Writer::create(path, format, columns).expect("made");
    for batch in batches {
        writer.write(batch).expect("written");
    }
    let written = writer.finish().expect("whole");
    assert_eq!(written.bytes, fs::metadata(path).expect("it is there").len());
    written
}

fn text(format: ExportFormat, columns: Vec<(&str, &str, ArrayRef)>) -> String {
    let (columns, batch) = batch(columns);
    let target = target("txt");
    let written = write(&target.path, format, &columns, std::slice::from_ref(&batch));
    assert_eq!(written.rows, batch.num_rows() as u64);
    fs::read_to_string(&target.path).expect("text")
}

fn both(kind: &str, array: ArrayRef) -> [String; 2] {
    let csv = text(ExportFormat::Csv, vec![("c", kind, Arc::clone(&array))]);
    let jsonl = text(ExportFormat::Jsonl, vec![("c", kind, array)]);
    let csv = csv.strip_prefix("c\n").expect("a header").lines().collect::<Vec<_>>().join(" ");
    let jsonl: Vec<&str> =
        jsonl.lines().map(|line| line.strip_prefix("{\"c\":").and_then(|line| line.strip_suffix('}')).expect("an object")).collect();
    [csv, jsonl.join(" ")]
}

fn decimals(values: Vec<i128>, precision: u8, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).expect("a type"))
}

#[test]
fn doubles_have_their_shortest_digits() {
    let values = [
        0.0,
        -0.0,
        1.0,
        0.1,
        1e15,
        1e16,
        123_456_789_012_345_680.0,
        1e21,
        1e-4,
        1e-5,
        1e-7,
        1.5e-5,
        f64::MAX,
        5e-324,
        1.25e20,
        9.869_604_401_089_358,
        1_234_567_890_123_456.0,
    ];
    let [csv, jsonl] = both("double", Arc::new(Float64Array::from(values.to_vec())));
    assert_eq!(
        csv,
        "0.0 -0.0 1.0 0.1 1000000000000000.0 1e+16 1.2345678901234568e+17 1e+21 0.0001 1e-05 1e-07 1.5e-05 1.7976931348623157e+308 5e-324 1.25e+20 9.869604401089358 1234567890123456.0"
    );
    assert_eq!(
        jsonl,
        "0.0 -0.0 1.0 0.1 1000000000000000.0 10000000000000000.0 123456789012345680.0 1e21 0.0001 0.00001 1e-7 0.000015 1.7976931348623157e308 5e-324 125000000000000000000.0 9.869604401089358 1234567890123456.0"
    );
    let [csv, jsonl] = both("double", Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY])));
    assert_eq!((csv.as_str(), jsonl.as_str()), ("NaN Infinity -Infinity", "\"NaN\" \"Infinity\" \"-Infinity\""));
}

#[test]
fn decimals_are_exact() {
    let most = 10_i128.pow(38) - 1;
    let nines = "9".repeat(38);
    assert_eq!(
        both("decimal(38,0)", decimals(vec![most, -most, 0], 38, 0)),
        [format!("{nines} -{nines} 0"), format!("{nines} -{nines} 0")]
    );
    assert_eq!(both("decimal(5,2)", decimals(vec![110, -5, 0], 5, 2)), ["1.10 -0.05 0.00".to_owned(), "1.1 -0.05 0.0".to_owned()]);
    assert_eq!(both("decimal(18,2)", decimals(vec![123_456_789_012_345_678, 10, -5], 18, 2))[1], "1234567890123456.78 0.10 -0.05");
    assert_eq!(both("decimal(2,2)", decimals(vec![50, -5], 2, 2)), [".50 -.05".to_owned(), "0.5 -0.05".to_owned()]);
    assert_eq!(
        both("decimal(20,20)", decimals(vec![-1], 20, 20)),
        ["-.00000000000000000001".to_owned(), "-0.00000000000000000001".to_owned()]
    );
    assert_eq!(both("decimal(10,7)", decimals(vec![1], 10, 7)), ["0.0000001".to_owned(), "0.0000001".to_owned()]);
}

#[test]
fn dates_and_times_are_written_without_zeros_at_the_end() {
    let [csv, jsonl] = both("date", Arc::new(Date32Array::from(vec![-719_162, 2_932_896, -1, 3_663_831, -719_163])));
    assert_eq!(csv, "0001-01-01 9999-12-31 1969-12-31 12001-03-25 0001-12-31 (BC)");
    assert_eq!(jsonl.split(' ').next(), Some("\"0001-01-01\""));
    let times = Time64MicrosecondArray::from(vec![0, 86_399_999_999, 3_723_500_000, 3_723_000_120]);
    assert_eq!(both("time", Arc::new(times))[0], "00:00:00 23:59:59.999999 01:02:03.5 01:02:03.00012");
    let moments = || TimestampMicrosecondArray::from(vec![-62_135_596_800_000_000, 253_402_300_799_999_999, -500_000, 0]);
    let csv = text(ExportFormat::Csv, vec![("c", "timestamp", Arc::new(moments()))]);
    assert_eq!(csv, "c\n0001-01-01 00:00:00\n9999-12-31 23:59:59.999999\n1969-12-31 23:59:59.5\n1970-01-01 00:00:00\n");
    let jsonl = text(ExportFormat::Jsonl, vec![("c", "timestamptz", Arc::new(moments().with_timezone("UTC")))]);
    assert_eq!(jsonl.lines().nth(1), Some("{\"c\":\"9999-12-31 23:59:59.999999+00\"}"));
}

#[test]
fn texts_are_quoted_where_a_reader_would_misread_them() {
    let texts = StringArray::from(vec![
        Some("a b"),
        Some(""),
        None,
        Some("q\"x"),
        Some("n\nl"),
        Some("a,b"),
        Some("a#b"),
        Some(" é😀;'\t"),
        Some("NULL"),
    ]);
    let csv = text(ExportFormat::Csv, vec![("a\"b", "text", Arc::new(texts)), ("a,b", "integer", Arc::new(Int32Array::from(vec![1; 9])))]);
    assert_eq!(csv, "\"a\"\"b\",\"a,b\"\na b,1\n\"\",1\n,1\n\"q\"\"x\",1\n\"n\nl\",1\n\"a,b\",1\n\"a#b\",1\n é😀;'\t,1\nNULL,1\n");
    let texts = StringArray::from(vec![Some("\u{1}\u{1f}\u{7f}\u{8}\u{c}\n\r\t\"\\/é😀\u{2028}"), None, Some("")]);
    let jsonl = text(ExportFormat::Jsonl, vec![("a\"b", "text", Arc::new(texts))]);
    assert_eq!(jsonl, "{\"a\\\"b\":\"\\u0001\\u001F\u{7f}\\b\\f\\n\\r\\t\\\"\\\\/é😀\u{2028}\"}\n{\"a\\\"b\":null}\n{\"a\\\"b\":\"\"}\n");
}

#[test]
fn json_is_text_in_csv_and_a_value_in_json_lines() {
    let values = [
        "{\"a\": 1.50, \"b\" : [1, 2 ],\"a\":2}",
        "\"\\u00e9\\/\\u0000\"",
        "null",
        "[1.0e2, 1e-7, 18446744073709551616, -0, -0.0, 1E400, 0.1234567890123456789, 0e5, 1.00]",
        " [ ] ",
        "\"\\ud800\"",
    ];
    let csv = text(ExportFormat::Csv, vec![("c", "json", Arc::new(StringArray::from(values.to_vec())))]);
    assert!(csv.contains("\"{\"\"a\"\": 1.50, \"\"b\"\" : [1, 2 ],\"\"a\"\":2}\"\n") && csv.contains("\nnull\n"), "{csv}");
    let jsonl = both("json", Arc::new(StringArray::from(values.to_vec()))).map(|text| text.replace(' ', "\n"))[1].clone();
    let expected = [
        "{\"a\":1.5,\"b\":[1,2],\"a\":2}",
        "\"é/\\u0000\"",
        "null",
        "[100.0,1e-7,18446744073709551616,0,-0.0,1E400,0.1234567890123456789,0.0,1.0]",
        "[]",
        "\"\\ud800\"",
    ];
    assert_eq!(jsonl, expected.join("\n"));
    let (columns, broken) = batch(vec![("c", "json", Arc::new(StringArray::from(vec!["{a"])))]);
    let target = target("jsonl");
    let failure = Writer::create(&target.path, ExportFormat::Jsonl, &columns).expect("made").write(&broken).expect_err("no JSON");
    assert_eq!((failure.code.as_str(), failure.message.as_str()), ("output::json", "a value of column `c` is not JSON, as its type says"));
}

#[test]
fn no_rows_are_a_header_an_empty_file_or_a_schema() {
    let columns = || vec![("id".to_owned(), ColumnType::Integer), ("n".to_owned(), ColumnType::Json)];
    let target = target("out");
    assert_eq!(write(&target.path, ExportFormat::Csv, &columns(), &[]), Written { rows: 0, bytes: 5 });
    assert_eq!(fs::read_to_string(&target.path).expect("text"), "id,n\n");
    assert_eq!(write(&target.path, ExportFormat::Jsonl, &columns(), &[]), Written { rows: 0, bytes: 0 });
    let _ = write(&target.path, ExportFormat::Parquet, &columns(), &[]);
    let files = source::tests::list(target.root.path());
    let resolved = source::parquet::resolve(&files, &[], None, SchemaContract::Freeze, "t").expect("resolved");
    let kinds: Columns = resolved.columns.iter().map(|column| (column.name.clone(), column.kind)).collect();
    assert_eq!(kinds, columns());
    assert!(source::parquet::Reader::start(files, &resolved, CancellationToken::new()).next().is_none());
}

#[test]
fn columns_that_were_not_promised_are_refused() {
    let (_, rows) = batch(vec![("c", "integer", Arc::new(Int32Array::from(vec![1])))]);
    let target = target("csv");
    let mut writer = Writer::create(&target.path, ExportFormat::Csv, &[("c".to_owned(), ColumnType::Bigint)]).expect("made");
    assert_eq!(writer.write(&rows).expect_err("a misfit").code, "output::columns");
    let missing = Writer::create(&target.root.path().join("no/such/x.csv"), ExportFormat::Csv, &[]).err().expect("no directory");
    assert_eq!(missing.code, "output::file");
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    let (columns, rows) = sample(20_000);
    for format in [ExportFormat::Csv, ExportFormat::Jsonl, ExportFormat::Parquet] {
        let (one, other) = (target("a"), target("b"));
        let _ = write(&one.path, format, &columns, std::slice::from_ref(&rows));
        let parts: Vec<RecordBatch> = (0..20).map(|part| rows.slice(part * 1000, 1000)).collect();
        let _ = write(&other.path, format, &columns, &parts);
        let equal = fs::read(&one.path).expect("read") == fs::read(&other.path).expect("read");
        assert!(equal || format == ExportFormat::Parquet, "{format:?}");
        let _ = write(&other.path, format, &columns, std::slice::from_ref(&rows));
        assert!(fs::read(&one.path).expect("read") == fs::read(&other.path).expect("read"), "{format:?}");
    }
}

/// Rows of every type.
fn sample(rows: i64) -> (Columns, RecordBatch) {
    let numbers = || 0..rows;
    batch(vec![
        ("b", "boolean", Arc::new(BooleanArray::from_iter(numbers().map(|n| (n % 3 > 0).then_some(n % 2 == 0))))),
        ("i", "integer", Arc::new(Int32Array::from_iter(numbers().map(|n| (n % 7 > 0).then_some(n as i32 - 500))))),
        ("l", "bigint", Arc::new(Int64Array::from_iter_values(numbers().map(|n| n * 1_234_567_891)))),
        ("m", "decimal(15,2)", decimals(numbers().map(|n| i128::from(n * 137 - 9999)).collect(), 15, 2)),
        ("f", "double", Arc::new(Float64Array::from_iter_values(numbers().map(|n| n as f64 / 7.0)))),
        ("t", "text", Arc::new(StringArray::from_iter_values(numbers().map(|n| format!("text {n} of some length, é"))))),
        ("d", "date", Arc::new(Date32Array::from_iter_values(numbers().map(|n| n as i32)))),
        ("ts", "timestamp", Arc::new(TimestampMicrosecondArray::from_iter_values(numbers().map(|n| n * 1_000_003)))),
    ])
}

fn files(format: Format) -> Files {
    Files {
        connection: Label::parse("lake").expect("a label"),
        path: Template::parse("*", Syntax::Text, "job.yaml", (1, 1)).expect("a template"),
        format,
        delimiter: b',',
        header: true,
        quote: Some(b'"'),
        escape: None,
        trailing_delimiter: false,
        encoding: Encoding::Utf8,
        compression: Compression::None,
        null_values: vec![String::new()],
    }
}

/// The rows of a file, read as `columns`, in one batch.
fn read_back(target: &Target, format: ExportFormat, columns: &Columns) -> RecordBatch {
    let declared: Vec<Column> = columns
        .iter()
        .map(|(name, kind)| Column { name: name.clone(), kind: *kind, nullable: true, from: name.clone(), format: None })
        .collect();
    let (entries, cancel) = (source::tests::list(target.root.path()), CancellationToken::new());
    let contract = SchemaContract::Freeze;
    let mut batches = Vec::new();
    let mut take = |batch: source::Batch| {
        assert_eq!(batch.rejected, []);
        batches.push(batch.rows);
    };
    let text = |format| {
        let files = files(format);
        let resolved = source::resolve(&entries, &files, &declared, None, contract).expect("resolved");
        source::Reader::start(entries.clone(), &files, &resolved, contract, cancel.clone())
    };
    match format {
        ExportFormat::Parquet => {
            let resolved = source::parquet::resolve(&entries, &declared, None, contract, "t").expect("resolved");
            let mut reader = source::parquet::Reader::start(entries.clone(), &resolved, cancel.clone());
            while let Some(batch) = reader.next() {
                take(batch.expect("read"));
            }
        }
        ExportFormat::Csv | ExportFormat::Jsonl => {
            let mut reader = text(if format == ExportFormat::Csv { Format::Csv } else { Format::Jsonl });
            while let Some(batch) = reader.next() {
                take(batch.expect("read"));
            }
        }
    }
    arrow::compute::concat_batches(&batches[0].schema(), &batches).expect("of one schema")
}

type Row = (
    Option<bool>,
    Option<i32>,
    Option<i64>,
    Option<i128>,
    Option<f64>,
    Option<String>,
    Option<usize>,
    Option<i32>,
    Option<i64>,
    Option<i64>,
);

const JSON: [&str; 6] = ["{}", "[1,2.5,null]", "{\"a\":{\"b\":\"é\\n\"}}", "\"x\"", "true", "123456789012345678901234567890"];
const MOMENTS: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

fn row() -> impl Strategy<Value = Row> {
    let some = |strategy: BoxedStrategy<f64>| proptest::option::weighted(0.8, strategy);
    let double = any::<f64>().prop_filter("a number", |value| value.is_finite()).boxed();
    let money = (-10_000_000..10_000_000_i32).prop_map(|cents| f64::from(cents) / 100.0).boxed();
    let decimal = (any::<i128>(), 0..38_u32).prop_map(|(value, digits)| value % 10_i128.pow(digits + 1));
    (
        any::<Option<bool>>(),
        any::<Option<i32>>(),
        any::<Option<i64>>(),
        proptest::option::of(decimal),
        some(prop_oneof![double, money].boxed()),
        proptest::option::of("[a-z,\"'#\n\r\t \\\\é😀\u{1}\u{7f}\u{feff}]{0,8}"),
        proptest::option::of(0..JSON.len()),
        proptest::option::of(-719_162..2_932_897_i32),
        proptest::option::of(0..86_400_000_000_i64),
        proptest::option::of(MOMENTS),
    )
}

fn rows(rows: &[Row]) -> (Columns, RecordBatch) {
    let narrow = |value: &Row| value.3.map(|value| value % 1_000_000_000_000_000);
    let wide = Decimal128Array::from_iter(rows.iter().map(|row| row.3)).with_precision_and_scale(38, 19).expect("a type");
    let short = Decimal128Array::from_iter(rows.iter().map(narrow)).with_precision_and_scale(15, 15).expect("a type");
    let moments = || TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.9));
    batch(vec![
        ("b", "boolean", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.0)))),
        ("i", "integer", Arc::new(Int32Array::from_iter(rows.iter().map(|row| row.1)))),
        ("l", "bigint", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.2)))),
        ("wide", "decimal(38,19)", Arc::new(wide)),
        ("short", "decimal(15,15)", Arc::new(short)),
        ("f", "double", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.4)))),
        ("a \"text\", so", "text", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.5.as_deref())))),
        ("j", "json", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.6.map(|index| JSON[index]))))),
        ("d", "date", Arc::new(Date32Array::from_iter(rows.iter().map(|row| row.7)))),
        ("t", "time", Arc::new(Time64MicrosecondArray::from_iter(rows.iter().map(|row| row.8)))),
        ("ts", "timestamp", Arc::new(moments())),
        ("tz", "timestamptz", Arc::new(moments().with_timezone("UTC"))),
    ])
}

#[test]
fn doubles_that_are_no_finite_numbers_are_read_back() {
    let array = Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    let (columns, written) = batch(vec![("c", "double", Arc::new(array))]);
    for (format, end) in [(ExportFormat::Csv, "csv"), (ExportFormat::Jsonl, "jsonl")] {
        let target = target(end);
        let _ = write(&target.path, format, &columns, std::slice::from_ref(&written));
        let read = read_back(&target, format, &columns);
        let read = read.column(0).as_any().downcast_ref::<Float64Array>().expect("doubles");
        assert!(read.value(0).is_nan() && read.value(1) == f64::INFINITY && read.value(2) == f64::NEG_INFINITY, "{format:?}: {read:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back_equal(values in proptest::collection::vec(row(), 1..40)) {
        let (columns, written) = rows(&values);
        for (format, end) in [(ExportFormat::Csv, "csv"), (ExportFormat::Jsonl, "jsonl"), (ExportFormat::Parquet, "parquet")] {
            let target = target(end);
            let _ = write(&target.path, format, &columns, std::slice::from_ref(&written));
            let read = read_back(&target, format, &columns);
            prop_assert_eq!(read.columns(), written.columns(), "{:?}", format);
        }
    }

    #[test]
    fn digits_of_numbers_are_those_of_the_standard_library(integer in any::<i64>(), wide in any::<u128>(), double in any::<f64>()) {
        let text = |put: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            put(&mut out);
            String::from_utf8(out).expect("text")
        };
        prop_assert_eq!(text(&|out| form::integer(out, integer)), integer.to_string());
        prop_assert_eq!(text(&|out| form::unsigned(out, wide)), wide.to_string());
        if double.is_finite() {
            prop_assert_eq!(text(&|out| form::double(out, double)).parse::<f64>().map(f64::to_bits), Ok(double.to_bits()));
            prop_assert_eq!(text(&|out| form::double_json(out, double)).parse::<f64>().map(f64::to_bits), Ok(double.to_bits()));
        }
    }
}
