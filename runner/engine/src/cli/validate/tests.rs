use std::collections::BTreeMap;

use errand_model::problem::Problem;

use super::{Format, summary, write};
use crate::repository::Validation;
use crate::settings::Stream;

const JOB: &str = "version: 1\nname: orders\nshedule: { cron: \"0 6 * * *\" }\nvars:\n  password: hunter2\nsteps:\n  - id: one\n    sql: { text: \"select a_very_long_name_of_a_column, another_very_long_name_of_a_column, {{ run.dat }}\" }\n";

fn validation() -> Validation {
    let at = |word: &str| JOB.find(word).map(|start| start..start + word.len()).expect("the word is there");
    let file = "jobs/orders/job.yaml";
    Validation {
        job_count: 14,
        problems: vec![
            Problem::error("repository::no_definition", "`jobs/x` has `job.yml` and no `job.yaml`")
                .file("jobs/x/job.yml")
                .help("rename it to `job.yaml`"),
            Problem::error("definition::unknown_key", "unknown key `shedule` in the job")
                .at(file, at("shedule"))
                .help("did you mean `schedule`?"),
            Problem::warning("definition::timeout", "100%, a:b").at(file, at("steps:\n  - id")),
            Problem::error("definition::literal_secret", "the value of `password` looks like a secret")
                .at(file, at("hunter2"))
                .help("remove it"),
            Problem::error("template::undefined_name", "`run.dat` is not defined").at(file, at("dat }}")).help("did you mean `date`?"),
        ],
        texts: BTreeMap::from([(file.to_owned(), JOB.into())]),
        ..Validation::default()
    }
}

fn written(format: Format, width: usize, color: bool) -> String {
    let mut out = Vec::new();
    write(&validation(), format, Stream { terminal: color, color, width }, &mut out).expect("written");
    String::from_utf8(out).expect("text")
}

#[test]
fn text_fits_its_width_and_has_no_colour_in_a_pipe() {
    let narrow = written(Format::Text, 80, false);
    assert!(narrow.lines().all(|line| line.chars().count() <= 120 && !line.ends_with(' ')), "{narrow}");
    assert!(!narrow.contains('\u{1b}') && !narrow.contains("hunter2"));
    insta::assert_snapshot!("text_80", narrow);
    insta::assert_snapshot!("text_200", written(Format::Text, 200, false));
    assert!(written(Format::Text, 80, true).contains("\u{1b}["));
}

#[test]
fn machines_read_places_and_codes() {
    let json: serde_json::Value = serde_json::from_str(&written(Format::Json, 80, false)).expect("json");
    assert_eq!(json[1]["line"], 3);
    assert_eq!(json[0]["line"], serde_json::Value::Null);
    insta::assert_snapshot!("json", written(Format::Json, 80, false));
    insta::assert_snapshot!("github", written(Format::Github, 80, false));
    insta::assert_snapshot!("sarif", written(Format::Sarif, 80, false).replace(env!("CARGO_PKG_VERSION"), "[version]"));
}

#[test]
fn the_summary_counts() {
    assert_eq!(summary(&validation()), "4 errors and 1 warning in 2 of 14 jobs");
    let one = |file: &str| Validation { job_count: 1, problems: vec![Problem::error("a::b", "c").file(file)], ..Validation::default() };
    assert_eq!(summary(&one("errand.yaml")), "1 error in the project");
    assert_eq!(summary(&one("jobs/a/q.sql")), "1 error in 1 of 1 job");
    assert_eq!(summary(&Validation { job_count: 2, ..Validation::default() }), "no problems in 2 jobs");
}
