//! The five fields of a cron expression: read strictly, so that each mistake is named with its field.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// A field: its name, its lowest and highest value, and the words that stand for values.
struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, words: &[] },
    Field { name: "hour", low: 0, high: 23, words: &[] },
    Field { name: "day of month", low: 1, high: 31, words: &[] },
    Field { name: "month", low: 1, high: 12, words: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"] },
    Field { name: "day of week", low: 0, high: 7, words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] },
];

/// Days of each month, leap years counted.
const DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Parses five fields of values, ranges, lists and steps; `L` in the day of month is its last day.
///
/// # Errors
///
/// What is wrong, and what to write.
pub(super) fn parse(text: &str) -> Result<Cron, (String, String)> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if text.trim_start().starts_with('@') {
        return Err((format!("`{text}` is not five fields"), "write the fields, such as `0 6 * * *` for every day at 6".to_owned()));
    }
    let [_, _, day, month, weekday] = fields[..] else {
        let message = format!("`{text}` has {} fields, not five", fields.len());
        return Err((message, "write minute, hour, day of month, month, day of week: `0 6 * * *`".to_owned()));
    };
    for (field, written) in FIELDS.iter().zip(&fields) {
        values(field, written)?;
    }
    let (days, months) = (values(&FIELDS[2], day)?, values(&FIELDS[3], month)?);
    let fires = weekday != "*" || months.iter().any(|month| days.iter().any(|day| *day <= DAYS[*month as usize - 1]));
    if !fires {
        return Err((
            format!("`{text}` never comes: no month of it has that day"),
            "choose a day that exists; `L` is the last day of the month".to_owned(),
        ));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser
        .parse(text)
        .map_err(|error| (format!("`{text}` is not a cron expression: {error}"), "write five fields, such as `0 6 * * *`".to_owned()))
}

/// The values of one field.
fn values(field: &Field, written: &str) -> Result<Vec<u32>, (String, String)> {
    if field.name == "day of month" && written.eq_ignore_ascii_case("L") {
        return Ok(vec![28]);
    }
    let mut all = Vec::new();
    for item in written.split(',') {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let (low, high) = match range.split_once('-') {
            _ if range == "*" => (field.low, field.high),
            Some((low, high)) => (value(field, low, written)?, value(field, high, written)?),
            None if step.is_some() => {
                let help = format!("write `*/{0}`, or a range such as `{1}-{2}/{0}`", step.unwrap_or("5"), field.low, field.high);
                return Err((format!("`{item}` in the {} has a step but no range", field.name), help));
            }
            None => value(field, range, written).map(|value| (value, value))?,
        };
        let step = match step.map(str::parse::<u32>) {
            None => 1,
            Some(Ok(step)) if (1..=field.high).contains(&step) => step,
            Some(_) => {
                return Err((
                    format!("`{item}` in the {} has no valid step", field.name),
                    format!("write a step from 1 to {}", field.high),
                ));
            }
        };
        if low > high {
            return Err((format!("`{range}` in the {} ends before it starts", field.name), "write the lower value first".to_owned()));
        }
        all.extend((low..=high).step_by(step as usize));
    }
    Ok(all)
}

fn value(field: &Field, text: &str, written: &str) -> Result<u32, (String, String)> {
    let upper = text.to_ascii_uppercase();
    if let Some(index) = (0_u32..).zip(field.words).find(|(_, word)| **word == upper).map(|(index, _)| index) {
        return Ok(index + u32::from(field.name == "month"));
    }
    match text.parse::<u32>() {
        Ok(value) if text.bytes().all(|byte| byte.is_ascii_digit()) && (field.low..=field.high).contains(&value) => Ok(value),
        _ => {
            let words = if field.words.is_empty() {
                String::new()
            } else {
                format!(" or {} to {}", field.words[0], field.words[field.words.len() - 1])
            };
            let message = format!("`{written}` is no valid {}", field.name);
            Err((message, format!("write values from {} to {}{words}, `*`, ranges `a-b`, lists `a,b`, steps `*/n`", field.low, field.high)))
        }
    }
}
