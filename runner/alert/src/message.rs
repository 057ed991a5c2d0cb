//! What is said: one message, made for people who are on call or for people who wait for the data. Channels give it its form.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    /// A run failed.
    Failure,
    /// A run is late, never came, or the last success is too old.
    Late,
    /// A run succeeded with warnings.
    Warning,
    /// What was wrong is right again.
    Recovered,
}

impl Subject {
    /// The word of the wire format.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Late => "late",
            Self::Warning => "warning",
            Self::Recovered => "recovered",
        }
    }
}

/// Whom a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Audience {
    /// Those who repair it: cause, place, command.
    OnCall,
    /// Those who wait for it: what is late, how old the data is, what happens next.
    Impact,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) subject: Subject,
    /// Names the alert: the same for every delivery of it.
    pub(crate) alert: String,
    /// Names what is wrong with a job, however many alerts there are of it.
    pub(crate) incident: String,
    pub(crate) environment: String,
    pub(crate) job: String,
    /// When it was noticed.
    pub(crate) at: Timestamp,
    /// One line.
    pub(crate) title: String,
    /// One or two sentences.
    pub(crate) lead: String,
    pub(crate) facts: Vec<Fact>,
    pub(crate) links: Vec<Link>,
    /// Channels that could not be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// One thing worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) text: String,
    /// Whether it is to be read letter by letter: a command, an error.
    pub(crate) literal: bool,
}

/// Somewhere to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Fact {
    pub(crate) fn plain(name: &str, text: impl Into<String>) -> Self {
        Self { name: name.to_owned(), text: text.into(), literal: false }
    }

    pub(crate) fn literal(name: &str, text: impl Into<String>) -> Self {
        Self { name: name.to_owned(), text: text.into(), literal: true }
    }
}

impl Link {
    pub(crate) fn new(name: &str, url: impl Into<String>) -> Self {
        Self { name: name.to_owned(), url: url.into() }
    }
}

impl Message {
    /// All of it as text, for channels that know no form.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![self.lead.clone(), String::new()];
        for fact in &self.facts {
            if fact.literal || fact.text.contains('\n') {
                lines.push(format!("{}:", fact.name));
                lines.extend(fact.text.lines().map(|line| format!("    {line}")));
            } else {
                lines.push(format!("{}: {}", fact.name, fact.text));
            }
        }
        if !self.links.is_empty() {
            lines.push(String::new());
            lines.extend(self.links.iter().map(|link| format!("{}: {}", link.name, link.url)));
        }
        if !self.notes.is_empty() {
            lines.push(String::new());
            lines.extend(self.notes.iter().map(|note| format!("Note: {note}")));
        }
        lines.join("\n") + "\n"
    }

    /// The same with every text changed: how secrets are taken out.
    pub(crate) fn map(mut self, change: impl Fn(&str) -> String) -> Self {
        for text in [&mut self.title, &mut self.lead].into_iter().chain(&mut self.notes) {
            *text = change(text);
        }
        self.facts.iter_mut().for_each(|fact| fact.text = change(&fact.text));
        self.links.iter_mut().for_each(|link| link.url = change(&link.url));
        self
    }
}
