//! Everything at once in the local cloud: the stack of `infra/`, the real image and the real alerting function, jobs of a git server that
//! `errand deploy` has deployed, a Postgres warehouse, and servers that stand for Slack, PagerDuty and a webhook.
//!
//! Builds nothing: `tests/images slim` does.

mod execution;
mod job;
mod stack;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use execution::Ended;
pub use job::{HALFWAY, Job, ROWS, loaded};
pub use stack::{DIVISOR, Pace, Stack};

use crate::clock::now;
use crate::cloud::{ACCOUNT, REGION, Service};
use crate::condition::answer_within;
use crate::errand::{Errand, Outcome, Running};
use crate::git_server::HttpServer;
use crate::postgres::Database;
use crate::proxy::Proxy;
use crate::receiver::{Received, Receiver};
use crate::repository::Repository;
use crate::services::{postgres_authority, unique_name};

/// The day that runs by hand are for.
pub const DAY: &str = "2026-11-19";

/// Where PagerDuty takes events.
pub const PAGERDUTY: &str = "/v2/enqueue";

/// A secret that the connection `locked` names, and that nobody put there.
pub const ABSENT_SECRET: &str = "a_secret_that_nobody_put_there";

/// What begins the name of the user that jobs have in the warehouse.
const USER: &str = "jobs";

/// Everything. Ends when dropped.
pub struct Site {
    /// The stack.
    pub stack: Stack,
    /// Who is told.
    pub receiver: Receiver,
    /// The warehouse.
    pub database: Database,
    /// What the connection `slow` goes through.
    pub slow: Proxy,
    /// What the connection `flaky` goes through.
    pub flaky: Proxy,
    work: PathBuf,
    commit: String,
    url: String,
    jobs: BTreeMap<String, Job>,
    due: Timestamp,
    role: String,
    secrets: Vec<String>,
    /// Held for writing while executions would start with another definition than the usual one.
    definition: RwLock<()>,
    _git: HttpServer,
    _scratch: TempDir,
}

impl Site {
    /// Brings everything up. `jobs` are told the minute for which they can have a schedule: it comes soon.
    ///
    /// # Panics
    /// When a part of it does not come up.
    #[must_use]
    pub fn start(pace: Pace, jobs: impl FnOnce(Timestamp) -> Vec<Job>) -> Self {
        let receiver = Receiver::start();
        let stack = Stack::deploy(pace, &receiver.url(""));
        let due = due();
        let jobs: BTreeMap<String, Job> = jobs(due).into_iter().map(|job| (job.name().to_owned(), job)).collect();
        let database = Database::create();
        let (role, password) = (format!("{USER}_{}", database.name()), unique_name());
        database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'; GRANT ALL ON DATABASE {} TO {role}", database.name()));
        let (slow, flaky) = (Proxy::start(&database.address()), Proxy::start(&database.address()));
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let served = scratch.path().join("served");
        fs::create_dir(&served).expect("the directory can be written");
        let git = HttpServer::http(&served);
        let url = git.private_url("jobs.git");
        let signing = unique_name();
        let mut site = Self {
            secrets: vec![HttpServer::PASSWORD.to_owned(), password.clone(), signing.clone()],
            stack,
            receiver,
            database,
            slow,
            flaky,
            work: scratch.path().join("work"),
            commit: String::new(),
            url,
            jobs,
            due,
            role,
            definition: RwLock::default(),
            _git: git,
            _scratch: scratch,
        };
        let fixed = [("git_token", HttpServer::PASSWORD), ("git_username", HttpServer::USER), ("warehouse_password", &password)];
        for (name, value) in fixed.into_iter().chain([("signing_key", signing.as_str())]) {
            site.stack.put_secret(name, value);
        }
        site.introduce_people();
        site.put_file("orders.csv", &job::orders());
        site.commit = site.publish(&served);
        site
    }

    /// Brings schedules in step with the jobs, with `errand deploy`.
    ///
    /// # Panics
    /// When it fails.
    pub fn deploy(&self) -> Outcome {
        self.errand(&["deploy"]).expect_code(0)
    }

    /// Runs `errand` in the job repository, for this environment.
    #[must_use]
    pub fn errand(&self, arguments: &[&str]) -> Outcome {
        self.spawn(arguments).1.wait()
    }

    /// Starts it. Its place must be kept as long as it runs.
    #[must_use]
    pub fn spawn(&self, arguments: &[&str]) -> (Errand, Running) {
        let work = self.work.display().to_string();
        let errand = Errand::new().deadline(Duration::from_secs(150)).env("ERRAND_LOG_FORMAT", "text").env("COLUMNS", "80");
        let errand = errand.env("AWS_ENDPOINT_URL", self.stack.cloud().endpoint()).env("AWS_REGION", REGION);
        let errand = errand.env("AWS_ACCESS_KEY_ID", ACCOUNT).env("AWS_SECRET_ACCESS_KEY", "local");
        let _usual = self.definition.read();
        let mut running = errand.spawn(arguments.iter().copied().chain(["--repo", &work, "--env", self.stack.environment()]));
        if arguments.first() == Some(&"start") {
            let is_started = |running: &mut Running| running.stderr().contains("run ") || running.has_ended();
            seen("an execution to start", Duration::from_secs(60), || is_started(&mut running).then_some(()));
        }
        (errand, running)
    }

    /// The minute for which jobs can have a schedule.
    #[must_use]
    pub const fn due(&self) -> Timestamp {
        self.due
    }

    /// The commit that is deployed.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// A job.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    #[track_caller]
    pub fn job(&self, name: &str) -> &Job {
        self.jobs.get(name).unwrap_or_else(|| panic!("no job `{name}`"))
    }

    /// Writes a file of the bucket that jobs read.
    pub fn put_file(&self, name: &str, text: &str) {
        self.stack.cloud().put_object(&self.lake(), name, text.as_bytes());
    }

    /// Gives a file of that bucket the content of another one.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn copy_file(&self, from: &str, to: &str) {
        let content = self.stack.cloud().object(&self.lake(), from).unwrap_or_else(|| panic!("no file `{from}`"));
        self.stack.cloud().put_object(&self.lake(), to, &content);
    }

    /// A file of what Errand keeps of runs: reports, claims, alerts.
    #[must_use]
    pub fn state(&self, key: &str) -> Option<Value> {
        let content = self.stack.cloud().object(self.stack.output("StateBucket"), key)?;
        serde_json::from_slice(&content).ok()
    }

    /// The messages that those behind a job have taken, oldest first: of Slack, PagerDuty and the webhook.
    #[must_use]
    pub fn told(&self, job: &str) -> [Vec<Value>; 3] {
        self.asked(job).map(|requests| requests.iter().filter(|request| request.is_taken()).map(Received::json).collect())
    }

    /// All requests to those behind a job, also those that were not taken.
    #[must_use]
    pub fn asked(&self, job: &str) -> [Vec<Received>; 3] {
        let job = self.job(job);
        let mine = |request: &Received| request.json()["routing_key"] == job.pager.as_str();
        let pages = self.receiver.received(PAGERDUTY).into_iter().filter(mine).collect();
        [self.receiver.received(&self.slack(job.name())), pages, self.receiver.received(&format!("/hook/{}", job.hook))]
    }

    /// The path of a job's Slack.
    #[must_use]
    pub fn slack(&self, job: &str) -> String {
        format!("/slack/{}", self.job(job).slack)
    }

    /// What marks the messages to a job's PagerDuty.
    #[must_use]
    pub fn routing_key(&self, job: &str) -> &str {
        &self.job(job).pager
    }

    /// Calls the alerting function, as the watchdog's schedule does.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn tick(&self) {
        let answer = self.stack.cloud().invoke(self.stack.output("AlertFunction"), &json!({ "source": "errand.watchdog" }));
        answer.unwrap_or_else(|failure| panic!("the watchdog: {failure}"));
    }

    /// The parts of `texts` that hold a secret: the value and where it stands. Keys of PagerDuty stand in what PagerDuty is sent.
    #[must_use]
    pub fn secrets_in(&self, texts: &[(String, String)]) -> Vec<String> {
        let known = self.jobs.values().flat_map(|job| [&job.slack, &job.hook, &job.pager]).chain(&self.secrets);
        let stands = |secret: &String| texts.iter().find(|(_, text)| text.contains(secret.as_str())).map(|(place, _)| place);
        known.filter_map(|secret| stands(secret).map(|place| format!("{secret} in {place}"))).collect()
    }

    /// All log lines of tasks and of the alerting function.
    #[must_use]
    pub fn logs(&self) -> Vec<(String, String)> {
        let groups = [self.stack.output("LogGroup").to_owned(), format!("/aws/lambda/{}", self.stack.output("AlertFunction"))];
        groups.map(|group| (format!("the log {group}"), self.log(&group))).into()
    }

    /// All lines of a log group.
    #[must_use]
    pub fn log(&self, group: &str) -> String {
        let (mut text, mut next) = (String::new(), Value::Null);
        loop {
            let mut body = json!({ "logGroupName": group, "limit": 10_000 });
            if !next.is_null() {
                body["nextToken"] = next;
            }
            let found = self.stack.ask(Service::Logs, "FilterLogEvents", &body);
            for event in found["events"].as_array().into_iter().flatten() {
                text.push_str(event["message"].as_str().unwrap_or_default());
                text.push('\n');
            }
            next = found["nextToken"].clone();
            if next.is_null() {
                return text;
            }
        }
    }

    fn lake(&self) -> String {
        format!("{}-lake", self.stack.prefix())
    }

    fn introduce_people(&self) {
        self.stack.cloud().make_bucket(&self.lake());
        for (name, job) in &self.jobs {
            self.stack.put_secret(&format!("slack_{name}"), &self.receiver.url(&format!("/slack/{}", job.slack)));
            self.stack.put_secret(&format!("hook_{name}"), &self.receiver.url(&format!("/hook/{}", job.hook)));
            self.stack.put_secret(&format!("pager_{name}"), &job.pager);
        }
    }

    /// Commits the jobs, and lets the git server have them.
    fn publish(&self, served: &Path) -> String {
        let repository = Repository::create(&self.work);
        repository.write("errand.yaml", &format!("{:#}\n", self.project()));
        let authority = fs::read_to_string(postgres_authority()).expect("the authority of the services");
        repository.write("authority.pem", &authority);
        for (path, text) in self.jobs.values().flat_map(Job::sources) {
            repository.write(&path, &text);
        }
        let commit = repository.commit("jobs");
        repository.publish(&served.join("jobs.git"));
        commit
    }

    fn project(&self) -> Value {
        let port: u16 = self.database.address().rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(5432);
        let server = |port: u16, secret: &str| {
            json!({ "postgres": {
                "host": "localhost", "port": port, "database": self.database.name(), "user": self.role, "tls": "disable",
                "password": { "secret": secret },
            } })
        };
        let password = "warehouse_password";
        let mut warehouse = server(port, password);
        warehouse["postgres"]["tls"] = json!("verify");
        warehouse["postgres"]["ca_file"] = json!("authority.pem");
        let connections = json!({
            "warehouse": warehouse, "slow": server(self.slow.port(), password), "flaky": server(self.flaky.port(), password),
            "locked": server(port, ABSENT_SECRET), "lake": { "s3": { "bucket": self.lake() } },
            "state": { "s3": { "bucket": self.stack.output("StateBucket") } },
        });
        let aws = json!({
            "repository": self.url, "state_machine": self.stack.output("StateMachineArn"),
            "backfill_state_machine": self.stack.output("BackfillStateMachineArn"),
            "scheduler_role": self.stack.output("SchedulerRoleArn"), "dead_letter_queue": self.stack.output("ScheduleQueueArn"),
        });
        let environment = self.stack.environment();
        let contacts: serde_json::Map<String, Value> = self.jobs.iter().map(|(name, job)| (name.clone(), job.contact())).collect();
        json!({
            "version": 1, "default_environment": environment, "contacts": contacts,
            "environments": { environment: { "connections": connections, "reports": { "connection": "state", "path": "runs" }, "aws": aws } },
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The warehouse goes away with its database; who is still connected may hold up neither.
        let role = &self.role;
        self.slow.cut();
        self.flaky.cut();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.database.execute(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'; DROP OWNED BY {role} CASCADE; DROP ROLE {role}"
            ));
        }));
        drop(ended);
    }
}

/// Asks `probe`, which takes a request to a busy server, a few times a second until it answers.
///
/// # Panics
/// When `deadline` passes first; the message is `what` was waited for.
#[track_caller]
pub fn seen<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let mut looks = 0_u32;
    let found = answer_within(deadline, || {
        looks += 1;
        if looks % 50 == 1 { probe() } else { None }
    });
    found.unwrap_or_else(|| panic!("waited {deadline:?} in vain for {what}"))
}

/// The first whole minute that leaves time for `errand deploy` before it.
fn due() -> Timestamp {
    let soon = (now() + 20.seconds()).as_second();
    Timestamp::from_second((soon + 59) / 60 * 60).expect("in range")
}

/// The schedule of a job that is due at this time of each day, as a line of YAML.
#[must_use]
pub fn daily(due: Timestamp) -> String {
    let time = due.to_zoned(jiff::tz::TimeZone::UTC);
    format!("schedule: {{ cron: \"{} {} * * *\", timezone: UTC }}", time.minute(), time.hour())
}
