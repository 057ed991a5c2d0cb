//! What every story ends with: how often the execution ended, who was told, what is left, and that no secret stands anywhere.

use std::time::Duration;

use e2e::clock::now;
use e2e::receiver::Received;
use e2e::site::{Ended, Site, loaded, seen};
use serde_json::{Value, json};

/// The longest time from a failure to the last message of it.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// Time in which a container is gone: its stop timeout, and some.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// The execution succeeded in this way, and nobody was told.
#[track_caller]
pub(crate) fn assert_quiet(site: &Site, ended: &Ended, outcome: &str) {
    assert_eq!((ended.status.as_str(), &ended.output["outcome"]), ("SUCCEEDED", &outcome.into()), "{ended:#?}");
    assert_eq!(told_of(site, ended).map(|messages| messages.len()), [0; 3], "{ended:#?}");
    assert_clean(site, ended);
}

/// The execution failed with this error, and those behind its job were told once by each channel, in texts that hold these parts.
#[track_caller]
pub(crate) fn assert_told(site: &Site, ended: &Ended, error: &str, parts: &[&str]) {
    assert_eq!((ended.status.as_str(), ended.error.as_str()), ("FAILED", error), "{ended:#?}");
    assert_told_once(site, ended, parts);
}

/// The same, however the execution ended.
#[track_caller]
pub(crate) fn assert_told_once(site: &Site, ended: &Ended, parts: &[&str]) {
    let id = ended.id.as_str();
    seen(&format!("all three messages of {id}"), TOLD_WITHIN, || {
        told_of(site, ended).iter().all(|messages| !messages.is_empty()).then_some(())
    });
    // The event of its end comes once more, and the watchdog looks.
    let again = site.stack.cloud().invoke(site.stack.output("AlertFunction"), &status(site, ended));
    assert_eq!(again.as_ref().map(|answer| &answer["told"]), Ok(&json!(0)), "{again:?}");
    site.tick();
    let told = told_of(site, ended);
    assert_eq!(told.each_ref().map(Vec::len), [1; 3], "{told:#?}");
    let command = format!("errand start {} --env {}", job(ended), site.stack.environment());
    for message in told.iter().flatten() {
        for part in parts.iter().copied().chain([command.as_str()]) {
            assert!(text(message).contains(part), "no `{part}` in {message:#}");
        }
    }
    assert_clean(site, ended);
}

/// The warehouse holds what one clean run of the job leaves there, and nothing else.
#[track_caller]
pub(crate) fn assert_loaded(site: &Site, job: &str) {
    let rows = site.database.rows(&format!("SELECT order_id, ordered_on, amount, note FROM {job}.orders ORDER BY order_id"));
    assert!(rows == loaded(), "{} rows, the first {:?}, the last {:?}", rows.len(), rows.first(), rows.last());
    let by_day = format!(
        "SELECT count(*) FROM {job}.by_day JOIN (SELECT ordered_on, count(*) AS orders, sum(amount) AS amount FROM {job}.orders GROUP BY 1) AS right_one USING (ordered_on, orders, amount)"
    );
    assert_eq!(site.database.value(&by_day), "28");
    let ledger = site.database.rows(&format!(
        "SELECT step, count(*), sum(rows_written) FROM _errand.ledger WHERE job = '{job}' AND step IN ('load', 'by_day') GROUP BY 1 ORDER BY 1"
    ));
    assert_eq!(ledger, ["by_day|1|28", "load|1|4000"]);
    assert_eq!(tables(site, job), ["by_day", "orders"]);
}

/// The job has published nothing.
#[track_caller]
pub(crate) fn assert_nothing_loaded(site: &Site, job: &str) {
    assert_eq!(tables(site, job), Vec::<String>::new());
}

fn tables(site: &Site, job: &str) -> Vec<String> {
    site.database.rows(&format!("SELECT table_name FROM information_schema.tables WHERE table_schema = '{job}' ORDER BY 1"))
}

/// Lets the watchdog look until those behind a job were told so often by each channel, and once more: then they are told nothing.
#[track_caller]
pub(crate) fn tick_until(site: &Site, job: &str, times: [usize; 3]) {
    let counts = || site.told(job).map(|messages| messages.len());
    seen(&format!("the messages of {job}"), TOLD_WITHIN, || {
        site.tick();
        (counts() == times).then_some(())
    });
    site.tick();
    assert_eq!(counts(), times, "{:#?}", site.told(job));
}

/// Waits until what a task that died held is free to others.
pub(crate) fn wait_until_free(site: &Site, job: &str) {
    let bucket = site.stack.output("StateBucket");
    seen(&format!("the claims of {job} to be free"), Duration::from_secs(60), || {
        let keys = ["claims", "slots"].iter().flat_map(|kind| site.stack.cloud().keys(bucket, &format!("{kind}/{job}/")));
        let held = keys.filter_map(|key| site.state(&key)).any(|lease| is_held(&lease));
        (!held).then_some(())
    });
}

fn is_held(lease: &Value) -> bool {
    let renewed = lease["renewed_at"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let silence = renewed.map_or(0, |renewed| now().duration_since(renewed).as_secs());
    lease["state"] == "running" && silence <= lease["lease_seconds"].as_i64().unwrap_or(0)
}

/// The execution ended once, its containers are gone, and no secret stands in what is left of it.
#[track_caller]
fn assert_clean(site: &Site, ended: &Ended) {
    // The interpreter writes no last event of what was ended from outside of it.
    let from_inside = ["SUCCEEDED", "FAILED"].contains(&ended.status.as_str());
    assert!(ended.ends() == 1 || (!from_inside && ended.ends() == 0), "{ended:#?}");
    let tasks = ended.tasks();
    seen(&format!("the containers of {} to be gone", ended.id), GONE_WITHIN, || site.containers_of(&tasks).is_empty().then_some(()));
    let found = site.secrets_in(&left(site, ended));
    assert!(found.is_empty(), "{found:?}");
}

/// All texts that are left of a run: logs, report, alert, messages, history.
fn left(site: &Site, ended: &Ended) -> Vec<(String, String)> {
    let mut texts = site.logs();
    let bucket = site.stack.output("StateBucket");
    for prefix in [format!("runs/{}", ended.id), format!("alerts/run-{}", ended.id), "deployment.json".to_owned()] {
        for key in site.stack.cloud().keys(bucket, &prefix) {
            texts.push((format!("the object {key}"), site.state(&key).unwrap_or_default().to_string()));
        }
    }
    texts.extend(ended.events.iter().map(|event| ("the history of the execution".to_owned(), event.to_string())));
    texts.extend(
        site.asked(job(ended)).into_iter().flatten().map(|request| (format!("the request to {}", place(&request)), body(&request))),
    );
    texts
}

/// Without the secret part of the path.
fn place(request: &Received) -> &str {
    request.path.split('/').nth(1).unwrap_or_default()
}

/// Without the key by which PagerDuty knows for whom it is.
fn body(request: &Received) -> String {
    let mut body = request.json();
    if let Some(members) = body.as_object_mut() {
        members.remove("routing_key");
    }
    body.to_string()
}

/// What was told of this run by each channel.
fn told_of(site: &Site, ended: &Ended) -> [Vec<Value>; 3] {
    site.told(job(ended)).map(|messages| messages.into_iter().filter(|message| text(message).contains(&ended.id)).collect())
}

fn job(ended: &Ended) -> &str {
    ended.input["job"].as_str().unwrap_or_default()
}

/// A message as people read it, as far as JSON's own marks go.
fn text(message: &Value) -> String {
    message.to_string().replace("\\\"", "\"").replace("\\n", "\n")
}

/// The event of an execution's end.
fn status(site: &Site, ended: &Ended) -> Value {
    let mut detail = json!({
        "executionArn": site.execution(&ended.id), "stateMachineArn": site.stack.output("StateMachineArn"), "name": ended.id,
        "status": ended.status, "startDate": 1, "stopDate": 2, "input": ended.input.to_string(), "inputDetails": { "included": true },
    });
    if !ended.error.is_empty() {
        (detail["error"], detail["cause"]) = (json!(ended.error), json!(ended.cause));
    }
    json!({ "version": "0", "source": "aws.states", "detail-type": "Step Functions Execution Status Change", "detail": detail })
}
