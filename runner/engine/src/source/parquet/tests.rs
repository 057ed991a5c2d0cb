//! What becomes of Parquet files: exact, or refused with the reason.

use std::fs::{self, File};
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::data_type::{Int96, Int96Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array, Int32Array,
    Int64Array, ListArray, RecordBatch, StringArray, StructArray, Time32MillisecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type};
use errand_model::document::step::SchemaContract;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::Column;
use errand_model::value::ColumnType;
use tokio_util::sync::CancellationToken;

use super::{Reader, resolve};
use crate::source::tests::{list, rows};
use crate::source::{Batch, Origin, Rejected, Resolved};

struct Case {
    root: tempfile::TempDir,
    declared: Vec<Column>,
    existing: Option<Vec<(String, ColumnType)>>,
    contract: SchemaContract,
}

fn array(array: impl arrow::array::Array + 'static) -> ArrayRef {
    Arc::new(array)
}

impl Case {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        Self { root, declared: Vec::new(), existing: None, contract: SchemaContract::Freeze }
    }

    fn file(self, name: &str, columns: Vec<(&str, ArrayRef)>) -> Self {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).expect("a batch");
        let file = File::create(self.root.path().join(name)).expect("made");
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1000)).build();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("whole");
        self
    }

    fn one(column: ArrayRef, kind: &str) -> Self {
        Self::new().file("a.parquet", vec![("c", column)]).column("c", kind)
    }

    fn column(mut self, name: &str, kind: &str) -> Self {
        let kind = ColumnType::parse(kind).expect("a type");
        self.declared.push(Column { name: name.to_owned(), kind, nullable: true, from: name.to_owned(), format: None });
        self
    }

    fn resolve(&self) -> Result<Resolved, Failure> {
        let files = list(self.root.path());
        resolve(&files, &self.declared, self.existing.as_deref(), self.contract, "t")
    }

    fn reader(&self) -> Result<Reader, Failure> {
        Ok(Reader::start(list(self.root.path()), &self.resolve()?, CancellationToken::new()))
    }

    fn read(&self) -> Result<Vec<Batch>, Failure> {
        let mut reader = self.reader()?;
        let mut batches = Vec::new();
        while let Some(batch) = reader.next() {
            let batch = batch?;
            assert_eq!(batch.read, batch.rows.num_rows() as u64 + batch.rejected.len() as u64, "read = rows + rejected");
            assert_eq!(batch.rows.num_rows(), batch.row_numbers.len());
            batches.push(batch);
        }
        let all: u64 = reader.files().iter().map(|file| file.bytes).sum();
        assert_eq!(reader.bytes_read(), all, "all of every file counts at the end");
        Ok(batches)
    }

    fn rows(&self) -> Vec<String> {
        let batches = self.read().expect("read");
        assert_eq!(self.rejected(), []);
        batches.iter().flat_map(|batch| rows(&batch.rows)).collect()
    }

    fn rejected(&self) -> Vec<Rejected> {
        self.read().expect("read").into_iter().flat_map(|batch| batch.rejected).collect()
    }

    fn errors(&self) -> Vec<String> {
        self.rejected().into_iter().map(|rejected| rejected.error).collect()
    }

    fn kinds(&self) -> Vec<String> {
        self.resolve().expect("resolved").columns.iter().map(|column| format!("{} {}", column.name, column.kind)).collect()
    }
}

#[test]
fn types_come_from_the_files_where_nothing_is_declared() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None]);
    let record =
        StructArray::from(vec![(Arc::new(Field::new("a", DataType::Utf8, true)), array(StringArray::from(vec![Some("é\"\n"), None])))]);
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None].into_iter().collect();
    let case = Case::new().file(
        "a.parquet",
        vec![
            ("b", array(BooleanArray::from(vec![Some(true), None]))),
            ("i8", array(Int8Array::from(vec![-8, 8]))),
            ("i64", array(Int64Array::from(vec![i64::MIN, i64::MAX]))),
            ("u64", array(UInt64Array::from(vec![0, u64::MAX]))),
            ("f", array(Float32Array::from(vec![0.5, -1.0]))),
            ("m", array(Decimal128Array::from(vec![1234, -5]).with_precision_and_scale(15, 2).expect("fits"))),
            ("d", array(Date32Array::from(vec![0, -719_162]))),
            ("t", array(Time32MillisecondArray::from(vec![0, 86_399_999]))),
            ("ts", array(TimestampMillisecondArray::from(vec![-1, 1]))),
            ("tz", array(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("+02:00"))),
            ("s", array(dictionary)),
            ("y", array(BinaryArray::from(vec![&b"ok"[..], "é".as_bytes()]))),
            ("l", array(list)),
            ("r", array(record)),
        ],
    );
    let kinds = [
        "b boolean",
        "i8 integer",
        "i64 bigint",
        "u64 decimal(20,0)",
        "f double",
        "m decimal(15,2)",
        "d date",
        "t time",
        "ts timestamp",
        "tz timestamptz",
        "s text",
        "y text",
        "l json",
        "r json",
    ];
    assert_eq!(case.kinds(), kinds);
    assert_eq!(
        case.rows(),
        [
            "true|-8|-9223372036854775808|0|0.5|12.34|1970-01-01|00:00:00|1969-12-31T23:59:59.999|1970-01-01T00:00:00Z|x|ok|[1,null]|{\"a\":\"é\\\"\\n\"}",
            "∅|8|9223372036854775807|18446744073709551615|-1.0|-0.05|0001-01-01|23:59:59.999|1970-01-01T00:00:00.001|1970-01-01T00:00:00.000001Z|∅|é|∅|{\"a\":null}",
        ]
    );
}

#[test]
fn a_narrower_type_takes_what_fits_and_refuses_the_rest() {
    let case = Case::one(array(Int64Array::from(vec![Some(1), Some(3_000_000_000), None])), "integer");
    let batches = case.read().expect("read");
    assert_eq!((rows(&batches[0].rows), batches[0].row_numbers.values().to_vec()), (vec!["1".to_owned(), "∅".to_owned()], vec![1, 3]));
    let rejected = &batches[0].rejected[0];
    assert_eq!((rejected.file.as_str(), rejected.row, rejected.line, rejected.byte_offset), ("a.parquet", 2, 0, 0));
    assert_eq!((rejected.column.as_deref(), rejected.raw.as_str()), (Some("c"), "{\"c\":3000000000}"));
    assert_eq!(rejected.error, "expected integer, found `3000000000` (out of range)");
}

#[test]
fn decimals_and_doubles_are_exact_or_refused() {
    let decimals = || array(Decimal128Array::from(vec![150, 155, 99_999]).with_precision_and_scale(5, 2).expect("fits"));
    let note = "more digits after the point than the type holds; nothing is rounded";
    let case = Case::one(decimals(), "decimal(4,1)");
    assert_eq!(
        case.errors(),
        [format!("expected decimal(4,1), found `1.55` ({note})"), format!("expected decimal(4,1), found `999.99` ({note})")]
    );
    assert_eq!(Case::one(decimals(), "decimal(38,20)").rows()[0], "1.50000000000000000000");
    assert_eq!(Case::one(decimals(), "double").rows(), ["1.5", "1.55", "999.99"]);
    let doubles = array(Float64Array::from(vec![0.1, 0.25, 1e17, f64::NAN, -0.0]));
    let case = Case::one(doubles, "decimal(5,1)");
    assert_eq!(
        case.errors(),
        [
            format!("expected decimal(5,1), found `0.25` ({note})"),
            "expected decimal(5,1), found `1e+17` (too many digits)".to_owned(),
            "expected decimal(5,1), found `nan`".to_owned()
        ]
    );
    assert_eq!(Case::one(array(Float32Array::from(vec![0.1])), "decimal(9,2)").rows(), ["0.10"]);
    let whole = Case::one(array(Float64Array::from(vec![2.0, 2.5, -9.007_199_254_740_992e15])), "bigint");
    assert_eq!(whole.errors().len(), 1);
    let large = Case::one(array(Int64Array::from(vec![9_007_199_254_740_992, 9_007_199_254_740_993])), "double");
    assert_eq!(large.errors(), ["expected double, found `9007199254740993` (too many digits)"]);
}

#[test]
fn moments_keep_microseconds_or_are_refused() {
    let nanos = || array(TimestampNanosecondArray::from(vec![1_000, 1_001, -1_000]));
    assert_eq!(
        Case::one(nanos(), "timestamp").errors(),
        ["expected timestamp, found `1970-01-01 00:00:00.000001001` (finer than microseconds; nothing is rounded)"]
    );
    assert_eq!(Case::one(array(TimestampNanosecondArray::from(vec![0])), "timestamptz").rows(), ["1970-01-01T00:00:00Z"]);
    let days = Case::one(array(TimestampMicrosecondArray::from(vec![86_400_000_000, 1])), "date");
    assert_eq!(days.errors(), ["expected date, found `1970-01-01 00:00:00.000001`"]);
    assert_eq!(Case::one(array(Date32Array::from(vec![1])), "timestamp").rows(), ["1970-01-02T00:00:00"]);
    assert_eq!(Case::one(array(TimestampMicrosecondArray::from(vec![1_500_000])), "text").rows(), ["1970-01-01 00:00:01.5"]);
}

#[test]
fn old_timestamps_are_read_over_their_whole_range() {
    let case = Case::new().column("c", "timestamp");
    let schema = Arc::new(parse_message_type("message m { required int96 c; }").expect("a schema"));
    let mut writer = SerializedFileWriter::new(File::create(case.root.path().join("a.parquet")).expect("made"), schema, Arc::default())
        .expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    let mut column = group.next_column().expect("a column").expect("one");
    let day = |julian: u32, nanos: u64| {
        let mut value = Int96::new();
        value.set_data((nanos & 0xffff_ffff) as u32, (nanos >> 32) as u32, julian);
        value
    };
    let values = [day(2_440_588, 1_001), day(2_440_588, 1_000), day(1_721_426, 0), day(5_373_484, 86_399_999_999_000)];
    column.typed::<Int96Type>().write_batch(&values, None, None).expect("written");
    column.close().expect("closed");
    group.close().expect("closed");
    writer.close().expect("whole");
    assert_eq!(case.errors(), ["expected timestamp, found `1970-01-01 00:00:00.000001` (finer than microseconds; nothing is rounded)"]);
    let read: Vec<String> = case.read().expect("read").iter().flat_map(|batch| rows(&batch.rows)).collect();
    assert_eq!(read, ["1970-01-01T00:00:00.000001", "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999"]);
}

#[test]
fn texts_are_parsed_as_those_of_text_files_and_bytes_must_be_text() {
    let texts = || array(StringArray::from(vec!["12", "x", "1.0"]));
    assert_eq!(Case::one(texts(), "integer").errors(), ["expected integer, found `x`", "expected integer, found `1.0`"]);
    assert_eq!(Case::one(array(StringArray::from(vec!["{\"a\": 1.50}", "{a"])), "json").errors(), ["expected json, found `{a`"]);
    let bytes = Case::one(array(BinaryArray::from(vec![&b"ok"[..], b"\xff", b"a\0b"])), "text");
    assert_eq!(
        bytes.errors(),
        ["expected text, found `\\xff` (it is not UTF-8)", "expected text, found `a\\x00b` (a NUL byte; no text column holds it)"]
    );
    let nul = Case::one(array(StringArray::from(vec![Some("a\0b"), Some(""), None])), "text");
    assert_eq!((nul.errors().len(), rows(&nul.read().expect("read")[0].rows)), (1, vec![String::new(), "∅".to_owned()]));
}

#[test]
fn null_is_refused_where_it_may_not_be_also_in_files_without_the_column() {
    let mut case = Case::new()
        .file("a.parquet", vec![("id", array(Int32Array::from(vec![Some(1), None]))), ("x", array(Int32Array::from(vec![1, 2])))])
        .file("b.parquet", vec![("X", array(Int32Array::from(vec![7])))])
        .column("id", "integer")
        .column("x", "integer");
    assert_eq!(case.rows(), ["1|1", "∅|2", "∅|7"]);
    case.declared[0].nullable = false;
    let what = "expected a value, found NULL in column `id`, which is not nullable";
    assert_eq!(case.errors(), [what, what]);
    assert_eq!(case.rejected()[1].raw, "{\"x\":7}");
}

#[test]
fn files_are_united_by_name() {
    let case = Case::new()
        .file("a.parquet", vec![("id", array(Int32Array::from(vec![1]))), ("v", array(StringArray::from(vec!["a"])))])
        .file("b.parquet", vec![("n", array(Date32Array::from(vec![0]))), ("ID", array(Int64Array::from(vec![5_000_000_000_i64])))]);
    assert_eq!(case.kinds(), ["id bigint", "v text", "n date"]);
    assert_eq!(case.rows(), ["1|a|∅", "5000000000|∅|1970-01-01"]);
}

#[test]
fn the_contract_decides_about_unexpected_columns() {
    let case = |contract| {
        let mut case =
            Case::new().file("a.parquet", vec![("id", array(Int32Array::from(vec![1]))), ("extra", array(StringArray::from(vec!["x"])))]);
        case.existing = Some(vec![("ID".to_owned(), ColumnType::Bigint)]);
        case.contract = contract;
        case
    };
    for contract in [SchemaContract::Freeze, SchemaContract::Quarantine, SchemaContract::DiscardRow] {
        let failure = case(contract).resolve().expect_err("unexpected");
        assert_eq!((failure.code.as_str(), failure.kind), ("ingest::unexpected_column", FailureKind::Rejected));
        assert_eq!(failure.message, "column `extra` (text) is not expected in `t`");
    }
    assert_eq!(case(SchemaContract::DiscardValue).kinds(), ["ID bigint"]);
    let evolved = case(SchemaContract::Evolve).resolve().expect("resolved");
    assert_eq!(evolved.columns.iter().map(|column| column.origin).collect::<Vec<_>>(), [Origin::Existing, Origin::Added]);
    let missing = Case::one(array(Int32Array::from(vec![1])), "integer").column("gone", "text").resolve().expect_err("missing");
    assert_eq!((missing.code.as_str(), missing.message.as_str()), ("ingest::missing_column", "column `gone` is not in `a.parquet`"));
}

#[test]
fn a_file_that_is_not_whole_is_named() {
    let whole = Case::one(array(Int64Array::from_iter_values(0..50_000)), "bigint");
    let path = whole.root.path().join("a.parquet");
    let content = fs::read(&path).expect("read");
    let half = [&content[..content.len() / 2], b"PAR1"].concat();
    for bad in [b"no parquet at all".as_slice(), b"", b"PAR1PAR1PAR1", &half, &content[..content.len() - 1]] {
        fs::write(&path, bad).expect("written");
        let failure = whole.read().expect_err("damaged");
        assert_eq!((failure.code.as_str(), failure.kind), ("ingest::unreadable", FailureKind::Rejected), "{failure}");
        assert!(failure.message.contains("a.parquet"), "{failure}");
    }
    for at in (4..content.len()).step_by(content.len() / 40) {
        let mut bad = content.clone();
        bad[at] ^= 0x55;
        fs::write(&path, bad).expect("written");
        // Damage may go unseen where the format has no check; it must neither panic nor lose rows without a word.
        if let Ok(batches) = whole.read() {
            assert_eq!(batches.iter().map(|batch| batch.read).sum::<u64>(), 50_000);
        }
    }
}

#[test]
fn rows_come_in_order_and_in_batches_of_bounded_size() {
    let long = "x".repeat(1 << 20);
    let texts = StringArray::from_iter_values((0..100).map(|_| long.as_str()));
    let case = Case::new().file("a.parquet", vec![("n", array(Int64Array::from_iter_values(0..100))), ("s", array(texts))]);
    let batches = case.read().expect("read");
    assert!(batches.iter().all(|batch| batch.rows.num_rows() <= 8), "repeated long texts are cut into small batches");
    let numbers: Vec<i64> = batches.iter().flat_map(|batch| batch.row_numbers.values().to_vec()).collect();
    assert_eq!(numbers, (1..=100).collect::<Vec<i64>>());
}

#[test]
fn cancelling_and_dropping_end_the_thread() {
    let case = Case::one(array(Int64Array::from_iter_values(0..200_000)), "bigint");
    let cancel = CancellationToken::new();
    let mut reader = Reader::start(list(case.root.path()), &case.resolve().expect("resolved"), cancel.clone());
    assert!(reader.next().is_some_and(|batch| batch.is_ok()));
    cancel.cancel();
    assert_eq!(reader.next().expect("an answer").expect_err("cancelled").kind, FailureKind::Cancelled);
    assert!(reader.next().is_none());
    drop(case.reader().expect("started"));
}

#[test]
fn columns_of_the_wanted_types_are_told_by_footers() {
    let texts = || array(StringArray::from(vec![Some("x"), None]));
    let case = |column: ArrayRef, kind: &str| {
        let case = Case::new().file("a.parquet", vec![("C", column), ("other", texts())]).column("c", kind);
        let resolved = Resolved {
            columns: case
                .declared
                .iter()
                .map(|column| super::ResolvedColumn {
                    name: column.name.clone(),
                    kind: column.kind,
                    nullable: column.nullable,
                    from: "c".to_owned(),
                    format: None,
                    origin: Origin::Declared,
                })
                .collect(),
            ..Resolved::default()
        };
        super::survey(&list(case.root.path()), &resolved).expect("read")
    };
    let integers = || array(Int32Array::from(vec![1, 2]));
    let decimals = || array(Decimal128Array::from(vec![1, 2]).with_precision_and_scale(10, 2).expect("decimals"));
    for (column, kind) in [
        (texts(), "text"),
        (integers(), "integer"),
        (integers(), "bigint"),
        (integers(), "decimal(12,2)"),
        (decimals(), "decimal(10,2)"),
        (decimals(), "decimal(12,3)"),
        (array(Float64Array::from(vec![0.1, 0.2])), "double"),
        (array(TimestampMicrosecondArray::from(vec![1, 2])), "timestamp"),
        (array(TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC")), "timestamptz"),
    ] {
        let told = case(column, kind).unwrap_or_else(|why| panic!("{kind}: {why}"));
        assert_eq!((told[0].columns.as_slice(), told[0].rows), (&[(0, "C".to_owned())][..], Some(2)), "{kind}");
    }
    for (column, kind) in [
        (integers(), "text"),
        (array(Int64Array::from(vec![1, 2])), "integer"),
        (decimals(), "decimal(10,1)"),
        (decimals(), "decimal(9,2)"),
        (array(Float32Array::from(vec![0.1, 0.2])), "double"),
        (array(BinaryArray::from_vec(vec![b"x", b"y"])), "text"),
        (array(TimestampNanosecondArray::from(vec![1, 2])), "timestamp"),
        (array(TimestampMicrosecondArray::from(vec![1, 2])), "timestamptz"),
        (texts(), "json"),
    ] {
        let why = case(column, kind).expect_err(kind);
        assert!(why.starts_with("`a.parquet`: column `c` is "), "{why}");
    }
}
