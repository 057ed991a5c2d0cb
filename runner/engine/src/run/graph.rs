//! Which steps are part of a run, and which are ready: a graph that validation has found free of cycles.

use std::collections::{BTreeMap, BTreeSet};

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Job, Step};
use errand_model::problem::nearest;

/// The steps that `--step` asks for with all that they need; every step when none is named.
///
/// # Errors
///
/// `Definition` when a name is not a step of the job.
pub(super) fn selected(job: &Job, only: &[String]) -> Result<BTreeSet<String>, Failure> {
    if only.is_empty() {
        return Ok(job.steps.iter().map(|step| step.id.to_string()).collect());
    }
    let mut chosen = BTreeSet::new();
    let mut queue: Vec<&str> = only.iter().map(String::as_str).collect();
    while let Some(id) = queue.pop() {
        let step = find(job, id)?;
        if chosen.insert(id.to_owned()) {
            queue.extend(step.needs.iter().map(errand_model::value::Name::as_str));
        }
    }
    Ok(chosen)
}

/// What decides the effect of each step: its own digest and those of all that it needs, so that a changed step makes anew what is built
/// on it.
pub(super) fn digests(job: &Job) -> BTreeMap<String, String> {
    let mut digests = BTreeMap::new();
    for step in &job.steps {
        let mut chain = BTreeMap::new();
        let mut queue = vec![step];
        while let Some(step) = queue.pop() {
            if chain.insert(step.id.as_str(), step.digest.as_str()).is_none() {
                queue.extend(job.steps.iter().filter(|other| step.needs.contains(&other.id)));
            }
        }
        let chain: Vec<String> = chain.into_iter().map(|(id, digest)| format!("{id}={digest}")).collect();
        digests.insert(step.id.to_string(), chain.join(","));
    }
    digests
}

fn find<'j>(job: &'j Job, id: &str) -> Result<&'j Step, Failure> {
    job.steps.iter().find(|step| step.id.as_str() == id).ok_or_else(|| {
        let known: Vec<&str> = job.steps.iter().map(|step| step.id.as_str()).collect();
        let help = nearest(id, known.iter().copied())
            .map_or_else(|| format!("its steps: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
        Failure::new(FailureKind::Definition, "run::unknown_step", format!("job `{}` has no step `{id}`", job.name)).help(help)
    })
}

/// How far a step has come, for those that need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not started.
    Waiting,
    /// Started.
    Running,
    /// Ended so that those that need it may start.
    Passed,
    /// Ended so that those that need it cannot start.
    Blocked,
}

/// The steps of a run and how far each has come.
pub(super) struct Graph<'j> {
    steps: Vec<(&'j Step, Progress)>,
    by_id: BTreeMap<&'j str, usize>,
}

impl<'j> Graph<'j> {
    /// Every step waits; those not chosen count as passed, for what they make is taken as it lies.
    pub(super) fn new(job: &'j Job, chosen: &BTreeSet<String>) -> Self {
        let state = |step: &Step| if chosen.contains(step.id.as_str()) { Progress::Waiting } else { Progress::Passed };
        let steps: Vec<_> = job.steps.iter().map(|step| (step, state(step))).collect();
        let by_id = steps.iter().enumerate().map(|(at, (step, _))| (step.id.as_str(), at)).collect();
        Self { steps, by_id }
    }

    /// A waiting step whose needs have all passed, in the author's order.
    pub(super) fn next_ready(&self) -> Option<usize> {
        (0..self.steps.len()).find(|at| self.steps[*at].1 == Progress::Waiting && self.needs(*at).all(|need| need == Progress::Passed))
    }

    /// A waiting step that can never start, with the step that blocks it.
    pub(super) fn next_blocked(&self) -> Option<(usize, &'j str)> {
        (0..self.steps.len()).filter(|at| self.steps[*at].1 == Progress::Waiting).find_map(|at| {
            let step = self.steps[at].0;
            let blocker = step.needs.iter().find(|need| self.progress(need.as_str()) == Some(Progress::Blocked))?;
            Some((at, blocker.as_str()))
        })
    }

    /// Every step that still waits.
    pub(super) fn waiting(&self) -> Vec<usize> {
        (0..self.steps.len()).filter(|at| self.steps[*at].1 == Progress::Waiting).collect()
    }

    pub(super) fn step(&self, at: usize) -> &'j Step {
        self.steps[at].0
    }

    pub(super) fn set(&mut self, at: usize, progress: Progress) {
        self.steps[at].1 = progress;
    }

    fn progress(&self, id: &str) -> Option<Progress> {
        self.by_id.get(id).map(|at| self.steps[*at].1)
    }

    fn needs(&self, at: usize) -> impl Iterator<Item = Progress> + '_ {
        self.steps[at].0.needs.iter().filter_map(|need| self.progress(need.as_str()))
    }
}
