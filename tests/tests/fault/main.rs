//! Bad input and faults, as a user meets them: a run ends with one clear error on standard error, with its help and its kind, no secret in
//! it, and nothing lost: with the fault gone, the next run gives exactly the right rows.
//!
//! Every text stands here in full, so that someone has read it.
#![allow(clippy::panic, reason = "a helper that cannot do its work fails the test that asked for it")]

mod disk;
mod postgres;
mod report;
mod s3;
mod snowflake;
mod stage;

use e2e::errand::Errand;
use e2e::project::{Project, Run};
use errand_model::failure::Failure;

/// The interval of every run.
pub(crate) const DAY: &str = "2026-01-05";

/// A job with its connections, and what must not be seen of it.
pub(crate) struct Scene {
    pub(crate) project: Project,
    names: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Scene {
    /// A job in a project with these connections, as YAML, and the directory `out` for reports. Only warnings and errors are logged.
    pub(crate) fn new(errand: Errand, connections: &str) -> Self {
        let project = Project::within(errand.env("RUST_LOG", "warn,deadpool.postgres=error").env("AWS_EC2_METADATA_DISABLED", "true"));
        let scene = Self { project, names: Vec::new(), secrets: Vec::new() };
        scene.connect(connections);
        scene
    }

    /// Writes the project file with other connections.
    pub(crate) fn connect(&self, connections: &str) {
        self.write_project(&format!("{connections}      out: {{ directory: {{ path: state }} }}\n"), "out");
    }

    /// Writes the project file, with reports under a connection.
    pub(crate) fn write_project(&self, connections: &str, reports: &str) {
        let text = format!(
            "version: 1\ndefault_environment: local\nenvironments:\n  local:\n    connections:\n{connections}\
             \x20   reports: {{ connection: {reports}, path: runs }}\ncontacts:\n  team: {{ email: {{ to: [team@example.com] }} }}\n"
        );
        self.project.write("errand.yaml", text);
    }

    /// The same, with what differs from run to run and the word for it in texts.
    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts, borrowed or not, are said alike")]
    pub(crate) fn hiding(mut self, what: impl ToString, word: &str) -> Self {
        self.names.push((what.to_string(), word.to_owned()));
        self
    }

    /// The same, with what must stand nowhere.
    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts, borrowed or not, are said alike")]
    pub(crate) fn secret(mut self, value: impl ToString) -> Self {
        self.secrets.push(value.to_string());
        self
    }

    /// Runs the job.
    pub(crate) fn run(&self) -> Run {
        self.project.run(DAY)
    }

    /// Runs the job, which fails with this exit code, this name in a state machine, this code, and this text on standard error.
    #[track_caller]
    pub(crate) fn fails(&self, expected: &str) -> Run {
        let run = self.run();
        self.says(&run, expected);
        run
    }

    /// How a run ended and what it said on standard error.
    #[track_caller]
    pub(crate) fn says(&self, run: &Run, expected: &str) {
        let failure: Failure = serde_json::from_value(run.failure().clone()).expect("the report names the failure");
        let code = run.outcome.code().unwrap_or_default();
        assert_eq!(code, i32::from(failure.kind.exit_code()), "{failure:?}");
        let said = format!("{code} {} {}\n{}", failure.kind.error_name(), failure.code, self.told(&run.outcome.stderr));
        same(&said, expected);
        self.hides_secrets(&run.everything());
    }

    /// No secret stands in this text.
    #[track_caller]
    pub(crate) fn hides_secrets(&self, text: &str) {
        for secret in &self.secrets {
            assert!(!text.contains(secret.as_str()), "`{secret}` stands in:\n{text}");
        }
    }

    /// Standard error without times, with words for what differs from run to run.
    pub(crate) fn told(&self, stderr: &str) -> String {
        let mut text: String = stderr.lines().map(|line| format!("{}\n", without_time(line))).collect();
        for (what, word) in &self.names {
            text = text.replace(what, word);
        }
        text = without(&text, "(query ", ")", "ID");
        text = without(&text, "/stage/", "'", "PART");
        text = without(&text, "/.tmp", "/t.csv", "LOT");
        text = without(&text, "/.t.csv.", ".partial", "LOT");
        // How a connection breaks off is the network's choice.
        text = without(&text, "error sending request: ", "  ", "WHY");
        without(&text, "error sending request: ", "\"", "WHY")
    }
}

/// The text between every `start` and the next `end` of its line, replaced.
fn without(text: &str, start: &str, end: &str, word: &str) -> String {
    let line = |line: &str| {
        let mut parts = line.split(start);
        let mut kept = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            kept += start;
            match part.find(end) {
                Some(at) => kept += &format!("{word}{}", &part[at..]),
                None => kept += part,
            }
        }
        kept + "\n"
    };
    text.lines().map(line).collect()
}

/// Texts are equal.
#[track_caller]
pub(crate) fn same(said: &str, expected: &str) {
    assert!(said == expected, "--- said\n{said}--- expected\n{expected}---");
}

/// `2026-11-20T06:00:03Z error ...` without its beginning, and `pause_ms=812` without its figure.
fn without_time(line: &str) -> String {
    let line = match line.split_once(' ') {
        Some((time, rest)) if time.len() == 20 && time.ends_with('Z') => rest,
        _ => line,
    };
    match line.split_once("pause_ms=") {
        Some((before, after)) => format!("{before}pause_ms=N{}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => line.to_owned(),
    }
}
