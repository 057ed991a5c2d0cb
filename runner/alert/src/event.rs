//! What the Lambda is called with: a failure from the state machine, a status event of EventBridge, or the watchdog's schedule.

use serde::Deserialize;
use serde_json::Value;

use crate::text::{cut, one_line};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An execution failed.
    Failed(Box<Failed>),
    /// Look for what should have happened and did not.
    Watchdog,
    /// Nothing to do, for this reason.
    Ignored(String),
}

/// An execution that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Its ARN.
    pub(crate) execution: String,
    /// Its name, which is the id of the run.
    pub(crate) run_id: String,
    pub(crate) input: Input,
    pub(crate) error: String,
    pub(crate) cause: String,
    /// `FAILED`, `TIMED_OUT`, `ABORTED`, where it is known.
    pub(crate) status: Option<String>,
}

/// The input of the state machine; texts may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Input {
    pub(crate) job: String,
    pub(crate) environment: String,
    pub(crate) repository: String,
    #[serde(rename = "ref")]
    pub(crate) commit: String,
    pub(crate) scheduled_at: String,
    pub(crate) interval: String,
    /// JSON.
    pub(crate) inputs: String,
    pub(crate) trigger: String,
}

#[derive(Deserialize)]
struct FromStateMachine {
    execution: String,
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    input: Input,
    #[serde(default)]
    error: String,
    #[serde(default)]
    cause: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusChange {
    execution_arn: String,
    #[serde(default)]
    name: String,
    status: String,
    #[serde(default)]
    input: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    cause: Option<String>,
}

/// Reads an event.
///
/// Fails saying what is wrong with it.
pub(crate) fn read(event: &Value) -> Result<Event, String> {
    let malformed = |why: String| format!("malformed event: {why}");
    let Some(source) = event.get("source").and_then(Value::as_str) else {
        return Err(malformed("no text `source`; known are `errand.run`, `errand.watchdog` and `aws.states`".to_owned()));
    };
    match source {
        "errand.watchdog" => Ok(Event::Watchdog),
        "errand.run" => {
            let from: FromStateMachine =
                FromStateMachine::deserialize(event).map_err(|error| malformed(format!("`errand.run`: {error}")))?;
            let FromStateMachine { execution, run_id, input, error, cause } = from;
            failed(Failed { execution, run_id, input, error, cause, status: None }).map_err(malformed)
        }
        "aws.states" => {
            let detail = event.get("detail").ok_or_else(|| malformed("`aws.states` without `detail`".to_owned()))?;
            let change = StatusChange::deserialize(detail).map_err(|error| malformed(format!("`detail`: {error}")))?;
            status_change(change).map_err(malformed)
        }
        other => Err(malformed(format!("unknown source `{}`", cut(&one_line(other), 100)))),
    }
}

fn status_change(change: StatusChange) -> Result<Event, String> {
    if !matches!(change.status.as_str(), "FAILED" | "TIMED_OUT" | "ABORTED") {
        return Ok(Event::Ignored(format!("status `{}` is no failure", cut(&one_line(&change.status), 30))));
    }
    // An input that EventBridge left out, or that is another state machine's, says no job.
    let input = change.input.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    failed(Failed {
        execution: change.execution_arn,
        run_id: change.name,
        input,
        error: change.error.unwrap_or_default(),
        cause: change.cause.unwrap_or_default(),
        status: Some(change.status),
    })
}

fn failed(mut failed: Failed) -> Result<Event, String> {
    let parts: Vec<&str> = failed.execution.split(':').collect();
    let is_execution = parts.len() >= 8 && parts[0] == "arn" && parts[2] == "states" && parts.iter().all(|part| !part.is_empty());
    if !is_execution {
        return Err(format!("`{}` is not the ARN of an execution", cut(&one_line(&failed.execution), 200)));
    }
    if failed.run_id.is_empty() {
        failed.run_id = parts[parts.len() - 1].to_owned();
    }
    Ok(Event::Failed(Box::new(failed)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Event, read};

    const ARN: &str = "arn:aws:states:eu-west-1:123456789012:execution:errand-run:orders-1";

    #[test]
    fn both_sources_tell_the_same_execution() {
        let input = json!({ "version": 1, "job": "orders", "ref": "57f8", "scheduled_at": "2026-11-20T06:00:00Z", "timeout_seconds": 60 });
        let one = read(
            &json!({ "source": "errand.run", "execution": ARN, "run_id": "orders-1", "input": input, "error": "Errand.Timeout", "cause": "late" }),
        );
        let other = read(
            &json!({ "version": "0", "source": "aws.states", "detail-type": "Step Functions Execution Status Change", "detail": {
            "executionArn": ARN, "stateMachineArn": "x", "name": "orders-1", "status": "FAILED", "startDate": 1, "stopDate": 2,
            "input": input.to_string(), "inputDetails": { "included": true }, "output": null, "error": "Errand.Timeout", "cause": "late" } }),
        );
        let (Ok(Event::Failed(one)), Ok(Event::Failed(mut other))) = (one, other) else { panic!("two failures") };
        assert_eq!((one.run_id.as_str(), one.input.job.as_str(), one.input.commit.as_str()), ("orders-1", "orders", "57f8"));
        assert_eq!(other.status.take().as_deref(), Some("FAILED"));
        assert_eq!(one, other);
    }

    #[test]
    fn what_is_no_event_is_told_precisely() {
        for (event, expected) in [
            (json!({}), "malformed event: no text `source`; known are `errand.run`, `errand.watchdog` and `aws.states`"),
            (json!([1]), "malformed event: no text `source`; known are `errand.run`, `errand.watchdog` and `aws.states`"),
            (json!({ "source": "x" }), "malformed event: unknown source `x`"),
            (json!({ "source": "errand.run" }), "malformed event: `errand.run`: missing field `execution`"),
            (json!({ "source": "errand.run", "execution": "orders-1" }), "malformed event: `orders-1` is not the ARN of an execution"),
            (json!({ "source": "aws.states" }), "malformed event: `aws.states` without `detail`"),
            (json!({ "source": "aws.states", "detail": { "executionArn": ARN } }), "malformed event: `detail`: missing field `status`"),
        ] {
            assert_eq!(read(&event).expect_err("malformed"), expected);
        }
    }

    #[test]
    fn an_input_that_is_missing_or_foreign_is_no_reason_to_be_silent() {
        for input in [json!(null), json!("not JSON"), json!("[1]")] {
            let event = json!({ "source": "aws.states", "detail": { "executionArn": ARN, "status": "ABORTED", "input": input } });
            assert!(matches!(read(&event), Ok(Event::Failed(failed)) if failed.run_id == "orders-1" && failed.input.job.is_empty()));
        }
        let event = json!({ "source": "aws.states", "detail": { "executionArn": ARN, "status": "SUCCEEDED" } });
        assert!(matches!(read(&event), Ok(Event::Ignored(_))));
    }
}
