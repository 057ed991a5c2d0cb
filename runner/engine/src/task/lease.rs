//! Small files in the place of the run reports that say which run holds something, and until when.
//!
//! A holder renews its lease at each heartbeat; one that has not been renewed for the time that it names itself may be taken by another run.
//! Every change names the content that it replaces, so of two runs that take one lease, one does.

use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};
use errand_model::report::{IntervalReport, Outcome};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::{Store, Version};

/// Version of the format.
const VERSION: u32 = 1;

/// Most tries to change a lease that holds changes of this process whose answers were lost.
const UNHEARD: usize = 5;

/// What the holder of a lease is, or was at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It runs.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended otherwise, and what it held is free.
    Ended,
}

impl State {
    /// The state of a lease whose holder ended.
    pub(crate) const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded | Outcome::AlreadyDone | Outcome::Warned => Self::Succeeded,
            Outcome::Skipped | Outcome::Failed | Outcome::Cancelled => Self::Ended,
        }
    }
}

/// What one lease says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) job: String,
    /// The span of time that the holder is for.
    pub(crate) interval: IntervalReport,
    /// The run that holds it.
    pub(crate) run_id: String,
    /// Its execution, where there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) execution: String,
    pub(crate) attempt: u32,
    /// Names the very process.
    pub(crate) holder: String,
    /// The commit of the definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    /// Names of the inputs whose values are not the job's defaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) chosen: Vec<String>,
    pub(crate) state: State,
    pub(crate) taken_at: Timestamp,
    pub(crate) renewed_at: Timestamp,
    /// It may be taken by others when it was not renewed for so long.
    pub(crate) lease_seconds: u64,
    /// Where the report of the run lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) report: Option<String>,
    /// The run that asks the holder to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end_wanted_by: Option<String>,
    /// Whether the holder makes up for a past interval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) makes_up: bool,
}

/// Who takes leases.
#[derive(Clone, Debug)]
pub(crate) struct Taker {
    pub(crate) job: String,
    pub(crate) interval: IntervalReport,
    pub(crate) run_id: String,
    pub(crate) execution: String,
    pub(crate) attempt: u32,
    pub(crate) holder: String,
    pub(crate) commit: Option<String>,
    pub(crate) chosen: Vec<String>,
    /// Whether a person started it, and means it.
    pub(crate) by_hand: bool,
    /// Whether it makes up for a past interval: the watchdog started it, or it is of a backfill.
    pub(crate) makes_up: bool,
    pub(crate) lease_seconds: u64,
}

impl Taker {
    /// The record of a lease that this run takes now.
    pub(crate) fn record(&self, now: Timestamp) -> Record {
        Record {
            version: VERSION,
            job: self.job.clone(),
            interval: self.interval.clone(),
            run_id: self.run_id.clone(),
            execution: self.execution.clone(),
            attempt: self.attempt,
            holder: self.holder.clone(),
            commit: self.commit.clone(),
            chosen: self.chosen.clone(),
            state: State::Running,
            taken_at: now,
            renewed_at: now,
            lease_seconds: self.lease_seconds,
            report: None,
            end_wanted_by: None,
            makes_up: self.makes_up,
        }
    }
}

impl Record {
    /// Whether its holder runs and was heard of in time.
    pub(crate) fn is_alive(&self, now: Timestamp) -> bool {
        let silence = u64::try_from(now.duration_since(self.renewed_at).as_secs()).unwrap_or(0);
        self.state == State::Running && silence <= self.lease_seconds
    }

    fn bytes(&self) -> Bytes {
        Bytes::from(serde_json::to_vec_pretty(self).expect("a record is plain data"))
    }
}

/// A lease as it was found.
pub(crate) struct Found {
    pub(crate) record: Record,
    pub(crate) version: Version,
}

/// A lease that this process holds.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) key: String,
    pub(crate) record: Record,
    version: Version,
}

/// Leases under one place.
#[derive(Clone, Debug)]
pub(crate) struct Leases(pub(crate) Store);

impl Leases {
    /// What a lease says; none when nobody ever took it.
    ///
    /// Fails with what the store says, and as `Permanent` with `task::bad_claim`.
    pub(crate) async fn find(&self, key: &str) -> Result<Option<Found>, Failure> {
        let Some((content, version)) = self.0.get_version(key).await? else { return Ok(None) };
        let record: Record = serde_json::from_slice(&content).map_err(|error| {
            let message = format!("`{}` is no claim of this errand: {error}", self.0.url(key));
            Failure::new(FailureKind::Permanent, "task::bad_claim", message)
                .help("remove the object; the ledger keeps loads apart meanwhile")
        })?;
        Ok(Some(Found { record, version }))
    }

    /// Takes a lease in place of what was found; none when another run was faster.
    ///
    /// Fails with what the store says.
    pub(crate) async fn take(&self, key: &str, record: Record, found: Option<&Found>) -> Result<Option<Lease>, Failure> {
        let version = self.0.swap(key, record.bytes(), found.map(|found| &found.version)).await?;
        Ok(version.map(|version| Lease { key: key.to_owned(), record, version }))
    }

    /// Asks the holder of a lease to end.
    ///
    /// Fails with what the store says.
    pub(crate) async fn ask_to_end(&self, key: &str, found: &Found, by: &str) -> Result<(), Failure> {
        let record = Record { end_wanted_by: Some(by.to_owned()), ..found.record.clone() };
        self.0.swap(key, record.bytes(), Some(&found.version)).await.map(|_| ())
    }

    /// Says that the holder is alive.
    ///
    /// Fails as `Cancelled` with `task::lost_claim` when another run took it, with `task::asked_to_end` when another wants it; else with what the
    /// store says.
    pub(crate) async fn renew(&self, lease: &mut Lease, now: Timestamp) -> Result<(), Failure> {
        let record = Record { renewed_at: now, ..lease.record.clone() };
        self.change(lease, record).await
    }

    /// Says that the holder has ended. One that another run took meanwhile is left to it.
    ///
    /// Fails with what the store says.
    pub(crate) async fn end(&self, lease: &mut Lease, state: State, report: Option<&str>, now: Timestamp) -> Result<(), Failure> {
        let record = Record { state, renewed_at: now, report: report.map(str::to_owned), ..lease.record.clone() };
        match self.change(lease, record.clone()).await {
            // The wish of another run changed the record; the end is all that it waits for.
            Err(failure) if failure.code == "task::asked_to_end" => self.change(lease, Record { end_wanted_by: None, ..record }).await,
            Err(failure) if failure.code == "task::lost_claim" => {
                tracing::warn!(lease = lease.key, why = failure.message, "a claim was no longer held at the end of the run");
                Ok(())
            }
            ended => ended,
        }
    }

    async fn change(&self, lease: &mut Lease, record: Record) -> Result<(), Failure> {
        for _ in 0..UNHEARD {
            if let Some(version) = self.0.swap(&lease.key, record.bytes(), Some(&lease.version)).await? {
                lease.record = record;
                lease.version = version;
                return Ok(());
            }
            let lost = |why: String| {
                Failure::new(FailureKind::Cancelled, "task::lost_claim", why)
                    .help("the run that holds it now does the work; see its report")
            };
            let Some(found) = self.find(&lease.key).await? else {
                return Err(lost(format!("`{}` is gone", self.0.url(&lease.key))));
            };
            if found.record.holder != lease.record.holder {
                return Err(lost(format!("run `{}` took `{}` meanwhile", found.record.run_id, self.0.url(&lease.key))));
            }
            let asked_by = found.record.end_wanted_by.clone();
            lease.record = found.record;
            lease.version = found.version;
            if let Some(by) = asked_by {
                let message = format!("run `{by}` of the group asked this one to end (`on_overlap: cancel`)");
                return Err(Failure::new(FailureKind::Cancelled, "task::asked_to_end", message));
            }
            // Nobody else changed it: an earlier change of this very process arrived, whose answer was lost.
        }
        let message = format!("`{}` changed each time that this run wanted to change it", self.0.url(&lease.key));
        Err(Failure::new(FailureKind::Transient, "task::contended", message).help("it is tried again at the next heartbeat"))
    }
}
