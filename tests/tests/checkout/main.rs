//! Checkout against real git servers: what comes here, what is refused and with which code, and that no credential stays behind.
//!
//! Calls the library, since each refusal has to be told from the others.
#![allow(clippy::panic, clippy::print_stdout, reason = "the helpers of these tests fail them, and show the messages they check")]

mod files;
mod https;
mod protocol;
mod ssh;

use std::fs;
use std::path::{Path, PathBuf};

use e2e::program;
use e2e::repository::Repository;
use errand_engine::checkout::{self, Checkout, Credentials, Limits, Source};
use errand_model::failure::{Failure, FailureKind};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A job repository of three commits, published bare as `served/jobs.git`.
struct Jobs {
    scratch: TempDir,
    repository: Repository,
    first: String,
    second: String,
    third: String,
}

impl Jobs {
    /// `main` has the third commit, `release/1` and the annotated tag `v1.0` the second, nothing the first.
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let repository = Repository::create(scratch.path().join("work"));
        let first = repository.write("errand.yaml", "version: 1\n").commit("first");
        let second = repository.write("jobs/one/job.yaml", "name: one\n").commit("second");
        repository.git(["tag", "--annotate", "--message", "release", "v1.0"]);
        repository.git(["branch", "release/1"]);
        let third = repository.write("jobs/one/job.yaml", "name: changed\n").commit("third");
        let jobs = Self { scratch, repository, first, second, third };
        jobs.publish();
        jobs
    }

    /// Publishes what the work repository holds now.
    fn publish(&self) {
        let target = self.served().join("jobs.git");
        if target.exists() {
            fs::remove_dir_all(&target).expect("the scratch directory can be written");
        }
        self.repository.publish(&target);
    }

    fn served(&self) -> PathBuf {
        self.scratch.path().join("served")
    }

    fn bare_url(&self) -> String {
        format!("file://{}/jobs.git", self.served().display())
    }

    fn target(&self) -> PathBuf {
        self.scratch.path().join("checkout")
    }

    /// Sets a setting of the published repository.
    fn configure(&self, name: &str, value: &str) {
        let mut git = program::hermetic("git", self.scratch.path());
        program::stdout_of(git.arg("-C").arg(self.served().join("jobs.git")).args(["config", name, value]));
    }

    fn fetch(&self, url: &str, reference: Option<&str>, credentials: &Credentials) -> Result<Checkout, Failure> {
        self.fetch_within(url, reference, credentials, Limits::default())
    }

    fn fetch_within(&self, url: &str, reference: Option<&str>, credentials: &Credentials, limits: Limits) -> Result<Checkout, Failure> {
        let target = self.target();
        if target.exists() {
            fs::remove_dir_all(&target).expect("the scratch directory can be written");
        }
        checkout::fetch(&Source::parse(url, reference)?, &target, limits, credentials, &CancellationToken::new())
    }
}

/// That the checkout holds the files of `commit`, and says so.
#[track_caller]
fn assert_at(jobs: &Jobs, result: Result<Checkout, Failure>, commit: &str) -> Checkout {
    let checkout = result.unwrap_or_else(|failure| panic!("{failure:#?}"));
    assert_eq!(checkout.report.commit.as_deref(), Some(commit));
    assert!(!checkout.report.uncommitted_changes);
    assert_eq!(fs::read_to_string(checkout.root.join("errand.yaml")).expect("checked out"), "version: 1\n");
    let job = fs::read_to_string(checkout.root.join("jobs/one/job.yaml")).ok();
    let expected = [(&jobs.first, None), (&jobs.second, Some("name: one\n")), (&jobs.third, Some("name: changed\n"))];
    let (_, expected) = expected.into_iter().find(|(id, _)| *id == commit).expect("a commit of the repository");
    assert_eq!(job.as_deref(), expected);
    checkout
}

/// That it failed with this code, as this kind, and says what to do.
#[track_caller]
fn assert_failed(result: Result<Checkout, Failure>, code: &str, kind: FailureKind) -> Failure {
    let failure = result.expect_err("refused");
    assert_eq!((failure.code.as_str(), failure.kind), (code, kind), "{failure:#?}");
    let help = failure.help.as_deref().unwrap_or_else(|| panic!("no help: {failure:#?}"));
    assert!(!help.is_empty() && !failure.message.ends_with('.'), "{failure:#?}");
    // Shown with `--nocapture`, so that the texts can be read as a user reads them.
    println!("{}: {}\n    help: {help}", failure.code, failure.message);
    failure
}

#[track_caller]
fn assert_refused(result: Result<Checkout, Failure>, code: &str) -> Failure {
    assert_failed(result, code, FailureKind::Checkout)
}

/// Whether a file below `directory`, or its name, holds `text`.
fn is_anywhere(directory: &Path, text: &str) -> bool {
    fs::read_dir(directory).expect("a directory can be read").any(|entry| {
        let path = entry.expect("a directory can be read").path();
        let in_name = path.to_string_lossy().contains(text);
        let in_content = if path.is_dir() {
            is_anywhere(&path, text)
        } else {
            let content = fs::read(&path).expect("a file can be read");
            content.windows(text.len()).any(|window| window == text.as_bytes())
        };
        in_name || in_content
    })
}
