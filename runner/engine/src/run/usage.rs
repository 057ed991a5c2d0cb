//! What the statements of a run cost: asked beside its steps, and waited for a little at its end, so that no step is slower for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use errand_model::report::{StepReport, UsageReport};
use tokio_util::task::AbortOnDropHandle;

use crate::warehouse::UsageQuestion;

/// Longest wait at the end of a run: the report is worth more than its figures.
const PATIENCE: Duration = Duration::from_secs(5);

/// Questions on their way.
#[derive(Default)]
pub struct Bills(Mutex<Vec<Bill>>);

struct Bill {
    step: String,
    attempt: u32,
    answer: AbortOnDropHandle<Option<UsageReport>>,
}

impl Bills {
    /// Asks what a session of an attempt cost.
    pub fn ask(&self, step: &str, attempt: u32, question: UsageQuestion) {
        let bill = Bill { step: step.to_owned(), attempt, answer: AbortOnDropHandle::new(tokio::spawn(question)) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bill);
    }

    /// Writes the answers that are there, or come soon, to their attempts. The others are given up.
    pub async fn settle(&self, reports: &mut BTreeMap<usize, StepReport>) {
        let bills = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let end = tokio::time::Instant::now() + PATIENCE;
        for Bill { step, attempt, answer } in bills {
            let Ok(Ok(Some(usage))) = tokio::time::timeout_at(end, answer).await else { continue };
            let attempts = reports.values_mut().filter(|report| report.id == step).flat_map(|report| &mut report.attempts);
            for attempt in attempts.filter(|report| report.number == attempt) {
                *attempt.usage.get_or_insert_default() += usage;
            }
        }
    }

    /// Gives all of them up.
    pub fn drop_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
