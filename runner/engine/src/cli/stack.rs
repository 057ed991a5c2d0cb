//! The stack of an environment, and the commit whose jobs it runs: what `deploy`, `start`, `stop` and `backfill` share.

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Aws, Project};
use errand_model::problem::nearest;
use errand_model::report::CheckoutReport;
use tokio::runtime::{Builder, Runtime};

/// A runtime for a command that waits for services.
///
/// Fails as `Transient` with `run::no_runtime`.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FailureKind::Transient, "run::no_runtime", format!("cannot start the runtime: {error}")))
}

/// The stack of an environment.
///
/// Fails as `Definition` with `run::unknown_environment` or `deploy::no_stack`.
pub(super) fn of<'p>(project: &'p Project, environment: &str) -> Result<&'p Aws, Failure> {
    let Some(found) = project.environments.get(environment) else {
        let names = || project.environments.keys().map(String::as_str);
        let help = match nearest(environment, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("`errand.yaml` has {}", names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
        };
        let message = format!("no environment `{environment}`");
        return Err(Failure::new(FailureKind::Definition, "run::unknown_environment", message).help(help));
    };
    found.aws.as_ref().ok_or_else(|| {
        let having: Vec<&str> =
            project.environments.iter().filter(|(_, other)| other.aws.is_some()).map(|(name, _)| name.as_str()).collect();
        let help = match having.as_slice() {
            [] => "add the key `aws` with the outputs of its stack to the environment in `errand.yaml`".to_owned(),
            names => format!("choose another with `--env`: {}; or add the key `aws` to it in `errand.yaml`", names.join(", ")),
        };
        Failure::new(FailureKind::Definition, "deploy::no_stack", format!("environment `{environment}` has no stack")).help(help)
    })
}

/// The commit that tasks will fetch. What no commit holds they would not see.
///
/// Fails as `Definition` with `deploy::no_commit`.
pub(super) fn commit(checkout: &CheckoutReport) -> Result<&str, Failure> {
    let refused = |message: &str, help: &str| Err(Failure::new(FailureKind::Definition, "deploy::no_commit", message).help(help));
    match &checkout.commit {
        None => refused("the job repository is at no commit", "name a git repository, or a commit of one with `--ref`"),
        Some(_) if checkout.uncommitted_changes => refused(
            "the job repository has changes that no commit holds: tasks would not see them",
            "commit and push them, or name a commit with `--ref`",
        ),
        Some(commit) => Ok(commit),
    }
}
