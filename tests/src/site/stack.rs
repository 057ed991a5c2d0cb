//! The stack of `infra/` in the local cloud, as `infra/deploy` brings it up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::asl::{self, Times};
use crate::cloud::{ACCOUNT, Cloud, REGION, Service};
use crate::container::{PYTHON, SLIM, docker};
use crate::program::search_path;
use crate::services::unique_name;

/// Tag of the images in the stack's repository.
const TAG: &str = "test";

/// By so much the times of a shortened stack are shorter: no heartbeat for 300 s becomes 20 s, a heartbeat every 60 s becomes every 4 s.
pub const DIVISOR: u64 = 15;

/// How long things take in a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As in `infra/`, which is deployed from where it lies.
    Real,
    /// A copy of it, where minutes are seconds. Nothing else differs.
    Short,
}

/// A stack of its own. Deleted when dropped, with the names of its images.
pub struct Stack {
    cloud: Cloud,
    environment: String,
    outputs: BTreeMap<String, String>,
    images: Vec<String>,
    _copy: Option<TempDir>,
}

impl Stack {
    /// Brings one up. `pagerduty` is the URL that stands for PagerDuty's.
    ///
    /// # Panics
    /// When the image or the alerting function is not built: the message names the command that builds them. When `infra/deploy` fails.
    #[must_use]
    pub fn deploy(pace: Pace, pagerduty: &str) -> Self {
        let zip = alert_zip();
        assert!(zip.is_file(), "`{}` is not built; run `tests/images slim`", zip.display());
        let (cloud, environment) = (Cloud::here(), environment());
        let copy = (pace == Pace::Short).then(shortened);
        let folder = copy.as_ref().map_or_else(repository, |copy| copy.path().to_owned()).join("infra");
        let mut deploy = Command::new(folder.join("deploy"));
        deploy.arg("--alert").arg(&zip).args(["--image-tag", TAG, "--environment", &environment]);
        let architecture = if std::env::consts::ARCH == "aarch64" { "ARM64" } else { "X86_64" };
        deploy.args(["--", &format!("Architecture={architecture}")]);
        let outputs = said(&in_cloud(&mut deploy, &cloud).output().expect("infra/deploy is there"));
        let outputs: BTreeMap<String, String> =
            outputs.lines().filter_map(|line| line.split_once('\t')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut stack = Self { cloud, environment, outputs, images: Vec::new(), _copy: copy };
        stack.push(SLIM, "SlimRepositoryUri", "tests/images slim");
        stack.pages_at(pagerduty);
        stack
    }

    /// Puts the image with Python into the stack's repository too.
    ///
    /// # Panics
    /// When it is not built: the message names the command that builds it.
    pub fn push_python(&mut self) {
        self.push(PYTHON, "PythonRepositoryUri", "tests/images");
    }

    /// A name in the repository is all that Docker on this machine needs.
    fn push(&mut self, image: &str, repository: &str, builder: &str) {
        assert!(docker(["image", "inspect", image]).status.success(), "the image `{image}` is not built; run `{builder}`");
        let name = format!("{}:{TAG}", self.output(repository));
        said(&docker(["tag", image, &name]));
        self.images.push(name);
    }

    /// The name of its environment.
    #[must_use]
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// What every name in it begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.output("TaskDefinitionPrefix")
    }

    /// The local cloud that it is in.
    #[must_use]
    pub const fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// One of its outputs.
    ///
    /// # Panics
    /// When it has none of that name.
    #[must_use]
    #[track_caller]
    pub fn output(&self, name: &str) -> &str {
        self.outputs.get(name).unwrap_or_else(|| panic!("the stack has no output `{name}`: {:?}", self.outputs))
    }

    /// Gives a secret of this environment its value.
    ///
    /// # Panics
    /// When that is refused.
    pub fn put_secret(&self, name: &str, value: &str) {
        let id = format!("errand/{}/{name}", self.environment);
        let token = unique_name();
        let body = json!({ "Name": id, "SecretString": value, "ClientRequestToken": token });
        if self.cloud.ask(Service::Secrets, "CreateSecret", &body).is_err() {
            let body = json!({ "SecretId": id, "SecretString": value, "ClientRequestToken": token });
            self.cloud.ask(Service::Secrets, "PutSecretValue", &body).unwrap_or_else(|refusal| panic!("{id}: {refusal}"));
        }
    }

    /// Registers the stack's smallest task definition once more, changed and under a name of its own. Returns its family.
    ///
    /// # Panics
    /// When that is refused.
    #[must_use]
    pub fn define(&self, change: impl FnOnce(&mut Value)) -> String {
        let family = format!("{}-256-512", self.prefix());
        let found = self.ask(Service::Ecs, "DescribeTaskDefinition", &json!({ "taskDefinition": family }));
        let mut definition = json!({ "family": format!("{}-{}", self.prefix(), unique_name().replace('_', "-")) });
        for key in [
            "containerDefinitions",
            "volumes",
            "networkMode",
            "requiresCompatibilities",
            "cpu",
            "memory",
            "taskRoleArn",
            "executionRoleArn",
        ] {
            definition[key] = found["taskDefinition"][key].clone();
        }
        change(&mut definition);
        self.ask(Service::Ecs, "RegisterTaskDefinition", &definition);
        definition["family"].as_str().unwrap_or_default().to_owned()
    }

    /// Asks the local cloud.
    ///
    /// # Panics
    /// When it refuses.
    #[track_caller]
    pub fn ask(&self, service: Service, action: &str, body: &Value) -> Value {
        self.cloud.ask(service, action, body).unwrap_or_else(|refusal| panic!("{action}: {refusal}"))
    }

    /// Sends pages to a server of this machine, which has no TLS: the stack's own parameter takes nothing but `https://`.
    fn pages_at(&self, url: &str) {
        let function = self.output("AlertFunction");
        let found = self.aws(&["lambda", "get-function-configuration", "--function-name", function]);
        let mut variables = found["Environment"].clone();
        variables["Variables"]["ERRAND_PAGERDUTY_URL"] = json!(url);
        let variables = variables.to_string();
        self.aws(&["lambda", "update-function-configuration", "--function-name", function, "--environment", &variables]);
    }

    fn aws(&self, arguments: &[&str]) -> Value {
        let mut aws = Command::new(aws_program());
        let output = in_cloud(&mut aws, &self.cloud).args(arguments).args(["--output", "json"]).output().expect("aws starts");
        serde_json::from_str(&said(&output)).unwrap_or_default()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let name = format!("errand-{}", self.environment);
        let mut aws = Command::new(aws_program());
        let _ = in_cloud(&mut aws, &self.cloud).args(["cloudformation", "delete-stack", "--stack-name", &name]).output();
        for image in &self.images {
            let _ = docker(["rmi", image]);
        }
    }
}

/// As short as the stack wants it, and no other test's.
fn environment() -> String {
    unique_name().replace("errand_", "t").chars().take(10).collect()
}

fn repository() -> PathBuf {
    asl::folder().parent().expect("a folder of the repository").to_owned()
}

/// Where `tests/images` puts the alerting function.
#[expect(clippy::disallowed_methods, reason = "where caches lie is told by the environment alone")]
fn alert_zip() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"));
    cache.join("errand/alert.zip")
}

/// A copy of `infra/` and `state-machines/` with shorter times.
fn shortened() -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory can be made");
    for name in ["infra", "state-machines"] {
        let (from, to) = (repository().join(name), copy.path().join(name));
        fs::create_dir(&to).expect("the directory can be written");
        for file in fs::read_dir(&from).expect("a folder of the repository").flatten() {
            fs::copy(file.path(), to.join(file.file_name())).expect("the directory can be written");
        }
    }
    for name in ["run", "backfill"] {
        let file = copy.path().join(format!("state-machines/{name}.asl.json"));
        let text = fs::read_to_string(&file).expect("a definition");
        let times = Times { heartbeat: 300 / DIVISOR, margin: 120 };
        fs::write(&file, asl::shortened(&text, times).to_string()).expect("the directory can be written");
    }
    let beat = format!("                - {{ Name: ERRAND_HEARTBEAT_SECONDS, Value: \"{}\" }}\n", 60 / DIVISOR);
    let variables = format!("{beat}                - {{ Name: ERRAND_STOP_SECONDS, Value: \"15\" }}\n");
    let first = "                - { Name: ERRAND_ENVIRONMENT, Value: !Ref Environment }\n";
    replace(&copy.path().join("infra/compute.yaml"), first, &format!("{first}{variables}"));
    replace(&copy.path().join("infra/compute.yaml"), "StopTimeout: 120", "StopTimeout: 20");
    replace(&copy.path().join("infra/alerting.yaml"), "rate(5 minutes)", "rate(1 minute)");
    copy
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("a template");
    assert!(text.contains(from), "`{from}` is not in {}", file.display());
    fs::write(file, text.replace(from, to)).expect("the directory can be written");
}

/// The AWS CLI of the tests.
fn aws_program() -> PathBuf {
    let setup = Command::new(repository().join("tests/setup")).args(["python", "cloud"]).output().expect("tests/setup is there");
    let program = PathBuf::from(String::from_utf8_lossy(&setup.stdout).trim()).with_file_name("aws");
    assert!(program.is_file(), "`{}` is not there; run `tests/setup test`", program.display());
    program
}

/// That CLI first on the search path, and the local cloud as its only cloud.
fn in_cloud<'c>(command: &'c mut Command, cloud: &Cloud) -> &'c mut Command {
    let mut path = aws_program().parent().expect("a program lies in a directory").as_os_str().to_owned();
    path.push(":");
    path.push(search_path());
    command.env("PATH", path).env("AWS_ENDPOINT_URL", cloud.endpoint()).env("AWS_REGION", REGION).env("AWS_DEFAULT_REGION", REGION);
    command.env("AWS_ACCESS_KEY_ID", ACCOUNT).env("AWS_SECRET_ACCESS_KEY", "local").env("PYTHONDONTWRITEBYTECODE", "1")
}

#[track_caller]
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
