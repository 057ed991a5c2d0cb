//! Schedules and the spans of time between their ticks.
//!
//! Cron counts in local time. Where the clock goes forward, a tick at a time that does not exist comes at the first moment
//! after the gap; where it goes back, a job at a fixed time runs once, at the earlier of the two moments, and a job that runs
//! every so often runs in both. So a daily job has one interval a day, of 23, 24 or 25 hours, and each interval ends where
//! the next one starts.

mod cron;

use croner::Cron;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan, Zoned};

use crate::problem::nearest;
use crate::report::IntervalReport;

/// When a job runs.
#[derive(Clone, Debug)]
pub struct Schedule {
    written: String,
    timezone: String,
    cron: Cron,
    zone: TimeZone,
}

/// Which half of a schedule is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulePart {
    /// The cron expression.
    Cron,
    /// The time zone.
    Timezone,
}

/// Why a schedule is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError {
    /// Which half.
    pub part: SchedulePart,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Schedule {
    /// Parses five cron fields and an IANA zone.
    ///
    /// # Errors
    ///
    /// Which half is wrong, and why. An expression that never fires is wrong too.
    pub fn parse(cron: &str, timezone: &str) -> Result<Self, ScheduleError> {
        let parsed = cron::parse(cron).map_err(|(message, help)| ScheduleError { part: SchedulePart::Cron, message, help })?;
        let zone = zone(timezone).map_err(|(message, help)| ScheduleError { part: SchedulePart::Timezone, message, help })?;
        Ok(Self { written: cron.to_owned(), timezone: timezone.to_owned(), cron: parsed, zone })
    }

    /// The expression as written.
    #[must_use]
    pub fn cron(&self) -> &str {
        &self.written
    }

    /// The zone's name.
    #[must_use]
    pub fn timezone(&self) -> &str {
        &self.timezone
    }

    /// The first tick after a moment.
    #[must_use]
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        self.cron.find_next_occurrence(&self.local(moment), false).ok().map(|tick| tick.timestamp())
    }

    /// The last tick at or before a moment.
    #[must_use]
    pub fn last_at(&self, moment: Timestamp) -> Option<Timestamp> {
        self.cron.find_previous_occurrence(&self.local(moment), true).ok().map(|tick| tick.timestamp())
    }

    /// The latest interval that has ended at `now`.
    #[must_use]
    pub fn last_complete(&self, now: Timestamp) -> Option<Interval> {
        let end = self.last_at(now)?;
        let start = self.cron.find_previous_occurrence(&self.local(end), false).ok()?.timestamp();
        Some(Interval { start, end, timezone: self.timezone.clone() })
    }

    /// The interval that holds a moment, written as `--interval` takes it.
    #[must_use]
    pub fn interval_at(&self, text: &str) -> Option<Interval> {
        let moment = moment(text, &self.zone).ok()?;
        let end = self.next_after(moment)?;
        Some(Interval { start: self.last_at(moment)?, end, timezone: self.timezone.clone() })
    }

    /// The intervals that begin at or after `from` and end at or before `to`, oldest first.
    pub fn intervals(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Interval> + '_ {
        let first = self.cron.find_next_occurrence(&self.local(from), true).ok().map(|tick| tick.timestamp());
        // Inclusive searches look at whole seconds: a start within a second is after its tick.
        let first = if first.is_some_and(|tick| tick < from) { self.next_after(from) } else { first };
        let ticks = std::iter::successors(first, |tick| self.next_after(*tick)).take_while(move |tick| *tick <= to);
        ticks
            .scan(None, |before: &mut Option<Timestamp>, end| Some(before.replace(end).map(|start| (start, end))))
            .flatten()
            .map(|(start, end)| Interval { start, end, timezone: self.timezone.clone() })
    }

    fn local(&self, moment: Timestamp) -> Zoned {
        let second = Timestamp::from_second(moment.as_second()).unwrap_or(moment);
        second.to_zoned(self.zone.clone())
    }
}

/// A span of time: start inclusive, end exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    /// IANA zone in which it is told.
    pub timezone: String,
}

impl Interval {
    /// Parses `2026-11-19` (that day), `2026-11` (that month), or `<start>/<end>`, each a date, a local time or a time with offset.
    ///
    /// # Errors
    ///
    /// What an interval looks like, or which local time does not name one moment.
    pub fn parse(text: &str, timezone: &str) -> Result<Self, String> {
        let zone = zone(timezone).map_err(|(message, help)| format!("{message}; {help}"))?;
        let (start, end) = match text.split_once('/') {
            Some((start, end)) => (moment(start.trim(), &zone)?, moment(end.trim(), &zone)?),
            None => {
                let (first, next) = if let Some(day) = day(text) {
                    (day, day.checked_add(1.day()))
                } else if let Some(first) = day(&format!("{text}-01")) {
                    (first, first.checked_add(1.month()))
                } else {
                    let what = if moment(text, &zone).is_ok() { "one moment and " } else { "" };
                    return Err(format!("`{text}` is {what}not an interval: write `2026-11-19`, `2026-11` or `<start>/<end>`"));
                };
                let next = next.map_err(|error| format!("`{text}` is not an interval: {error}"))?;
                (midnight(first, &zone)?, midnight(next, &zone)?)
            }
        };
        // One moment is what a job without a schedule runs for; a report names it, and a second run may be for it.
        let is_moment = start == end && text.split_once('/').is_some_and(|(start, end)| start == end && start.contains('T'));
        if start < end || is_moment {
            Ok(Self { start, end, timezone: timezone.to_owned() })
        } else {
            Err(format!("`{text}` is not an interval: its end is not after its start"))
        }
    }

    /// The empty interval at one moment: what a job without a schedule runs for.
    #[must_use]
    pub fn instant(moment: Timestamp, timezone: &str) -> Self {
        Self { start: moment, end: moment, timezone: timezone.to_owned() }
    }

    /// Whether it is one moment.
    #[must_use]
    pub fn is_instant(&self) -> bool {
        self.start == self.end
    }

    /// The local date of its start: `2026-11-19`.
    #[must_use]
    pub fn date(&self) -> String {
        self.start.to_zoned(self.zone()).date().to_string()
    }

    /// A moment as RFC 3339 text with the offset of the zone: `2026-07-01T00:00:00+01:00`. Templates read times in this form.
    #[must_use]
    pub fn local(&self, moment: Timestamp) -> String {
        moment.to_zoned(self.zone()).strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string()
    }

    /// As a report tells it.
    #[must_use]
    pub fn report(&self) -> IntervalReport {
        IntervalReport { start: self.start, end: self.end, timezone: self.timezone.clone() }
    }

    fn zone(&self) -> TimeZone {
        zone(&self.timezone).unwrap_or(TimeZone::UTC)
    }
}

/// `2026-11-19` and nothing else: the parser takes the date out of a time, too.
fn day(text: &str) -> Option<Date> {
    let is_digit = |(at, byte): (usize, &u8)| if matches!(at, 4 | 7) { *byte == b'-' } else { byte.is_ascii_digit() };
    let is_day = text.len() == "2026-11-19".len() && text.as_bytes().iter().enumerate().all(is_digit);
    text.parse().ok().filter(|_| is_day)
}

fn midnight(date: Date, zone: &TimeZone) -> Result<Timestamp, String> {
    // Where a day starts with a gap, its first moment is the one after it.
    zone.to_ambiguous_zoned(date.at(0, 0, 0, 0)).compatible().map(|start| start.timestamp()).map_err(|error| error.to_string())
}

fn moment(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Some(date) = day(text) {
        return midnight(date, zone);
    }
    // The parser takes a date for its midnight, and passes over a zone in brackets.
    let is_local = text.contains(['T', ' ', 't']) && !text.contains('[');
    let local: Option<DateTime> = text.parse().ok().filter(|_| is_local);
    let local = local.ok_or_else(|| format!("`{text}` is not a time: write `2026-11-19T06:00:00` or `2026-11-19T06:00:00+01:00`"))?;
    let ambiguous = zone.to_ambiguous_zoned(local);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => ambiguous.unambiguous().map(|time| time.timestamp()).map_err(|error| error.to_string()),
        AmbiguousOffset::Gap { .. } => Err(format!("the clock skips `{text}` on that day; write it with an offset, such as `+01:00`")),
        AmbiguousOffset::Fold { .. } => {
            Err(format!("the clock shows `{text}` twice on that day; write it with an offset, such as `+01:00`"))
        }
    }
}

/// Finds an IANA zone, or says which name is near.
fn zone(name: &str) -> Result<TimeZone, (String, String)> {
    if let Ok(zone) = TimeZone::get(name)
        && zone.iana_name() == Some(name)
    {
        return Ok(zone);
    }
    let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
    let same_city =
        |known: &&str| known.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(name.rsplit('/').next().unwrap_or(name)));
    let known = || names.iter().map(String::as_str);
    let help = match known().find(same_city).or_else(|| nearest(name, known())) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write a name of the IANA database, such as `Europe/Lisbon` or `UTC`".to_owned(),
    };
    Err((format!("there is no time zone `{name}`"), help))
}

#[cfg(test)]
mod tests;
