//! Five cron fields as EventBridge Scheduler writes them: six fields, days of the week from Sunday = 1, and only one of the two fields of days.
//!
//! <https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html#cron-based>

use errand_model::failure::{Failure, FailureKind};
use errand_model::interval::Schedule;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Longest expression that Scheduler takes.
const LONGEST: usize = 256;
/// Most ticks that are looked at for a change of clocks.
const MOST_TICKS: usize = 1_500;
/// Names of the days, from Cron's 0.
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// The expression of a schedule: `0 6 * * 1-5` is `cron(0 6 ? * MON,TUE,WED,THU,FRI *)`.
///
/// Fails as `Definition` with `deploy::cron` for what Scheduler cannot express.
pub(crate) fn expression(schedule: &Schedule) -> Result<String, Failure> {
    let written = schedule.cron();
    let refused = |why: &str, help: &str| {
        Failure::new(FailureKind::Definition, "deploy::cron", format!("EventBridge Scheduler cannot express `{written}`: {why}")).help(help)
    };
    let fields: Vec<&str> = written.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else {
        return Err(refused("it has no five fields", "write minute, hour, day of month, month, day of week"));
    };
    if *day != "*" && *weekday != "*" {
        let why = "it names days of the month and days of the week, and Cron means either of them";
        return Err(refused(why, "write one of the two as `*`, or make two jobs of it"));
    }
    let odd = || refused("a field is none", "run `errand validate`");
    let numbers = |text: &str, low, high| values(text, low, high, &[]).ok_or_else(odd);
    let minutes = told(&numbers(minute, 0, 59)?, 0, 59);
    let hours = told(&numbers(hour, 0, 23)?, 0, 23);
    let months = told(&values(month, 1, 12, &MONTHS).ok_or_else(odd)?, 1, 12);
    let mut weekdays: Vec<u32> = values(weekday, 0, 7, &DAYS).ok_or_else(odd)?.iter().map(|day| day % 7).collect();
    weekdays.sort_unstable();
    weekdays.dedup();
    let (days, weekdays) = match (*day, weekdays.len()) {
        ("*", 7) => ("*".to_owned(), "?".to_owned()),
        ("*", _) => ("?".to_owned(), weekdays.iter().filter_map(|day| DAYS.get(*day as usize)).copied().collect::<Vec<_>>().join(",")),
        (last, _) if last.eq_ignore_ascii_case("L") => ("L".to_owned(), "?".to_owned()),
        (days, _) => (told(&numbers(days, 1, 31)?, 1, 31), "?".to_owned()),
    };
    let expression = format!("cron({minutes} {hours} {days} {months} {weekdays} *)");
    if expression.len() > LONGEST {
        return Err(refused(&format!("it takes more than {LONGEST} characters there"), "write ranges and steps instead of long lists"));
    }
    Ok(expression)
}

/// What the clocks of the zone do to the schedule in the next year, where Scheduler and the intervals of the job differ.
pub(crate) fn note(schedule: &Schedule, now: Timestamp) -> Option<String> {
    let zone = TimeZone::get(schedule.timezone()).ok()?;
    let until = now.checked_add((366 * 24).hours()).ok()?;
    let fields: Vec<&str> = schedule.cron().split_whitespace().collect();
    let (minutes, hours) = (values(fields.first()?, 0, 59, &[])?, values(fields.get(1)?, 0, 23, &[])?);
    for change in zone.following(now).take_while(|change| change.timestamp() < until) {
        let around = change.timestamp().checked_sub(3.hours()).ok()?;
        let ticks = std::iter::successors(schedule.next_after(around), |tick| schedule.next_after(*tick));
        let near = change.timestamp().checked_add(3.hours()).ok()?;
        let ticks: Vec<jiff::Zoned> =
            ticks.take_while(|tick| *tick < near).take(MOST_TICKS).map(|tick| tick.to_zoned(zone.clone())).collect();
        let is_moved = |tick: &jiff::Zoned| {
            !hours.contains(&u32::from(tick.hour().unsigned_abs())) || !minutes.contains(&u32::from(tick.minute().unsigned_abs()))
        };
        if let Some(tick) = ticks.iter().find(|tick| is_moved(tick)) {
            return Some(format!(
                "on {} the clock skips the time of this schedule: EventBridge Scheduler leaves that run out",
                tick.date()
            ));
        }
        let twice = ticks.windows(2).any(|pair| pair[1].datetime() <= pair[0].datetime());
        if twice {
            let day = change.timestamp().to_zoned(zone.clone()).date();
            return Some(format!(
                "on {day} the clock goes back: EventBridge Scheduler does not start runs of the repeated hour a second time"
            ));
        }
    }
    None
}

/// The values of one field; none when it is no field.
fn values(field: &str, low: u32, high: u32, words: &[&str]) -> Option<Vec<u32>> {
    let value = |text: &str| match words.iter().position(|word| word.eq_ignore_ascii_case(text)) {
        Some(at) => u32::try_from(at).ok().map(|at| at + low),
        None => text.parse().ok().filter(|value| (low..=high).contains(value)),
    };
    let mut all = Vec::new();
    for item in field.split(',') {
        let (range, step) = item.split_once('/').unwrap_or((item, "1"));
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((first, last)) => (value(first)?, value(last)?),
            None => value(range).map(|value| (value, value))?,
        };
        let step: usize = step.parse().ok().filter(|step| *step > 0)?;
        all.extend((first..=last).step_by(step));
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// Values as Scheduler reads them: `*`, `0/15`, `9-17`, `1,15`.
fn told(values: &[u32], low: u32, high: u32) -> String {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return "*".to_owned() };
    if values.len() == (high - low + 1) as usize {
        return "*".to_owned();
    }
    if values.len() > 2 {
        let step = values[1] - values[0];
        let is_even = values.windows(2).all(|pair| pair[1] - pair[0] == step);
        if is_even && step == 1 {
            return format!("{first}-{last}");
        }
        if is_even && last + step > high {
            return format!("{first}/{step}");
        }
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, timezone: &str) -> Schedule {
        Schedule::parse(cron, timezone).expect(cron)
    }

    #[test]
    fn each_expression_has_its_counterpart() {
        for (cron, expected) in [
            ("0 6 * * *", "0 6 * * ? *"),
            ("*/15 * * * *", "0/15 * * * ? *"),
            ("5,35 * * * *", "5,35 * * * ? *"),
            ("0 */6 * * *", "0 0/6 * * ? *"),
            ("0 9-17 * * *", "0 9-17 * * ? *"),
            ("0 9-17/4 * * *", "0 9,13,17 * * ? *"),
            ("10-40/10 * * * *", "10,20,30,40 * * * ? *"),
            ("*/7 * * * *", "0/7 * * * ? *"),
            ("0 6 * * 1-5", "0 6 ? * MON,TUE,WED,THU,FRI *"),
            ("0 6 * * 0", "0 6 ? * SUN *"),
            ("0 6 * * 7", "0 6 ? * SUN *"),
            ("0 6 * * 5-7", "0 6 ? * SUN,FRI,SAT *"),
            ("0 6 * * mon,Thu", "0 6 ? * MON,THU *"),
            ("0 6 * * */2", "0 6 ? * SUN,TUE,THU,SAT *"),
            ("0 6 * * 0-6", "0 6 * * ? *"),
            ("0 6 1 * *", "0 6 1 * ? *"),
            ("0 6 1,15 * *", "0 6 1,15 * ? *"),
            ("0 6 */2 * *", "0 6 1/2 * ? *"),
            ("0 6 L * *", "0 6 L * ? *"),
            ("0 6 1 */3 *", "0 6 1 1/3 ? *"),
            ("0 6 1 JAN,JUL *", "0 6 1 1,7 ? *"),
            ("30 23 31 12 *", "30 23 31 12 ? *"),
            ("0-59 * * * *", "* * * * ? *"),
        ] {
            assert_eq!(expression(&schedule(cron, "UTC")).expect(cron), format!("cron({expected})"), "{cron}");
        }
    }

    #[test]
    fn what_scheduler_cannot_express_is_refused_with_the_way_out() {
        let failure = expression(&schedule("0 6 1 * 1", "UTC")).expect_err("refused");
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Definition, "deploy::cron"));
        assert!(failure.message.contains("either of them") && failure.help.is_some(), "{failure}");
    }

    #[test]
    fn a_change_of_clocks_is_noted_where_it_matters() {
        let now = "2026-11-20T00:00:00Z".parse().expect("a time");
        let of = |cron: &str, zone: &str| note(&schedule(cron, zone), now);
        assert!(of("30 1 * * *", "Europe/Lisbon").expect("noted").contains("2027-03-28"));
        assert!(of("30 2 * * *", "Europe/Berlin").expect("noted").contains("leaves that run out"));
        assert_eq!(of("0 6 * * *", "Europe/Lisbon"), None);
        assert_eq!(of("30 1 * * *", "UTC"), None);
        assert!(of("*/15 * * * *", "Europe/Berlin").expect("noted").contains("goes back"));
        assert_eq!(of("30 2 * * *", "Asia/Kolkata"), None);
    }
}
