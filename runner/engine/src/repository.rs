//! The job repository on disk: its definitions and the files they name, read within bounds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use errand_model::failure::Failure;
use errand_model::job::{Job, Project};
use errand_model::problem::Problem;

/// A directory with `errand.yaml` and `jobs/`.
#[derive(Clone, Debug)]
pub struct Repository {
    /// The directory.
    pub root: PathBuf,
}

/// What validation found.
#[derive(Debug, Default)]
pub struct Validation {
    /// The project, when `errand.yaml` has no error.
    pub project: Option<Project>,
    /// The jobs without an error, by name.
    pub jobs: Vec<Job>,
    /// How many job folders there are.
    pub job_count: usize,
    /// Every problem, by file and place.
    pub problems: Vec<Problem>,
    /// Text of every file that a problem names, for rendering.
    pub texts: BTreeMap<String, Arc<str>>,
}

/// Why there is no job to run.
#[derive(Debug)]
pub enum JobError {
    /// No folder of that name, or the repository itself cannot be read.
    Failure(Failure),
    /// The project or the job has errors; `Validation::jobs` is empty.
    Invalid(Box<Validation>),
}

impl Repository {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// It is no directory, or has no `errand.yaml`.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        Ok(Self { root: root.to_path_buf() })
    }

    /// Reads and checks the project and all jobs.
    #[must_use]
    pub fn validate(&self) -> Validation {
        Validation::default()
    }

    /// Reads and checks the project and one job; warnings come with it.
    ///
    /// # Errors
    ///
    /// There is no such job, or it has errors.
    pub fn job(&self, _name: &str) -> Result<(Project, Job, Vec<Problem>), JobError> {
        Err(JobError::Invalid(Box::default()))
    }
}
