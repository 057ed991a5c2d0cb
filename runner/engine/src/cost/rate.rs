//! How often a schedule fires.

use errand_model::interval::Schedule;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::DAYS;

/// Days that are looked at: 52 weeks, so that no day of the week comes more often than another.
const LOOK_AHEAD: i32 = 364;

/// Runs in a month of 30 days, on average: the fires of a day, times the days of the next 52 weeks on which there are any. What an hour
/// that clocks skip or repeat adds or takes is left out.
pub(super) fn runs_a_month(schedule: &Schedule, now: Timestamp) -> f64 {
    let zone = TimeZone::get(schedule.timezone()).unwrap_or(TimeZone::UTC);
    // Past the last year of the calendar nothing fires.
    fires(schedule, now, &zone).map_or(0.0, |(days, a_day)| f64::from(days) * a_day as f64 * f64::from(DAYS) / f64::from(LOOK_AHEAD))
}

/// On how many days the schedule fires, and how often on one of them.
fn fires(schedule: &Schedule, now: Timestamp, zone: &TimeZone) -> Option<(u32, usize)> {
    let mut day = now.to_zoned(zone.clone()).date().tomorrow().ok()?;
    let end = midnight(day.checked_add(LOOK_AHEAD.days()).ok()?, zone)?;
    let (mut days, mut a_day, mut is_usual) = (0, 0, false);
    while let Some(tick) = next_from(schedule, midnight(day, zone)?).filter(|tick| *tick < end) {
        let date = tick.to_zoned(zone.clone()).date();
        day = date.tomorrow().ok()?;
        days += 1;
        if !is_usual {
            let (first, last) = (midnight(date, zone)?, midnight(day, zone)?);
            let ticks = std::iter::successors(Some(tick), |tick| schedule.next_after(*tick));
            a_day = ticks.take_while(|tick| *tick < last).count();
            is_usual = last.duration_since(first) == SignedDuration::from_hours(24);
        }
    }
    Some((days, a_day))
}

/// The first tick at a moment or after it.
fn next_from(schedule: &Schedule, moment: Timestamp) -> Option<Timestamp> {
    schedule.next_after(moment.checked_sub(SignedDuration::from_secs(1)).ok()?)
}

fn midnight(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    date.to_zoned(zone.clone()).ok().map(|start| start.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(cron: &str, zone: &str, now: &str) -> f64 {
        runs_a_month(&Schedule::parse(cron, zone).expect(cron), now.parse().expect("a time"))
    }

    fn assert_rate(cron: &str, zone: &str, expected: f64) {
        // The answer does not depend on the day of asking, nor on clocks that go back on the next one.
        for now in ["2026-11-20T12:00:00Z", "2026-12-31T23:59:59Z", "2027-03-27T12:00:00Z", "2026-10-24T12:00:00Z"] {
            let found = rate(cron, zone, now);
            assert!((found - expected).abs() < 1e-9, "{cron} {zone} at {now}: {found}, not {expected}");
        }
    }

    #[test]
    fn a_month_has_thirty_days_of_a_daily_schedule_and_its_share_of_weeks() {
        assert_rate("0 6 * * *", "Europe/Lisbon", 30.0);
        assert_rate("0 0 * * *", "UTC", 30.0);
        assert_rate("0 6-16 * * *", "UTC", 330.0);
        assert_rate("0 * * * *", "Europe/Lisbon", 720.0);
        assert_rate("*/15 * * * *", "Australia/Lord_Howe", 2_880.0);
        assert_rate("* * * * *", "UTC", 43_200.0);
        assert_rate("0 6 * * 1-5", "America/New_York", 150.0 / 7.0);
        assert_rate("0 6 * * MON", "UTC", 30.0 / 7.0);
    }

    #[test]
    fn a_monthly_schedule_fires_about_once_a_month_whenever_it_is_asked() {
        for now in ["2026-11-20T12:00:00Z", "2026-12-01T07:00:00Z", "2026-11-30T05:59:59Z"] {
            let found = rate("0 6 1 * *", "UTC", now);
            assert!((0.9..=1.0).contains(&found), "{now}: {found}");
        }
    }
}
