//! Rows on their way through a bucket: a load that failed after all of them were there takes them from there.
//!
//! Also needs the server that stands in for Snowflake.

use std::fs::File;
use std::time::{Duration, SystemTime};

use e2e::condition::wait_for;
use e2e::errand::Errand;
use e2e::project::{Project, Run};
use e2e::proxy::{Direction, Fault as Cut, Proxy};
use e2e::s3::Bucket;
use e2e::s3_fault::{Fault, FaultyS3};
use e2e::services;
use e2e::snowflake::Database;

const DAY: &str = "2026-01-05";
const GOOD: &str = "id,name\n1,one\n2,two\nx,three\n4,four\n";
/// As long as the first, and other rows.
const OTHER: &str = "id,name\n5,one\n6,two\n7,three\n8,four\n";
const JOB: &str = "
  - id: load
    ingest:
      source: { files: { connection: lake, path: '*.csv', format: csv } }
      target: { table: t }
      mode: append
      max_rejected: 1
      columns: [{ name: id, type: bigint }, { name: name, type: text }]
";
/// What [`GOOD`] becomes: read, written, deduplicated, rejected.
const COUNTS: [u64; 4] = [4, 3, 0, 1];

/// A project with its warehouse and its bucket, each behind a proxy.
struct Site {
    project: Project,
    database: Database,
    bucket: Bucket,
    statements: Proxy,
    requests: FaultyS3,
}

impl Site {
    fn new(keys: &str) -> Self {
        let (database, bucket) = (Database::create(), Bucket::create());
        database.execute(&[&format!("CREATE STAGE ERRAND_STAGE URL = 's3://{}/staged/'", bucket.name())]);
        let requests = FaultyS3::before(bucket.endpoint());
        let settings = database.settings();
        let host = settings.host.as_deref().expect("these tests need the server that stands in for Snowflake");
        let statements = Proxy::start(host.trim_start_matches("http://").trim_end_matches('/'));
        let mut errand = Errand::new().env("RUST_LOG", "info").deadline(Duration::from_secs(100));
        errand = errand.env("ERRAND_SECRET_PASSWORD", settings.password.clone().expect("it takes a password"));
        for (name, value) in services::s3_credentials() {
            errand = errand.env(name, value);
        }
        let project = Project::within(errand);
        let name = database.name();
        project.write(
            "errand.yaml",
            format!(
                "version: 1
default_environment: local
environments:
  local:
    connections:
      warehouse:
        snowflake:
          account: {account}
          user: {user}
          password: {{ secret: password }}
          role: {role}
          compute_warehouse: {warehouse}
          database: {name}
          schema: PUBLIC
          host: http://127.0.0.1:{port}
          stage: '@{name}.PUBLIC.ERRAND_STAGE'
          staging: staging
      staging: {{ s3: {{ bucket: {bucket}, prefix: staged/, region: us-east-1, endpoint: '{endpoint}' }} }}
      lake: {{ directory: {{ path: data }} }}
      state: {{ directory: {{ path: state }} }}
    reports: {{ connection: state, path: runs }}
contacts:
  team: {{ email: {{ to: [team@example.com] }} }}
",
                account = settings.account,
                user = settings.user,
                role = settings.role,
                warehouse = settings.warehouse,
                port = statements.port(),
                bucket = bucket.name(),
                endpoint = requests.endpoint(),
            ),
        );
        project.job(keys, JOB).write("data/a.csv", GOOD);
        let site = Self { project, database, bucket, statements, requests };
        site.date("2026-01-01");
        site
    }

    /// Says when the source file was changed.
    fn date(&self, day: &str) {
        let days = if day == "2026-01-01" { 20_454 } else { 20_455 };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
        let file = File::options().write(true).open(self.project.path("data/a.csv")).expect("it is there");
        file.set_modified(time).expect("its time can be set");
    }

    /// The keys under the stage, without its prefix.
    fn staged(&self) -> Vec<String> {
        self.bucket.keys("staged/").into_iter().map(|key| key.trim_start_matches("staged/").to_owned()).collect()
    }

    fn has_manifest(&self) -> bool {
        self.staged().iter().any(|key| key.contains("/manifest-"))
    }

    fn parts_sent(&self) -> usize {
        self.requests.requests(".parquet?x-id=PutObject")
    }

    fn run(&self) -> Run {
        self.project.run(DAY)
    }

    /// The rows of a table, sorted.
    fn rows(&self, sql: &str) -> Vec<String> {
        self.database.rows(sql)
    }

    #[track_caller]
    fn is_loaded(&self, run: &Run) {
        assert_eq!(run.counts("load"), COUNTS);
        assert_eq!(self.rows("SELECT ID, NAME FROM T ORDER BY ID"), ["1|one", "2|two", "4|four"]);
        assert_eq!(self.rows("SELECT \"FILE\", \"ROW\", \"LINE\" FROM T__REJECTED"), ["a.csv|3|4"]);
        let file = &run.attempt("load")["files"][0];
        assert_eq!((&file["path"], &file["rows"]["read"], &file["rows"]["rejected"]), (&"a.csv".into(), &4.into(), &1.into()));
        assert_eq!(self.staged(), Vec::<String>::new(), "what was staged is gone");
    }
}

const TAKEN: &str = "files that an earlier attempt staged are taken";

#[test]
fn a_load_that_failed_takes_what_was_staged() {
    let site = Site::new("");
    site.statements.when(Direction::ToServer, "COPY INTO", Cut::Cut);
    let failed = site.run().expect_code(14);
    assert_eq!(site.statements.fired(), 1, "{}", failed.everything());
    let staged = site.staged();
    let kinds = ["/0/00000-", "/1/00000-", "/manifest-"];
    assert!(staged.len() == 3 && staged.iter().zip(kinds).all(|(key, kind)| key.contains(kind)), "{staged:?}");
    // Size and time are those of the file that was read: its rows are not looked at again.
    site.project.write("data/a.csv", OTHER);
    site.date("2026-01-01");
    let sent = site.parts_sent();
    let run = site.run().ok();
    assert!(run.everything().contains(TAKEN), "{}", run.everything());
    assert_eq!(site.parts_sent(), sent);
    site.is_loaded(&run);
    assert_eq!(site.run().ok().how("load"), "already_done");
}

#[test]
fn a_load_whose_source_changed_extracts_anew() {
    let site = Site::new("");
    site.statements.when(Direction::ToServer, "COPY INTO", Cut::Cut);
    let _ = site.run().expect_code(14);
    assert!(site.has_manifest());
    site.project.write("data/a.csv", OTHER);
    site.date("2026-01-02");
    let run = site.run().ok();
    assert!(!run.everything().contains(TAKEN), "{}", run.everything());
    assert_eq!(run.counts("load"), [4, 4, 0, 0]);
    assert_eq!(site.rows("SELECT ID FROM T ORDER BY ID"), ["5", "6", "7", "8"]);
    assert_eq!(site.staged(), Vec::<String>::new(), "also what the first attempt staged is gone");
}

#[test]
fn the_next_attempt_of_a_run_takes_what_was_staged() {
    let site = Site::new("retry: { max_attempts: 3, backoff: constant, interval: 1s }");
    site.statements.when(Direction::ToServer, "COPY INTO", Cut::Cut);
    let run = site.run().ok();
    assert_eq!((site.statements.fired(), run.step("load")["attempts"].as_array().map_or(0, Vec::len)), (1, 2));
    assert!(run.everything().contains(TAKEN), "{}", run.everything());
    site.is_loaded(&run);
}

#[test]
fn a_commit_that_is_undone_leaves_the_files_to_the_next_attempt() {
    let site = Site::new("");
    site.statements.when(Direction::ToServer, "INSERT INTO _errand.ledger", Cut::Cut);
    let _ = site.run().expect_code(14);
    assert!(site.statements.fired() == 1 && site.has_manifest(), "{:?}", site.staged());
    let run = site.run().ok();
    assert!(run.everything().contains(TAKEN), "{}", run.everything());
    site.is_loaded(&run);
}

#[test]
fn an_extraction_without_a_manifest_starts_anew() {
    let site = Site::new("");
    site.requests.inject("manifest-", Fault::Refuse { status: 403, code: "AccessDenied" }, 1000);
    // The first question for a manifest is refused too.
    let _ = site.run().fails(17, "store::permission");
    site.requests.forget();
    site.requests.inject("PUT /", Fault::Refuse { status: 403, code: "AccessDenied" }, 1);
    let _ = site.run().fails(17, "store::permission");
    assert!(!site.has_manifest(), "{:?}", site.staged());
    let run = site.run().ok();
    assert!(!run.everything().contains(TAKEN), "{}", run.everything());
    site.is_loaded(&run);
}

#[test]
fn a_run_that_is_killed_before_its_files_are_loaded_leaves_them_to_the_next() {
    let site = Site::new("");
    site.statements.when(Direction::ToServer, "COPY INTO", Cut::Stall);
    let (mut running, _) = site.project.spawn(&["--interval", DAY]);
    wait_for("the copy to be on its way", Duration::from_secs(60), || (site.statements.fired() > 0).then_some(()));
    running.kill();
    drop(running);
    site.statements.cut();
    site.statements.resume();
    assert!(site.has_manifest());
    let run = site.run().ok();
    assert!(run.everything().contains(TAKEN), "{}", run.everything());
    site.is_loaded(&run);
}
