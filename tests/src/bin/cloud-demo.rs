//! The whole of Errand in a local cloud, told on a terminal: the stack of `infra/`, a job repository, a schedule that fires, a task that
//! loads, a job that fails, and what people are told of it. `make cloud-demo` runs it, between the start and the end of the services.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use e2e::clock::now;
use e2e::condition::answer_within;
use e2e::receiver::Received;
use e2e::site::{Job, Pace, Site, daily};
use jiff::Timestamp;
use serde_json::Value;

/// The input of the job that fails.
const RETURNS: &str = "order_id,ordered_on,amount,note\n1,2026-10-01,19.90,a sale\n2,2026-10-01,-19.90,a refund\n";

/// Characters of a line.
const WIDTH: usize = 80;

fn main() -> ExitCode {
    title("The stack: infra/, in a local cloud");
    say(
        "Real here: the templates, the state machines, the image `errand`, the alerting function, git, Postgres. Stand-ins: the cloud's services, \
         and the servers that take messages in place of Slack, PagerDuty and a webhook. tests/README.md says where they differ.",
    );
    let begun = Instant::now();
    let site = waited("infra/deploy", || {
        Site::start(Pace::Real, |due| vec![Job::load("orders").with(&daily(due)), Job::load("returns").from("returns.csv")])
    });
    site.put_file("returns.csv", RETURNS);
    say(&format!("\nStack `errand-{}` came up in {} s. Some of its outputs:", site.stack.environment(), begun.elapsed().as_secs()));
    for output in ["StateMachineArn", "StateBucket", "ScheduleGroup", "AlertFunction", "SlimRepositoryUri"] {
        line(&format!("  {output:<18} {}", site.stack.output(output)));
    }
    title("A job repository, and its schedules");
    line(&format!("$ errand deploy --env {}", site.stack.environment()));
    line(site.deploy().stdout.trim_end());
    scheduled(&site);
    failed(&site);
    title("The end");
    waited("the stack and its containers to go", move || drop(site));
    say(&format!("All that was started is gone. It took {} s.", begun.elapsed().as_secs()));
    ExitCode::SUCCESS
}

fn scheduled(site: &Site) {
    title(&format!("The schedule of `orders` fires at {}", clock(site.due())));
    let id = waited("the schedule", || site.scheduled("orders"));
    let ended = waited("the run", || site.ended(&id));
    timeline(site.due(), &ended.events);
    line(&format!("\n$ errand runs show {id} --env {}", site.stack.environment()));
    line(site.errand(&["runs", "show", &id]).stdout.trim_end());
    say("\nRead from Postgres by another client:");
    for row in site.database.rows(
        "SELECT 'orders', count(*), sum(amount) FROM orders.orders UNION ALL SELECT 'by_day', count(*), sum(amount) FROM orders.by_day",
    ) {
        line(&format!("  {}", row.replace('|', "  ")));
    }
    let told = site.told("orders").iter().map(Vec::len).sum::<usize>();
    say(&format!("Messages to those behind `orders`: {told}."));
}

fn failed(site: &Site) {
    title("A job that fails: a refund among the sales, which its check refuses");
    line(&format!("$ errand start returns --env {} --follow", site.stack.environment()));
    let outcome = waited("the run", || site.errand(&["start", "returns", "--follow"]));
    line(outcome.stderr.trim_end());
    line(outcome.stdout.trim_end());
    line(&format!("(exit code {})", outcome.code().unwrap_or(-1)));
    let wait = || answer_within(Duration::from_secs(60), || site.asked("returns").iter().all(|asked| !asked.is_empty()).then_some(()));
    let _ = waited("the messages", wait);
    let report = finished(&outcome.stdout, site);
    let [slack, pagerduty, webhook] = site.asked("returns");
    for (name, requests) in [("Slack", slack), ("PagerDuty", pagerduty), ("The webhook", webhook)] {
        for request in requests {
            let after = report.map(|report| format!(", {:.1} s after the run had failed", seconds(report, request.at))).unwrap_or_default();
            title(&format!("{name} was told{after}"));
            line(&told(&request));
        }
    }
}

/// When the run ended whose report is kept under the id that the output names.
fn finished(stdout: &str, site: &Site) -> Option<Timestamp> {
    let id = stdout.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-'));
    let report = id.filter(|word| word.starts_with("returns-")).find_map(|id| site.state(&format!("runs/{id}.json")))?;
    report["finished_at"].as_str()?.parse().ok()
}

/// What happened when, counted from the minute that the schedule names.
fn timeline(due: Timestamp, events: &[Value]) {
    for event in events {
        let at = event["timestamp"].as_f64().map(|seconds| seconds - due.as_millisecond() as f64 / 1000.0);
        let what = match event["type"].as_str().unwrap_or_default() {
            "ExecutionStarted" => "the state machine was started".to_owned(),
            "TaskStateEntered" => format!("state {}", event["stateEnteredEventDetails"]["name"].as_str().unwrap_or_default()),
            "TaskSubmitted" => "the task was accepted; its container starts, clones, loads and reports".to_owned(),
            "TaskSucceeded" => "the task's report arrived".to_owned(),
            "ExecutionSucceeded" => "the execution succeeded".to_owned(),
            _ => continue,
        };
        line(&format!("  {:>7.1} s  {what}", at.unwrap_or(0.0)));
    }
}

/// A message as its receiver got it, laid out to be read.
fn told(request: &Received) -> String {
    let body = request.json();
    let mut text = String::new();
    if let Some(blocks) = body["blocks"].as_array() {
        for block in blocks {
            let parts = block["elements"].as_array().cloned().unwrap_or_else(|| vec![block["text"].clone()]);
            for part in parts {
                let _ = writeln!(text, "{}", wrapped(&unmarked(part["text"].as_str().unwrap_or_default())));
            }
        }
        return text.trim_end().to_owned();
    }
    let named = |text: &mut String, name: &str, value: &Value| {
        let _ = writeln!(text, "{}", wrapped(&format!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))));
    };
    if body["event_action"].is_string() {
        for (name, value) in [("event_action", &body["event_action"]), ("dedup_key", &body["dedup_key"])] {
            named(&mut text, name, value);
        }
        for key in ["summary", "severity", "component", "custom_details"] {
            match body["payload"][key].as_object() {
                Some(details) => details.iter().for_each(|(name, value)| named(&mut text, &format!("  {name}"), value)),
                None => named(&mut text, key, &body["payload"][key]),
            }
        }
        return text.trim_end().to_owned();
    }
    for name in ["x-errand-signature", "x-errand-timestamp"] {
        named(&mut text, name, &Value::from(request.headers.get(name).cloned().unwrap_or_default()));
    }
    let pretty = format!("{body:#}");
    let _ = write!(text, "{}", pretty.lines().map(shortened).collect::<Vec<_>>().join("\n"));
    text
}

/// Slack's text as Slack shows it: links by their names, and the three signs that it wants escaped.
fn unmarked(text: &str) -> String {
    let mut shown = String::new();
    for (place, piece) in text.split('<').enumerate() {
        match piece.split_once('>').filter(|_| place > 0) {
            Some((link, rest)) => {
                let _ = write!(shown, "[{}]{rest}", link.rsplit('|').next().unwrap_or(link));
            }
            None => shown.push_str(piece),
        }
    }
    shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn shortened(line: &str) -> String {
    if line.chars().count() <= WIDTH { line.to_owned() } else { format!("{}...", line.chars().take(WIDTH - 3).collect::<String>()) }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn clock(moment: Timestamp) -> String {
    moment.strftime("%H:%M UTC").to_string()
}

/// A text in lines that fit.
fn wrapped(text: &str) -> String {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut current = String::new();
        for word in paragraph.split(' ') {
            if !current.is_empty() && current.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::take(&mut current));
            }
            if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        }
        lines.push(current);
    }
    lines.join("\n")
}

/// Does something that takes its time, and shows on a terminal how long it has taken so far.
fn waited<T: Send>(what: &str, work: impl FnOnce() -> T + Send) -> T {
    let (begun, shows) = (Instant::now(), std::io::stderr().is_terminal());
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        let mut shown = u64::MAX;
        while answer_within(Duration::from_millis(200), || working.is_finished().then_some(())).is_none() {
            let seconds = begun.elapsed().as_secs();
            if shows && seconds != shown {
                shown = seconds;
                let _ = write!(std::io::stderr(), "\r  waiting for {what}: {seconds} s ({})  ", now().strftime("%H:%M:%S"));
            }
        }
        if shows {
            let _ = write!(std::io::stderr(), "\r{:WIDTH$}\r", "");
        }
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn title(text: &str) {
    let bold = std::io::stdout().is_terminal();
    line(&if bold { format!("\n\u{1b}[1m== {text} ==\u{1b}[0m") } else { format!("\n== {text} ==") });
}

fn say(text: &str) {
    line(&wrapped(text));
}

#[expect(clippy::print_stdout, reason = "a demo talks to the person who started it")]
fn line(text: &str) {
    println!("{text}");
}
