//! The statements that publishing, the ledger and the fence send to a cluster, in their order: what of Redshift can be seen without one.

use std::collections::BTreeMap;

use async_trait::async_trait;
use errand_model::document::step::Mode;
use errand_model::failure::Failure;
use errand_model::interval::Interval;
use errand_model::job::{Publish, TableName};
use errand_model::report::Rows;
use errand_model::value::ColumnType;

use super::{CAPABILITIES, sql};
use crate::warehouse::ledger::{self, Load, Writer};
use crate::warehouse::publish::{self, Staged, Way};
use crate::warehouse::{AppendTarget, Capabilities, Extraction, NextChunk, PutRows, Session, TableColumn};

/// Writes down what it is sent, and knows the tables that it is told of.
#[derive(Default)]
struct Recorder {
    sent: Vec<String>,
    tables: BTreeMap<String, Vec<TableColumn>>,
    /// What queries that contain these words answer; others find nothing.
    answers: Vec<(&'static str, Vec<&'static str>)>,
}

impl Recorder {
    fn table(mut self, name: &str, columns: &[(&str, ColumnType)]) -> Self {
        let column = |(name, kind): &(&str, ColumnType)| TableColumn {
            name: (*name).to_owned(),
            type_name: sql::type_name(*kind).to_lowercase(),
            kind: Some(*kind),
        };
        self.tables.insert(name.to_owned(), columns.iter().map(column).collect());
        self
    }

    fn answers(mut self, words: &'static str, row: &[&'static str]) -> Self {
        self.answers.push((words, row.to_vec()));
        self
    }

    fn text(&self) -> String {
        self.sent.join(";\n")
    }
}

#[async_trait]
impl Session for Recorder {
    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    async fn execute(&mut self, sql: &str) -> Result<u64, Failure> {
        self.sent.push(sql.to_owned());
        Ok(1)
    }

    async fn query(&mut self, sql: &str, _: usize) -> Result<Vec<Vec<Option<String>>>, Failure> {
        self.sent.push(sql.to_owned());
        let row = self.answers.iter().find(|(words, _)| sql.contains(words)).map(|(_, row)| row);
        Ok(row.map(|row| row.iter().map(|value| Some((*value).to_owned())).collect()).into_iter().collect())
    }

    async fn describe(&mut self, _: &str) -> Result<Vec<TableColumn>, Failure> {
        Ok(Vec::new())
    }

    async fn columns(&mut self, table: &TableName) -> Result<Option<Vec<TableColumn>>, Failure> {
        Ok(self.tables.get(&table.name).cloned())
    }

    async fn append(&mut self, _: Vec<AppendTarget>, _: NextChunk, _: Option<&dyn Extraction>) -> Result<Vec<u64>, Failure> {
        Ok(Vec::new())
    }

    async fn read(&mut self, _: &str, _: PutRows) -> Result<u64, Failure> {
        Ok(0)
    }

    async fn rollback(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

const COLUMNS: [(&str, ColumnType); 3] = [("id", ColumnType::Bigint), ("amount", ColumnType::Decimal(15, 2)), ("day", ColumnType::Date)];

fn table(name: &str) -> TableName {
    TableName { schema: Some("raw".to_owned()), name: name.to_owned() }
}

/// What a load in this mode sends, from the full staging table on. The target has no column `day` yet.
async fn published(mode: Mode) -> String {
    let key = matches!(mode, Mode::Merge | Mode::DeleteInsert | Mode::Scd2);
    let publish = Publish { mode, primary_key: if key { vec!["id".to_owned()] } else { Vec::new() }, partition: None, cursor: None };
    let (staging, target) = (table("orders__errand_1"), table("orders"));
    let staged = Staged {
        staging: &staging,
        target: &target,
        publish: &publish,
        way: Way::Rows,
        metadata: &[],
        now: CAPABILITIES.moment("2026-01-05 00:00:00"),
    };
    let session = Recorder::default().table("orders__errand_1", &COLUMNS).table("orders", &COLUMNS[..2]);
    let mut session = session.answers("count(*) - count(", &["0"]).answers("SELECT count(*)", &["3"]);
    publish::deduplicate(&mut session, &staged).await.expect("no duplicates");
    publish::shape(&mut session, &staged).await.expect("a column is added");
    publish::publish(&mut session, &staged).await.expect("published");
    session.text()
}

#[tokio::test]
async fn appending_inserts() {
    insta::assert_snapshot!(published(Mode::Append).await, @r#"
    ALTER TABLE "raw"."orders" ADD COLUMN "day" date;
    SELECT count(*) FROM "raw"."orders__errand_1";
    INSERT INTO "raw"."orders" ("id", "amount", "day") SELECT "id", "amount", "day" FROM "raw"."orders__errand_1";
    DROP TABLE "raw"."orders__errand_1"
    "#);
}

#[tokio::test]
async fn replacing_deletes_and_inserts() {
    insta::assert_snapshot!(published(Mode::Replace).await, @r#"
    ALTER TABLE "raw"."orders" ADD COLUMN "day" date;
    SELECT count(*) FROM "raw"."orders__errand_1";
    DELETE FROM "raw"."orders";
    INSERT INTO "raw"."orders" ("id", "amount", "day") SELECT "id", "amount", "day" FROM "raw"."orders__errand_1";
    DROP TABLE "raw"."orders__errand_1"
    "#);
}

#[tokio::test]
async fn merging_updates_and_inserts() {
    insta::assert_snapshot!(published(Mode::Merge).await, @r#"
    SELECT "id" FROM "raw"."orders__errand_1" GROUP BY "id" HAVING count(*) > 1;
    ALTER TABLE "raw"."orders" ADD COLUMN "day" date;
    SELECT count(*) FROM "raw"."orders__errand_1";
    SELECT count(*) - count("id") FROM "raw"."orders__errand_1";
    UPDATE "raw"."orders" SET "id" = _errand_s."id", "amount" = _errand_s."amount", "day" = _errand_s."day" FROM "raw"."orders__errand_1" AS _errand_s WHERE "raw"."orders"."id" = _errand_s."id";
    INSERT INTO "raw"."orders" ("id", "amount", "day") SELECT _errand_s."id", _errand_s."amount", _errand_s."day" FROM "raw"."orders__errand_1" AS _errand_s WHERE NOT EXISTS (SELECT 1 FROM "raw"."orders" WHERE "raw"."orders"."id" = _errand_s."id");
    DROP TABLE "raw"."orders__errand_1"
    "#);
}

#[tokio::test]
async fn deleting_and_inserting_names_every_key_once() {
    insta::assert_snapshot!(published(Mode::DeleteInsert).await, @r#"
    SELECT "id" FROM "raw"."orders__errand_1" GROUP BY "id" HAVING count(*) > 1;
    ALTER TABLE "raw"."orders" ADD COLUMN "day" date;
    SELECT count(*) FROM "raw"."orders__errand_1";
    SELECT count(*) - count("id") FROM "raw"."orders__errand_1";
    DELETE FROM "raw"."orders" USING (SELECT DISTINCT "id" FROM "raw"."orders__errand_1") AS _errand_s WHERE "raw"."orders"."id" = _errand_s."id";
    INSERT INTO "raw"."orders" ("id", "amount", "day") SELECT "id", "amount", "day" FROM "raw"."orders__errand_1";
    DROP TABLE "raw"."orders__errand_1"
    "#);
}

#[tokio::test]
async fn versions_are_closed_and_opened() {
    insta::assert_snapshot!(published(Mode::Scd2).await, @r#"
    SELECT "id" FROM "raw"."orders__errand_1" GROUP BY "id" HAVING count(*) > 1;
    ALTER TABLE "raw"."orders" ADD COLUMN "day" date;
    SELECT count(*) FROM "raw"."orders__errand_1";
    SELECT count(*) - count("id") FROM "raw"."orders__errand_1";
    UPDATE "raw"."orders" SET _errand_valid_to = CAST('2026-01-05 00:00:00' AS TIMESTAMP) FROM "raw"."orders__errand_1" AS _errand_s WHERE "raw"."orders"._errand_valid_to IS NULL AND "raw"."orders"."id" = _errand_s."id" AND (NOT (("raw"."orders"."id" = _errand_s."id" OR ("raw"."orders"."id" IS NULL AND _errand_s."id" IS NULL))) OR NOT (("raw"."orders"."amount" = _errand_s."amount" OR ("raw"."orders"."amount" IS NULL AND _errand_s."amount" IS NULL))) OR NOT (("raw"."orders"."day" = _errand_s."day" OR ("raw"."orders"."day" IS NULL AND _errand_s."day" IS NULL))));
    UPDATE "raw"."orders" SET _errand_valid_to = CAST('2026-01-05 00:00:00' AS TIMESTAMP) WHERE "raw"."orders"._errand_valid_to IS NULL AND NOT EXISTS (SELECT 1 FROM "raw"."orders__errand_1" AS _errand_s WHERE "raw"."orders"."id" = _errand_s."id");
    INSERT INTO "raw"."orders" ("id", "amount", "day", _errand_valid_from, _errand_valid_to) SELECT _errand_s."id", _errand_s."amount", _errand_s."day", CAST('2026-01-05 00:00:00' AS TIMESTAMP), NULL FROM "raw"."orders__errand_1" AS _errand_s WHERE NOT EXISTS (SELECT 1 FROM "raw"."orders" WHERE "raw"."orders"._errand_valid_to IS NULL AND "raw"."orders"."id" = _errand_s."id");
    DROP TABLE "raw"."orders__errand_1"
    "#);
}

/// What a load with a cursor sends once its columns are there. The target keeps the cursor as a moment.
async fn published_by_cursor(mode: Mode) -> String {
    let publish = Publish { mode, primary_key: vec!["id".to_owned()], partition: None, cursor: Some("day".to_owned()) };
    let (staging, target) = (table("orders__errand_1"), table("orders"));
    let staged = Staged {
        staging: &staging,
        target: &target,
        publish: &publish,
        way: Way::Rows,
        metadata: &[],
        now: CAPABILITIES.moment("2026-01-05 00:00:00"),
    };
    let session = Recorder::default().table("orders__errand_1", &[COLUMNS[0], COLUMNS[2]]);
    let session = session.table("orders", &[COLUMNS[0], ("day", ColumnType::Timestamp)]);
    let mut session = session.answers("count(*) - count(", &["0"]).answers("DISTINCT", &["1"]).answers("SELECT count(*)", &["3"]);
    let published = publish::publish(&mut session, &staged).await.expect("published");
    assert_eq!((published.written, published.older), (2, 1));
    session.text()
}

#[tokio::test]
async fn merging_by_a_cursor_leaves_newer_rows_as_they_are() {
    insta::assert_snapshot!(published_by_cursor(Mode::Merge).await, @r#"
    SELECT count(*) FROM "raw"."orders__errand_1";
    SELECT count(*) - count("id") FROM "raw"."orders__errand_1";
    SELECT count(*) FROM (SELECT DISTINCT _errand_s."id" FROM "raw"."orders__errand_1" AS _errand_s JOIN "raw"."orders" ON "raw"."orders"."id" = _errand_s."id" AND "raw"."orders"."day" IS NOT NULL AND (CAST(_errand_s."day" AS timestamp) IS NULL OR CAST(_errand_s."day" AS timestamp) < "raw"."orders"."day")) AS older;
    UPDATE "raw"."orders" SET "id" = _errand_s."id", "day" = _errand_s."day" FROM "raw"."orders__errand_1" AS _errand_s WHERE "raw"."orders"."id" = _errand_s."id" AND NOT ("raw"."orders"."day" IS NOT NULL AND (CAST(_errand_s."day" AS timestamp) IS NULL OR CAST(_errand_s."day" AS timestamp) < "raw"."orders"."day"));
    INSERT INTO "raw"."orders" ("id", "day") SELECT _errand_s."id", _errand_s."day" FROM "raw"."orders__errand_1" AS _errand_s WHERE NOT EXISTS (SELECT 1 FROM "raw"."orders" WHERE "raw"."orders"."id" = _errand_s."id");
    DROP TABLE "raw"."orders__errand_1"
    "#);
}

#[tokio::test]
async fn versions_that_are_newer_by_a_cursor_stay_open() {
    insta::assert_snapshot!(published_by_cursor(Mode::Scd2).await, @r#"
    SELECT count(*) FROM "raw"."orders__errand_1";
    SELECT count(*) - count("id") FROM "raw"."orders__errand_1";
    SELECT count(*) FROM (SELECT DISTINCT _errand_s."id" FROM "raw"."orders__errand_1" AS _errand_s JOIN "raw"."orders" ON "raw"."orders"._errand_valid_to IS NULL AND "raw"."orders"."id" = _errand_s."id" AND "raw"."orders"."day" IS NOT NULL AND (CAST(_errand_s."day" AS timestamp) IS NULL OR CAST(_errand_s."day" AS timestamp) < "raw"."orders"."day")) AS older;
    UPDATE "raw"."orders" SET _errand_valid_to = CAST('2026-01-05 00:00:00' AS TIMESTAMP) FROM "raw"."orders__errand_1" AS _errand_s WHERE "raw"."orders"._errand_valid_to IS NULL AND "raw"."orders"."id" = _errand_s."id" AND (NOT (("raw"."orders"."id" = _errand_s."id" OR ("raw"."orders"."id" IS NULL AND _errand_s."id" IS NULL))) OR NOT (("raw"."orders"."day" = _errand_s."day" OR ("raw"."orders"."day" IS NULL AND _errand_s."day" IS NULL)))) AND NOT ("raw"."orders"."day" IS NOT NULL AND (CAST(_errand_s."day" AS timestamp) IS NULL OR CAST(_errand_s."day" AS timestamp) < "raw"."orders"."day"));
    INSERT INTO "raw"."orders" ("id", "day", _errand_valid_from, _errand_valid_to) SELECT _errand_s."id", _errand_s."day", CAST('2026-01-05 00:00:00' AS TIMESTAMP), NULL FROM "raw"."orders__errand_1" AS _errand_s WHERE NOT EXISTS (SELECT 1 FROM "raw"."orders" WHERE "raw"."orders"._errand_valid_to IS NULL AND "raw"."orders"."id" = _errand_s."id");
    DROP TABLE "raw"."orders__errand_1"
    "#);
}

#[tokio::test]
async fn duplicates_are_left_out_by_a_table_made_anew() {
    let publish = Publish { mode: Mode::Merge, primary_key: vec!["id".to_owned()], partition: None, cursor: Some("day".to_owned()) };
    let (staging, target) = (table("orders__errand_1"), table("orders"));
    let staged =
        Staged { staging: &staging, target: &target, publish: &publish, way: Way::Rows, metadata: &["_errand_row"], now: String::new() };
    let columns: Vec<(&str, ColumnType)> = COLUMNS.into_iter().chain([("_errand_row", ColumnType::Bigint)]).collect();
    let session = Recorder::default().table("orders__errand_1", &columns);
    let mut session = session.answers("SELECT count(*)", &["3"]).answers("HAVING", &["7", "2"]);
    let left = publish::deduplicate(&mut session, &staged).await.expect_err("the recorder leaves the duplicate there");
    assert_eq!(left.code, "publish::duplicate_key");
    insta::assert_snapshot!(session.text(), @r#"
    SELECT "id" FROM "raw"."orders__errand_1" GROUP BY "id" HAVING count(*) > 1;
    SELECT count(*) FROM "raw"."orders__errand_1";
    DROP TABLE IF EXISTS "raw"."orders__errand_1_unique";
    CREATE TABLE "raw"."orders__errand_1_unique" AS SELECT "id", "amount", "day", "_errand_row" FROM (SELECT "id", "amount", "day", "_errand_row", rank() OVER (PARTITION BY "id" ORDER BY "day" DESC NULLS LAST) AS _errand_r FROM (SELECT "id", "amount", "day", "_errand_row" FROM (SELECT "id", "amount", "day", "_errand_row", row_number() OVER (PARTITION BY "id", "amount", "day" ORDER BY "_errand_row") AS _errand_n FROM "raw"."orders__errand_1") AS numbered WHERE _errand_n = 1) AS different) AS ranked WHERE _errand_r = 1;
    DROP TABLE "raw"."orders__errand_1";
    ALTER TABLE "raw"."orders__errand_1_unique" RENAME TO "orders__errand_1";
    SELECT count(*) FROM "raw"."orders__errand_1";
    SELECT "id", count(*) FROM "raw"."orders__errand_1" GROUP BY "id" HAVING count(*) > 1 ORDER BY "id"
    "#);
}

#[tokio::test]
async fn a_target_is_made_and_gets_the_columns_of_versions() {
    let publish = Publish { mode: Mode::Scd2, primary_key: vec!["id".to_owned()], partition: None, cursor: None };
    let (staging, target) = (table("orders__errand_1"), table("orders"));
    let staged = Staged { staging: &staging, target: &target, publish: &publish, way: Way::Rows, metadata: &[], now: String::new() };
    let mut session = Recorder::default().table("orders__errand_1", &COLUMNS);
    publish::shape(&mut session, &staged).await.expect("made");
    insta::assert_snapshot!(session.text(), @r#"
    CREATE TABLE "raw"."orders" ("id" bigint, "amount" decimal(15,2), "day" date, _errand_valid_from TIMESTAMP, _errand_valid_to TIMESTAMP)
    "#);
}

#[tokio::test]
async fn the_ledger_is_made_locked_read_and_written() {
    let load = Load {
        job: "sales".to_owned(),
        step: "load".to_owned(),
        interval: Interval::parse("2026-01-05", "UTC").expect("a day"),
        target: "raw.orders".to_owned(),
        digest: "d".to_owned(),
        inputs: r#"{"a":"it's \\"}"#.to_owned(),
    };
    let writer = Writer { run_id: "r1".to_owned(), run_attempt: 1, attempt: 1, commit: None, now: "2026-01-05T00:00:00Z".to_owned() };
    let mut session = Recorder::default();
    ledger::prepare(&mut session).await.expect("made");
    ledger::enter(&mut session, &load, &writer).await.expect("entered");
    ledger::confirm(&mut session, &load, &writer).await.expect("confirmed");
    ledger::record(&mut session, &load, &writer, Rows { read: 3, written: 3, ..Rows::default() }).await.expect("recorded");
    insta::assert_snapshot!(session.text(), @r#"
    CREATE SCHEMA IF NOT EXISTS _errand;
    CREATE TABLE IF NOT EXISTS _errand.files (target VARCHAR(65535) NOT NULL, path VARCHAR(65535) NOT NULL, bytes BIGINT NOT NULL, digest VARCHAR(65535) NOT NULL, load_id VARCHAR(65535) NOT NULL, rows_read BIGINT NOT NULL, recorded_at VARCHAR(65535) NOT NULL, PRIMARY KEY (target, path, digest));
    CREATE TABLE IF NOT EXISTS _errand.checks (job VARCHAR(65535) NOT NULL, step VARCHAR(65535) NOT NULL, name VARCHAR(65535) NOT NULL, interval_start VARCHAR(65535) NOT NULL, row_count BIGINT NOT NULL, recorded_at VARCHAR(65535) NOT NULL, PRIMARY KEY (job, step, name, interval_start));
    CREATE TABLE IF NOT EXISTS _errand.turn (holder VARCHAR(65535));
    CREATE TABLE IF NOT EXISTS _errand.ledger (load_id VARCHAR(65535) NOT NULL, job VARCHAR(65535) NOT NULL, step VARCHAR(65535) NOT NULL, interval_start VARCHAR(65535) NOT NULL, interval_end VARCHAR(65535) NOT NULL, target VARCHAR(65535) NOT NULL, inputs VARCHAR(65535) NOT NULL, run_id VARCHAR(65535) NOT NULL, attempt INTEGER NOT NULL, commit_id VARCHAR(65535), rows_read BIGINT NOT NULL, rows_written BIGINT NOT NULL, rows_deduplicated BIGINT NOT NULL, rows_rejected BIGINT NOT NULL, recorded_at VARCHAR(65535) NOT NULL, PRIMARY KEY (load_id));
    BEGIN TRANSACTION;
    LOCK TABLE _errand.turn;
    SELECT run_id, recorded_at, rows_read, rows_written, rows_deduplicated, rows_rejected FROM _errand.ledger WHERE load_id = '9c018681387f44c173b2b3d94ec670c8';
    INSERT INTO _errand.ledger VALUES ('9c018681387f44c173b2b3d94ec670c8', 'sales', 'load', '2026-01-05T00:00:00Z', '2026-01-06T00:00:00Z', 'raw.orders', '{"a":"it''s \\\\"}', 'r1', 1, NULL, 3, 3, 0, 0, '2026-01-05T00:00:00Z')
    "#);
}
