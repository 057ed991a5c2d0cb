//! From documents to a project and jobs that are valid by construction; every problem of a file is reported at once.
//!
//! Nothing is read here: texts of files come through [`Files`].

mod aws;
mod check;
mod command;
mod connection;
mod contact;
mod digest;
mod graph;
mod ingest;
mod input;
mod job;
mod network;
mod path;
mod piped;
mod project;
mod step;
mod stray;

use std::sync::Arc;

pub use input::inputs;
pub use job::job;
pub use project::project;

use crate::decode::Spanned;
use crate::job::{Connection, Environment, Project};
use crate::problem::{Problem, nearest};
use crate::template::place::Origin;
use crate::template::{Expression, Scope, Syntax, Template};
use crate::value::Label;
use crate::yaml::Span;

/// Most steps of one job.
pub const MAX_STEPS: usize = 500;

/// Why a file that a definition names cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// There is none.
    Missing,
    /// It may not be read, or is not what it should be.
    Refused {
        /// What is wrong.
        message: String,
        /// What to do.
        help: String,
    },
}

/// The files of a repository, by path relative to it, with `/` between parts.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn text(&self, path: &str) -> Result<Arc<str>, FileError>;

    /// Paths of the files in a folder and in those below it, for suggestions; may be cut short.
    fn list(&self, folder: &str) -> Vec<String>;
}

/// What a connection is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Capability {
    Warehouse,
    Files,
}

/// One `job.yaml` while it is checked.
struct Cx<'a> {
    /// Folder of the job, below `jobs/`.
    folder: &'a str,
    /// `jobs/<folder>/job.yaml`.
    file: String,
    text: &'a str,
    files: &'a dyn Files,
    project: Option<&'a Project>,
    problems: &'a mut Vec<Problem>,
    /// Names that the templates of the step under way may use.
    scope: Scope,
    /// Texts of the files that the step under way names, for its digest.
    read: Vec<Arc<str>>,
}

impl Cx<'_> {
    fn error(&mut self, code: &'static str, message: impl Into<String>, help: impl Into<String>, span: &Span) {
        self.problems.push(Problem::error(code, message).at(&self.file, span.clone()).help(help));
    }

    fn warning(&mut self, code: &'static str, message: impl Into<String>, help: impl Into<String>, span: &Span) {
        self.problems.push(Problem::warning(code, message).at(&self.file, span.clone()).help(help));
    }

    /// Keeps the value, or reports what it should have been.
    fn parse<T>(&mut self, text: &Spanned<String>, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.problems.push(
                    Problem::error("definition::bad_value", format!("`{}` is not {expected}", text.value))
                        .at(&self.file, text.span.clone()),
                );
                None
            }
        }
    }

    /// Whether a list was written empty: items that could not be read leave none behind either.
    fn is_empty<T>(&self, list: &Spanned<Vec<T>>) -> bool {
        list.value.is_empty() && self.text[list.span.clone()].chars().all(|c| c.is_whitespace() || matches!(c, '[' | ']'))
    }

    /// The first line of a place: what to mark of something that spans many.
    fn head(&self, span: &Span) -> Span {
        let length = self.text[span.clone()].lines().next().map_or(0, |line| line.trim_end().len());
        span.start..span.start + length
    }

    fn template(&mut self, text: &Spanned<String>, syntax: Syntax) -> Option<Template> {
        let origin = Origin::scalar(&self.file, self.text, &text.span, text);
        match Template::check(text, syntax, &origin, Some(&self.scope)) {
            Ok(template) => Some(template),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    fn expression(&mut self, text: &Spanned<String>) -> Option<Expression> {
        let origin = Origin::scalar(&self.file, self.text, &text.span, text);
        match Expression::check(text, &origin, Some(&self.scope)) {
            Ok(expression) => Some(expression),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    /// Inline SQL that must not be empty.
    fn sql_text(&mut self, text: &Spanned<String>) -> Option<Template> {
        if text.trim().is_empty() {
            self.error("definition::empty_value", "there is no SQL here", "write a statement", &text.span);
            return None;
        }
        self.template(text, Syntax::Sql)
    }

    /// The SQL in a file beside the definition.
    fn sql_file(&mut self, file: &Spanned<String>) -> Option<Template> {
        let path = self.path(file, &format!("jobs/{}", self.folder))?;
        let text = match self.files.text(&path) {
            Ok(text) => text,
            Err(FileError::Missing) => {
                let help = self.nearest_file(&path);
                self.error("definition::missing_file", format!("there is no file `{path}`"), help, &file.span);
                return None;
            }
            Err(FileError::Refused { message, help }) => {
                self.error("definition::refused_file", message, help, &file.span);
                return None;
            }
        };
        self.read.push(text.clone());
        if text.trim().is_empty() {
            self.error("definition::empty_file", format!("`{path}` is empty"), "write a statement into it", &file.span);
            return None;
        }
        self.problems.extend(stray::secrets_in_sql(&text, &path));
        match Template::check(&text, Syntax::Sql, &Origin::file(&path, &text), Some(&self.scope)) {
            Ok(template) => Some(template),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    fn nearest_file(&self, path: &str) -> String {
        let folder = format!("jobs/{}", self.folder);
        let files = self.files.list(&folder);
        let name = path.rsplit('/').next().unwrap_or(path);
        let same_name = files.iter().find(|file| file.rsplit('/').next() == Some(name)).map(String::as_str);
        match same_name.or_else(|| nearest(path, files.iter().map(String::as_str))) {
            Some(near) => format!("did you mean `{}`?", near.strip_prefix(&format!("{folder}/")).unwrap_or(near)),
            None => format!("the path counts from `{folder}/`"),
        }
    }

    /// A path of a file of the repository, counted from `folder`.
    fn path(&mut self, written: &Spanned<String>, folder: &str) -> Option<String> {
        match path::resolve(folder, written) {
            Ok(path) => Some(path),
            Err((message, help)) => {
                self.error("definition::bad_path", message, help, &written.span);
                None
            }
        }
    }

    /// A path under a connection, which may hold templates.
    fn path_template(&mut self, written: &Spanned<String>) -> Option<Template> {
        if let Err((message, help)) = path::relative(written) {
            self.error("definition::bad_path", message, help, &written.span);
            return None;
        }
        self.template(written, Syntax::Text)
    }

    /// The connection that is written, or `warehouse`; it must be able to do what is wanted in every environment.
    fn connection(&mut self, written: Option<&Spanned<Label>>, at: &Span, capability: Capability) -> Option<Label> {
        let (label, span) = match written {
            Some(label) => (label.value.clone(), label.span.clone()),
            None => (Label::parse("warehouse").expect("the default is a label"), self.head(at)),
        };
        let Some(project) = self.project else { return Some(label) };
        let default = project.default_environment.as_str();
        if let Some((message, help)) =
            project.environments.get(default).and_then(|environment| unfit(default, environment, &label, capability))
        {
            self.error("definition::unknown_connection", message, help, &span);
            return None;
        }
        for (name, environment) in project.environments.iter().filter(|(name, _)| *name != default) {
            if let Some((message, help)) = unfit(name, environment, &label, capability) {
                self.warning("definition::unknown_connection", message, help, &span);
            }
        }
        Some(label)
    }

    fn contact(&mut self, label: &Spanned<Label>) {
        let Some(project) = self.project else { return };
        if project.contacts.contains_key(label.as_str()) {
            return;
        }
        let known: Vec<&str> = project.contacts.keys().map(String::as_str).collect();
        let help = match nearest(label.as_str(), known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare it under `contacts` in errand.yaml; known: {}", words(&known)),
        };
        self.error("definition::unknown_contact", format!("there is no contact `{}`", label.value), help, &label.span);
    }
}

/// Why a connection of an environment cannot do what is wanted, and what to do.
fn unfit(name: &str, environment: &Environment, label: &Label, capability: Capability) -> Option<(String, String)> {
    let (wanted, kinds) = match capability {
        Capability::Warehouse => ("a warehouse", "`duckdb`, `postgres`, `redshift` or `snowflake`"),
        Capability::Files => ("a place with files", "`directory` or `s3`"),
    };
    let fits = |connection: &Connection| connection.is_warehouse() == (capability == Capability::Warehouse);
    match environment.connections.get(label.as_str()) {
        Some(connection) if fits(connection) => None,
        Some(connection) => {
            let message = format!("connection `{label}` of environment `{name}` is a `{}`, not {wanted}", connection.word());
            Some((message, format!("name a connection of kind {kinds}")))
        }
        None => {
            let known: Vec<&str> =
                environment.connections.iter().filter(|(_, connection)| fits(connection)).map(|(name, _)| name.as_str()).collect();
            let help = match nearest(label.as_str(), known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it in errand.yaml; as {wanted} it has {}", words(&known)),
            };
            Some((format!("environment `{name}` has no connection `{label}`"), help))
        }
    }
}

fn words(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ") }
}
