//! What lies in S3: the deployment, run reports, claims, alerts, and the short form of past runs. Nothing is changed but on the condition
//! that nobody else has changed it.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use errand_model::deployment::Deployment;
use errand_model::report::RunReport;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::aws::answer;
use crate::history::{History, Run};
use crate::record::{Begun, Record};
use crate::time::{before, date, of_stamp, stamp};
use crate::watchdog;

/// Most reports that are read side by side.
const SIDE_BY_SIDE: usize = 16;
/// Reports may become visible a little out of order.
const OVERLAP: Duration = Duration::from_secs(3_600);
/// A larger report is not read: with sixteen of this size the function's memory is full.
const MAX_REPORT: i64 = 8 << 20;
/// Marks of reports lie there for longer than this.
const MARKED: Duration = Duration::from_secs(7 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);
/// Reports that are read before what they say is kept.
const PORTION: usize = 1_000;
/// Where the short form of past runs lies.
const HISTORY: &str = "alerts/history.json";
/// Alerts that somebody must look at again.
const OPEN: &str = "alerts/open/";

/// The state of one environment.
#[derive(Clone, Debug)]
pub(crate) struct State {
    client: aws_sdk_s3::Client,
    bucket: String,
    prefix: String,
}

/// An object, and which one it is.
pub(crate) struct Found<T> {
    pub(crate) value: T,
    etag: String,
}

/// One object of a list.
struct Listed {
    /// Without the prefix of the state.
    key: String,
    modified: Option<Timestamp>,
}

/// What a claim says, as far as the watchdog asks.
#[derive(Deserialize)]
pub(crate) struct Claim {
    /// When the interval was claimed.
    pub(crate) taken_at: Timestamp,
    #[serde(default)]
    pub(crate) run_id: String,
    /// ARN of the execution.
    #[serde(default)]
    pub(crate) execution: String,
    /// Names of the inputs whose values are not the job's defaults.
    #[serde(default)]
    chosen: Vec<String>,
}

/// Why something could not be read or written.
type Problem = String;

impl State {
    pub(crate) fn new(client: aws_sdk_s3::Client, bucket: String, prefix: String) -> Self {
        Self { client, bucket, prefix }
    }

    fn url(&self, key: &str) -> String {
        format!("s3://{}/{}{key}", self.bucket, self.prefix)
    }

    /// What is deployed; nothing before the first deployment.
    pub(crate) async fn deployment(&self) -> Result<Option<Deployment>, Problem> {
        let Some((content, _)) = self.get("deployment.json").await? else { return Ok(None) };
        Deployment::parse(&content).map(Some).map_err(|why| format!("cannot read `{}`: {why}", self.url("deployment.json")))
    }

    /// The alert of this key.
    pub(crate) async fn record(&self, key: &str) -> Result<Option<Found<Record>>, Problem> {
        let name = format!("alerts/{key}.json");
        let Some((content, etag)) = self.get(&name).await? else { return Ok(None) };
        let value = serde_json::from_slice(&content).map_err(|error| format!("cannot read `{}`: {error}", self.url(&name)))?;
        Ok(Some(Found { value, etag }))
    }

    /// Makes an alert, unless there is one of this key: then nothing is changed.
    pub(crate) async fn create(&self, record: Record) -> Result<Option<Found<Record>>, Problem> {
        let name = format!("alerts/{}.json", record.key);
        // First the mark: an alert that dies half told must be found again.
        if record.told_by.is_none() {
            self.put(&format!("{OPEN}{}", record.key), Vec::new(), None, None).await?;
        }
        let etag = self.put(&name, json(&record), Some("*"), None).await?;
        Ok(etag.map(|etag| Found { value: record, etag }))
    }

    /// Writes an alert that was read or made here; nothing when somebody else has written it since.
    pub(crate) async fn replace(&self, found: &mut Found<Record>) -> Result<bool, Problem> {
        let name = format!("alerts/{}.json", found.value.key);
        let etag = self.put(&name, json(&found.value), None, Some(&found.etag)).await?;
        Ok(etag.map(|etag| found.etag = etag).is_some())
    }

    /// Keys of the alerts that somebody must look at again.
    pub(crate) async fn open(&self) -> Result<Vec<String>, Problem> {
        let listed = self.list(OPEN).await?;
        Ok(listed.into_iter().filter_map(|object| object.key.strip_prefix(OPEN).map(str::to_owned)).collect())
    }

    /// Nobody needs to look at an alert again.
    pub(crate) async fn settle(&self, key: &str) -> Result<(), Problem> {
        let key = format!("{OPEN}{key}");
        let request = self.client.delete_object().bucket(&self.bucket).key(format!("{}{key}", self.prefix));
        request.send().await.map(|_| ()).map_err(|error| format!("cannot remove `{}`: {}", self.url(&key), answer(&error)))
    }

    /// Keys of the alerts that begin like this.
    pub(crate) async fn keys(&self, start: &str) -> Result<Vec<String>, Problem> {
        let listed = self.list(&format!("alerts/{start}")).await?;
        let key = |object: Listed| Some(object.key.strip_prefix("alerts/")?.strip_suffix(".json")?.to_owned());
        Ok(listed.into_iter().filter_map(key).collect())
    }

    /// Due times of a job that nobody need start again.
    pub(crate) async fn begun(&self, job: &str) -> Result<BTreeSet<Timestamp>, Problem> {
        let start = format!("catchup/{job}-");
        let keys = self.keys(&start).await?;
        Ok(keys.iter().filter_map(|key| of_stamp(key.strip_prefix(&start)?)).collect())
    }

    /// Remembers that nobody need start an interval again.
    pub(crate) async fn begin(&self, begun: &Begun) -> Result<(), Problem> {
        let name = format!("alerts/catchup/{}-{}.json", begun.job, stamp(begun.interval.end));
        self.put(&name, json(begun), Some("*"), None).await.map(|_| ())
    }

    /// The first claim on an interval, where there is one.
    pub(crate) async fn claimed(&self, job: &str, start: Timestamp, end: Timestamp) -> Result<Option<Claim>, Problem> {
        let time = |moment: Timestamp| moment.strftime("%Y%m%dT%H%M%S%.fZ").to_string();
        // Runs with inputs have a longer key. Who chose some of them does other work.
        let listed = self.list(&format!("claims/{job}/{}-{}", time(start), time(end))).await?;
        let mut claims = Vec::new();
        for object in listed {
            let claim = self.get(&object.key).await?.and_then(|(content, _)| serde_json::from_slice::<Claim>(&content).ok());
            // One that cannot be read was written at some time.
            let unread = || Some(Claim { taken_at: object.modified?, run_id: String::new(), execution: String::new(), chosen: Vec::new() });
            claims.extend(claim.or_else(unread).filter(|claim| claim.chosen.is_empty()));
        }
        Ok(claims.into_iter().min_by_key(|claim| claim.taken_at))
    }

    /// Past runs, with those that have ended since somebody last asked.
    pub(crate) async fn history(&self, deployment: &Deployment, now: Timestamp) -> Result<History, Problem> {
        // A file that cannot be read is made anew.
        let kept = self.get(HISTORY).await?;
        let mut history: History = kept.as_ref().and_then(|(content, _)| serde_json::from_slice(content).ok()).unwrap_or_default();
        let oldest = history.seen.map(|seen| before(seen, OVERLAP));
        let mut fresh: Vec<Listed> = self
            .ended(oldest, now)
            .await?
            .into_iter()
            .filter(|object| object.key.ends_with(".json"))
            .filter(|object| oldest.is_none_or(|oldest| object.modified.is_none_or(|modified| modified >= oldest)))
            .filter(|object| !history.knows(object.key.trim_start_matches("runs/")))
            .collect();
        fresh.sort_by_key(|object| object.modified);
        let (mut etag, mut is_whole) = (kept.map(|(_, etag)| etag), true);
        // In portions, each kept: an invocation that runs out of time leaves less to the next one.
        while !fresh.is_empty() {
            let rest = fresh.split_off(fresh.len().min(PORTION));
            let seen = fresh.iter().filter_map(|object| object.modified).max();
            let (runs, has_failed) = self.runs(std::mem::replace(&mut fresh, rest)).await;
            is_whole &= !has_failed;
            if is_whole {
                history.seen = history.seen.max(seen);
            }
            if !runs.is_empty() {
                history.add(runs, |job| watchdog::reach(deployment, job), now);
                let written = self.put(HISTORY, json(&history), etag.is_none().then_some("*"), etag.as_deref()).await?;
                // Somebody else may have written it meanwhile: what is missing there is read again by whoever asks next.
                etag = written.or(etag);
            }
        }
        Ok(history)
    }

    /// Reports by the marks of the days since; of all of them where nobody has looked for long, and the marks may be gone.
    async fn ended(&self, since: Option<Timestamp>, now: Timestamp) -> Result<Vec<Listed>, Problem> {
        let Some(since) = since.filter(|since| *since > before(now, MARKED)) else { return self.list("runs/").await };
        let mut all = Vec::new();
        // A mark bears the day on which its run ended: the day before, too, for a report that was long on its way.
        let (mut day, today) = (date(before(since, DAY)), date(now));
        while day <= today {
            let start = format!("ended/{day}/");
            let marks = self.list(&start).await?;
            all.extend(marks.into_iter().map(|mark| Listed { key: mark.key.replacen(&start, "runs/", 1), ..mark }));
            day = day.tomorrow().map_err(|error| error.to_string())?;
        }
        Ok(all)
    }

    /// Reads reports, and tells whether one could not be brought here. What is no report of this version is passed over.
    async fn runs(&self, objects: Vec<Listed>) -> (Vec<Run>, bool) {
        let (mut reading, mut runs, mut has_failed) = (JoinSet::new(), Vec::new(), false);
        let mut waiting = objects.into_iter();
        loop {
            while reading.len() < SIDE_BY_SIDE
                && let Some(object) = waiting.next()
            {
                let state = self.clone();
                reading.spawn(async move { state.run(&object.key).await });
            }
            match reading.join_next().await {
                None => return (runs, has_failed),
                Some(Ok(Ok(run))) => runs.extend(run),
                Some(Ok(Err(problem))) => {
                    tracing::warn!(problem, "a run report cannot be read");
                    has_failed = true;
                }
                Some(Err(_)) => has_failed = true,
            }
        }
    }

    async fn run(&self, key: &str) -> Result<Option<Run>, Problem> {
        let Some((content, _)) = self.get_within(key, MAX_REPORT).await? else { return Ok(None) };
        match serde_json::from_slice::<RunReport>(&content) {
            Ok(report) if report.version <= RunReport::VERSION => Ok(Run::of(key.trim_start_matches("runs/"), report)),
            Ok(_) | Err(_) => {
                tracing::warn!(key, "no run report that this version reads");
                Ok(None)
            }
        }
    }

    /// An object and its ETag; nothing when it is not there.
    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, String)>, Problem> {
        self.get_within(key, i64::MAX).await
    }

    /// The same; nothing when it has more bytes.
    async fn get_within(&self, key: &str, most: i64) -> Result<Option<(Vec<u8>, String)>, Problem> {
        let problem = |why: String| format!("cannot read `{}`: {why}", self.url(key));
        let request = self.client.get_object().bucket(&self.bucket).key(format!("{}{key}", self.prefix));
        let object = match request.send().await {
            Ok(object) => object,
            Err(SdkError::ServiceError(error)) if error.err().is_no_such_key() => return Ok(None),
            Err(error) => return Err(problem(answer(&error))),
        };
        let etag = object.e_tag().unwrap_or_default().to_owned();
        if object.content_length().is_some_and(|bytes| bytes > most) {
            tracing::warn!(key, "larger than what is read of its kind");
            return Ok(None);
        }
        let content = object.body.collect().await.map_err(|error| problem(error.to_string()))?;
        Ok(Some((content.to_vec(), etag)))
    }

    /// Writes an object and returns its ETag; nothing when the condition does not hold.
    async fn put(&self, key: &str, content: Vec<u8>, none_match: Option<&str>, matches: Option<&str>) -> Result<Option<String>, Problem> {
        let request = self.client.put_object().bucket(&self.bucket).key(format!("{}{key}", self.prefix));
        let request = request.content_type("application/json").body(ByteStream::from(content));
        let request = request.set_if_none_match(none_match.map(str::to_owned)).set_if_match(matches.map(str::to_owned));
        match request.send().await {
            Ok(answer) => Ok(Some(answer.e_tag().unwrap_or_default().to_owned())),
            // 412: the condition does not hold; 409: another write is under way, which will be the first.
            Err(error) if (none_match.is_some() || matches.is_some()) && matches!(status(&error), Some(409 | 412)) => Ok(None),
            Err(error) => Err(format!("cannot write `{}`: {}", self.url(key), answer(&error))),
        }
    }

    async fn list(&self, start: &str) -> Result<Vec<Listed>, Problem> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(format!("{}{start}", self.prefix));
        let mut pages = request.into_paginator().send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| format!("cannot list `{}`: {}", self.url(start), answer(&error)))?;
            all.extend(page.contents().iter().filter_map(|object| {
                let key = object.key()?.strip_prefix(&self.prefix)?.to_owned();
                let modified = object.last_modified().and_then(|at| Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).ok()?).ok());
                Some(Listed { key, modified })
            }));
        }
        Ok(all)
    }
}

fn status<E>(error: &SdkError<E, aws_sdk_s3::config::http::HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("plain data is JSON")
}
