//! When an alert closes: what was wrong has since been done.
//!
//! Pure.

use errand_model::deployment::Deployment;
use errand_model::document::job::Catchup;

use crate::history::{History, Run};
use crate::message::Subject;
use crate::record::Record;

/// How an open alert closes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Closing<'a> {
    /// By a run that did it.
    By(&'a Run),
    /// Because the job is no more.
    Gone,
}

/// Whether and how an open alert closes.
pub(crate) fn closing<'a>(record: &Record, deployment: &Deployment, history: &'a History) -> Option<Closing<'a>> {
    let Some(job) = deployment.jobs.get(&record.job) else { return Some(Closing::Gone) };
    let later = |run: &&Run| run.is_success() && (run.finished_at > record.opened_at || record.run_id.as_deref() == Some(&run.run_id));
    let successes = || history.runs.iter().filter(|run| run.job == record.job);
    let found = match (record.subject, record.dues.first()) {
        // Each interval that failed wants its own success, with the same inputs; a run without interval, any.
        (Subject::Failure, _) => successes().filter(later).find(|run| {
            let is_same = record.chosen.as_ref().is_none_or(|chosen| *chosen == run.chosen);
            is_same && record.interval.as_ref().is_none_or(|interval| run.covers(interval))
        }),
        // A success that came in between counts, too: it is what the alert waited for.
        (Subject::Late, Some(first)) => match job.catchup {
            Catchup::All => {
                let done = |due| successes().find(|run| run.is_success() && run.is_for(due));
                record.dues.iter().all(|due| done(*due).is_some()).then(|| record.dues.last().and_then(|due| done(*due))).flatten()
            }
            Catchup::None | Catchup::Last => successes().find(|run| {
                run.is_success()
                    && run.is_usual()
                    && run.interval.as_ref().map_or(run.started_at >= *first, |interval| interval.end >= *first)
            }),
        },
        (Subject::Late, None) => successes().find(later),
        (Subject::Warning | Subject::Recovered, _) => None,
    };
    found.map(Closing::By)
}

#[cfg(test)]
mod tests {
    use errand_model::document::job::Catchup;
    use errand_model::report::Outcome;

    use super::{Closing, closing};
    use crate::alert::tests::deployment;
    use crate::history::History;
    use crate::history::tests::{at, run};
    use crate::message::Subject;
    use crate::record::Record;

    fn record(subject: Subject, opened: &str) -> Record {
        Record::open("k", subject, "orders", at(opened), None)
    }

    fn by(record: &Record, catchup: Catchup, history: &History) -> Option<String> {
        let mut deployment = deployment();
        deployment.jobs.get_mut("orders").expect("the job").catchup = catchup;
        closing(record, &deployment, history).map(|closing| match closing {
            Closing::By(run) => run.run_id.clone(),
            Closing::Gone => "gone".to_owned(),
        })
    }

    #[test]
    fn a_failure_closes_by_a_later_success_of_its_own_interval() {
        let runs = vec![
            run("orders", "before", "2026-11-19T06:00:00Z", Outcome::Succeeded),
            run("orders", "other", "2026-11-21T06:00:00Z", Outcome::Succeeded),
        ];
        let mut history = History { seen: None, runs };
        let mut failure = record(Subject::Failure, "2026-11-20T06:05:00Z");
        failure.interval = run("orders", "x", "2026-11-20T06:00:00Z", Outcome::Failed).interval;
        assert_eq!(by(&failure, Catchup::None, &history), None);
        let mut again = run("orders", "again", "2026-11-20T06:00:00Z", Outcome::Warned);
        again.finished_at = at("2026-11-20T09:00:00Z");
        history.runs.push(again);
        assert_eq!(by(&failure, Catchup::None, &history).as_deref(), Some("again"));
        let mut skipped = run("orders", "skipped", "2026-11-20T06:00:00Z", Outcome::Skipped);
        skipped.finished_at = at("2026-11-20T09:00:00Z");
        assert_eq!(by(&failure, Catchup::None, &History { seen: None, runs: vec![skipped] }), None);
        failure.chosen = Some(r#"{"region":"br"}"#.to_owned());
        assert_eq!(by(&failure, Catchup::None, &history), None, "another region does not stand for it");
        failure.chosen = Some(String::new());
        assert_eq!(by(&failure, Catchup::None, &history).as_deref(), Some("again"));
        history.runs[2].chosen = r#"{"region":"br"}"#.to_owned();
        assert_eq!(by(&failure, Catchup::None, &history), None, "a part does not stand for all");
        failure.chosen.clone_from(&Some(history.runs[2].chosen.clone()));
        assert_eq!(by(&failure, Catchup::None, &history).as_deref(), Some("again"));
        failure.chosen = None;
        failure.interval = None;
        assert_eq!(by(&failure, Catchup::None, &history).as_deref(), Some("other"));
        failure.job = "removed".to_owned();
        assert_eq!(by(&failure, Catchup::None, &history).as_deref(), Some("gone"));
    }

    #[test]
    fn a_missed_run_closes_by_a_later_one_unless_each_must_be_made_up_for() {
        let mut late = record(Subject::Late, "2026-11-19T06:30:00Z");
        late.dues = vec![at("2026-11-19T06:00:00Z"), at("2026-11-20T06:00:00Z")];
        let mut history = History { seen: None, runs: vec![run("orders", "r20", "2026-11-20T06:00:00Z", Outcome::Succeeded)] };
        assert_eq!(by(&late, Catchup::None, &history).as_deref(), Some("r20"));
        assert_eq!(by(&late, Catchup::All, &history), None);
        history.runs.insert(0, run("orders", "r19", "2026-11-19T06:00:00Z", Outcome::AlreadyDone));
        assert_eq!(by(&late, Catchup::All, &history).as_deref(), Some("r20"));
        for outcome in [Outcome::Failed, Outcome::Skipped] {
            history.runs = vec![run("orders", "bad", "2026-11-21T06:00:00Z", outcome)];
            assert_eq!(by(&late, Catchup::None, &history), None);
        }
    }
}
