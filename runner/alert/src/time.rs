//! Moments and spans of time, as people read them.

use std::time::Duration;

use errand_model::report::IntervalReport;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// The form of a [`stamp`].
const STAMP: &str = "%Y%m%dT%H%M%SZ";

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

/// The day of a moment, in UTC.
pub(crate) fn date(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// `2026-11-20 06:00 Europe/Lisbon`.
pub(crate) fn moment(at: Timestamp, timezone: &str) -> String {
    let zone = zone(timezone);
    let name = zone.iana_name().unwrap_or("UTC").to_owned();
    format!("{} {name}", at.to_zoned(zone).strftime("%Y-%m-%d %H:%M"))
}

/// `2026-11-20 (Europe/Lisbon)` for a day, `<start> to <end>` for another span, the moment for an empty one.
pub(crate) fn interval(interval: &IntervalReport) -> String {
    let zone = zone(&interval.timezone);
    let (start, end) = (interval.start.to_zoned(zone.clone()), interval.end.to_zoned(zone));
    if interval.start == interval.end {
        return moment(interval.start, &interval.timezone);
    }
    let is_midnight = |time: &jiff::Zoned| time.start_of_day().is_ok_and(|day| day == *time);
    let next = start.date().tomorrow().ok();
    if is_midnight(&start) && is_midnight(&end) {
        return match next {
            Some(next) if next == end.date() => format!("{} ({})", start.date(), interval.timezone),
            _ => format!("{} to before {} ({})", start.date(), end.date(), interval.timezone),
        };
    }
    let format = "%Y-%m-%d %H:%M";
    format!("{} to {} ({})", start.strftime(format), end.strftime(format), interval.timezone)
}

/// `2026-11-20T00:00:00Z/2026-11-21T00:00:00Z`, as `--interval` takes it.
pub(crate) fn written(interval: &IntervalReport) -> String {
    format!("{}/{}", interval.start, interval.end)
}

/// `3 days`, `2 h 30 min`, `45 s`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds % 86_400 / 3_600, seconds % 3_600 / 60);
    let unit = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => unit(days, "day", "days"),
        (days, hours, _) => format!("{} {hours} h", unit(days, "day", "days")),
    }
}

/// A moment as part of a key: `20261120T060000Z`.
pub(crate) fn stamp(moment: Timestamp) -> String {
    moment.strftime(STAMP).to_string()
}

/// The moment of a [`stamp`].
pub(crate) fn of_stamp(text: &str) -> Option<Timestamp> {
    let time = jiff::civil::DateTime::strptime(STAMP, text).ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp())
}

/// The time from one moment to a later one; nothing when it is not later.
pub(crate) fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// A moment some time after another.
pub(crate) fn after(moment: Timestamp, time: Duration) -> Timestamp {
    moment.checked_add(time).unwrap_or(Timestamp::MAX)
}

/// A moment some time before another.
pub(crate) fn before(moment: Timestamp, time: Duration) -> Timestamp {
    moment.checked_sub(time).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use errand_model::report::IntervalReport;

    use super::{interval, moment, of_stamp, span, stamp};

    fn told(start: &str, end: &str) -> String {
        let at = |text: &str| text.parse().expect("a moment");
        interval(&IntervalReport { start: at(start), end: at(end), timezone: "Europe/Lisbon".to_owned() })
    }

    #[test]
    fn spans_are_told_in_the_zone_of_the_schedule() {
        assert_eq!(told("2026-06-30T23:00:00Z", "2026-07-01T23:00:00Z"), "2026-07-01 (Europe/Lisbon)");
        assert_eq!(told("2026-10-24T23:00:00Z", "2026-10-26T00:00:00Z"), "2026-10-25 (Europe/Lisbon)");
        assert_eq!(told("2026-06-30T23:00:00Z", "2026-07-31T23:00:00Z"), "2026-07-01 to before 2026-08-01 (Europe/Lisbon)");
        assert_eq!(told("2026-11-20T06:00:00Z", "2026-11-20T07:00:00Z"), "2026-11-20 06:00 to 2026-11-20 07:00 (Europe/Lisbon)");
        assert_eq!(told("2026-11-20T06:00:00Z", "2026-11-20T06:00:00Z"), "2026-11-20 06:00 Europe/Lisbon");
        assert_eq!(moment("2026-11-20T06:00:00Z".parse().expect("a moment"), "Nowhere/Land"), "2026-11-20 06:00 UTC");
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let at = "2026-11-20T06:00:00Z".parse().expect("a moment");
        assert_eq!((stamp(at), of_stamp(&stamp(at)), of_stamp("x")), ("20261120T060000Z".to_owned(), Some(at), None));
    }

    #[test]
    fn lengths_are_told_in_the_units_that_matter() {
        let lengths = [45, 60, 3600, 9000, 86_400, 3 * 86_400 + 7_300];
        assert_eq!(
            lengths.map(|seconds| span(Duration::from_secs(seconds))),
            ["45 s", "1 min", "1 h", "2 h 30 min", "1 day", "3 days 2 h"]
        );
    }
}
