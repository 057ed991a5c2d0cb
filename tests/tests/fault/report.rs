//! Run reports that are kept in a bucket: written by `errand run`, read by `errand runs`, and not lost when the bucket is away.

use e2e::errand::{Errand, Outcome};
use e2e::s3::Bucket;
use e2e::s3_fault::{Fault, FaultyS3};

use super::s3::{connection, with_keys};
use super::{DAY, Scene, same};

const WAREHOUSE: &str = "      warehouse: { duckdb: { path: state/warehouse.duckdb } }\n";
const STEPS: &str = "\n  - id: one\n    sql: { text: \"create or replace table t as select 42 as answer\" }\n";

struct Kept {
    bucket: Bucket,
    proxy: FaultyS3,
    scene: Scene,
}

impl Kept {
    fn new() -> Self {
        let bucket = Bucket::create();
        let proxy = FaultyS3::before(bucket.endpoint());
        let scene = Scene::new(with_keys(), "");
        scene.write_project(&(WAREHOUSE.to_owned() + &connection("reports", bucket.name(), &proxy.endpoint())), "reports");
        scene.project.steps(STEPS);
        std::fs::create_dir(scene.project.path("scratch")).expect("the working directory can be written");
        let directory = scene.project.path("").display().to_string();
        let scene = scene
            .hiding(directory.trim_end_matches('/'), "PROJECT")
            .hiding(bucket.name(), "BUCKET")
            .hiding(proxy.endpoint().trim_start_matches("http://"), "SERVER");
        Self { bucket, proxy, scene }
    }

    fn run(&self, id: &str, more: &[&str]) -> Outcome {
        let repository = self.scene.project.path("").display().to_string();
        let arguments = ["run", "load", "--repo", &repository, "--interval", DAY, "--run-id", id];
        self.errand().run(arguments.iter().chain(more))
    }

    fn runs(&self, arguments: &[&str]) -> Outcome {
        let repository = self.scene.project.path("").display().to_string();
        self.errand().run(["runs", "--repo", &repository].iter().chain(arguments))
    }

    fn errand(&self) -> Errand {
        with_keys()
            .env("ERRAND_LOG_FORMAT", "text")
            .env("RUST_LOG", "warn,deadpool.postgres=error")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("TMPDIR", self.scene.project.path("scratch").display().to_string())
    }
}

#[test]
fn reports_in_a_bucket_are_listed_and_shown() {
    let kept = Kept::new();
    let first = kept.run("run-a", &[]).expect_code(0);
    let place = format!("s3://{}/runs/run-a.json", kept.bucket.name());
    assert!(first.stdout.contains(&place), "{}", first.stdout);
    kept.scene.project.steps("\n  - id: one\n    sql: { text: select nothing }\n");
    let _ = kept.run("run-b", &["--attempt", "2"]).expect_code(17);
    assert_eq!(kept.bucket.keys("runs/"), ["runs/run-a.json", "runs/run-b.2.json"]);
    let listed = kept.runs(&[]).expect_code(0);
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert!(
        lines.len() == 3 && lines[1].contains("run-b") && lines[1].contains("failed") && lines[2].contains("succeeded"),
        "{}",
        listed.stdout
    );
    let json = kept.runs(&["--format", "json", "--limit", "1"]).expect_code(0).json();
    assert_eq!((json[0]["run_id"].as_str(), json.as_array().map_or(0, Vec::len)), (Some("run-b"), 1));
    let shown = kept.runs(&["show", "run-a"]).expect_code(0);
    assert!(shown.stdout.contains("run-a") && shown.stdout.contains("succeeded"), "{}", shown.stdout);
    let kept_report: serde_json::Value = serde_json::from_slice(&kept.bucket.get("runs/run-a.json")).expect("JSON");
    assert_eq!(kept.runs(&["show", "run-a", "--format", "json"]).expect_code(0).json(), kept_report);
    let missing = kept.runs(&["show", "run-z"]).expect_code(10);
    same(
        &kept.scene.told(&missing.stderr),
        "\
error: no run report `run-z` in `s3://BUCKET/runs/`
help: `errand runs` lists those there are; `--env` chooses the environment
",
    );
}

/// The rows are committed and the report is not kept: the run says so, fails as what may pass, and finds its work done the next time.
#[test]
fn a_bucket_that_is_away_when_the_report_is_written() {
    let kept = Kept::new();
    kept.proxy.inject("PUT ", Fault::Refuse { status: 503, code: "SlowDown" }, 6);
    let run = kept.run("run-a", &[]).expect_code(14);
    assert!(run.stdout.contains("load succeeded"), "{}", run.stdout);
    same(&kept.scene.told(&run.stderr), "\
error: cannot write the run report `s3://BUCKET/runs/run-a.json`: cannot write `s3://BUCKET/runs/run-a.json`: said by the test (SlowDown, request TEST)
help: the server was asked several times; run again later; until then the report is in `PROJECT/scratch/errand-reports/run-a.json`
");
    assert_eq!(kept.scene.project.value("select answer from t"), "42");
    let again = kept.run("run-a", &["--attempt", "2"]).expect_code(0);
    assert!(again.stdout.contains("already done"), "{}", again.stdout);
    assert_eq!(kept.bucket.keys("runs/"), ["runs/run-a.2.json"]);
}

/// The report that could not be kept lies on this machine, whole.
#[test]
fn a_report_that_cannot_be_kept_is_left_on_this_machine() {
    let kept = Kept::new();
    kept.proxy.inject("PUT ", Fault::Refuse { status: 403, code: "AccessDenied" }, 1);
    let run = kept.run("run-a", &[]).expect_code(17);
    let file = kept.scene.project.path("scratch/errand-reports/run-a.json");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(file).expect("it is there")).expect("JSON");
    assert_eq!((report["run_id"].as_str(), report["outcome"].as_str()), (Some("run-a"), Some("succeeded")));
    same(&kept.scene.told(&run.stderr), "\
error: cannot write the run report `s3://BUCKET/runs/run-a.json`: cannot write `s3://BUCKET/runs/run-a.json`: said by the test (AccessDenied, request TEST)
help: give the role `s3:PutObject` and `s3:AbortMultipartUpload` on `arn:aws:s3:::BUCKET/*`, or correct `bucket` and `prefix` of the connection; until then the report is in `PROJECT/scratch/errand-reports/run-a.json`
");
}

/// A run that failed keeps its own exit code, whatever becomes of its report.
#[test]
fn a_run_that_failed_fails_as_itself() {
    let kept = Kept::new();
    kept.scene.project.steps("\n  - id: one\n    command: { run: ['false'] }\n");
    kept.proxy.inject("PUT ", Fault::Refuse { status: 403, code: "AccessDenied" }, 1);
    let run = kept.run("run-a", &["--format", "json"]).expect_code(17);
    assert_eq!(run.json()["failure"]["code"], "command::failed", "the report is on standard output");
    same(&kept.scene.told(&run.stderr), "\
error `false` ended with exit code 1  step=one attempt=1 code=command::failed
help: the whole output is in the log of this run
error: cannot write the run report `s3://BUCKET/runs/run-a.json`: cannot write `s3://BUCKET/runs/run-a.json`: said by the test (AccessDenied, request TEST)
help: give the role `s3:PutObject` and `s3:AbortMultipartUpload` on `arn:aws:s3:::BUCKET/*`, or correct `bucket` and `prefix` of the connection; until then the report is in `PROJECT/scratch/errand-reports/run-a.json`
");
}

#[test]
fn reports_that_cannot_be_read() {
    let kept = Kept::new();
    kept.proxy.inject("GET ", Fault::Refuse { status: 403, code: "AccessDenied" }, 1);
    let listed = kept.runs(&[]).expect_code(17);
    same(
        &kept.scene.told(&listed.stderr),
        "\
error: cannot read `s3://BUCKET/runs/`: cannot list `s3://BUCKET/runs/`: said by the test (AccessDenied, request TEST)
help: give the role `s3:ListBucket` on `arn:aws:s3:::BUCKET`, or correct `bucket` and `prefix` of the connection
",
    );
}
