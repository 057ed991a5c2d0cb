//! The definitions of a repository for commands that need them without an error, and the environment that a command is for.

use errand_model::failure::Failure;
use errand_model::job::{Job, Project};

use super::Surroundings;
use super::run::show_problems;
use super::selection::Refusal;
use crate::repository::Validation;

/// A project and its jobs.
pub(super) struct Definitions {
    pub(super) project: Project,
    /// None where only `errand.yaml` was read.
    pub(super) jobs: Vec<Job>,
}

impl Definitions {
    /// What was read, when it has no error; else its problems are told on stderr.
    ///
    /// Fails as `Definition`.
    pub(super) fn accept(mut validation: Validation, surroundings: &Surroundings) -> Result<Self, Failure> {
        if !validation.has_errors()
            && let Some(project) = validation.project.take()
        {
            return Ok(Self { project, jobs: validation.jobs });
        }
        let refusal = Refusal::Invalid(Box::new(validation));
        show_problems(&refusal, surroundings);
        Err(refusal.into_failure())
    }

    /// The environment: of the argument, else of the settings, else the default one.
    pub(super) fn environment<'a>(&'a self, argument: Option<&'a String>, surroundings: &'a Surroundings) -> &'a str {
        let named = argument.or(surroundings.settings.environment.as_ref());
        named.map_or(self.project.default_environment.as_str(), String::as_str)
    }
}
