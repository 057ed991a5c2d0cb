//! The git servers of the harness serve the real git client: else a test of checkout proves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use e2e::git_server::{HttpServer, SshServer};
use e2e::program;
use e2e::repository::Repository;
use tempfile::TempDir;

/// A served directory with one repository `jobs.git` of two commits.
struct Served {
    scratch: TempDir,
    head: String,
}

impl Served {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let repository = Repository::create(scratch.path().join("work"));
        repository.write("errand.yaml", "version: 1\n").commit("first");
        let head = repository.write("jobs/one/job.yaml", "version: 1\n").commit("second");
        repository.publish(&scratch.path().join("served/jobs.git"));
        Self { scratch, head }
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join("served")
    }

    /// Clones with the git program, `settings` being variables of its environment.
    fn clone(&self, url: &str, settings: &[(&str, &str)]) -> Output {
        let target = self.scratch.path().join("clone");
        let mut git = program::hermetic("git", self.scratch.path());
        git.args(["clone", "--quiet", "--depth=1", url]).arg(target).envs(settings.iter().copied()).output().expect("git can be started")
    }

    #[track_caller]
    fn assert_cloned(&self, output: &Output) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let clone = self.scratch.path().join("clone");
        assert!(clone.join("jobs/one/job.yaml").is_file());
        let mut git = program::hermetic("git", self.scratch.path());
        assert_eq!(program::stdout_of(git.arg("-C").arg(clone).args(["rev-parse", "HEAD"])), self.head);
    }

    #[track_caller]
    fn assert_refused(&self, output: &Output, reason: &str) {
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(reason), "{message}");
        assert!(!self.scratch.path().join("clone").exists());
    }
}

fn with_credentials(url: &str) -> String {
    url.replace("://", &format!("://{}:{}@", HttpServer::USER, "p%40ss%2Fword%3A100%25"))
}

fn ssh_command(directory: &Path, key: &Path, known_host: &str) -> String {
    let known_hosts = directory.join("known_hosts");
    fs::write(&known_hosts, known_host).expect("the scratch directory can be written");
    format!(
        "ssh -F none -i {} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={}",
        key.display(),
        known_hosts.display()
    )
}

#[test]
fn https_serves_who_knows_the_password_and_trusts_the_authority() {
    let served = Served::new();
    let server = HttpServer::https(&served.directory());
    let authority = server.authority();
    let output = served.clone(&with_credentials(&server.private_url("jobs.git")), &[("GIT_SSL_CAINFO", authority.to_str().unwrap())]);
    served.assert_cloned(&output);
}

#[test]
fn https_is_refused_by_who_does_not_trust_the_authority() {
    let served = Served::new();
    let server = HttpServer::https(&served.directory());
    served.assert_refused(&served.clone(&server.public_url("jobs.git"), &[]), "certificate");
}

#[test]
fn http_refuses_who_gives_no_password() {
    let served = Served::new();
    let server = HttpServer::http(&served.directory());
    served.assert_refused(&served.clone(&server.private_url("jobs.git"), &[]), "could not read Username");
}

#[test]
fn http_serves_everyone_what_is_public() {
    let served = Served::new();
    let server = HttpServer::http(&served.directory());
    served.assert_cloned(&served.clone(&server.public_url("jobs.git"), &[]));
}

#[test]
fn http_does_not_find_what_is_not_there() {
    let served = Served::new();
    let server = HttpServer::http(&served.directory());
    served.assert_refused(&served.clone(&server.public_url("other.git"), &[]), "not found");
}

#[test]
fn ssh_serves_the_authorised_key_on_the_known_host() {
    let served = Served::new();
    let server = SshServer::start(&served.directory());
    let ssh = ssh_command(served.scratch.path(), &server.private_key(), &server.known_host());
    let output = served.clone(&server.url("jobs.git"), &[("GIT_SSH_COMMAND", &ssh)]);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), server.log());
    served.assert_cloned(&output);
}

#[test]
fn ssh_refuses_a_strangers_key() {
    let served = Served::new();
    let server = SshServer::start(&served.directory());
    let ssh = ssh_command(served.scratch.path(), &server.strangers_key(), &server.known_host());
    served.assert_refused(&served.clone(&server.url("jobs.git"), &[("GIT_SSH_COMMAND", &ssh)]), "Permission denied");
}

#[test]
fn ssh_is_refused_by_who_knows_another_key_of_the_host() {
    let served = Served::new();
    let server = SshServer::start(&served.directory());
    let ssh = ssh_command(served.scratch.path(), &server.private_key(), &server.false_known_host());
    served.assert_refused(&served.clone(&server.url("jobs.git"), &[("GIT_SSH_COMMAND", &ssh)]), "verification failed");
}
