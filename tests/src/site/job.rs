//! Jobs of a site: each loads the same file into tables of its own, and has people of its own, who are told by three channels.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::services::unique_name;

/// Rows of the input file.
pub const ROWS: usize = 4_000;

/// Stands in some rows in the middle of the input file, and nowhere else.
pub const HALFWAY: &str = "halfway there";

/// One job, and the people who hear of it: a contact of its name.
#[derive(Clone, Debug)]
pub struct Job {
    name: String,
    keys: String,
    steps: String,
    files: Vec<(String, String)>,
    pub(super) slack: String,
    pub(super) hook: String,
    pub(super) pager: String,
}

impl Job {
    /// A job with these steps, as YAML.
    #[must_use]
    pub fn new(name: &str, steps: &str) -> Self {
        let secret = |what: &str| format!("{what}-{}", unique_name().replace("errand_", "0"));
        let (slack, hook, pager) = (secret("slack"), secret("hook"), secret("pager"));
        Self { name: name.to_owned(), keys: String::new(), steps: steps.to_owned(), files: Vec::new(), slack, hook, pager }
    }

    /// A job that loads the file into `<name>.orders`, sums it by day into `<name>.by_day`, and checks both.
    #[must_use]
    pub fn load(name: &str) -> Self {
        Self::new(name, &format!("{}{}", ingest(name), by_day(name)))
    }

    /// The same, with more steps at its end.
    #[must_use]
    pub fn then(mut self, steps: &str) -> Self {
        self.steps.push_str(steps);
        self
    }

    /// The same, loaded through another connection.
    #[must_use]
    pub fn through(mut self, connection: &str) -> Self {
        self.steps = self.steps.replace("target: {", &format!("target: {{ connection: {connection},"));
        self
    }

    /// The same, from another file.
    #[must_use]
    pub fn from(mut self, file: &str) -> Self {
        self.steps = self.steps.replace("path: orders.csv", &format!("path: {file}"));
        self
    }

    /// The same, with more keys, as lines of YAML.
    #[must_use]
    pub fn with(mut self, keys: &str) -> Self {
        self.keys.push_str(keys);
        self.keys.push('\n');
        self
    }

    /// The same, with a file in its folder.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Its name, and that of its schema and its contact.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its files, by their paths in the repository.
    pub(super) fn sources(&self) -> Vec<(String, String)> {
        let Self { name, keys, steps, files, .. } = self;
        let folder = format!("jobs/{name}");
        let own = files.iter().map(|(file, text)| (format!("{folder}/{file}"), text.clone()));
        let definition = format!("version: 1\nname: {name}\nowner: {name}\n{keys}steps:\n{steps}");
        own.chain([(format!("{folder}/job.yaml"), definition)]).collect()
    }

    /// Its contact in the project file.
    pub(super) fn contact(&self) -> Value {
        let secret = |what: &str| json!({ "secret": format!("{what}_{}", self.name) });
        json!({
            "slack": { "webhook": secret("slack") }, "pagerduty": { "routing_key": secret("pager") },
            "webhook": { "url": secret("hook"), "signing_key": { "secret": "signing_key" } },
        })
    }
}

fn ingest(schema: &str) -> String {
    format!(
        "  - id: load
    ingest:
      source: {{ files: {{ connection: lake, path: orders.csv, format: csv }} }}
      target: {{ table: {schema}.orders }}
      mode: merge
      primary_key: [order_id]
      on_empty: fail
      columns:
        - {{ name: order_id, type: bigint, nullable: false }}
        - {{ name: ordered_on, type: date }}
        - {{ name: amount, type: \"decimal(12,2)\" }}
        - {{ name: note, type: text }}
      checks: [{{ expression: amount > 0 }}]
"
    )
}

fn by_day(schema: &str) -> String {
    format!(
        "  - id: by_day
    sql:
      text: select ordered_on, count(*) as orders, sum(amount) as amount from {schema}.orders group by ordered_on
      materialize: {{ table: {schema}.by_day }}
      checks: [{{ unique: [ordered_on] }}]
"
    )
}

/// A row of the input file: number, day, amount, note.
fn row(number: usize) -> (usize, String, String, String) {
    let half = (ROWS / 2..ROWS / 2 + 10).contains(&number);
    let note = if half { format!("{HALFWAY} {number}") } else { format!("row {number} of an ordinary file") };
    (number, format!("2026-10-{:02}", number % 28 + 1), format!("{}.{:02}", number % 900 + 1, number % 100), note)
}

/// The input file.
#[must_use]
pub(super) fn orders() -> String {
    let mut text = String::from("order_id,ordered_on,amount,note\n");
    for (id, day, amount, note) in (1..=ROWS).map(row) {
        let _ = writeln!(text, "{id},{day},{amount},{note}");
    }
    text
}

/// The rows that one clean run leaves in `orders`, values with `|` between them, in the order of their keys.
#[must_use]
pub fn loaded() -> Vec<String> {
    (1..=ROWS).map(row).map(|(id, day, amount, note)| format!("{id}|{day}|{amount}|{note}")).collect()
}
