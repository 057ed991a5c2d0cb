//! Missed intervals of one tick: started oldest first, each once ever, and no more at once than their group may have at work.

use std::collections::{BTreeMap, BTreeSet};

use errand_model::deployment::DeployedJob;
use errand_model::document::job::Catchup;
use errand_model::interval::Interval;
use errand_model::order::name;
use jiff::Timestamp;

use super::Tick;
use crate::catchup::{self, Catching, MOST_STARTS};
use crate::record::Begun;
use crate::watchdog::View;

/// Most questions of one kind that one tick asks: about executions of a job, about claims.
const LOOKS: usize = 100;

impl Tick<'_> {
    /// Starts what was missed of jobs that catch up, and keeps what became of it in `self.catching`.
    pub(super) async fn catch_up(&mut self, failed: &BTreeSet<(String, Timestamp)>) {
        let (deployment, history) = (self.deployment, self.history);
        let view = View { deployment, history, starts: &[], failed, now: self.now };
        let (mut wanted, mut at_work) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
        for (name, job) in &deployment.jobs {
            let missed = catchup::missed(&view, name, job);
            if missed.is_empty() {
                continue;
            }
            let mut catching = Catching::default();
            match self.ready(job) {
                Ok(()) => match self.begun(name, &missed).await {
                    Ok((begun, running)) => {
                        *at_work.entry(catchup::room(name, job).0.to_owned()).or_default() += running;
                        wanted.insert(name.clone(), catchup::wanted(&view, name, job, missed, &begun));
                    }
                    Err(problem) => {
                        catching.problem = Some(problem.clone());
                        self.problems.push(problem);
                    }
                },
                // It is told with what is late; nothing that another try would mend.
                Err(why) => {
                    tracing::warn!(job = name, why, "missed intervals cannot be started");
                    catching.problem = Some(why);
                }
            }
            self.catching.insert(name.clone(), catching);
        }
        self.start_in_turn(wanted, at_work).await;
    }

    async fn start_in_turn(&mut self, wanted: BTreeMap<String, Vec<Interval>>, mut at_work: BTreeMap<String, usize>) {
        let deployment = self.deployment;
        let (mut starts, mut looks) = (0, 0);
        for (name, interval) in catchup::in_turn(wanted) {
            let Some((name, job)) = deployment.jobs.get_key_value(&name) else { continue };
            let (group, limit) = catchup::room(name, job);
            let busy = at_work.entry(group.to_owned()).or_default();
            let mut catching = self.catching.remove(name).unwrap_or_default();
            let is_stuck = catching.problem.is_some() || catching.waiting > 0;
            if is_stuck || *busy >= limit || starts == MOST_STARTS || looks == LOOKS || !self.has_time() {
                catching.waiting += 1;
            } else {
                looks += 1;
                match self.start_missed(name, job, &interval).await {
                    Ok(Some(run_id)) => {
                        (*busy, starts) = (*busy + 1, starts + 1);
                        catching.started.push(run_id);
                    }
                    Ok(None) => {}
                    Err(problem) => {
                        catching.problem = Some(problem.clone());
                        self.problems.push(problem);
                    }
                }
            }
            self.catching.insert(name.clone(), catching);
        }
    }

    /// Whether the missed intervals of a job can be started.
    ///
    /// Fails saying what is missing.
    fn ready(&self, job: &DeployedJob) -> Result<(), String> {
        self.handler.executions.state_machine()?;
        job.order.as_ref().map(|_| ()).ok_or_else(|| "the deployment does not say what to start them with: run `errand deploy`".to_owned())
    }

    /// The due times of a job that nobody need start again, and how many runs that were started for missed ones are at work.
    async fn begun(&self, job: &str, missed: &[Interval]) -> Result<(BTreeSet<Timestamp>, usize), String> {
        let begun = self.handler.state.begun(job).await?;
        let mut running = 0;
        for interval in missed.iter().rev().filter(|interval| begun.contains(&interval.end)).take(LOOKS) {
            let run_id = name::catchup(job, &self.deployment.environment, interval);
            running += usize::from(self.handler.executions.is_running(&run_id).await?);
        }
        Ok((begun, running))
    }

    /// Starts the run of a missed interval; nothing when a run has claimed it meanwhile. The name of the run.
    async fn start_missed(&self, job_name: &str, job: &DeployedJob, interval: &Interval) -> Result<Option<String>, String> {
        let mut begun = Begun::new(job_name, interval.report(), self.now);
        if self.has_come(job_name, job, interval).await? {
            self.handler.state.begin(&begun).await?;
            return Ok(None);
        }
        let order = job.order.clone().ok_or("the deployment does not say what to start it with")?.missed(interval.end);
        let run_id = name::catchup(job_name, &self.deployment.environment, interval);
        let execution = self.handler.executions.start(&run_id, &order.json()).await?;
        tracing::info!(job = job_name, run_id, "missed interval started");
        (begun.run_id, begun.execution) = (Some(run_id.clone()), Some(execution));
        // Where this cannot be written, the next tick starts it again, and finds by its name that it was started.
        self.handler.state.begin(&begun).await?;
        Ok(Some(run_id))
    }

    /// Whether a run has claimed the interval; with `last`, that or a later one.
    async fn has_come(&self, job_name: &str, job: &DeployedJob, interval: &Interval) -> Result<bool, String> {
        let later = if job.catchup == Catchup::Last { catchup::later(job, interval, self.now) } else { Vec::new() };
        for interval in [interval].into_iter().chain(later.iter().rev().take(LOOKS)) {
            if self.handler.state.claimed(job_name, interval.start, interval.end).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
