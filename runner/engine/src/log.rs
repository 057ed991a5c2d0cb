//! Logs: one line per event on stderr, for people or as JSON, always without secrets, never through a progress line.
//!
//! Must not be used for data (that is stdout's) and keeps no event. A panic becomes one event.

use std::fmt;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::Arc;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock::Clock;
use crate::progress::Progress;
use crate::secret::Redactor;
use crate::settings::{LogFormat, Settings};

/// What is logged when nobody says: milestones of Errand, and of libraries what went wrong.
const DEFAULT_FILTER: &str = "warn,deadpool.postgres=error,errand_engine=info,errand=info";

/// The span whose fields are the same on every line; text leaves them out.
const RUN_SPAN: &str = "run";

/// Sends all later events of the process to stderr. A filter that cannot be read is said and the default taken.
pub fn start(settings: &Settings, clock: &Clock, progress: &Progress) {
    let given = settings.log_filter.as_deref().unwrap_or(DEFAULT_FILTER);
    let parsed = EnvFilter::builder().parse(given);
    let (filter, problem) = match parsed {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
    };
    let progress = progress.clone();
    let out: Out = Arc::new(move |line| progress.print(line));
    let redactor = settings.secrets.redactor().clone();
    let lines = match settings.log_format {
        LogFormat::Text => Lines::Text(Text { clock: clock.clone(), color: settings.stderr.color, short_time: settings.stderr.terminal }),
        LogFormat::Json => Lines::Json(Json { clock: clock.clone(), redactor: redactor.clone() }),
    };
    let started = match lines {
        Lines::Text(text) => {
            let layer = tracing_subscriber::fmt::layer().fmt_fields(TextFields).event_format(text);
            tracing_subscriber::registry().with(filter).with(layer.with_writer(Sink { out, redactor: Some(redactor) })).try_init()
        }
        Lines::Json(json) => {
            let layer = tracing_subscriber::fmt::layer().fmt_fields(JsonFields).event_format(json);
            tracing_subscriber::registry().with(filter).with(layer.with_writer(Sink { out, redactor: None })).try_init()
        }
    };
    if started.is_err() {
        tracing::warn!("logs were started before, their settings stay");
    }
    if let Some(error) = problem {
        tracing::warn!(RUST_LOG = given, %error, "log filter cannot be read, the default is used");
    }
}

/// Turns a panic into one event. Its trace follows only when `RUST_BACKTRACE` asks for it.
pub fn panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic_text(panic);
        tracing::error!(error = %what, place, kind = "Errand.Internal", "defect in errand, please report this line");
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            tracing::error!("trace of the defect\n{trace}");
        }
    }));
}

fn panic_text(panic: &PanicHookInfo<'_>) -> String {
    panic.payload_as_str().unwrap_or("a value that is no text").to_owned()
}

enum Lines {
    Text(Text),
    Json(Json),
}

type Out = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Collects one event and hands it on whole, so that a secret is never split.
struct Sink {
    out: Out,
    /// JSON is cleaned before it becomes text.
    redactor: Option<Redactor>,
}

struct Line<'a> {
    sink: &'a Sink,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { sink: self, bytes: Vec::new() }
    }
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        match &self.sink.redactor {
            Some(redactor) => (self.sink.out)(&redactor.redact_bytes(&self.bytes)),
            None => (self.sink.out)(&self.bytes),
        }
    }
}

/// `06:00:03 warn  step failed, trying again  step=load_orders attempt=1`.
struct Text {
    clock: Clock,
    color: bool,
    short_time: bool,
}

impl Text {
    fn time(&self) -> String {
        let format = if self.short_time { "%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%SZ" };
        self.clock.now().strftime(format).to_string()
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn level(&self, level: Level) -> String {
        match level {
            Level::ERROR => self.painted("31;1", "error"),
            Level::WARN => self.painted("33;1", "warn "),
            Level::INFO => self.painted("32", "info "),
            Level::DEBUG => self.painted("34", "debug"),
            Level::TRACE => self.painted("2", "trace"),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = TextVisitor::default();
        event.record(&mut fields);
        write!(writer, "{} {} {}", self.painted("2", &self.time()), self.level(*event.metadata().level()), fields.message)?;
        let spans = context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root);
        let mut all: Vec<String> = Vec::new();
        for span in spans.filter(|span| span.name() != RUN_SPAN) {
            let extensions = span.extensions();
            let known = extensions.get::<FormattedFields<N>>().map(|known| known.fields.as_str()).unwrap_or_default();
            all.extend(known.split_inclusive(SEPARATOR).map(|field| field.trim_end_matches(SEPARATOR).to_owned()));
        }
        // A field of the event itself wins over the same field of a span.
        all.retain(|field| !field.is_empty() && !fields.fields.iter().any(|own| own.split('=').next() == field.split('=').next()));
        all.append(&mut fields.fields);
        if !all.is_empty() {
            write!(writer, "  {}", self.painted("2", &all.join(" ")))?;
        }
        writeln!(writer)?;
        match fields.help {
            // A sentence for people: on a line of its own, as where an error is told without a log.
            Some(help) => writeln!(writer, "{} {help}", self.painted("2", "help:")),
            None => Ok(()),
        }
    }
}

/// Between the fields of a span as they are kept; stands in no field, since control characters are escaped.
const SEPARATOR: char = '\u{1f}';

struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = TextVisitor::default();
        fields.record(&mut visitor);
        visitor.fields.iter().try_for_each(|field| write!(writer, "{field}{SEPARATOR}"))
    }
}

#[derive(Default)]
struct TextVisitor {
    message: String,
    help: Option<String>,
    fields: Vec<String>,
}

impl TextVisitor {
    fn add(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = visible(value),
            "help" => self.help = Some(visible(value)),
            name if name.starts_with("log.") => {}
            name if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '"' || c == '=') => {
                self.fields.push(format!("{name}=\"{}\"", visible(value).replace('"', "\\\"").replace('\n', "\\n")));
            }
            name => self.fields.push(format!("{name}={}", visible(value))),
        }
    }
}

impl Visit for TextVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// Text of others may hold signs that move the cursor or colour the terminal: all but line ends and tabs are escaped.
fn visible(text: &str) -> String {
    let hidden = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(hidden) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if hidden(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// `{"timestamp":"...","level":"warn","message":"...","run_id":"...","step":"..."}`: fields of spans and of the event side by side.
struct Json {
    clock: Clock,
    redactor: Redactor,
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            let extensions = span.extensions();
            let known = extensions.get::<FormattedFields<N>>().map(|known| known.fields.as_str()).unwrap_or_default();
            // Fields recorded later stand in an object of their own, after the first.
            let objects = serde_json::Deserializer::from_str(known).into_iter::<Map<String, Value>>();
            fields.extend(objects.filter_map(Result::ok).flatten());
        }
        let mut own = JsonVisitor::default();
        event.record(&mut own);
        let message = own.0.remove("message").unwrap_or_default();
        fields.extend(own.0);
        let mut all = Value::Object(fields);
        self.redactor.redact_json(&mut all);
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), self.clock.now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().into());
        line.insert("level".to_owned(), metadata.level().as_str().to_ascii_lowercase().into());
        line.insert("message".to_owned(), self.redactor.redact(message.as_str().unwrap_or_default()).into());
        line.insert("target".to_owned(), metadata.target().into());
        if let Value::Object(fields) = all {
            for (name, value) in fields {
                line.entry(name).or_insert(value);
            }
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

struct JsonFields;

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = JsonVisitor::default();
        fields.record(&mut visitor);
        write!(writer, "{}", Value::Object(visitor.0))
    }
}

#[derive(Default)]
struct JsonVisitor(Map<String, Value>);

impl JsonVisitor {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for JsonVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::secret::{Redactor, Secret};

    fn clock() -> Clock {
        Clock::fixed("2026-11-20T06:00:03.5Z".parse().expect("a time"))
    }

    fn redactor() -> Redactor {
        let redactor = Redactor::default();
        redactor.register(&Secret::new("hunter2-hunter2"));
        redactor
    }

    /// What a few typical events look like.
    fn logged(make: impl FnOnce(Out) -> Box<dyn FnOnce(&dyn Fn())>) -> String {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        make(Arc::new(move |bytes| kept.lock().expect("not poisoned").extend_from_slice(bytes)))(&|| {
            let run = tracing::info_span!("run", run_id = "01k", job = "orders");
            let _run = run.enter();
            tracing::info!("run started");
            let step = tracing::info_span!("step", step = "load", attempt = 1);
            let _step = step.enter();
            tracing::warn!(error = "lost connection to `db`", attempt = 2, "step failed, trying again");
            tracing::info!(line = "\u{1b}[31mred\u{7} hunter2-hunter2", "output");
            tracing::error!(help = Some("mend the `x`"), "it broke");
        });
        String::from_utf8(lines.lock().expect("not poisoned").clone()).expect("text")
    }

    fn text(color: bool) -> String {
        logged(|out| {
            let layer =
                tracing_subscriber::fmt::layer().fmt_fields(TextFields).event_format(Text { clock: clock(), color, short_time: true });
            let subscriber = tracing_subscriber::registry().with(layer.with_writer(Sink { out, redactor: Some(redactor()) }));
            Box::new(|events| tracing::subscriber::with_default(subscriber, events))
        })
    }

    #[test]
    fn text_is_short_and_holds_no_secret_and_no_control_sign() {
        insta::assert_snapshot!(text(false), @r#"
        06:00:03 info  run started
        06:00:03 warn  step failed, trying again  step=load error="lost connection to `db`" attempt=2
        06:00:03 info  output  step=load attempt=1 line="\u{1b}[31mred\u{7} [secret]"
        06:00:03 error it broke  step=load attempt=1
        help: mend the `x`
        "#);
        assert!(text(true).contains("\u{1b}[33;1mwarn \u{1b}[0m step failed"));
    }

    #[test]
    fn json_has_the_fields_of_spans_and_of_the_event_side_by_side() {
        let text = logged(|out| {
            let layer = tracing_subscriber::fmt::layer().fmt_fields(JsonFields).event_format(Json { clock: clock(), redactor: redactor() });
            let subscriber = tracing_subscriber::registry().with(layer.with_writer(Sink { out, redactor: None }));
            Box::new(|events| tracing::subscriber::with_default(subscriber, events))
        });
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines[0]["timestamp"], "2026-11-20T06:00:03.500Z");
        assert_eq!((&lines[1]["level"], &lines[1]["run_id"], &lines[1]["step"]), (&"warn".into(), &"01k".into(), &"load".into()));
        assert_eq!(lines[1]["attempt"], 2);
        assert_eq!(lines[2]["line"], "\u{1b}[31mred\u{7} [secret]");
        assert_eq!((&lines[3]["message"], &lines[3]["help"]), (&"it broke".into(), &"mend the `x`".into()));
    }
}
