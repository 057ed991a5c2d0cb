//! Strict parsers of dates and times: ISO 8601 forms by hand, declared forms by `strptime` where [`form`] finds them written in full.

use jiff::civil;
use jiff::fmt::strtime;

use super::form;
use super::scalar::{Parsed, Reason};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// `YYYY-MM-DD` as days since 1970-01-01.
pub(super) fn date(text: &[u8]) -> Parsed<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return Err(if text.is_empty() { Reason::Empty } else { Reason::Form });
    };
    let year = two(*y1, *y2)? * 100 + two(*y3, *y4)?;
    let (month, day) = (two(*m1, *m2)?, two(*d1, *d2)?);
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_in(year, month) {
        return Err(Reason::Range);
    }
    Ok(days(year, month, day))
}

fn two(tens: u8, ones: u8) -> Parsed<i32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { Err(Reason::Form) } else { Ok(i32::from(tens) * 10 + i32::from(ones)) }
}

const fn days_in(year: i32, month: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms"), for years from 1.
const fn days(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `HH:MM[:SS[.ffffff]]` as microseconds since midnight.
pub(super) fn time(text: &[u8]) -> Parsed<i64> {
    let (micros, rest) = time_prefix(text)?;
    if rest.is_empty() { Ok(micros) } else { Err(Reason::Form) }
}

fn time_prefix(text: &[u8]) -> Parsed<(i64, &[u8])> {
    let [h1, h2, b':', m1, m2, rest @ ..] = text else {
        return Err(if text.is_empty() { Reason::Empty } else { Reason::Form });
    };
    let (hour, minute) = (two(*h1, *h2)?, two(*m1, *m2)?);
    let (second, fraction, rest) = match rest {
        [b':', s1, s2, b'.', rest @ ..] => {
            let (fraction, rest) = fraction(rest)?;
            (two(*s1, *s2)?, fraction, rest)
        }
        [b':', s1, s2, rest @ ..] => (two(*s1, *s2)?, 0, rest),
        _ => (0, 0, rest),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Reason::Range);
    }
    Ok((i64::from(hour * 3600 + minute * 60 + second) * SECOND + fraction, rest))
}

/// Digits after the point as microseconds; past the sixth only zeros.
fn fraction(text: &[u8]) -> Parsed<(i64, &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return Err(Reason::Form);
    }
    let (digits, rest) = text.split_at(count);
    if digits.iter().skip(6).any(|byte| *byte != b'0') {
        return Err(Reason::Fraction);
    }
    let micros = (0..6).fold(0, |value, index| value * 10 + i64::from(digits.get(index).map_or(0, |byte| byte - b'0')));
    Ok((micros, rest))
}

/// `YYYY-MM-DD[T ]HH:MM[:SS[.ffffff]]` as microseconds since 1970-01-01T00:00. `date_alone` accepts a date as its midnight.
pub(super) fn timestamp(text: &[u8], date_alone: bool) -> Parsed<i64> {
    let (micros, rest) = datetime_prefix(text, date_alone)?;
    match rest {
        [] => Ok(micros),
        _ if offset(rest).is_ok() => Err(Reason::Zone),
        _ => Err(Reason::Form),
    }
}

fn datetime_prefix(text: &[u8], date_alone: bool) -> Parsed<(i64, &[u8])> {
    let Some((day, rest)) = text.split_at_checked(10) else {
        return Err(if text.is_empty() { Reason::Empty } else { Reason::Form });
    };
    let midnight = i64::from(date(day)?) * DAY;
    match rest {
        [b'T' | b' ', rest @ ..] => time_prefix(rest).map(|(micros, rest)| (midnight + micros, rest)),
        [] if date_alone => Ok((midnight, rest)),
        _ => Err(Reason::Form),
    }
}

/// The same with `Z` or an offset: microseconds since 1970-01-01T00:00Z.
pub(super) fn timestamptz(text: &[u8]) -> Parsed<i64> {
    let (micros, rest) = datetime_prefix(text, false)?;
    Ok(micros - offset(rest)?)
}

/// `Z`, `+HH`, `+HHMM` or `+HH:MM` as microseconds east of UTC.
fn offset(text: &[u8]) -> Parsed<i64> {
    let (sign, hours, minutes) = match text {
        [b'Z' | b'z'] => return Ok(0),
        [] => return Err(Reason::NoZone),
        [sign, h1, h2] => (sign, two(*h1, *h2)?, 0),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, two(*h1, *h2)?, two(*m1, *m2)?),
        _ => return Err(Reason::Form),
    };
    if hours > 23 || minutes > 59 {
        return Err(Reason::Range);
    }
    let east = i64::from(hours * 3600 + minutes * 60) * SECOND;
    match sign {
        b'+' => Ok(east),
        b'-' => Ok(-east),
        _ => Err(Reason::Form),
    }
}

fn broken_down(text: &[u8], format: &str) -> Parsed<strtime::BrokenDownTime> {
    if text.is_empty() {
        return Err(Reason::Empty);
    }
    form::check(text, format)?;
    strtime::parse(format, text).map_err(|_| Reason::Form)
}

/// A date in a declared form; a time beside it must be midnight.
pub(super) fn date_as(text: &[u8], format: &str) -> Parsed<i32> {
    let parts = broken_down(text, format)?;
    if parts.hour().is_some() && parts.to_time().is_ok_and(|time| time != civil::Time::midnight()) {
        return Err(Reason::Form);
    }
    days_of(parts.to_date().map_err(|_| Reason::Range)?)
}

fn days_of(date: civil::Date) -> Parsed<i32> {
    let (year, month, day) = (i32::from(date.year()), i32::from(date.month()), i32::from(date.day()));
    if year < 1 { Err(Reason::Range) } else { Ok(days(year, month, day)) }
}

fn micros_of(time: civil::Time) -> Parsed<i64> {
    let nanos = i64::from(time.subsec_nanosecond());
    if nanos % 1000 != 0 {
        return Err(Reason::Fraction);
    }
    Ok((i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second())) * SECOND + nanos / 1000)
}

/// A time of day in a declared form.
pub(super) fn time_as(text: &[u8], format: &str) -> Parsed<i64> {
    micros_of(broken_down(text, format)?.to_time().map_err(|_| Reason::Form)?)
}

/// A date and time in a declared form without a zone.
pub(super) fn timestamp_as(text: &[u8], format: &str) -> Parsed<i64> {
    let parts = broken_down(text, format)?;
    if parts.offset().is_some() || parts.iana_time_zone().is_some() {
        return Err(Reason::Zone);
    }
    let moment = parts.to_datetime().map_err(|_| Reason::Form)?;
    Ok(i64::from(days_of(moment.date())?) * DAY + micros_of(moment.time())?)
}

/// A moment in a declared form with an offset, a zone or seconds since 1970.
pub(super) fn timestamptz_as(text: &[u8], format: &str) -> Parsed<i64> {
    let parts = broken_down(text, format)?;
    let moment = match (parts.timestamp(), parts.iana_time_zone()) {
        (Some(moment), _) => moment,
        (None, Some(_)) => parts.to_zoned().map_err(|_| Reason::NoZone)?.timestamp(),
        (None, None) => parts.to_timestamp().map_err(|_| Reason::NoZone)?,
    };
    if moment.subsec_nanosecond() % 1000 != 0 {
        return Err(Reason::Fraction);
    }
    Ok(moment.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::{date, date_as, time, time_as, timestamp, timestamp_as, timestamptz, timestamptz_as};
    use crate::source::scalar::Reason;

    #[test]
    fn every_day_of_ten_thousand_years_agrees_with_the_calendar() {
        let mut day = jiff::civil::date(1, 1, 1);
        let mut expected = date(b"0001-01-01").expect("a date");
        assert_eq!(date(b"1970-01-01"), Ok(0));
        while let Ok(next) = day.tomorrow() {
            day = next;
            expected += 1;
            assert_eq!(date(day.to_string().as_bytes()), Ok(expected), "{day}");
        }
    }

    #[test]
    fn dates_have_one_form() {
        for wrong in ["2026-02-29", "2026-13-01", "2026-00-10", "2026-01-00", "0000-01-01"] {
            assert_eq!(date(wrong.as_bytes()), Err(Reason::Range), "{wrong}");
        }
        for wrong in ["2026-1-01", "01/02/2026", "2026/01/02", "20260102", " 2026-01-02", "2026-01-02T00:00", "2026-o1-02"] {
            assert_eq!(date(wrong.as_bytes()), Err(Reason::Form), "{wrong}");
        }
    }

    #[test]
    fn times_keep_microseconds_or_are_refused() {
        assert_eq!(time(b"01:02"), Ok(3_720_000_000));
        assert_eq!(time(b"00:00:01.5"), Ok(1_500_000));
        assert_eq!(time(b"00:00:00.123456000"), Ok(123_456));
        assert_eq!(time(b"00:00:00.1234567"), Err(Reason::Fraction));
        assert!(
            time(b"24:00") == Err(Reason::Range)
                && time(b"23:59:60") == Err(Reason::Range)
                && time(b"1:02").is_err()
                && time(b"01:02:").is_err()
        );
    }

    #[test]
    fn a_zone_is_neither_dropped_nor_invented() {
        assert_eq!(timestamp(b"1970-01-02T00:00:01", false), Ok(86_401_000_000));
        assert_eq!(timestamp(b"1970-01-01 00:01", false), Ok(60_000_000));
        assert_eq!(timestamp(b"1970-01-01T00:00:00Z", false), Err(Reason::Zone));
        assert_eq!(timestamp(b"1970-01-01T00:00:00+01:00", false), Err(Reason::Zone));
        assert!(timestamp(b"1970-01-01", false) == Err(Reason::Form) && timestamp(b"1970-01-01", true) == Ok(0));
        assert_eq!(timestamptz(b"1970-01-01T00:00:00"), Err(Reason::NoZone));
        assert_eq!(timestamptz(b"1970-01-01T01:00:00+01:00"), Ok(0));
        assert_eq!(timestamptz(b"1969-12-31 19:00:00-0500"), Ok(0));
        assert!(timestamptz(b"1970-01-01T02:00+02") == Ok(0) && timestamptz(b"1970-01-01T00:00z") == Ok(0));
        assert!(timestamptz(b"1970-01-01T00:00 Z").is_err() && timestamptz(b"1970-01-01T00:00+1:00").is_err());
    }

    #[test]
    fn declared_forms_are_followed() {
        assert_eq!(date_as(b"02/01/1970", "%d/%m/%Y"), Ok(1));
        assert!(date_as(b"1970-01-02", "%d/%m/%Y").is_err() && date_as(b"02/01/1970x", "%d/%m/%Y").is_err());
        assert!(date_as(b"1970-01-02 05:00", "%Y-%m-%d %H:%M").is_err());
        assert_eq!(time_as(b"0102", "%H%M"), Ok(3_720_000_000));
        assert_eq!(timestamp_as(b"02.01.1970 00:00:01", "%d.%m.%Y %H:%M:%S"), Ok(86_401_000_000));
        assert_eq!(timestamp_as(b"1970-01-02 00:00 +0100", "%Y-%m-%d %H:%M %z"), Err(Reason::Zone));
        assert_eq!(timestamptz_as(b"1970-01-01 01:00 +0100", "%Y-%m-%d %H:%M %z"), Ok(0));
        assert_eq!(timestamptz_as(b"1970-01-01 01:00", "%Y-%m-%d %H:%M"), Err(Reason::NoZone));
        assert!(timestamptz_as(b"86400", "%s") == Ok(86_400_000_000) && timestamptz_as(b"-1", "%s") == Ok(-1_000_000));
        assert_eq!(timestamptz_as(b"1970-01-01 01:00 Etc/GMT-1", "%Y-%m-%d %H:%M %Q"), Ok(0));
    }

    #[test]
    fn declared_forms_guess_nothing() {
        for wrong in ["31/12/26", "31/12/126", " 31/12/2026", "31/ 12/2026", "31/12/+2026", "31/12/20266"] {
            assert_eq!(date_as(wrong.as_bytes(), "%d/%m/%Y"), Err(Reason::Form), "{wrong}");
        }
        assert!(date_as(b"1012026", "%d%m%Y").is_err() && date_as(b"2026101", "%Y%m%d").is_err());
        assert_eq!(time_as(b"23:59:60", "%H:%M:%S"), Err(Reason::Range));
        assert_eq!(timestamp_as(b"1970-01-01 23:59:60", "%Y-%m-%d %H:%M:%S"), Err(Reason::Range));
        assert_eq!(date_as(b"2/1/1970", "%d/%m/%Y"), Ok(1));
        assert_eq!(date_as(b"Friday 2JAN70", "%A %d%b%y"), Ok(1));
        assert_eq!(date_as(b"Jan  2 1970", "%b %e %Y"), Ok(1));
        assert_eq!(date_as(b"1970-W01-5", "%G-W%V-%u"), Ok(1));
        assert_eq!(time_as(b"1:02 pm", "%I:%M %p"), Ok(46_920_000_000));
        assert_eq!(time_as(b"00:00:01.5", "%H:%M:%S%.f"), Ok(1_500_000));
        assert_eq!(time_as(b"000001000001", "%H%M%S%f"), Ok(1_000_001));
    }
}
