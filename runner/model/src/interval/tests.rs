use std::time::Instant;

use jiff::Timestamp;

use super::{Interval, Schedule, SchedulePart};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

fn hours(cron: &str, zone: &str, from: &str, to: &str) -> Vec<i64> {
    let schedule = Schedule::parse(cron, zone).expect("valid");
    schedule.intervals(at(from), at(to)).map(|interval| (interval.end.as_second() - interval.start.as_second()) / 3600).collect()
}

#[test]
fn a_daily_job_runs_once_on_the_day_that_lacks_its_hour() {
    // New York, 8 March 2026: 02:00 to 03:00 does not exist.
    let schedule = Schedule::parse("30 2 * * *", "America/New_York").expect("valid");
    let ticks: Vec<String> = schedule.intervals(at("2026-03-06T12:00:00Z"), at("2026-03-11T00:00:00Z")).map(|i| i.local(i.end)).collect();
    assert_eq!(ticks, ["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00", "2026-03-10T02:30:00-04:00"]);
    // Lisbon, 29 March 2026: 01:00 to 02:00 does not exist; 02:30 does.
    assert_eq!(hours("30 2 * * *", "Europe/Lisbon", "2026-03-27T12:00:00Z", "2026-03-31T12:00:00Z"), [23, 24, 24]);
    assert_eq!(hours("30 1 * * *", "Europe/Lisbon", "2026-03-27T12:00:00Z", "2026-03-31T12:00:00Z"), [23, 23, 24]);
}

#[test]
fn a_daily_job_runs_once_on_the_day_that_has_its_hour_twice() {
    let schedule = Schedule::parse("30 1 * * *", "America/New_York").expect("valid");
    let ticks: Vec<String> = schedule.intervals(at("2026-10-31T00:00:00Z"), at("2026-11-03T00:00:00Z")).map(|i| i.local(i.end)).collect();
    assert_eq!(ticks, ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"]);
    assert_eq!(hours("30 1 * * *", "America/New_York", "2026-10-31T00:00:00Z", "2026-11-03T12:00:00Z"), [24, 25, 24]);
    assert_eq!(hours("30 1 * * *", "Europe/Lisbon", "2026-10-24T00:00:00Z", "2026-10-27T12:00:00Z"), [24, 25, 24]);
}

#[test]
fn an_hourly_job_has_as_many_intervals_as_the_day_has_hours() {
    let count = |zone: &str, day: &str| {
        let day = Interval::parse(day, zone).expect("a day");
        Schedule::parse("0 * * * *", zone).expect("valid").intervals(day.start, day.end).count()
    };
    assert_eq!(count("America/New_York", "2026-03-08"), 23);
    assert_eq!(count("America/New_York", "2026-11-01"), 25);
    assert_eq!(count("Europe/Lisbon", "2026-03-29"), 23);
    assert_eq!(count("Europe/Lisbon", "2026-10-25"), 25);
    assert_eq!(count("Europe/Lisbon", "2026-07-01"), 24);
    // Half an hour of difference.
    assert_eq!(count("Australia/Lord_Howe", "2026-10-04"), 23);
}

#[test]
fn intervals_are_contiguous_and_the_last_complete_one_is_one_of_them() {
    let zones = ["America/New_York", "Europe/Lisbon", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata", "Pacific/Apia", "UTC"];
    let crons = [
        "30 2 * * *",
        "30 1 * * *",
        "0 0 * * *",
        "0 * * * *",
        "*/15 * * * *",
        "15,45 1,2,3 * * *",
        "0 3 * * SUN",
        "30 2 1 * *",
        "0 2 L * *",
        "7 */6 * * 1-5",
    ];
    for zone in zones {
        for cron in crons {
            let schedule = Schedule::parse(cron, zone).expect("valid");
            let (from, to) = if cron.contains('/') || cron.starts_with("0 * ") {
                ("2026-03-01T00:00:00Z", "2026-04-10T00:00:00Z")
            } else {
                ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")
            };
            let all: Vec<Interval> = schedule.intervals(at(from), at(to)).collect();
            assert!(!all.is_empty(), "{cron} {zone}");
            for pair in all.windows(2) {
                assert_eq!(pair[0].end, pair[1].start, "{cron} {zone}");
            }
            for interval in &all {
                assert!(interval.start < interval.end, "{cron} {zone} {interval:?}");
                for later in [0_i64, 1, 59] {
                    let now = Timestamp::from_second(interval.end.as_second() + later).expect("in range");
                    assert_eq!(schedule.last_complete(now).as_ref(), Some(interval), "{cron} {zone} {now}");
                }
            }
        }
    }
}

#[test]
fn parts_of_a_second_do_not_move_ticks() {
    let schedule = Schedule::parse("0 6 * * *", "UTC").expect("valid");
    assert_eq!(schedule.last_complete(at("2026-11-19T06:00:00.000000001Z")).expect("one").end, at("2026-11-19T06:00:00Z"));
    assert_eq!(schedule.last_complete(at("2026-11-19T05:59:59.999999999Z")).expect("one").end, at("2026-11-18T06:00:00Z"));
    assert_eq!(schedule.next_after(at("2026-11-19T05:59:59.5Z")), Some(at("2026-11-19T06:00:00Z")));
    assert_eq!(schedule.intervals(at("2026-11-19T06:00:00.5Z"), at("2026-11-21T06:00:00Z")).count(), 1);
}

#[test]
fn a_schedule_tells_the_interval_that_holds_a_moment() {
    let schedule = Schedule::parse("0 * * * *", "Europe/Lisbon").expect("valid");
    let at_six = schedule.interval_at("2026-07-01T06:00").expect("an interval");
    assert_eq!((at_six.start, at_six.end), (at("2026-07-01T05:00:00Z"), at("2026-07-01T06:00:00Z")));
    assert_eq!(schedule.interval_at("2026-07-01T05:59:59Z").expect("an interval"), at_six);
    assert_eq!(schedule.interval_at("yesterday"), None);
}

#[test]
fn what_is_no_schedule_is_refused_with_its_reason_and_at_once() {
    let started = Instant::now();
    let error = |cron: &str, zone: &str| Schedule::parse(cron, zone).expect_err("refused");
    assert!(error("0 0 30 2 *", "UTC").message.contains("never comes"));
    assert!(error("0 0 31 4,6,9,11 *", "UTC").message.contains("never comes"));
    assert!(Schedule::parse("0 0 29 2 *", "UTC").is_ok() && Schedule::parse("0 0 30 2 MON", "UTC").is_ok());
    assert!(error("0 25 * * *", "UTC").message.contains("`25` is no valid hour"));
    assert!(error("* * * * * *", "UTC").message.contains("6 fields"));
    assert!(error("@daily", "UTC").help.contains("0 6 * * *"));
    for cron in [
        "",
        "0 6 * *",
        "a b c d e",
        "60 * * * *",
        "*/0 * * * *",
        "5/10 * * * *",
        "9-5 * * * *",
        "0 0 * JANUARY *",
        "0 0 ? * *",
        "0 0 * * 5#2",
        "-1 * * * *",
        "0 0 * * MON1",
    ] {
        assert_eq!(error(cron, "UTC").part, SchedulePart::Cron, "{cron}");
    }
    assert_eq!(error("0 6 * * *", "Europe/Lisboa").help, "did you mean `Europe/Lisbon`?");
    assert_eq!(error("0 6 * * *", "america/new_york").help, "did you mean `America/New_York`?");
    assert_eq!(error("0 6 * * *", "Lisbon").help, "did you mean `Europe/Lisbon`?");
    assert!(started.elapsed().as_secs() < 2);
}

#[test]
fn intervals_are_read_in_the_zone_of_the_job() {
    let interval = |text: &str| Interval::parse(text, "Europe/Lisbon");
    let day = interval("2026-07-01").expect("a day");
    assert_eq!((day.start, day.end), (at("2026-06-30T23:00:00Z"), at("2026-07-01T23:00:00Z")));
    assert_eq!((day.date(), day.local(day.start)), ("2026-07-01".to_owned(), "2026-07-01T00:00:00+01:00".to_owned()));
    let month = interval("2026-03").expect("a month");
    assert_eq!((month.start, month.end), (at("2026-03-01T00:00:00Z"), at("2026-03-31T23:00:00Z")));
    let between = interval("2026-11-19T06:00:00/2026-11-19T08:30:00+01:00").expect("two moments");
    assert_eq!((between.start, between.end), (at("2026-11-19T06:00:00Z"), at("2026-11-19T07:30:00Z")));
    assert_eq!(interval("2026-11-01/2026-11-03").expect("two days").end, at("2026-11-03T00:00:00Z"));
    for wrong in ["", "2026", "2026-13", "2026-02-30", "yesterday", "2026-11-02/2026-11-01", "2026-11-01/2026-11-01", "/", "a/b"] {
        assert!(interval(wrong).is_err(), "{wrong}");
    }
    for moment in ["2026-11-19T06:00", "2026-11-19 06:00", "2026-11-19T06:00Z", "2026-11-19T06:00:00+05:00"] {
        let why = interval(moment).expect_err("one moment");
        assert_eq!(why, format!("`{moment}` is one moment and not an interval: write `2026-11-19`, `2026-11` or `<start>/<end>`"));
    }
    for wrong in ["+002026-11-19", "20261119", "2026-11-19[UTC]", "+002026-11", "2026-11-19T99:00", "2026-11-1"] {
        assert!(interval(wrong).expect_err("not a day").contains("is not an interval"), "{wrong}");
    }
    for wrong in ["+002026-11-19/2026-11-20", "2026-11-19/20261120", "2026-11-19T06:00[Europe/Paris]/2026-11-20"] {
        assert!(interval(wrong).expect_err("not a time").contains("is not a time"), "{wrong}");
    }
    assert!(interval("2026-03-29T01:30:00/2026-04-01").expect_err("gap").contains("skips"));
    assert!(interval("2026-10-25T01:30:00/2026-11-01").expect_err("fold").contains("twice"));
    assert!(Interval::instant(at("2026-11-19T06:00:00Z"), "UTC").is_instant());
}
