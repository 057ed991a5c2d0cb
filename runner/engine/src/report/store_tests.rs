//! Reports are whole, found by id or its beginning, and listed newest first.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use errand_model::value::Label;

use super::*;
use crate::report::text::tests::succeeded;
use crate::secret::Secret;

fn store() -> (tempfile::TempDir, ReportStore) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = ReportStore::under(&Store::directory(directory.path()), "runs");
    (directory, store)
}

fn keep(store: &ReportStore, run_id: &str, job: &str, attempt: u32) -> PathBuf {
    let report = RunReport { run_id: run_id.to_owned(), job: job.to_owned(), attempt, ..succeeded() };
    store.write(&report, &Redactor::default()).expect("written")
}

fn id(time: &str) -> String {
    RunId::new(time.parse().expect("a time")).to_string()
}

fn project(connections: &[(&str, Connection)], reports: Option<(&str, &str)>) -> Project {
    let label = |text: &str| Label::parse(text).expect("a label");
    let environment = Environment {
        connections: connections.iter().map(|(name, connection)| ((*name).to_owned(), connection.clone())).collect(),
        reports: reports.map(|(connection, path)| (label(connection), path.to_owned())),
        aws: None,
    };
    Project {
        default_environment: label("local"),
        environments: BTreeMap::from([("local".to_owned(), environment)]),
        contacts: BTreeMap::new(),
        timeout: std::time::Duration::from_secs(3600),
        retry: errand_model::job::Retry::default(),
    }
}

#[test]
fn what_was_written_is_read_and_no_scratch_file_stays() {
    let (_directory, store) = store();
    let path = keep(&store, "a", "orders", 1);
    assert_eq!(store.find("a").expect("found"), RunReport { run_id: "a".to_owned(), job: "orders".to_owned(), ..succeeded() });
    assert_eq!(std::fs::read_dir(path.parent().expect("a directory")).expect("read").count(), 1);
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o600, 0o600);
}

#[test]
fn a_report_holds_no_secret() {
    let (_directory, store) = store();
    let redactor = Redactor::default();
    redactor.register(&Secret::new("hunter2-hunter2"));
    let report = RunReport { warnings: vec!["server said hunter2-hunter2".to_owned()], ..succeeded() };
    let text = std::fs::read_to_string(store.write(&report, &redactor).expect("written")).expect("read");
    assert!(text.contains("server said [secret]") && !text.contains("hunter2"));
}

#[test]
fn the_newest_come_first_up_to_the_limit() {
    let (_directory, store) = store();
    assert!(store.list(5, |_| true).expect("a directory that is not there is empty").reports.is_empty());
    let ids = ["2026-11-18T06:00:00Z", "2026-11-19T06:00:00Z", "2026-11-20T06:00:00Z"].map(id);
    for (id, job) in ids.iter().zip(["orders", "stock", "orders"]) {
        keep(&store, id, job, 1);
    }
    let listed = |limit, job: &str| {
        let listing = store.list(limit, |report| job.is_empty() || report.job == job).expect("listed");
        (listing.reports.into_iter().map(|report| report.run_id).collect::<Vec<_>>(), listing.more)
    };
    assert_eq!(listed(2, ""), (vec![ids[2].clone(), ids[1].clone()], true));
    assert_eq!(listed(2, "orders"), (vec![ids[2].clone(), ids[0].clone()], false));
    assert_eq!(store.find("last").expect("found").run_id, ids[2]);
}

#[test]
fn a_survey_reads_what_is_recent_and_weighs_all() {
    let (_directory, store) = store();
    let ids = ["2026-11-18T06:00:00Z", "2026-11-19T06:00:00Z", "2026-11-20T06:00:00Z"].map(id);
    let files = [&ids[0], &ids[1], &ids[2]].map(|id| keep(&store, id, "orders", 1));
    // Were it read, it would be unreadable.
    std::fs::write(&files[0], "{").expect("written");
    let bytes: u64 = files.iter().map(|file| std::fs::metadata(file).expect("there").len()).sum();
    let mut survey = store.survey("2026-11-19T06:00:00Z".parse().expect("a time"), |report| report.run_id.clone()).expect("surveyed");
    survey.found.sort();
    assert_eq!((survey.found.as_slice(), survey.unreadable.as_slice(), survey.bytes), (&ids[1..], [].as_slice(), bytes));
    let all = store.survey(Timestamp::MIN, |report| report.run_id.clone()).expect("surveyed");
    assert_eq!(
        (all.found.len(), all.unreadable),
        (2, vec![(files[0].clone(), "no run report: EOF while parsing an object at line 1 column 1".to_owned())])
    );
}

#[test]
fn a_file_that_is_no_report_or_of_a_newer_version_is_said_and_does_not_fail_the_list() {
    let (_directory, store) = store();
    let directory = keep(&store, "good", "orders", 1).parent().expect("a directory").to_owned();
    std::fs::write(directory.join("broken.json"), "{").expect("written");
    std::fs::write(directory.join("newer.json"), r#"{ "version": 2, "run": {} }"#).expect("written");
    std::fs::write(directory.join("notes.txt"), "mine").expect("written");
    std::fs::write(directory.join(".report-x.json"), "half").expect("written");
    let mut listing = store.list(20, |_| true).expect("listed");
    listing.unreadable.sort();
    let why: Vec<&str> = listing.unreadable.iter().map(|(_, why)| why.as_str()).collect();
    assert_eq!(listing.reports.len(), 1);
    assert_eq!(why, ["no run report: EOF while parsing an object at line 1 column 1", "report of version 2, this errand reads up to 1"]);
    assert_eq!(store.find("newer").expect_err("unreadable").code, "report::cannot_read");
}

#[test]
fn a_run_is_found_by_a_beginning_that_no_other_has() {
    let (_directory, store) = store();
    for run in ["abc1", "abc2", "b"] {
        keep(&store, run, "orders", 1);
    }
    assert_eq!(store.find("abc1").expect("found").run_id, "abc1");
    assert_eq!(store.find("b").expect("found").run_id, "b");
    let failure = store.find("abc").expect_err("ambiguous");
    assert_eq!(failure.code, "report::ambiguous_run");
    assert!(failure.message.contains("2 run ids"), "{}", failure.message);
    assert_eq!(store.find("x").expect_err("unknown").code, "report::no_such_run");
}

#[test]
fn each_attempt_keeps_its_report_and_the_last_is_shown() {
    let (_directory, store) = store();
    for attempt in [1, 2, 10] {
        keep(&store, "nightly", "orders", attempt);
    }
    let attempt = |wanted| store.find(wanted).expect("found").attempt;
    assert_eq!((attempt("nightly"), attempt("night"), attempt("nightly.2"), attempt("last")), (10, 10, 2, 10));
}

#[test]
fn reports_lie_where_the_environment_says_or_beside_the_warehouse() {
    let duckdb = |path: &str| Connection::Duckdb { path: path.to_owned() };
    let directory = Connection::Directory { path: "out".to_owned() };
    let at = |project: &Project| ReportStore::of(project, "local", Path::new("/repo")).map(|store| PathBuf::from(store.place()));
    let expected = |path: &str| Ok(PathBuf::from(path));
    assert_eq!(at(&project(&[("warehouse", duckdb("db/w.duckdb")), ("a", duckdb("a.duckdb"))], None)), expected("/repo/db/runs"));
    assert_eq!(at(&project(&[("other", duckdb("/data/o.duckdb"))], None)), expected("/data/runs"));
    assert_eq!(
        at(&project(&[("warehouse", duckdb("w.duckdb")), ("lake", directory.clone())], Some(("lake", "runs")))),
        expected("/repo/out/runs")
    );
    assert_eq!(at(&project(&[("lake", directory)], None)).expect_err("no place").code, "report::no_store");
    let failure = ReportStore::of(&project(&[], None), "locale", Path::new(".")).expect_err("unknown");
    assert_eq!((failure.code.as_str(), failure.help.as_deref()), ("run::unknown_environment", Some("did you mean `local`?")));
}

#[test]
fn names_of_executions_are_listed_by_when_they_were_written() {
    let (_directory, store) = store();
    for run in ["4b3c2d1e-aaaa-bbbb-cccc-0123456789ab", "zzzzzzzzzzzzzzzz", "orders-20261119-2f"] {
        let path = keep(&store, run, "orders", 1);
        // The second is written like an id of ours, and tells of the year 10889.
        let file = std::fs::File::options().write(true).open(&path).expect("written");
        let second = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000 + seconds);
        file.set_modified(second(u64::from(run.starts_with('z')) * 10 + u64::from(run.starts_with('o')) * 20)).expect("changed");
    }
    let listing = store.list(10, |_| true).expect("listed");
    let runs: Vec<&str> = listing.reports.iter().map(|report| report.run_id.as_str()).collect();
    assert_eq!(runs, ["orders-20261119-2f", "zzzzzzzzzzzzzzzz", "4b3c2d1e-aaaa-bbbb-cccc-0123456789ab"]);
}
