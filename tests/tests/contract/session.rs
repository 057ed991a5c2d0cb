//! Sessions: statements, failures, transactions, ends.

use std::time::{Duration, Instant};

use errand_engine::warehouse::{Case, Purpose, Session};
use errand_model::failure::FailureKind;
use tokio_util::sync::CancellationToken;

use super::site::{Place, Site, ended_within, exact, is_failure, purpose, run, session, table, value};

pub(crate) async fn connects_and_says_its_version(site: &Site) {
    let sql = match site.place {
        Place::Duckdb | Place::Postgres(_) | Place::Redshift(_) => "SELECT version()",
        Place::Snowflake(_) => "SELECT CURRENT_VERSION()",
    };
    let warehouse = site.open().await;
    let version = value(session(&*warehouse).await.as_mut(), sql).await;
    assert!(version.contains(|c: char| c.is_ascii_digit()), "{version}");
    assert_eq!(warehouse.capabilities().name, site.capabilities().name);
}

pub(crate) async fn counts_the_rows_that_a_statement_changes(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    run(&mut *session, &["CREATE TABLE t (a INTEGER)"]).await;
    assert_eq!(session.execute("INSERT INTO t VALUES (1), (2), (3)").await, Ok(3));
    assert_eq!(session.execute("UPDATE t SET a = a + 1 WHERE a < 3").await, Ok(2));
    assert_eq!(session.execute("DELETE FROM t WHERE a = 2").await, Ok(1));
    assert_eq!(session.execute("DELETE FROM t WHERE a = 9").await, Ok(0));
}

pub(crate) async fn says_where_syntax_is_wrong(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let failure = is_failure(session.execute("SELECT 1\n  AS a\nFROM (SELECT 2 AS b) AS t WHERE WHERE b = 2").await, "warehouse::syntax");
    assert_eq!(failure.kind, FailureKind::Definition);
    let place = failure.message.split_once("\n\nLINE 3: ").unwrap_or_else(|| panic!("{}", failure.message)).1;
    let (line, caret) = place.split_once('\n').expect("a line of blanks follows");
    assert!(line.starts_with("FROM (") && caret.trim().trim_matches('^').is_empty() && caret.contains('^'), "{place}");
    assert_eq!(value(&mut *session, "SELECT 1").await, "1");
}

pub(crate) async fn says_that_an_object_is_missing(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let failure = is_failure(session.query("SELECT * FROM nowhere", 1).await, "warehouse::missing_object");
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(failure.message.to_lowercase().contains("nowhere"), "{failure}");
    is_failure(session.execute("INSERT INTO nowhere VALUES (1)").await, "warehouse::missing_object");
    assert_eq!(session.columns(&table("nowhere")).await, Ok(None));
}

pub(crate) async fn says_that_an_object_is_there_already(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    run(&mut *session, &["CREATE TABLE t (a INTEGER)"]).await;
    is_failure(session.execute("CREATE TABLE t (a INTEGER)").await, "warehouse::exists_already");
    run(&mut *session, &["CREATE TABLE IF NOT EXISTS t (a INTEGER)"]).await;
}

pub(crate) async fn says_that_a_constraint_is_broken(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    run(&mut *session, &["CREATE TABLE t (a INTEGER NOT NULL)"]).await;
    let failure = is_failure(session.execute("INSERT INTO t VALUES (NULL)").await, "warehouse::constraint");
    assert_eq!(failure.kind, FailureKind::Permanent);
}

pub(crate) async fn says_that_a_key_is_there_already(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    run(&mut *session, &["CREATE TABLE t (a INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)"]).await;
    let failure = is_failure(session.execute("INSERT INTO t VALUES (1)").await, "warehouse::duplicate_key");
    assert_eq!(failure.kind, FailureKind::Permanent);
}

pub(crate) async fn says_that_a_value_does_not_fit(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    run(&mut *session, &["CREATE TABLE t (a VARCHAR(20))", "INSERT INTO t VALUES ('x')"]).await;
    let failure = is_failure(session.query("SELECT CAST(a AS INTEGER) FROM t", 1).await, "warehouse::value");
    assert_eq!(failure.kind, FailureKind::Permanent);
}

/// A session whose reads are those of one moment, where the warehouse must be told so.
async fn begin_snapshot(site: &Site, session: &mut dyn Session) {
    run(session, &["BEGIN TRANSACTION"]).await;
    if let Place::Postgres(_) = site.place {
        run(session, &["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"]).await;
    }
}

pub(crate) async fn a_transaction_that_was_overtaken_loses_no_update(site: &Site) {
    let warehouse = site.open().await;
    let (mut slow, mut fast) = (session(&*warehouse).await, session(&*warehouse).await);
    run(&mut *fast, &["CREATE TABLE t (a INTEGER)", "INSERT INTO t VALUES (1)"]).await;
    begin_snapshot(site, &mut *slow).await;
    assert_eq!(value(&mut *slow, "SELECT a FROM t").await, "1");
    run(&mut *fast, &["BEGIN TRANSACTION", "UPDATE t SET a = 2", "COMMIT"]).await;
    let update = slow.execute("UPDATE t SET a = a + 10").await;
    let code = match site.place {
        // Its one code for everything that another transaction is in the way of.
        Place::Snowflake(_) if site.is_stand_in() => "warehouse::lock_timeout",
        // Every statement sees what is committed when it begins: nothing is overtaken, and nothing is lost.
        Place::Snowflake(_) => {
            assert_eq!(update, Ok(1));
            run(&mut *slow, &["COMMIT"]).await;
            assert_eq!(value(&mut *slow, "SELECT a FROM t").await, "12");
            return;
        }
        Place::Duckdb | Place::Postgres(_) | Place::Redshift(_) => "warehouse::conflict",
    };
    assert_eq!(is_failure(update, code).kind, FailureKind::Transient);
    slow.rollback().await.expect("undone");
    assert_eq!(value(&mut *slow, "SELECT a FROM t").await, "2");
}

pub(crate) async fn a_lock_that_stays_taken_times_out(site: &Site) {
    let warehouse = site.open().await;
    let (mut holder, mut waiter) = (session(&*warehouse).await, session(&*warehouse).await);
    run(&mut *holder, &["CREATE TABLE t (a INTEGER)", "INSERT INTO t VALUES (1)", "BEGIN TRANSACTION", "UPDATE t SET a = 2"]).await;
    let limit = match site.place {
        Place::Snowflake(_) => "ALTER SESSION SET LOCK_TIMEOUT = 1",
        Place::Postgres(_) => "SET lock_timeout = '300ms'",
        Place::Duckdb | Place::Redshift(_) => panic!("it has no such setting"),
    };
    run(&mut *waiter, &[limit]).await;
    let failure = is_failure(waiter.execute("UPDATE t SET a = 3").await, "warehouse::lock_timeout");
    assert_eq!(failure.kind, FailureKind::Transient);
    run(&mut *holder, &["COMMIT"]).await;
    assert_eq!(value(&mut *waiter, "SELECT a FROM t").await, "2");
}

pub(crate) async fn a_rollback_undoes_what_was_written(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    run(&mut *session, &["CREATE TABLE t (a INTEGER)", "BEGIN TRANSACTION", "INSERT INTO t VALUES (1)"]).await;
    assert_eq!(value(&mut *session, "SELECT count(*) FROM t").await, "1");
    session.rollback().await.expect("undone");
    assert_eq!(value(&mut *session, "SELECT count(*) FROM t").await, "0");
    session.rollback().await.expect("nothing is open, which is as good");
    run(&mut *session, &["BEGIN TRANSACTION", "INSERT INTO t VALUES (2)", "COMMIT"]).await;
    assert_eq!(value(&mut *session, "SELECT a FROM t").await, "2");
}

pub(crate) async fn a_transaction_is_not_seen_before_its_commit(site: &Site) {
    let warehouse = site.open().await;
    let (mut writer, mut reader) = (session(&*warehouse).await, session(&*warehouse).await);
    run(&mut *writer, &["CREATE TABLE t (a INTEGER)", "BEGIN TRANSACTION", "INSERT INTO t VALUES (1)"]).await;
    assert_eq!(value(&mut *reader, "SELECT count(*) FROM t").await, "0");
    run(&mut *writer, &["COMMIT"]).await;
    assert_eq!(value(&mut *reader, "SELECT count(*) FROM t").await, "1");
}

pub(crate) async fn definitions_belong_to_transactions_as_its_capabilities_say(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    run(&mut *session, &["BEGIN TRANSACTION", "CREATE TABLE t (a INTEGER)"]).await;
    session.rollback().await.expect("undone");
    let is_gone = session.columns(&table("t")).await.expect("asked").is_none();
    assert_eq!(is_gone, site.capabilities().transactional_ddl);
}

pub(crate) async fn a_session_that_is_dropped_leaves_nothing(site: &Site) {
    let warehouse = site.open().await;
    let mut reader = session(&*warehouse).await;
    run(&mut *reader, &["CREATE TABLE t (a INTEGER)"]).await;
    for _ in 0..3 {
        let mut writer = session(&*warehouse).await;
        assert_eq!(value(&mut *writer, "SELECT count(*) FROM t").await, "0");
        run(&mut *writer, &["BEGIN TRANSACTION", "INSERT INTO t VALUES (1)"]).await;
    }
    assert_eq!(value(&mut *reader, "SELECT count(*) FROM t").await, "0");
}

pub(crate) async fn texts_survive_as_literals(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let capabilities = site.capabilities();
    let texts = [
        "it's",
        "a\\b",
        "\\'; DROP TABLE t; --",
        "\\",
        "'",
        "''",
        "naïve 漢字 🦀",
        "two\nlines\tand a tab",
        "$$",
        "%s ? :1 $1 {{ x }}",
        "\\N",
        "",
    ];
    run(&mut *session, &["CREATE TABLE t (n INTEGER, a VARCHAR(100))"]).await;
    for (number, text) in texts.iter().enumerate() {
        run(&mut *session, &[&format!("INSERT INTO t VALUES ({number}, {})", capabilities.text(text))]).await;
    }
    let rows = session.query("SELECT a FROM t ORDER BY n", 100).await.expect("read");
    let found: Vec<&str> = rows.iter().map(|row| row[0].as_deref().unwrap_or("NULL")).collect();
    assert_eq!(found, texts);
}

pub(crate) async fn a_query_gives_no_more_rows_than_asked_for(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    run(&mut *session, &["CREATE TABLE t (a INTEGER)", "INSERT INTO t VALUES (1), (2), (3), (NULL)"]).await;
    let rows = session.query("SELECT a FROM t ORDER BY a NULLS LAST", 2).await.expect("read");
    assert_eq!(rows, [vec![Some("1".to_owned())], vec![Some("2".to_owned())]]);
    let rows = session.query("SELECT a FROM t WHERE a IS NULL -- the rest is silence", 2).await.expect("read");
    assert_eq!(rows, [vec![None]]);
}

pub(crate) async fn names_with_quotes_case_and_reserved_words_are_kept(site: &Site) {
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    let (capabilities, names) = (site.capabilities(), ["select", "MiXed", "a\"b", "with space", "größe"]);
    let columns: Vec<String> = names.iter().map(|name| format!("{} INTEGER", capabilities.quote(name))).collect();
    run(&mut *session, &[&format!("CREATE TABLE {} ({})", capabilities.quote("order"), columns.join(", "))]).await;
    run(&mut *session, &[&format!("INSERT INTO {} VALUES (1, 2, 3, 4, 5)", capabilities.quote("order"))]).await;
    let known = session.columns(&table("order")).await.expect("asked").expect("it is there");
    let folded: Vec<String> = names.iter().map(|name| capabilities.fold(name)).collect();
    assert_eq!(known.iter().map(|column| column.name.clone()).collect::<Vec<_>>(), folded);
    let list = known.iter().map(|column| exact(&column.name)).collect::<Vec<_>>().join(", ");
    let query = format!("SELECT {list} FROM {}", capabilities.quote("order"));
    assert_eq!(session.describe(&query).await.expect("described").iter().map(|column| column.name.clone()).collect::<Vec<_>>(), folded);
    assert_eq!(session.query(&query, 1).await.expect("read")[0].iter().flatten().cloned().collect::<String>(), "12345");
    // What an author writes without quotes is found.
    assert_eq!(value(&mut *session, &format!("SELECT mixed FROM {}", capabilities.quote("order"))).await, "2");
    assert_eq!(
        capabilities.fold("MiXed"),
        match capabilities.case {
            Case::Keep => "MiXed",
            Case::Lower => "mixed",
            Case::Upper => "MIXED",
        }
    );
}

pub(crate) async fn sessions_work_side_by_side(site: &Site) {
    async fn work(mut session: Box<dyn Session>, number: u32) -> String {
        run(&mut *session, &[&format!("CREATE TABLE t{number} (a INTEGER)"), "BEGIN TRANSACTION"]).await;
        for value in 0..5 {
            run(&mut *session, &[&format!("INSERT INTO t{number} VALUES ({value})")]).await;
        }
        run(&mut *session, &["COMMIT"]).await;
        value(&mut *session, &format!("SELECT CAST(sum(a) AS INTEGER) FROM t{number}")).await
    }
    let warehouse = site.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..4 {
        let session = session(&*warehouse).await;
        tasks.spawn(work(session, number));
    }
    assert_eq!(tasks.join_all().await, ["10", "10", "10", "10"]);
}

/// A statement that runs for a very long time.
fn endless(site: &Site) -> &'static str {
    match site.place {
        Place::Duckdb => "SELECT sum(hash(a.range, b.range)) FROM range(10000000) AS a, range(10000000) AS b",
        Place::Postgres(_) => "SELECT pg_sleep(100)",
        Place::Snowflake(_) => "SELECT SYSTEM$WAIT(100)",
        // It can neither sleep nor make rows but by recursion; the condition keeps it from counting without looking.
        Place::Redshift(_) => {
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
             SELECT count(*) FROM n AS a, n AS b, n AS c, n AS d WHERE (a.i * b.i + c.i * d.i) % 7 = 3"
        }
    }
}

pub(crate) async fn a_long_statement_ends_within_seconds_of_its_cancellation(site: &Site) {
    let warehouse = site.open().await;
    let cancelled = CancellationToken::new();
    let mut session = warehouse.session(&Purpose { cancelled: cancelled.clone(), ..purpose() }).await.expect("a session begins");
    run(&mut *session, &["CREATE TABLE t (a INTEGER)", "BEGIN TRANSACTION", "INSERT INTO t VALUES (1)"]).await;
    let begun = Instant::now();
    let (result, ()) = tokio::join!(session.execute(endless(site)), async {
        if let Place::Postgres(database) = &site.place {
            let running =
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(100)%' AND state = 'active' AND pid <> pg_backend_pid()";
            while database.value(&format!("{running} AND datname = current_database()")) == "0" {
                tokio::task::yield_now().await;
            }
        }
        cancelled.cancel();
    });
    assert_eq!(is_failure(result, "warehouse::cancelled").kind, FailureKind::Cancelled);
    is_failure(session.execute("SELECT 1").await, "warehouse::cancelled");
    session.rollback().await.expect("it works after cancellation");
    ended_within(begun, 10);
    drop(session);
    let mut other = super::site::session(&*warehouse).await;
    assert_eq!(value(&mut *other, "SELECT count(*) FROM t").await, "0");
    if let Place::Postgres(database) = &site.place {
        let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active' AND datname = current_database()";
        assert_eq!(database.value(left), "0");
    }
}

pub(crate) async fn a_statement_past_its_time_ends(site: &Site) {
    let warehouse = site.open().await;
    let limited = Purpose { statement_timeout: Some(Duration::from_secs(1)), ..purpose() };
    let mut session = warehouse.session(&limited).await.expect("a session begins");
    let begun = Instant::now();
    let failure = is_failure(session.execute(endless(site)).await, "warehouse::statement_timeout");
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(failure.help.is_some(), "{failure:?}");
    ended_within(begun, 15);
    assert_eq!(value(&mut *session, "SELECT 1").await, "1");
}

/// Postgres: what a user may not do.
pub(crate) async fn says_that_a_right_is_missing(site: &Site) {
    let Place::Postgres(_) = &site.place else { panic!("only Postgres has users that a test can make") };
    let name = e2e::services::unique_name();
    site.execute(&format!("CREATE TABLE secret (a INTEGER); CREATE ROLE {name} LOGIN PASSWORD 'guest'"));
    let warehouse = site.open().await;
    let mut session = session(&*warehouse).await;
    run(&mut *session, &[&format!("SET ROLE {name}")]).await;
    let failure = is_failure(session.query("SELECT * FROM secret", 1).await, "warehouse::permission");
    assert_eq!(failure.kind, FailureKind::Permanent);
    run(&mut *session, &["RESET ROLE"]).await;
    drop(session);
    site.execute(&format!("DROP ROLE {name}"));
}

/// Postgres: the schema of tables that name none, where the connection names one.
pub(crate) async fn the_schema_of_the_connection_is_made(site: &Site) {
    let yaml = std::fs::read_to_string(site.project.path("errand.yaml")).expect("it is there");
    let named = yaml.replace("\"tls\":\"disable\"", "\"tls\":\"disable\",\"schema\":\"brandnew\"");
    assert_ne!(named, yaml);
    site.project.write("errand.yaml", named).write("data/a.csv", "id\n1\n");
    let load = "ingest: { source: { files: { connection: lake, path: a.csv, format: csv } }, target: { table: t } }";
    let read = "sql: { text: create table u as select id from t }";
    site.project.steps(&format!("\n  - id: load\n    {load}\n  - id: read\n    {read}\n"));
    let _ = site.project.run("2026-01-05").ok();
    assert_eq!(site.rows("SELECT id FROM brandnew.u"), ["1"]);
    assert!(site.tables().is_empty(), "in `public`");
    site.project.steps(&format!("\n  - id: load\n    {load}\n"));
    assert_eq!(site.project.run("2026-01-05").ok().how("load"), "already_done", "it is there");
}
