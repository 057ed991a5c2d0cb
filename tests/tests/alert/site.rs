//! One environment with its bucket, its secrets, its topic and its receivers; and the events and files that a test puts there.

use std::io::{Read, Write};
use std::net::TcpStream;

use e2e::aws_server::AwsServer;
use e2e::lambda::Lambda;
use e2e::receiver::{Received, Receiver};
use e2e::s3::Bucket;
use e2e::services;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

/// Values that no text and no log may hold.
pub(crate) const SECRETS: [&str; 3] = ["routing-key-0123456789", "signing-key-0123456789", "slack-path-0123456789"];

/// Paths of the receivers.
pub(crate) const SLACK: &str = "/services/slack-path-0123456789";
pub(crate) const PAGERDUTY: &str = "/v2/enqueue";
pub(crate) const TEAMS: &str = "/teams";
pub(crate) const EMAIL: &str = "/v2/email/outbound-emails";
pub(crate) const WEBHOOK: &str = "/hook";
pub(crate) const TOPIC: &str = "/topic";

/// The state machine that runs jobs.
pub(crate) const MACHINE: &str = "arn:aws:states:us-east-1:123456789012:stateMachine:errand-run";

/// One environment.
pub(crate) struct Site {
    pub(crate) bucket: Bucket,
    pub(crate) receiver: Receiver,
    /// Step Functions.
    pub(crate) states: AwsServer,
    name: String,
    topic: String,
}

#[expect(clippy::disallowed_methods, reason = "runs are due at times of the clock")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// So many minutes before now, at a whole minute.
pub(crate) fn minutes_ago(minutes: i64) -> Timestamp {
    let then = now() - minutes.minutes();
    Timestamp::from_second(then.as_second() / 60 * 60).expect("in range")
}

impl Site {
    pub(crate) fn new() -> Self {
        let (bucket, receiver, name) = (Bucket::create(), Receiver::start(), services::unique_name());
        let site = Self { topic: topic(&name, &receiver), bucket, receiver, states: AwsServer::start(), name };
        site.secret("slack", &site.receiver.url(SLACK));
        site.secret("pager", SECRETS[0]);
        site.secret("teams", &site.receiver.url(TEAMS));
        site.secret("signing", SECRETS[1]);
        site
    }

    pub(crate) fn secret(&self, name: &str, value: &str) {
        let body = json!({ "Name": format!("{}/{name}", self.name), "SecretString": value, "ClientRequestToken": "0".repeat(32) });
        let answer =
            aws("secretsmanager", &[("X-Amz-Target", "secretsmanager.CreateSecret")], "application/x-amz-json-1.1", &body.to_string());
        assert!(answer.contains("ARN"), "{answer}");
    }

    /// The function, started; e-mail goes to the receiver.
    pub(crate) fn lambda(&self) -> Lambda {
        self.lambda_with(&[("AWS_ENDPOINT_URL_SESV2", self.receiver.url(""))])
    }

    pub(crate) fn lambda_with(&self, more: &[(&str, String)]) -> Lambda {
        let mut variables = vec![
            ("AWS_ENDPOINT_URL", self.bucket.endpoint().to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "testing".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "testing".to_owned()),
            ("ERRAND_ENVIRONMENT", "prod".to_owned()),
            ("ERRAND_STATE_BUCKET", self.bucket.name().to_owned()),
            ("ERRAND_STATE_PREFIX", "state".to_owned()),
            ("ERRAND_SECRET_PREFIX", format!("{}/", self.name)),
            ("ERRAND_EMAIL_FROM", "errand@example.com".to_owned()),
            ("ERRAND_PAGERDUTY_URL", self.receiver.url("")),
            ("ERRAND_STATE_MACHINE", MACHINE.to_owned()),
            ("AWS_ENDPOINT_URL_SFN", self.states.endpoint()),
        ];
        variables.extend_from_slice(more);
        Lambda::start("errand-alert", &variables)
    }

    /// Contacts with these channels, and one job of theirs: the first owns it, the second waits for it.
    pub(crate) fn deploy(&self, contacts: &[(&str, &[&str])], change: impl FnOnce(&mut Value)) {
        let names: Vec<&str> = contacts.iter().map(|(name, _)| *name).collect();
        let contacts: serde_json::Map<String, Value> = contacts
            .iter()
            .map(|(name, channels)| {
                ((*name).to_owned(), json!({ "channels": channels.iter().map(|it| self.channel(it)).collect::<Vec<_>>() }))
            })
            .collect();
        let mut job = json!({
            "owner": names[0], "product_owner": names.get(1), "runbook": "https://wiki.example.com/orders",
            "since": "2026-01-01T00:00:00Z", "catchup": "none", "sla": {}, "timeout_seconds": 3600,
            "resources": { "cpu_millis": 250, "memory_bytes": 536_870_912, "spot": false, "image": "slim" },
            "alerts": [{ "on": ["failure", "late", "recovered"], "to": names }],
            "outputs": [{ "table": { "connection": "warehouse", "name": "orders_by_day" } }],
        });
        change(&mut job);
        let deployment = json!({
            "version": 1, "environment": "prod", "repository": "https://github.com/acme/jobs.git", "commit": "b".repeat(40),
            "deployed_at": "2026-01-01T00:00:00Z", "jobs": { "orders": job }, "contacts": contacts,
        });
        self.put("deployment.json", &deployment);
    }

    fn channel(&self, kind: &str) -> Value {
        match kind {
            "slack" => json!({ "slack": { "webhook_secret": "slack" } }),
            "slack without secret" => json!({ "slack": { "webhook_secret": "nowhere" } }),
            "pagerduty" => json!({ "pagerduty": { "routing_key_secret": "pager" } }),
            "teams" => json!({ "teams": { "webhook_secret": "teams" } }),
            "sns" => json!({ "sns": { "topic_arn": self.topic } }),
            "email" => json!({ "email": { "to": ["finance@example.com"] } }),
            "webhook" => json!({ "webhook": { "url": { "plain": self.receiver.url(WEBHOOK) }, "signing_key_secret": "signing" } }),
            other => panic!("no channel {other}"),
        }
    }

    pub(crate) fn put(&self, key: &str, value: &Value) {
        self.bucket.put(&format!("state/{key}"), value.to_string());
    }

    /// A run report, for the interval that ends when the run was due.
    pub(crate) fn report(&self, run_id: &str, due: Timestamp, outcome: &str) {
        let failure = (outcome == "failed").then(|| json!({ "kind": "permanent", "code": "x", "message": "no" }));
        let mut report = json!({
            "version": 1, "run_id": run_id, "job": "orders", "environment": "prod", "errand_version": "0.1.0",
            "checkout": { "repository": "https://github.com/acme/jobs.git", "commit": "a".repeat(40), "uncommitted_changes": false },
            "interval": { "start": (due - 1.hours()).to_string(), "end": due.to_string(), "timezone": "UTC" }, "scheduled_at": due.to_string(),
            "attempt": 1, "started_at": now().to_string(), "finished_at": now().to_string(), "duration_ms": 1, "outcome": outcome,
            "warnings": if outcome == "warned" { vec!["look at this"] } else { Vec::new() },
            "steps": [], "peak_memory_bytes": 1,
        });
        if let Some(failure) = failure {
            report["failure"] = failure;
        }
        self.keep_report(&report);
    }

    /// A report, and the mark of the day beside it.
    pub(crate) fn keep_report(&self, report: &Value) {
        let run_id = report["run_id"].as_str().expect("a report has an id");
        self.put(&format!("runs/{run_id}.json"), report);
        self.put(&format!("ended/{}/{run_id}.json", now().strftime("%Y-%m-%d")), &Value::Null);
    }

    pub(crate) fn received(&self, path: &str) -> Vec<Received> {
        self.receiver.received(path)
    }

    /// How many messages each of these has got.
    pub(crate) fn counts<const N: usize>(&self, paths: [&str; N]) -> [usize; N] {
        paths.map(|path| self.received(path).len())
    }

    /// Everything that was sent and kept holds no secret.
    pub(crate) fn assert_no_secret(&self, lambda: &Lambda) {
        let mut texts = vec![lambda.log()];
        texts.extend(self.bucket.keys("state/alerts/").iter().map(|key| String::from_utf8_lossy(&self.bucket.get(key)).into_owned()));
        texts.extend([SLACK, TEAMS, EMAIL, WEBHOOK, TOPIC].iter().flat_map(|path| self.received(path)).map(|received| received.text));
        for secret in SECRETS {
            let found = texts.iter().find(|text| text.contains(secret));
            assert!(found.is_none(), "{secret} in {}", found.map_or("", String::as_str));
        }
    }
}

/// ARN of an execution.
pub(crate) fn arn(run_id: &str) -> String {
    format!("arn:aws:states:us-east-1:123456789012:execution:errand-run:{run_id}")
}

fn input(due: Timestamp) -> Value {
    json!({
        "version": 1, "job": "orders", "environment": "prod", "repository": "https://github.com/acme/jobs.git", "ref": "b".repeat(40),
        "scheduled_at": due.to_string(), "interval": format!("{}/{due}", due - 1.hours()), "inputs": "", "trigger": "schedule",
        "task_definition": "errand-prod-256-512", "capacity_provider": "FARGATE", "timeout_seconds": 3600, "max_attempts": 2,
    })
}

/// What the runner says of a failure.
pub(crate) fn cause() -> String {
    json!({
        "version": 1, "run_id": "r", "job": "orders", "environment": "prod", "interval": "", "message": "row 2: `12,5` is no number",
        "place": "orders-1.csv:3:15", "help": "look at the file", "code": "ingest::rejected", "step": "load", "report": "",
    })
    .to_string()
}

/// The event of the state machine's Catch.
pub(crate) fn caught(run_id: &str, due: Timestamp, error: &str, cause: &str) -> Value {
    json!({ "source": "errand.run", "execution": arn(run_id), "run_id": run_id, "input": input(due), "error": error, "cause": cause })
}

/// The event of EventBridge.
pub(crate) fn status(run_id: &str, due: Timestamp, status: &str) -> Value {
    json!({
        "version": "0", "id": "315c1398-40ff-a850-213b-158f73e60175", "detail-type": "Step Functions Execution Status Change",
        "source": "aws.states", "account": "123456789012", "time": "2026-11-20T06:05:00Z", "region": "us-east-1", "resources": [arn(run_id)],
        "detail": {
            "executionArn": arn(run_id), "stateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:errand-run", "name": run_id,
            "status": status, "startDate": 1_763_618_400_000_i64, "stopDate": 1_763_618_700_000_i64, "input": input(due).to_string(),
            "inputDetails": { "included": true }, "output": null, "outputDetails": null,
        },
    })
}

/// The tick of the watchdog.
pub(crate) fn tick() -> Value {
    json!({ "source": "errand.watchdog" })
}

/// A topic whose messages go to the receiver.
fn topic(name: &str, receiver: &Receiver) -> String {
    let form = "application/x-www-form-urlencoded";
    let made = aws("sns", &[], form, &format!("Action=CreateTopic&Version=2010-03-31&Name={name}"));
    let topic = made.split("<TopicArn>").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_else(|| panic!("{made}")).to_owned();
    let endpoint = receiver.url(TOPIC).replace(':', "%3A").replace('/', "%2F");
    let subscribe = format!("Action=Subscribe&Version=2010-03-31&TopicArn={}&Protocol=http&Endpoint={endpoint}", topic.replace(':', "%3A"));
    assert!(aws("sns", &[], form, &subscribe).contains("SubscriptionArn"));
    topic
}

/// One request to a service of moto's, which checks no signature.
pub(crate) fn aws(service: &str, headers: &[(&str, &str)], kind: &str, body: &str) -> String {
    request(service, "/", headers, kind, body)
}

pub(crate) fn request(service: &str, path: &str, headers: &[(&str, &str)], kind: &str, body: &str) -> String {
    let endpoint = services::s3_endpoint();
    let host = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).unwrap_or_else(|error| panic!("moto at {host} does not answer: {error}"));
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=none");
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: {authorization}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{more}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("moto takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("moto answers");
    answer
}
