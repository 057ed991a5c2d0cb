use errand_model::document::step::Compression;
use errand_model::job::TableName;
use errand_model::value::ColumnType;

use super::*;

fn table() -> TableName {
    TableName { schema: Some("raw".into()), name: "orders__stg".into() }
}

fn text() -> TextForm {
    TextForm {
        delimiter: b',',
        quote: Some(b'"'),
        escape: None,
        trailing_delimiter: false,
        nulls: vec![String::new()],
        header: true,
        compression: Compression::Gzip,
    }
}

fn group(form: FileForm, columns: &[(&str, ColumnType, &str)], metadata: bool) -> FileGroup {
    let column = |(name, kind, from): &(&str, ColumnType, &str)| FileColumn { name: (*name).into(), kind: *kind, from: (*from).into() };
    let file = |path: &str| GroupFile { key: format!("in/{path}"), path: path.into(), url: format!("s3://lake/staged/in/{path}") };
    FileGroup {
        form,
        columns: columns.iter().map(column).collect(),
        metadata: metadata.then_some(["_errand_source", "_errand_row"]),
        files: vec![file("a'b.csv"), file("c.csv")],
    }
}

const TEXTS: [(&str, ColumnType, &str); 2] = [("order id", ColumnType::Text, "order id"), ("Name", ColumnType::Text, "NAME")];

#[test]
fn text_is_loaded_with_these_words() {
    let group = group(FileForm::Text(text()), &TEXTS, true);
    let texts = [
        validate(&table(), "@db.raw.stage", &group, &group.files).expect("a statement"),
        load(&table(), "@db.raw.stage", &group, &group.files),
        check(&table(), &group),
        renumber(&table(), &group, 2, &group.files).expect("a statement"),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r#"
    COPY INTO "RAW"."ORDERS__STG" ("order id", "NAME") FROM @db.raw.stage FILES = ('in/a''b.csv', 'in/c.csv') FILE_FORMAT = (TYPE = CSV COMPRESSION = GZIP FIELD_DELIMITER = ',' SKIP_HEADER = 1 FIELD_OPTIONALLY_ENCLOSED_BY = '"' ESCAPE = NONE ESCAPE_UNENCLOSED_FIELD = NONE NULL_IF = () EMPTY_FIELD_AS_NULL = TRUE ERROR_ON_COLUMN_COUNT_MISMATCH = TRUE TRIM_SPACE = FALSE REPLACE_INVALID_CHARACTERS = FALSE SKIP_BLANK_LINES = FALSE SKIP_BYTE_ORDER_MARK = TRUE ENCODING = 'UTF8') VALIDATION_MODE = RETURN_ERRORS
    COPY INTO "RAW"."ORDERS__STG" ("order id", "NAME", "_ERRAND_SOURCE", "_ERRAND_ROW") FROM (SELECT $1, $2, SUBSTR(METADATA$FILENAME, 11), METADATA$FILE_ROW_NUMBER FROM @db.raw.stage) FILES = ('in/a''b.csv', 'in/c.csv') FILE_FORMAT = (TYPE = CSV COMPRESSION = GZIP FIELD_DELIMITER = ',' SKIP_HEADER = 1 FIELD_OPTIONALLY_ENCLOSED_BY = '"' ESCAPE = NONE ESCAPE_UNENCLOSED_FIELD = NONE NULL_IF = () EMPTY_FIELD_AS_NULL = TRUE ERROR_ON_COLUMN_COUNT_MISMATCH = TRUE TRIM_SPACE = FALSE REPLACE_INVALID_CHARACTERS = FALSE SKIP_BLANK_LINES = FALSE SKIP_BYTE_ORDER_MARK = TRUE ENCODING = 'UTF8') ON_ERROR = ABORT_STATEMENT
    SELECT "_ERRAND_SOURCE", COUNT(*), MIN("_ERRAND_ROW"), MAX("_ERRAND_ROW"), COUNT_IF(CONTAINS("order id", CHR(0)) OR CONTAINS("order id", CHR(13)) OR CONTAINS("NAME", CHR(0)) OR CONTAINS("NAME", CHR(13))) FROM "RAW"."ORDERS__STG" GROUP BY "_ERRAND_SOURCE"
    UPDATE "RAW"."ORDERS__STG" SET "_ERRAND_ROW" = "_ERRAND_ROW" - (1) WHERE "_ERRAND_SOURCE" IN ('a''b.csv', 'c.csv')
    "#);
}

#[test]
fn fields_are_counted_by_the_copy_where_rows_have_no_number() {
    let form =
        TextForm { delimiter: b'\t', quote: Some(b'\''), nulls: Vec::new(), header: false, compression: Compression::Zstd, ..text() };
    let group = group(FileForm::Text(form), &TEXTS, false);
    assert_eq!(validate(&table(), "@s", &group, &group.files), None);
    insta::assert_snapshot!([load(&table(), "@s", &group, &group.files), check(&table(), &group)].join("\n"), @r#"
    COPY INTO "RAW"."ORDERS__STG" ("order id", "NAME") FROM @s FILES = ('in/a''b.csv', 'in/c.csv') FILE_FORMAT = (TYPE = CSV COMPRESSION = ZSTD FIELD_DELIMITER = '0x09' SKIP_HEADER = 0 FIELD_OPTIONALLY_ENCLOSED_BY = '0x27' ESCAPE = NONE ESCAPE_UNENCLOSED_FIELD = NONE NULL_IF = () EMPTY_FIELD_AS_NULL = FALSE ERROR_ON_COLUMN_COUNT_MISMATCH = TRUE TRIM_SPACE = FALSE REPLACE_INVALID_CHARACTERS = FALSE SKIP_BLANK_LINES = FALSE SKIP_BYTE_ORDER_MARK = TRUE ENCODING = 'UTF8') ON_ERROR = ABORT_STATEMENT
    SELECT NULL, COUNT(*), NULL, NULL, COUNT_IF(CONTAINS("order id", CHR(0)) OR CONTAINS("order id", CHR(13)) OR CONTAINS("NAME", CHR(0)) OR CONTAINS("NAME", CHR(13))) FROM "RAW"."ORDERS__STG"
    "#);
}

#[test]
fn parquet_is_loaded_with_these_words() {
    let columns = [
        ("id", ColumnType::Bigint, "Id"),
        ("amount", ColumnType::Decimal(12, 2), "amount"),
        ("at", ColumnType::Timestamptz, "at"),
        ("name", ColumnType::Text, "na\"me"),
    ];
    let group = group(FileForm::Parquet, &columns, true);
    assert_eq!(validate(&table(), "@s", &group, &group.files), None);
    insta::assert_snapshot!([load(&table(), "@s", &group, &group.files), check(&table(), &group)].join("\n"), @r#"
    COPY INTO "RAW"."ORDERS__STG" ("ID", "AMOUNT", "AT", "NAME", "_ERRAND_SOURCE", "_ERRAND_ROW") FROM (SELECT $1:"Id"::NUMBER(19,0), $1:"amount"::NUMBER(12,2), $1:"at"::TIMESTAMP_TZ(6), GET($1, 'na"me')::VARCHAR, SUBSTR(METADATA$FILENAME, 11), METADATA$FILE_ROW_NUMBER FROM @s) FILES = ('in/a''b.csv', 'in/c.csv') FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE) ON_ERROR = ABORT_STATEMENT
    SELECT "_ERRAND_SOURCE", COUNT(*), MIN("_ERRAND_ROW"), MAX("_ERRAND_ROW"), COUNT_IF(CONTAINS("NAME", CHR(0))) FROM "RAW"."ORDERS__STG" GROUP BY "_ERRAND_SOURCE"
    "#);
}

#[test]
fn what_snowflake_would_read_otherwise_is_not_left_to_it() {
    let said = |form: TextForm| objection(&group(FileForm::Text(form), &TEXTS, true)).unwrap_or_default();
    assert_eq!(said(text()), "");
    assert_eq!(said(TextForm { quote: None, nulls: Vec::new(), ..text() }), "");
    assert_eq!(said(TextForm { quote: Some(b'|'), ..text() }), "fields are quoted by `|`");
    assert_eq!(said(TextForm { escape: Some(b'\\'), ..text() }), "quotes are escaped by `\\`");
    assert_eq!(said(TextForm { delimiter: b'\\', ..text() }), "fields are separated by a backslash");
    assert_eq!(said(TextForm { trailing_delimiter: true, ..text() }), "records end with a delimiter, which would be one more field");
    assert_eq!(said(TextForm { nulls: vec![String::new(), "\\N".into()], ..text() }), "`\\N` stands for NULL, and in quotes for itself");
    let one = objection(&group(FileForm::Text(text()), &TEXTS[..1], true)).unwrap_or_default();
    assert_eq!(one, "records have one field, and a blank line is one of them");
    let time = objection(&group(FileForm::Parquet, &[("t", ColumnType::Time, "t")], true)).unwrap_or_default();
    assert_eq!(time, "column `t` is `time`");
}
