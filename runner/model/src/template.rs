//! Templates over a closed context: parsed and checked at validation, rendered at run time.
//!
//! The language is a small part of Jinja's: `{{ value | filter }}`, `if`, `for`, `set`, comments. No functions, no macros, no
//! includes, nothing that reads the environment, a file or a secret. In SQL every value becomes a literal where it is
//! written out, whatever expression made it, so that quoting cannot be forgotten. Time, memory and depth are bounded.
//! Lines stay lines: only a value with a newline, a `for`, or the `-` of `{%-` moves what follows to another line.

mod check;
mod filter;
pub mod place;
pub mod scanner;
pub mod sql;
mod statement;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, OnceLock};

use minijinja::machinery::{Token, ast, parse, parse_expr, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use crate::failure::{Failure, FailureKind, Place};
use crate::problem::{Problem, line_and_column};
use check::Check;
use place::Origin;
use scanner::Dialect;
use sql::Quoting;

pub use sql::IdentifierCase;

/// The filters that a template may use.
pub const FILTERS: &[&str] =
    &["ident", "raw", "strftime", "default", "lower", "upper", "trim", "replace", "join", "first", "last", "length", "int", "float"];
/// The tests that a template may use after `is`.
pub const TESTS: &[&str] = &["defined", "undefined", "none"];

/// Most instructions of one rendering.
const FUEL: u64 = 200_000;
/// Longest text of one rendering, in bytes.
const MAX_OUTPUT: usize = 4 * 1024 * 1024;
/// Most tokens between one pair of braces: bounds the depth of the syntax tree.
const MAX_TOKENS: usize = 300;
/// Most `elif` in one template: each is one level of the syntax tree.
const MAX_ELIF: usize = 100;

/// How values become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// Pasted as they are.
    Text,
    /// As SQL literals, unless filtered through `ident` or `raw`.
    Sql,
}

/// The names that a template of one step may use besides `run`.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Declared inputs.
    pub inputs: Vec<String>,
    /// Declared constants.
    pub vars: Vec<String>,
    /// Every step of the job.
    pub steps: Vec<ScopeStep>,
    /// How the warehouses of the step read SQL; without any, as the standard says.
    pub dialects: Vec<Dialect>,
}

/// A step as templates see it.
#[derive(Clone, Debug)]
pub struct ScopeStep {
    /// Its id.
    pub id: String,
    /// Whether it surely ran before: the step of the template needs it, directly or through others.
    pub is_needed: bool,
    /// The outputs it declares.
    pub outputs: Vec<String>,
}

/// A template that is parsed and checked.
#[derive(Clone, Debug)]
pub struct Template {
    source: Arc<str>,
    file: Arc<str>,
    syntax: Syntax,
    line: usize,
    is_line_by_line: bool,
    steps: BTreeSet<String>,
}

impl Template {
    /// Parses a template by itself, without the names that a job declares: `inputs`, `vars` and `steps` are not checked.
    /// Its first character stands at `place` (line, column, from 1) of `file`.
    ///
    /// # Errors
    ///
    /// Every problem of its syntax.
    pub fn parse(text: &str, syntax: Syntax, file: &str, place: (usize, usize)) -> Result<Self, Vec<Problem>> {
        let mut template = Self::check(text, syntax, &Origin::file(file, text), None)?;
        template.line = place.0;
        Ok(template)
    }

    /// Parses a template and checks every name in it.
    ///
    /// # Errors
    ///
    /// Every problem, each with its place in the file.
    pub fn check(text: &str, syntax: Syntax, origin: &Origin<'_>, scope: Option<&Scope>) -> Result<Self, Vec<Problem>> {
        let steps = if is_plain(text) { BTreeSet::new() } else { checked(text, syntax, origin, scope)? };
        let line = line_and_column(origin.text, origin.start()).0;
        Ok(Self { source: text.into(), file: origin.file.into(), syntax, line, is_line_by_line: origin.is_line_by_line, steps })
    }

    /// The text as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The file that holds it, relative to the repository.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line of its first character in that file, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The steps whose outputs it reads.
    pub fn step_outputs(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(String::as_str)
    }

    /// The text with its values in place.
    ///
    /// # Errors
    ///
    /// Of kind `Definition`, with the place: an undefined value, a value that cannot stand where it should, or a bound passed.
    pub fn render(&self, values: &Values) -> Result<String, Failure> {
        if is_plain(&self.source) {
            return Ok(self.source.to_string());
        }
        let mut out = Bounded { bytes: Vec::with_capacity(self.source.len()) };
        let template = environment(self.syntax, values.quoting).template_from_str(&self.source).map_err(|error| self.failure(&error))?;
        template.render_captured_to(values.value.clone(), &mut out).map_err(|error| self.failure(&error))?;
        // The lexer drops one newline at the end of the source.
        let kept = self.source.strip_suffix('\n').unwrap_or(&self.source);
        let kept = kept.strip_suffix('\r').unwrap_or(kept);
        out.bytes.extend_from_slice(&self.source.as_bytes()[kept.len()..]);
        String::from_utf8(out.bytes).map_err(|error| Failure::new(FailureKind::Internal, "template::not_text", error.to_string()))
    }

    fn failure(&self, error: &minijinja::Error) -> Failure {
        let within = if self.is_line_by_line { error.line().unwrap_or(1).saturating_sub(1) } else { 0 };
        failure(error, &self.file, self.line + within)
    }
}

/// A condition: a template expression without braces.
#[derive(Clone, Debug)]
pub struct Expression {
    source: Arc<str>,
    file: Arc<str>,
    line: usize,
    steps: BTreeSet<String>,
}

impl Expression {
    /// Parses an expression by itself, without the names that a job declares.
    ///
    /// # Errors
    ///
    /// Every problem of its syntax.
    pub fn parse(text: &str, file: &str, place: (usize, usize)) -> Result<Self, Vec<Problem>> {
        let mut expression = Self::check(text, &Origin::file(file, text), None)?;
        expression.line = place.0;
        Ok(expression)
    }

    /// Parses an expression and checks every name in it.
    ///
    /// # Errors
    ///
    /// Every problem, each with its place in the file.
    pub fn check(text: &str, origin: &Origin<'_>, scope: Option<&Scope>) -> Result<Self, Vec<Problem>> {
        if let Some(at) = text.find("{{").or_else(|| text.find("{%")) {
            let problem = Problem::error("template::braces", "a condition is written without braces");
            return Err(vec![
                problem.at(origin.file, origin.span(&(at..at + 2))).help("write the expression alone: `inputs.full and run.attempt == 1`"),
            ]);
        }
        let mut check = Check::new(text, Syntax::Text, origin, scope);
        if bounded(text, true, &mut check) {
            match parse_expr(text) {
                Ok(expr) => {
                    check.expression(&expr);
                }
                Err(error) => syntax_problem(&mut check, &error, 0..text.len()),
            }
        }
        if check.problems.is_empty() {
            let line = line_and_column(origin.text, origin.start()).0;
            Ok(Self { source: text.into(), file: origin.file.into(), line, steps: check.steps })
        } else {
            Err(check.problems)
        }
    }

    /// The text as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The steps whose outputs it reads.
    pub fn step_outputs(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(String::as_str)
    }

    /// Whether it is true of these values.
    ///
    /// # Errors
    ///
    /// Of kind `Definition`: as [`Template::render`], or the value is neither true nor false.
    pub fn holds(&self, values: &Values) -> Result<bool, Failure> {
        let expression = environment(Syntax::Text, Quoting::default()).compile_expression(&self.source);
        let value = expression
            .and_then(|expression| expression.eval(values.value.clone()))
            .map_err(|error| failure(&error, &self.file, self.line))?;
        match value.kind() {
            minijinja::value::ValueKind::Bool => Ok(value.is_true()),
            kind => {
                let message = format!("the condition `{}` is {kind}, neither true nor false", self.source);
                let place = Place { file: self.file.to_string(), line: self.line as u64, column: 0 };
                Err(Failure::new(FailureKind::Definition, "template::not_boolean", message)
                    .at(place)
                    .help("compare it with something: `==`, `!=`, `<`"))
            }
        }
    }
}

/// What templates read, and how the warehouse that reads their SQL takes names and texts.
#[derive(Clone, Debug)]
pub struct Values {
    value: minijinja::Value,
    quoting: Quoting,
}

impl Values {
    /// `{ run: {id, job, date, start, end, scheduled_at, attempt, commit}, inputs: {}, vars: {}, steps: { <id>: { outputs: {} } } }`;
    /// times as RFC 3339 text with the offset of the job's zone (see [`crate::interval::Interval::local`]).
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers build it with `json!` and keep nothing")]
    pub fn new(values: serde_json::Value) -> Self {
        Self { value: minijinja::Value::from(minijinja::value::Serde(&values)), quoting: Quoting::default() }
    }

    /// For a warehouse that folds names without quotes like this: `ident` gives the name that they find.
    #[must_use]
    pub const fn with_identifier_case(mut self, case: IdentifierCase) -> Self {
        self.quoting.case = case;
        self
    }

    /// For a warehouse in which a backslash in `'...'` escapes what follows (Snowflake, Redshift), or does not.
    #[must_use]
    pub const fn with_backslash_escapes(mut self, escapes: bool) -> Self {
        self.quoting.backslash = escapes;
        self
    }
}

fn is_plain(text: &str) -> bool {
    !(text.contains("{{") || text.contains("{%") || text.contains("{#"))
}

fn checked(text: &str, syntax: Syntax, origin: &Origin<'_>, scope: Option<&Scope>) -> Result<BTreeSet<String>, Vec<Problem>> {
    let mut check = Check::new(text, syntax, origin, scope);
    if bounded(text, false, &mut check) {
        match parse(text, "", config()) {
            Ok(ast::Stmt::Template(template)) => check.block(&template.children),
            Ok(_) => {}
            Err(error) => {
                let within = failing_tag(text, &error);
                syntax_problem(&mut check, &error, within);
            }
        }
    }
    if check.problems.is_empty() { Ok(check.steps) } else { Err(check.problems) }
}

/// Reads the tokens before the parser does: its tree has no bound on long chains, and dropping a deep tree overflows the stack.
fn bounded<'a>(text: &'a str, in_expression: bool, check: &mut Check<'a, '_>) -> bool {
    let (mut tokens, mut elifs, mut start, mut reached) = (0, 0, 0, 0);
    for token in tokenize(text, in_expression, config()) {
        let (token, span) = match token {
            Ok(read) => read,
            Err(error) => {
                let end = text[reached..].find('\n').map_or(text.len(), |newline| reached + newline).max(reached);
                syntax_problem(check, &error, reached..end);
                return false;
            }
        };
        reached = (span.end_offset as usize).min(text.len());
        match token {
            Token::VariableStart | Token::BlockStart => (tokens, start) = (0, span.start_offset as usize),
            Token::Ident("elif") => elifs += 1,
            _ => tokens += 1,
        }
        if tokens > MAX_TOKENS || elifs > MAX_ELIF {
            let message = format!("more than {MAX_TOKENS} words and signs in one expression, or more than {MAX_ELIF} `elif`");
            check.problem("template::too_long", message, "split it with `{% set %}`, or move the decision into a step", &(start..reached));
            return false;
        }
    }
    true
}

fn syntax_problem(check: &mut Check<'_, '_>, error: &minijinja::Error, within: std::ops::Range<usize>) {
    let detail = error.detail().unwrap_or("not a template");
    let help = "templates are `{{ value | filter }}`, `{% if %}`, `{% for %}`, `{% set %}`, `{# comment #}`";
    match detail.strip_prefix(UNKNOWN_STATEMENT) {
        Some(word) => check.problem("template::statement", format!("`{{% {word} %}}` is not allowed in a template"), help, &within),
        None => check.problem("template::syntax", detail, help, &within),
    }
}

/// The bytes of the tag that the parser stumbled over: it tells only the line.
fn failing_tag(text: &str, error: &minijinja::Error) -> std::ops::Range<usize> {
    let wanted = error.line().unwrap_or(1);
    let mut tags: Vec<std::ops::Range<usize>> = Vec::new();
    let (mut line, mut seen) = (1, 0);
    let mut on_line = Vec::new();
    for (token, span) in tokenize(text, false, config()).flatten() {
        let (start, end) = (span.start_offset as usize, (span.end_offset as usize).min(text.len()));
        match token {
            Token::VariableStart | Token::BlockStart => {
                line += text[seen..start].matches('\n').count();
                seen = start;
                tags.push(start..end);
                on_line.push(line);
            }
            Token::TemplateData(_) => {}
            _ => {
                if let Some(tag) = tags.last_mut() {
                    tag.end = end;
                }
            }
        }
    }
    let fails = |tag: &std::ops::Range<usize>| {
        let inner = text[tag.clone()].strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        inner.is_some_and(|inner| parse_expr(inner.trim_matches('-')).is_err())
    };
    let here = || tags.iter().zip(&on_line).filter(|(_, line)| **line <= wanted).map(|(tag, _)| tag);
    let word = error.detail().and_then(|detail| detail.strip_prefix(UNKNOWN_STATEMENT));
    let names = |tag: &std::ops::Range<usize>| {
        word.is_some_and(|word| text[tag.clone()].trim_start_matches(['{', '%', '-', '+', ' ', '\n']).starts_with(word))
    };
    let chosen = here().rfind(|tag| names(tag)).or_else(|| here().rfind(|tag| fails(tag))).or_else(|| here().next_back());
    chosen.cloned().unwrap_or(0..text.len())
}

/// What the parser says of a statement that it does not know.
const UNKNOWN_STATEMENT: &str = "unknown statement ";

fn config() -> SyntaxConfig {
    SyntaxConfig::default()
}

fn environment(syntax: Syntax, quoting: Quoting) -> &'static Environment<'static> {
    static ALL: [OnceLock<Environment<'static>>; 12] = [const { OnceLock::new() }; 12];
    let index = quoting.case as usize * 4 + usize::from(quoting.backslash) * 2 + usize::from(syntax == Syntax::Sql);
    ALL[index].get_or_init(|| build(syntax, quoting))
}

fn build(syntax: Syntax, quoting: Quoting) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(move |out, _, value| match syntax {
        Syntax::Text => Ok(out.write_str(&filter::scalar(value)?)?),
        Syntax::Sql => sql::write_literal(out, value, quoting),
    });
    filter::add_all(&mut environment, quoting.case);
    environment
}

fn failure(error: &minijinja::Error, file: &str, line: usize) -> Failure {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let (code, message, help) = match error.kind() {
        minijinja::ErrorKind::UndefinedError => (
            "template::undefined_value",
            format!("a value is not defined: {detail}"),
            "give it another value with `| default(...)`, or run the step that sets it",
        ),
        minijinja::ErrorKind::OutOfFuel => {
            ("template::too_long", "the template does not come to an end in its bounds".to_owned(), "loop over fewer values")
        }
        minijinja::ErrorKind::WriteFailure => {
            ("template::too_long", format!("the text is longer than {MAX_OUTPUT} bytes"), "loop over fewer values")
        }
        _ => ("template::bad_value", format!("a value cannot be put in place: {detail}"), "look at the values that this line uses"),
    };
    let place = Place { file: file.to_owned(), line: line as u64, column: 0 };
    Failure::new(FailureKind::Definition, code, message).at(place).help(help)
}

/// Collects text up to a bound.
struct Bounded {
    bytes: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + buffer.len() > MAX_OUTPUT {
            return Err(io::Error::other("too long"));
        }
        self.bytes.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
