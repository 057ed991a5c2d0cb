//! Figures as people read them: durations, counts, sizes, outcomes, spans of time.

use errand_model::report::{IntervalReport, Outcome};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// `850 ms`, `1.2 s`, `3 m 04 s`, `2 h 05 m`.
#[must_use]
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60_000..3_600_000 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `1,234,567`.
#[must_use]
pub fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// In at most six characters: `9,999`, `12.3 k`, `1.2 M`.
#[must_use]
pub fn short_number(count: u64) -> String {
    let (unit, sign) = match count {
        0..10_000 => return number(count),
        10_000..1_000_000 => (1_000, 'k'),
        1_000_000..1_000_000_000 => (1_000_000, 'M'),
        _ => (1_000_000_000, 'G'),
    };
    let (whole, tenth) = (count / unit, count % unit * 10 / unit);
    if whole < 100 { format!("{whole}.{tenth} {sign}") } else { format!("{whole} {sign}") }
}

/// `512 B`, `12.0 KB`, `96.5 MB`, `1.2 GB`, in powers of 1024 as in definitions.
#[must_use]
pub fn size(bytes: u64) -> String {
    let (unit, sign) = match bytes {
        0..0x400 => return format!("{bytes} B"),
        0x400..0x10_0000 => (0x400, "KB"),
        0x10_0000..0x4000_0000 => (0x10_0000, "MB"),
        _ => (0x4000_0000, "GB"),
    };
    format!("{}.{} {sign}", bytes / unit, bytes % unit * 10 / unit)
}

/// `already done`, the word of the report with its `_` as a space.
#[must_use]
pub const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::AlreadyDone => "already done",
        Outcome::Warned => "warned",
        Outcome::Skipped => "skipped",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
    }
}

/// `2026-11-20 06:00:03` in UTC.
#[must_use]
pub fn time(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The span of a run in one word where there is one: `2026-11-19` for a day from any time to the same time, `2026-11` for a month,
/// `2026-11-19 06:00` and its end otherwise; `-` for a moment.
#[must_use]
pub fn interval(interval: &IntervalReport) -> String {
    let (start, end) = local(interval);
    match short_interval(interval) {
        word if word.len() <= "2026-11-19".len() => word,
        word if start.date() == end.date() => format!("{word} to {}", end.strftime("%H:%M")),
        word => format!("{word} to {}", end.strftime("%Y-%m-%d %H:%M")),
    }
}

/// The same, without the end.
#[must_use]
pub fn short_interval(interval: &IntervalReport) -> String {
    let (start, end) = local(interval);
    let midnight = start.time() == jiff::civil::Time::midnight();
    if start == end {
        "-".to_owned()
    } else if start.checked_add(1.day()).is_ok_and(|next| next == end) {
        start.strftime("%Y-%m-%d").to_string()
    } else if midnight && start.day() == 1 && start.checked_add(1.month()).is_ok_and(|next| next == end) {
        start.strftime("%Y-%m").to_string()
    } else {
        start.strftime("%Y-%m-%d %H:%M").to_string()
    }
}

/// Both ends with their zone: `2026-11-19 06:00 to 2026-11-20 06:00 Europe/Lisbon`; a moment as such.
#[must_use]
pub fn whole_interval(interval: &IntervalReport) -> String {
    let (start, end) = local(interval);
    if start == end {
        return format!("the moment {} {}", start.strftime("%Y-%m-%d %H:%M:%S"), interval.timezone);
    }
    let format = if start.second() == 0 && end.second() == 0 { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d %H:%M:%S" };
    format!("{} to {} {}", start.strftime(format), end.strftime(format), interval.timezone)
}

/// Cut to `width` characters, with `…` in place of the rest.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A zone that this version does not know is told in UTC.
fn local(interval: &IntervalReport) -> (Zoned, Zoned) {
    let zone = TimeZone::get(&interval.timezone).unwrap_or(TimeZone::UTC);
    (interval.start.to_zoned(zone.clone()), interval.end.to_zoned(zone))
}

/// How many of what: `1 file`, `2 files`.
#[must_use]
pub fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let told = [0, 999, 1_000, 1_290, 59_999, 60_000, 184_000, 3_599_999, 3_600_000, 7_500_000].map(duration);
        assert_eq!(told, ["0 ms", "999 ms", "1.0 s", "1.2 s", "59.9 s", "1 m 00 s", "3 m 04 s", "59 m 59 s", "1 h 00 m", "2 h 05 m"]);
    }

    #[test]
    fn counts_and_sizes() {
        assert_eq!([0, 999, 1_000, 1_234_567, 100_000].map(number), ["0", "999", "1,000", "1,234,567", "100,000"]);
        assert_eq!(
            [0, 9_999, 12_345, 123_456, 999_999, 1_234_567, u64::MAX / 10_000_000].map(short_number),
            ["0", "9,999", "12.3 k", "123 k", "999 k", "1.2 M", "1844 G"]
        );
        assert_eq!([0, 1023, 1024, 101_187_584, 5 << 30].map(size), ["0 B", "1023 B", "1.0 KB", "96.5 MB", "5.0 GB"]);
    }

    #[test]
    fn intervals_are_one_word_where_there_is_one() {
        let of = |start: &str, end: &str, zone: &str| IntervalReport {
            start: start.parse().expect("a time"),
            end: end.parse().expect("a time"),
            timezone: zone.to_owned(),
        };
        // The night on which clocks go back has 25 hours and is one day.
        let long_day = of("2026-10-24T23:00:00Z", "2026-10-26T00:00:00Z", "Europe/Lisbon");
        assert_eq!(interval(&long_day), "2026-10-25");
        assert_eq!(whole_interval(&long_day), "2026-10-25 00:00 to 2026-10-26 00:00 Europe/Lisbon");
        assert_eq!(interval(&of("2026-11-18T06:00:00Z", "2026-11-19T06:00:00Z", "UTC")), "2026-11-18");
        assert_eq!(interval(&of("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "UTC")), "2026-11");
        assert_eq!(interval(&of("2026-11-19T06:00:00Z", "2026-11-19T12:00:00Z", "UTC")), "2026-11-19 06:00 to 12:00");
        assert_eq!(interval(&of("2026-11-19T06:00:00Z", "2026-11-22T06:00:00Z", "UTC")), "2026-11-19 06:00 to 2026-11-22 06:00");
        let moment = of("2026-11-19T06:00:01.5Z", "2026-11-19T06:00:01.5Z", "Nowhere/Else");
        assert_eq!((interval(&moment).as_str(), whole_interval(&moment).as_str()), ("-", "the moment 2026-11-19 06:00:01 Nowhere/Else"));
    }

    #[test]
    fn text_is_cut_by_characters() {
        assert_eq!([cut("café", 4), cut("cafés", 4), cut("", 4)], ["café", "caf…", ""]);
    }
}
