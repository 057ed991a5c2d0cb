//! What a task tells its state machine at its end: without secrets, and within the limits of Step Functions.
//!
//! Pure: texts in, texts out.

use errand_model::failure::Failure;
use errand_model::report::{Outcome, RunReport};
use serde_json::{Map, Value, json};

use super::lease::State;
use crate::secret::Redactor;

/// Version of both shapes.
const VERSION: u32 = 1;

/// Most bytes of a cause (<https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskFailure.html>).
const MAX_CAUSE: usize = 32_768;

/// Most bytes of a field of the cause other than its message.
const MAX_FIELD: usize = 2_048;

/// What a state machine learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The output of the state.
    Success(String),
    /// The error name and the cause.
    Failure { error: &'static str, cause: String },
}

/// How a run ended that did no work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quiet {
    /// `duplicate` or `skipped`.
    pub(crate) outcome: &'static str,
    /// Whether another run did the work; else it may be left undone.
    pub(crate) done: bool,
    /// Why, in a sentence.
    pub(crate) why: String,
    /// Report of the run that did the work.
    pub(crate) report: Option<String>,
}

/// What is known of a task, whatever became of it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) run_id: String,
    pub(crate) job: String,
}

/// The answer of a run that ended with a report, kept at `report` or not kept for the reason `unkept`.
pub(crate) fn of_report(report: &RunReport, kept: &Result<Option<String>, Failure>, redactor: &Redactor) -> Answer {
    let url = kept.as_ref().ok().and_then(Option::as_deref).unwrap_or_default();
    let unkept = kept.as_ref().err().map(|failure| format!("the run report could not be kept: {failure}"));
    match &report.failure {
        Some(failure) => failed(report, failure, url, unkept.as_deref(), redactor),
        None => {
            let written = |outcome| matches!(outcome, Outcome::Succeeded);
            let rows: u64 = report.steps.iter().filter(|step| written(step.outcome)).map(|step| step.rows.written).sum();
            let mut errand = Map::new();
            errand.insert("version".to_owned(), VERSION.into());
            errand.insert("outcome".to_owned(), report.outcome.as_str().into());
            errand.insert("done".to_owned(), (State::of(report.outcome) == State::Succeeded).into());
            errand.insert("run_id".to_owned(), report.run_id.clone().into());
            errand.insert("job".to_owned(), report.job.clone().into());
            errand.insert("report".to_owned(), url.into());
            errand.insert("duration_ms".to_owned(), report.duration_ms.into());
            errand.insert("rows_written".to_owned(), rows.into());
            errand.insert("warnings".to_owned(), (report.warnings.len() + usize::from(unkept.is_some())).into());
            if let Some(unkept) = unkept {
                errand.insert("note".to_owned(), cut(&redactor.redact(&unkept), MAX_FIELD).into());
            }
            Answer::Success(json!({ "errand": errand }).to_string())
        }
    }
}

/// The answer of a run that found its work done or being done.
pub(crate) fn of_quiet(known: &Known, quiet: &Quiet, report: Option<&str>, duration_ms: u64, redactor: &Redactor) -> Answer {
    let errand = json!({
        "version": VERSION, "outcome": quiet.outcome, "done": quiet.done, "run_id": known.run_id, "job": known.job,
        "report": report.unwrap_or_default(), "duration_ms": duration_ms, "rows_written": 0, "warnings": 0, "note": cut(&redactor.redact(&quiet.why), MAX_FIELD),
    });
    Answer::Success(json!({ "errand": errand }).to_string())
}

fn failed(report: &RunReport, failure: &Failure, url: &str, unkept: Option<&str>, redactor: &Redactor) -> Answer {
    let clean = |text: &str, most: usize| cut(&redactor.redact(text), most);
    let field = |text: &str| Value::String(clean(text, MAX_FIELD));
    let interval = report.interval.as_ref().map(|interval| format!("{}/{}", interval.start, interval.end)).unwrap_or_default();
    let help = [failure.help.as_deref(), unkept].into_iter().flatten().collect::<Vec<_>>().join("; ");
    let mut cause = Map::new();
    cause.insert("version".to_owned(), VERSION.into());
    cause.insert("run_id".to_owned(), report.run_id.clone().into());
    cause.insert("job".to_owned(), field(&report.job));
    cause.insert("environment".to_owned(), field(&report.environment));
    cause.insert("interval".to_owned(), interval.into());
    cause.insert("message".to_owned(), "".into());
    cause.insert("place".to_owned(), field(&failure.place.as_ref().map(ToString::to_string).unwrap_or_default()));
    cause.insert("help".to_owned(), field(&help));
    cause.insert("code".to_owned(), field(&failure.code));
    cause.insert("step".to_owned(), failed_step(report).into());
    cause.insert("report".to_owned(), field(url));
    let room = MAX_CAUSE.saturating_sub(Value::Object(cause.clone()).to_string().len());
    cause.insert("message".to_owned(), clean(&failure.message, room).into());
    Answer::Failure { error: failure.kind.error_name(), cause: Value::Object(cause).to_string() }
}

/// The step that the run failed by.
fn failed_step(report: &RunReport) -> String {
    let by = |outcome: Outcome| report.steps.iter().find(|step| step.outcome == outcome && !step.attempts.is_empty());
    by(Outcome::Failed).or_else(|| by(Outcome::Cancelled)).map(|step| step.id.clone()).unwrap_or_default()
}

/// As much of a text as takes at most so many bytes in JSON, whole characters, with `...` where something is missing.
fn cut(text: &str, most: usize) -> String {
    const MARK: &str = "...";
    let width = |c: char| serde_json::to_string(c.encode_utf8(&mut [0; 4])).map_or(6, |quoted| quoted.len() - 2);
    let (mut total, mut fits) = (0, 0);
    for (at, c) in text.char_indices() {
        total += width(c);
        if total > most {
            return format!("{}{MARK}", &text[..fits]);
        }
        if total + MARK.len() <= most {
            fits = at + c.len_utf8();
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use errand_model::failure::{FailureKind, Place};

    use super::*;
    use crate::report::text::tests::failed as failed_report;
    use crate::secret::Secret;

    fn cause(answer: &Answer) -> (Value, usize) {
        match answer {
            Answer::Failure { cause, .. } => (serde_json::from_str(cause).expect("the JSON is whole"), cause.len()),
            Answer::Success(output) => panic!("a success: {output}"),
        }
    }

    fn with_message(message: &str) -> RunReport {
        let place = Place { file: "jobs/a/b.sql".to_owned(), line: 3, column: 1 };
        let failure = Failure::new(FailureKind::Rejected, "ingest::rejected", message).at(place).help("look at the file");
        RunReport { failure: Some(failure), ..failed_report() }
    }

    #[test]
    fn a_cause_is_whole_json_within_its_limit_whatever_the_message_holds() {
        let nasty = ["\u{0}\u{1}\"\\", "🦀", "ä", "x", "\n\t", "𝕏\u{7f}"];
        for piece in nasty {
            for length in [0, 1, 100, 5_000, 33_000, 200_000] {
                let answer = of_report(&with_message(&piece.repeat(length)), &Ok(None), &Redactor::default());
                let (value, bytes) = cause(&answer);
                assert!(bytes <= MAX_CAUSE, "{piece:?} x {length}: {bytes}");
                assert!(length < 33_000 || bytes > MAX_CAUSE - 16, "{piece:?} x {length}: only {bytes}");
                assert_eq!((&value["code"], &value["place"]), (&"ingest::rejected".into(), &"jobs/a/b.sql:3:1".into()));
            }
        }
    }

    #[test]
    fn a_secret_is_gone_also_where_the_cut_would_split_it() {
        let redactor = Redactor::default();
        redactor.register(&Secret::new("hunter2-hunter2"));
        for shift in 0..40 {
            let message = format!("{}hunter2-hunter2 {}", "x".repeat(32_300 + shift * 10), "y".repeat(2_000));
            let answer = of_report(&with_message(&message), &Ok(None), &redactor);
            let text = cause(&answer).0.to_string();
            assert!(!text.contains("hunter2"), "{shift}");
        }
    }

    #[test]
    fn a_report_that_was_not_kept_is_told_and_loses_nothing() {
        let unkept = Err(Failure::new(FailureKind::Permanent, "report::cannot_write", "no permission"));
        let (value, _) = cause(&of_report(&with_message("row 2"), &unkept, &Redactor::default()));
        assert_eq!((&value["message"], &value["report"]), (&"row 2".into(), &"".into()));
        assert_eq!(value["help"], "look at the file; the run report could not be kept: no permission");
        let well = RunReport { failure: None, outcome: Outcome::Succeeded, ..failed_report() };
        let Answer::Success(output) = of_report(&well, &unkept, &Redactor::default()) else { panic!("a success") };
        let value: Value = serde_json::from_str(&output).expect("JSON");
        assert_eq!((&value["errand"]["outcome"], &value["errand"]["report"]), (&"succeeded".into(), &"".into()));
        assert!(value["errand"]["note"].as_str().is_some_and(|note| note.contains("could not be kept")));
    }

    #[test]
    fn an_answer_says_whether_the_work_is_done() {
        let told = |answer: Answer| match answer {
            Answer::Success(output) => serde_json::from_str::<Value>(&output).expect("JSON")["errand"]["done"].clone(),
            Answer::Failure { cause, .. } => panic!("a failure: {cause}"),
        };
        for (outcome, expected) in
            [(Outcome::Succeeded, true), (Outcome::Warned, true), (Outcome::AlreadyDone, true), (Outcome::Skipped, false)]
        {
            let report = RunReport { failure: None, outcome, ..failed_report() };
            assert_eq!(told(of_report(&report, &Ok(None), &Redactor::default())), expected, "{outcome:?}");
        }
        let known = Known { run_id: "second".to_owned(), job: "orders".to_owned() };
        for (outcome, done) in [("duplicate", true), ("duplicate", false), ("skipped", false)] {
            let quiet = Quiet { outcome, done, why: "run `first` works on this interval".to_owned(), report: None };
            assert_eq!(told(of_quiet(&known, &quiet, None, 1, &Redactor::default())), done, "{outcome}");
        }
    }

    #[test]
    fn a_cut_keeps_whole_characters() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc...");
        assert_eq!(cut("äöü", 5), "ä...");
        assert_eq!(cut("\n\n\n", 5), "\n...");
    }
}
