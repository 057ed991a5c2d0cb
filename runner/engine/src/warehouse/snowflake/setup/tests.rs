use std::fs;

use errand_model::document::step::Through;
use errand_model::job::StepKind;

use super::*;
use crate::repository::Repository;

const PROJECT: &str = "
version: 1
default_environment: production
environments:
  production:
    connections:
      warehouse:
        snowflake:
          account: xy12345.eu-west-1
          user: errand_runner
          private_key: { secret: snowflake_key }
          role: errand_jobs
          compute_warehouse: errand_jobs
          database: analytics
          stage: \"@analytics.raw.errand\"
          staging: bucket
      bucket: { s3: { bucket: acme-lake, prefix: errand, region: eu-west-1 } }
      lake: { s3: { bucket: acme-lake, prefix: errand/lake, region: eu-west-1 } }
contacts:
  team: { email: { to: [team@example.com] } }
";

const JOB: &str = "
version: 1
name: events
owner: team
steps:
  - id: orders
    ingest:
      source: { files: { connection: lake, path: 'orders/{{ run.date }}-*.csv', format: csv, null_values: ['', 'n/a'] } }
      target: { table: raw.orders }
      through: pipe
      columns: [{ name: order_id, type: bigint, nullable: false }, { name: amount, type: 'decimal(12,2)' }, { name: note, type: text }]
  - id: clicks
    ingest:
      source: { files: { connection: lake, path: 'clicks/**/*.jsonl.gz', format: jsonl } }
      target: { table: raw.clicks }
      through: pipe
      columns: [{ name: at, type: timestamptz }, { name: day, type: date, format: '%d/%m/%Y', from: Day }, { name: payload, type: json }]
  - id: bare
    ingest:
      source: { files: { connection: lake, path: 'bare/it''s *.csv', format: csv, header: false, delimiter: ';' } }
      target: { table: bare }
      metadata: false
      through: pipe
      columns: [{ name: order, type: integer }, { name: at, type: time }]
";

fn printed(project: &str, job: &str, storage_role: Option<&str>) -> Result<String, Failure> {
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(root.path().join("jobs/events")).expect("a directory");
    fs::write(root.path().join("errand.yaml"), project).expect("a file");
    fs::write(root.path().join("jobs/events/job.yaml"), job).expect("a file");
    let validation = Repository::open(root.path()).expect("a repository").validate();
    assert!(!validation.has_errors(), "{:?}", validation.problems);
    let project = validation.project.expect("a project");
    let environment = &project.environments["production"];
    let Some(Connection::Snowflake(account)) = environment.connections.get("warehouse") else { panic!("no account") };
    let steps = validation.jobs.iter().flat_map(|job| &job.steps);
    let piped: Vec<(String, IngestStep)> = steps
        .filter_map(|step| match &step.kind {
            StepKind::Ingest(ingest) if ingest.through == Through::Pipe => Some((format!("step `{}`", step.id), ingest.clone())),
            _ => None,
        })
        .collect();
    let tables = [TableName { schema: Some("mart".into()), name: "sums".into() }];
    let request = Request {
        label: "warehouse",
        account,
        environment,
        storage_role,
        failures_schema: "_errand_failures",
        tables: &tables,
        piped: &piped,
    };
    Ok(text("What the account needs.", &sections(&request)?))
}

#[test]
fn the_whole_sql_is_this() {
    let text = printed(PROJECT, JOB, Some("arn:aws:iam::123456789012:role/errand")).expect("SQL");
    assert_eq!(text.lines().find(|line| line.chars().count() > 80), None);
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_there_is_never_replaced() {
    let text = printed(PROJECT, JOB, None).expect("SQL");
    assert!(!text.contains("OR REPLACE") && text.contains("arn:aws:iam::<account>:role/<name>"));
    for create in text.lines().filter(|line| line.starts_with("CREATE ")) {
        assert!(create.contains(" IF NOT EXISTS "), "{create}");
    }
}

#[test]
fn what_the_connection_does_not_say_is_named() {
    let refusal = |from: &str, to: &str| {
        let project = PROJECT.replace(from, to);
        assert_ne!(project, PROJECT);
        let failure = printed(&project, JOB, None).expect_err("refused");
        assert_eq!((failure.kind, failure.help.is_some()), (FailureKind::Definition, true));
        failure.message
    };
    let messages = [
        refusal("          stage: \"@analytics.raw.errand\"\n          staging: bucket\n", ""),
        refusal("          staging: bucket\n", ""),
        refusal("@analytics.raw.errand", "@analytics.raw.errand/elsewhere"),
        refusal("prefix: errand/lake", "prefix: other"),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn what_a_pipe_cannot_do_is_named() {
    let refusal = |from: &str, to: &str| {
        let job = JOB.replacen(from, to, 1);
        assert_ne!(job, JOB);
        printed(PROJECT, &job, None).expect_err("refused").message
    };
    let messages = [
        refusal(
            "      columns: [{ name: order_id, type: bigint, nullable: false }, { name: amount, type: 'decimal(12,2)' }, { name: note, type: text }]\n",
            "",
        ),
        refusal("{ name: note, type: text }", "{ name: note, type: text, from: remark }"),
        refusal("%d/%m/%Y", "%j/%Y"),
        refusal("delimiter: ';'", "trailing_delimiter: true"),
        refusal("table: raw.clicks", "table: RAW.Orders"),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn stages_have_names_and_paths() {
    assert_eq!(split("a.b.c/x/y"), ("a.b.c", "x/y/".to_owned()));
    assert_eq!(split("\"a/b\".c"), ("\"a/b\".c", String::new()));
    assert_eq!(identifiers("a.\"b.c\".D"), ["\"A\"", "\"b.c\"", "\"D\""]);
}
