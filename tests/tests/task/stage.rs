//! A job repository with one commit, a bucket for what is known of runs, and the environment that a state machine gives its task.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::Duration;

use e2e::aws_server::AwsServer;
use e2e::condition::wait_for;
use e2e::errand::{Errand, Outcome, Running};
use e2e::repository::Repository;
use e2e::s3::Bucket;
use e2e::services;
use serde_json::Value;

/// The token of the first task of a stage; each further one has its own.
pub(crate) const TOKEN: &str = "token-of-the-task-0123456789";
/// A day.
pub(crate) const DAY: &str = "2026-11-19/2026-11-20";

/// The surroundings of tasks.
pub(crate) struct Stage {
    pub(crate) aws: AwsServer,
    pub(crate) bucket: Bucket,
    scratch: tempfile::TempDir,
    repository: Repository,
    commit: String,
    endpoint: String,
    /// Places of tasks that were begun: they outlive them.
    places: RefCell<Vec<Errand>>,
    tasks: Cell<u32>,
}

impl Stage {
    /// A job `load` with these keys and steps.
    pub(crate) fn new(keys: &str, steps: &str) -> Self {
        let mut stage = Self::before(None);
        stage.commit(keys, steps);
        stage
    }

    /// A job with these keys, whose step says that it has begun and waits until [`Self::go`].
    pub(crate) fn waiting(keys: &str) -> Self {
        let mut stage = Self::before(None);
        stage.commit_waiting(keys);
        stage
    }

    /// Reports and claims go through `endpoint`, where one is given. There is no job yet.
    pub(crate) fn before(endpoint: Option<(Bucket, String)>) -> Self {
        let (bucket, endpoint) = endpoint.unwrap_or_else(|| {
            let bucket = Bucket::create();
            let endpoint = bucket.endpoint().to_owned();
            (bucket, endpoint)
        });
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let repository = Repository::create(scratch.path().join("repository"));
        let project = format!(
            "version: 1\ndefault_environment: prod\nenvironments:\n  prod:\n    connections:\n      warehouse: {{ duckdb: {{ path: {} }} }}\n      \
             state: {{ s3: {{ bucket: {}, prefix: errand/, endpoint: \"{endpoint}\", region: us-east-1 }} }}\n    \
             reports: {{ connection: state, path: runs }}\ncontacts:\n  team: {{ email: {{ to: [team@example.com] }} }}\n",
            scratch.path().join("warehouse.duckdb").display(),
            bucket.name(),
        );
        repository.write("errand.yaml", &project);
        Self {
            aws: AwsServer::start(),
            bucket,
            scratch,
            repository,
            commit: String::new(),
            endpoint,
            places: RefCell::default(),
            tasks: Cell::new(0),
        }
    }

    /// The job at a further commit.
    pub(crate) fn commit(&mut self, keys: &str, steps: &str) {
        self.repository.write("jobs/load/job.yaml", &format!("version: 1\nname: load\nowner: team\n{keys}\nsteps:\n{steps}"));
        self.commit = self.repository.commit("a job");
    }

    /// The job of [`Self::waiting`] at a further commit.
    pub(crate) fn commit_waiting(&mut self, keys: &str) {
        let script = format!("touch {}; while [ ! -e {} ]; do sleep 0.05; done", self.path("started").display(), self.path("go").display());
        self.commit(keys, &format!("  - id: wait\n    command: {{ run: [/bin/sh, -c, \"{script}\"] }}\n"));
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    /// The environment of a task of this run.
    pub(crate) fn task(&self, run_id: &str) -> Errand {
        let repository = format!("file://{}", self.path("repository").display());
        let number = self.tasks.replace(self.tasks.get() + 1);
        let token = if number == 0 { TOKEN.to_owned() } else { format!("{TOKEN}-{number}") };
        let set = [
            ("ERRAND_JOB", "load".to_owned()),
            ("ERRAND_REPOSITORY", repository),
            ("ERRAND_REF", self.commit.clone()),
            ("ERRAND_ENVIRONMENT", "prod".to_owned()),
            ("ERRAND_RUN_ID", run_id.to_owned()),
            ("ERRAND_INTERVAL", DAY.to_owned()),
            ("ERRAND_SCHEDULED_AT", String::new()),
            ("ERRAND_INPUTS", String::new()),
            ("ERRAND_ATTEMPT", "1".to_owned()),
            ("ERRAND_TRIGGER", "schedule".to_owned()),
            ("ERRAND_TASK_TOKEN", token),
            ("ERRAND_EXECUTION", format!("arn:aws:states:us-east-1:123456789012:execution:run:{run_id}")),
            ("ERRAND_HEARTBEAT_SECONDS", "1".to_owned()),
            ("ERRAND_STOP_SECONDS", "15".to_owned()),
            ("ERRAND_LOG_FORMAT", "text".to_owned()),
            ("AWS_ENDPOINT_URL_SFN", self.aws.endpoint()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", services::s3_endpoint()),
            ("AWS_ENDPOINT_URL_S3", self.endpoint.clone()),
        ];
        let errand = services::s3_credentials().into_iter().fold(Errand::new(), |errand, (name, value)| errand.env(name, value));
        set.into_iter().fold(errand.deadline(Duration::from_secs(90)), |errand, (name, value)| errand.env(name, value))
    }

    /// Runs a task to its end.
    pub(crate) fn run(&self, run_id: &str) -> Outcome {
        self.task(run_id).run(["task"])
    }

    /// Starts a task of a job that waits in its step, and waits until it is there.
    pub(crate) fn begun(&self, errand: Errand) -> Running {
        let running = errand.spawn(["task"]);
        self.places.borrow_mut().push(errand);
        let mark = self.path("started");
        wait_for("the step", Duration::from_secs(60), || mark.exists().then_some(()));
        running
    }

    /// What the task told at its end: the output of the state.
    #[track_caller]
    pub(crate) fn success(&self) -> Value {
        let calls = self.aws.calls_of("SendTaskSuccess");
        let last = calls.last().unwrap_or_else(|| panic!("no success; {:#?}", self.aws.calls()));
        serde_json::from_str::<Value>(last["output"].as_str().unwrap_or_default()).expect("JSON")["errand"].clone()
    }

    /// What the task told at its end: error name and cause.
    #[track_caller]
    pub(crate) fn failure(&self) -> (String, Value) {
        let calls = self.aws.calls_of("SendTaskFailure");
        let last = calls.last().unwrap_or_else(|| panic!("no failure; {:#?}", self.aws.calls()));
        let cause = last["cause"].as_str().unwrap_or_default();
        (last["error"].as_str().unwrap_or_default().to_owned(), serde_json::from_str(cause).expect("JSON"))
    }

    /// A report in the bucket, by the file's name.
    pub(crate) fn report(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bucket.get(&format!("errand/runs/{name}.json"))).expect("a report is JSON")
    }

    /// The only claim of the job.
    #[track_caller]
    pub(crate) fn claim(&self) -> Value {
        let keys = self.bucket.keys("errand/claims/load/");
        assert_eq!(keys.len(), 1, "{keys:?}");
        serde_json::from_slice(&self.bucket.get(&keys[0])).expect("a claim is JSON")
    }

    /// Lets the step go on.
    pub(crate) fn go(&self) {
        std::fs::write(self.path("go"), "").expect("written");
    }
}

/// A step that makes a table.
pub(crate) const TABLE: &str = "  - id: table\n    sql: { text: SELECT 1 AS n, materialize: { table: t } }\n";
