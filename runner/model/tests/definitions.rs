//! Definitions and what validation says of them: each file of `tests/definitions` is a `job.yaml`, its snapshot the problems.
//!
//! After a change of a message: `INSTA_UPDATE=always cargo test -p errand-model --test definitions`, and read the difference.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use errand_model::job::{Connection, Credential, Job, Project, Tls};
use errand_model::problem::{Problem, Severity, line_and_column};
use errand_model::validate::{self, FileError, Files};
use errand_model::value::{Label, Name};

/// The project of every test.
const PROJECT: &str = "\
version: 1
default_environment: local
environments:
  local:
    connections:
      warehouse: { duckdb: { path: w.duckdb } }
      lake: { directory: { path: data } }
      reports: { directory: { path: reports } }
      bucket: { s3: { bucket: acme-lake } }
      db: { postgres: { host: localhost, database: shop, user: errand } }
      rs: { redshift: { host: localhost, database: d, user: u, iam_role: \"arn:aws:iam::123456789012:role/r\", staging: bucket } }
      account: { snowflake: { account: a, user: U, access_token: { secret: t }, database: D } }
  prod:
    connections:
      warehouse: { duckdb: { path: /srv/w.duckdb } }
      lake: { directory: { path: /srv/data } }
      bucket: { directory: { path: /srv/objects } }
      db: { duckdb: { path: /srv/db.duckdb } }
      rs: { postgres: { host: localhost, database: d, user: u } }
      account: { snowflake: { account: b, user: U, password: { secret: p }, database: D } }
contacts:
  data-platform: { email: { to: [data@example.com] } }
  finance: { email: { to: [finance@example.com] } }
";

/// SQL files of every test.
fn files() -> Memory {
    let texts = [
        (
            "jobs/orders/daily_totals.sql",
            "select {{ run.date }} as day, sum(amount) as total\nfrom orders\nwhere region = {{ inputs.region }}\n",
        ),
        (
            "jobs/orders/broken.sql",
            "-- {{ run.id }}\nselect '{{ run.date }}', {{ inputs.regoin }},\n    {{ vars.nothing | uper }}\nfrom {{ schema }}.t {% include 'x' %}\n",
        ),
        (
            "jobs/orders/names.sql",
            "select\n  {{ run.dat }}, {{ inputs.regoin }}, {{ vars.limitt }}, {{ region }},\n  {{ steps.load.outputs.x }}, {{ steps.nope.outputs.x }}, {{ now() }},\n  {{ run.id | uper }}, {{ run.id is odd }}, \"{{ run.id }}\", E{{ run.id }}\n",
        ),
        ("jobs/orders/empty.sql", "\n"),
        ("jobs/orders/secret.sql", "select 1;\ncreate secret (key_id 'AKIAIOSFODNN7EXAMPLE');\n"),
    ];
    Memory(texts.into_iter().map(|(path, text)| (path.to_owned(), text.into())).collect())
}

struct Memory(BTreeMap<String, Arc<str>>);

impl Files for Memory {
    fn text(&self, path: &str) -> Result<Arc<str>, FileError> {
        match path {
            "jobs/orders/link.sql" => {
                Err(FileError::Refused { message: "`link.sql` is a symbolic link".to_owned(), help: "put the file there".to_owned() })
            }
            path => self.0.get(path).cloned().ok_or(FileError::Missing),
        }
    }

    fn list(&self, folder: &str) -> Vec<String> {
        self.0.keys().filter(|path| path.starts_with(folder)).cloned().collect()
    }
}

fn project() -> Project {
    let mut problems = Vec::new();
    validate::project(PROJECT, "errand.yaml", &mut problems).expect("the project of every test is valid")
}

fn check(folder: &str, text: &str) -> (Option<Job>, Vec<Problem>) {
    let mut problems = Vec::new();
    let job = validate::job(folder, text, &files(), Some(&project()), &mut problems);
    (job, problems)
}

/// `file:line:column code: message | help` and what is marked.
fn told(problems: &[Problem], text: &str) -> String {
    let files = files();
    let mut lines: Vec<(String, usize, String)> = Vec::new();
    for problem in problems {
        let text = files.0.get(&problem.file).map_or(text, |text| text);
        let mut line = problem.file.clone();
        let start = problem.span.as_ref().map_or(0, |span| span.start);
        if let Some(span) = &problem.span {
            let (row, column) = line_and_column(text, span.start);
            let _ = write!(line, ":{row}:{column} [{}]", text[span.clone()].replace('\n', "⏎"));
        }
        let word = if problem.severity == Severity::Error { "" } else { "warning " };
        let _ = write!(line, "\n  {word}{}: {}", problem.code, problem.message);
        if let Some(help) = &problem.help {
            let _ = write!(line, "\n  help: {help}");
        }
        lines.push((problem.file.clone(), start, line));
    }
    lines.sort();
    lines.into_iter().map(|(_, _, line)| line + "\n").collect()
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/definitions");
    let mut paths: Vec<_> = std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "yaml")) {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        let text = std::fs::read_to_string(path).expect("text");
        if let Some(kind) = name.strip_prefix("project_") {
            let mut problems = Vec::new();
            let project = validate::project(&text, "errand.yaml", &mut problems);
            assert_eq!(project.is_none(), kind != "valid", "{name}");
            insta::assert_snapshot!(name, told(&problems, &text));
        } else {
            let (job, problems) = check("orders", &text);
            assert_eq!(job.is_some(), name.starts_with("valid"), "{name}: {}", told(&problems, &text));
            insta::assert_snapshot!(name, told(&problems, &text));
        }
    }
}

#[test]
fn connections_say_what_their_definition_leaves_out() {
    let mut problems = Vec::new();
    let text = include_str!("definitions/project_valid.yaml");
    let project = validate::project(text, "errand.yaml", &mut problems).unwrap_or_else(|| panic!("{}", told(&problems, text)));
    let connection = |name: &str| &project.environments["prod"].connections[name];
    let server = |name: &str| match connection(name) {
        Connection::Postgres(server) => server,
        Connection::Redshift(redshift) => &redshift.server,
        other => panic!("{name} is a {}", other.word()),
    };
    assert_eq!((server("shop_db").port, server("local_db").port, server("rs").port), (5432, 5433, 5439));
    let tls = ["shop_db", "local_db", "socket_db", "trusted_db", "rs"].map(|name| server(name).tls);
    assert_eq!(tls, [Tls::Verify, Tls::Disable, Tls::Disable, Tls::Verify, Tls::Verify]);
    let account = |name: &str| match connection(name) {
        Connection::Snowflake(account) => account,
        other => panic!("{name} is a {}", other.word()),
    };
    assert_eq!((account("warehouse").schema.as_str(), account("test_account").schema.as_str()), ("PUBLIC", "RAW"));
    assert_eq!(account("test_account").host.as_deref(), Some("http://127.0.0.1:8444"));
    assert!(matches!(&account("warehouse").credential, Credential::PrivateKey { passphrase: None, .. }));
    let prefix = |name: &str| match connection(name) {
        Connection::S3(s3) => s3.prefix.as_str(),
        other => panic!("{name} is a {}", other.word()),
    };
    assert_eq!((prefix("lake"), prefix("test_lake")), ("partners/", ""));
}

#[test]
fn the_digest_tells_what_a_step_does_and_nothing_else() {
    let base = include_str!("definitions/valid.yaml");
    let digests = |text: &str| -> Vec<String> {
        let (job, problems) = check("orders", text);
        job.unwrap_or_else(|| panic!("{}", told(&problems, text))).steps.into_iter().map(|step| step.digest).collect()
    };
    let first = digests(base);
    assert_eq!(first, digests(&format!("# moved\n\n{base}")));
    assert_eq!(first, digests(&base.replace("timeout: 10m", "timeout: 20m")));
    let other = digests(&base.replace("mode: merge", "mode: scd2"));
    assert_ne!(first[0], other[0]);
    assert_eq!(first[1..], other[1..]);
    assert!(first.iter().zip(digests(&base.replace("limit: 10", "limit: 11"))).all(|(one, other)| *one != other), "vars decide too");
}

#[test]
fn a_job_takes_what_it_does_not_say_from_the_project() {
    let (job, _) = check("orders", include_str!("definitions/valid.yaml"));
    let job = job.expect("valid");
    assert_eq!(job.steps[0].retry.max_attempts, 3);
    assert_eq!(job.steps[1].needs.iter().map(Name::as_str).collect::<Vec<_>>(), ["load"]);
    assert_eq!(job.alerts.len(), 2);
    assert_eq!(job.alerts[1].to.iter().map(Label::as_str).collect::<Vec<_>>(), ["data-platform", "finance"]);
}

#[test]
fn input_values_are_typed() {
    let (job, _) = check("orders", include_str!("definitions/valid.yaml"));
    let job = job.expect("valid");
    let given = |pairs: &[(&str, &str)]| {
        validate::inputs(&job, &pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    };
    let values = given(&[("since", "2026-11-19"), ("full", "true"), ("rate", "0.5")]).expect("valid");
    assert_eq!(
        serde_json::json!(values),
        serde_json::json!({ "region": "br", "since": "2026-11-19", "full": true, "rate": 0.5, "count": 3 })
    );
    let mut told = String::new();
    for wrong in [
        &[("since", "2026-11-19"), ("regoin", "br")][..],
        &[("since", "2026-02-30")],
        &[("since", "2026-11-19"), ("full", "yes")],
        &[("since", "2026-11-19"), ("count", "3.5")],
        &[("since", "2026-11-19"), ("rate", "NaN")],
        &[("since", "2026-11-19"), ("region", "us")],
        &[("since", "2026-11-19"), ("since", "2026-11-20")],
        &[],
    ] {
        let failure = given(wrong).expect_err("refused");
        let _ = writeln!(told, "{}: {} | {}", failure.code, failure.message, failure.help.unwrap_or_default());
    }
    insta::assert_snapshot!(told);
}

/// A small generator of bad definitions: a valid one, cut, doubled and overwritten.
fn mutated(text: &str, edits: &[(usize, u8, &str)]) -> String {
    let mut text = text.to_owned();
    for (at, kind, with) in edits {
        let mut at = at % (text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let mut end = (at + 1 + usize::from(*kind) % 30).min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        match kind % 3 {
            0 => text.insert_str(at, with),
            1 => text.replace_range(at..end, with),
            _ => {
                let piece = text[at..end].to_owned();
                text.insert_str(at, &piece);
            }
        }
    }
    text
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 400, ..proptest::prelude::ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_a_definition_panics_or_hangs(
        edits in proptest::collection::vec((proptest::prelude::any::<usize>(), proptest::prelude::any::<u8>(), proptest::sample::select(vec![
            "", " ", "\n", "  ", "- ", ":", "{{", "}}", "{%", "[", "]", "{", "}", "'", "\"", "|", ">", "&a ", "*a", "!t ", "#", "é", "\t", "\r\n", "\u{feff}", "null", "1e999", "needs: [load]", "\\u0000",
        ])), 1..12),
        pick in 0_usize..3,
    ) {
        let base = [include_str!("definitions/valid.yaml"), include_str!("definitions/ingest.yaml"), include_str!("definitions/templates.yaml")][pick];
        let text = mutated(base, &edits);
        let started = std::time::Instant::now();
        let (job, problems) = check("orders", &text);
        proptest::prop_assert_eq!(job.is_none(), problems.iter().any(|problem| problem.severity == Severity::Error));
        told(&problems, &text);
        proptest::prop_assert!(started.elapsed().as_secs() < 5);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,300}") {
        let _ = check("orders", &text);
        let mut problems = Vec::new();
        validate::project(&text, "errand.yaml", &mut problems);
    }
}
