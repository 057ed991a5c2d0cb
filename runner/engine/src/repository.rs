//! The job repository on disk: its definitions and the files they name, read within bounds.
//!
//! A repository is a stranger: links, special files, paths out of it, files past a size and text that is not UTF-8 are refused.

mod disk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Job, Project};
use errand_model::problem::{Problem, Severity, nearest};
use errand_model::validate;

use disk::{Disk, MAX_DEFINITION, Reading};

/// The project file.
const PROJECT: &str = "errand.yaml";
/// Most job folders of one repository.
const MAX_JOBS: usize = 10_000;
/// Fewest jobs for which a second thread pays.
const PARALLEL_FROM: usize = 16;

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
    /// Text of every file that a problem names and that could be read, for rendering.
    pub texts: BTreeMap<String, Arc<str>>,
}

impl Validation {
    /// Whether a problem is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    fn sort(&mut self) {
        let place = |problem: &Problem| {
            (problem.file.clone(), problem.span.as_ref().map_or(0, |span| span.start), problem.code, problem.message.clone())
        };
        self.problems.sort_by_cached_key(place);
        self.problems.dedup();
        let named: std::collections::BTreeSet<&str> = self.problems.iter().map(|problem| problem.file.as_str()).collect();
        self.texts.retain(|file, _| named.contains(file.as_str()));
        self.jobs.sort_by(|one, other| one.name.cmp(&other.name));
    }
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
        let refused = |code, message: String, help: &str| Failure::new(FailureKind::Definition, code, message).help(help);
        if !root.is_dir() {
            let message = format!("`{}` is not a directory", root.display());
            return Err(refused("repository::not_found", message, "name the directory that holds `errand.yaml`"));
        }
        if root.join(PROJECT).symlink_metadata().is_err() {
            let message = format!("`{}` has no `{PROJECT}`", root.display());
            return Err(refused("repository::no_project", message, "name the directory of a job repository, or write the file"));
        }
        Ok(Self { root: root.to_path_buf() })
    }

    /// Reads and checks the project and all jobs.
    #[must_use]
    pub fn validate(&self) -> Validation {
        let mut validation = self.project();
        let folders = match self.folders() {
            Ok((folders, problems)) => {
                validation.problems.extend(problems);
                folders
            }
            Err(problem) => {
                validation.problems.push(problem);
                Vec::new()
            }
        };
        validation.job_count = folders.len();
        for found in self.jobs(&folders, validation.project.as_ref()) {
            validation.jobs.extend(found.job);
            validation.problems.extend(found.problems);
            validation.texts.extend(found.texts);
        }
        validation.sort();
        validation
    }

    /// Reads and checks the project and one job; warnings come with it.
    ///
    /// # Errors
    ///
    /// There is no such job, or it has errors.
    pub fn job(&self, name: &str) -> Result<(Project, Job, Vec<Problem>), JobError> {
        let (folders, _) =
            self.folders().map_err(|problem| JobError::Failure(Failure::new(FailureKind::Definition, problem.code, problem.message)))?;
        if !folders.iter().any(|folder| folder == name) {
            let help = match nearest(name, folders.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if folders.is_empty() => "write one as `jobs/<name>/job.yaml`".to_owned(),
                None => format!("jobs are {}", listed(&folders)),
            };
            let message = format!("there is no job `{name}` in `{}`", self.root.display());
            return Err(JobError::Failure(Failure::new(FailureKind::Definition, "repository::no_job", message).help(help)));
        }
        let mut validation = self.project();
        validation.job_count = 1;
        let found = self.one(name, validation.project.as_ref());
        validation.problems.extend(found.problems);
        validation.texts.extend(found.texts);
        validation.sort();
        match (validation.project.take(), found.job) {
            (Some(project), Some(job)) => Ok((project, job, validation.problems)),
            (project, _) => {
                validation.project = project;
                Err(JobError::Invalid(Box::new(validation)))
            }
        }
    }

    /// Validates the project file alone.
    #[must_use]
    pub fn project(&self) -> Validation {
        let mut validation = Validation::default();
        match disk::read(&self.root, PROJECT, MAX_DEFINITION) {
            Ok(text) => {
                validation.project = validate::project(&text, PROJECT, &mut validation.problems);
                validation.texts.insert(PROJECT.to_owned(), text);
            }
            Err(reading) => validation.problems.push(unreadable(PROJECT, reading)),
        }
        validation
    }

    /// The names of job folders, and what lies in `jobs/` that should not.
    fn folders(&self) -> Result<(Vec<String>, Vec<Problem>), Problem> {
        let listed = disk::entries(&self.root, "jobs").map_err(|reading| unreadable("jobs", reading))?;
        let (mut folders, mut problems) = (Vec::new(), Vec::new());
        for entry in listed {
            let folder = format!("jobs/{}", entry.name);
            if entry.is_link {
                problems.push(unreadable(&folder, disk::refused_link(&folder)));
            } else if entry.is_directory && !entry.name.starts_with('.') {
                match disk::entries(&self.root, &folder) {
                    Ok(inside) if inside.iter().any(|file| file.name == "job.yaml") => folders.push(entry.name),
                    Ok(inside) => problems.extend(misnamed(&folder, &inside)),
                    Err(reading) => problems.push(unreadable(&folder, reading)),
                }
            }
        }
        if folders.len() > MAX_JOBS {
            let message = format!("{} jobs in one repository; there may be {MAX_JOBS}", folders.len());
            return Err(Problem::error("repository::too_many_jobs", message).file("jobs").help("split the repository"));
        }
        folders.sort_unstable();
        Ok((folders, problems))
    }

    fn jobs(&self, folders: &[String], project: Option<&Project>) -> Vec<Found> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        if folders.len() < PARALLEL_FROM || threads == 1 {
            return folders.iter().map(|folder| self.one(folder, project)).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            std::iter::from_fn(|| folders.get(next.fetch_add(1, Ordering::Relaxed)))
                .map(|folder| self.one(folder, project))
                .collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("validation does not panic")).collect()
        })
    }

    fn one(&self, folder: &str, project: Option<&Project>) -> Found {
        let file = format!("jobs/{folder}/job.yaml");
        let mut problems = Vec::new();
        let text = match disk::read(&self.root, &file, MAX_DEFINITION) {
            Ok(text) => text,
            Err(reading) => return Found { job: None, problems: vec![unreadable(&file, reading)], texts: BTreeMap::new() },
        };
        let disk = Disk::new(&self.root);
        let job = validate::job(folder, &text, &disk, project, &mut problems);
        let mut texts = disk.into_texts();
        texts.insert(file, text);
        Found { job, problems, texts }
    }
}

/// What one job folder gave.
struct Found {
    job: Option<Job>,
    problems: Vec<Problem>,
    texts: BTreeMap<String, Arc<str>>,
}

fn unreadable(file: &str, reading: Reading) -> Problem {
    Problem::error("repository::unreadable", reading.message).file(file).help(reading.help)
}

/// A folder with YAML that is not `job.yaml` was surely meant as a job; one without any may hold shared SQL.
fn misnamed(folder: &str, inside: &[disk::Entry]) -> Option<Problem> {
    let is_yaml =
        |name: &str| Path::new(name).extension().is_some_and(|end| end.eq_ignore_ascii_case("yml") || end.eq_ignore_ascii_case("yaml"));
    let yaml = inside.iter().find(|file| is_yaml(&file.name))?;
    let message = format!("`{folder}` has `{}` and no `job.yaml`", yaml.name);
    Some(Problem::error("repository::no_definition", message).file(&format!("{folder}/{}", yaml.name)).help("rename it to `job.yaml`"))
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests;
