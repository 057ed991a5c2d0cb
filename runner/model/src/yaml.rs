//! YAML text to a tree of nodes that know their place, within fixed bounds.
//!
//! Bounds come first: libyaml's flow nesting is quadratic in depth, and aliases multiply nodes, so the size of the text, the
//! number of `[` and `{`, the depth and the number of nodes are all limited before or while the tree is built.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned as RawSpanned;

use crate::problem::Problem;

/// Longest definition file, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Most `[` and `{` in one file: bounds the quadratic cost of nested flow collections.
pub const MAX_BRACKETS: usize = 4096;
/// Most nodes in one file, aliases counted each time they are used.
pub const MAX_NODES: usize = 50_000;

/// A span of bytes in a file.
pub type Span = Range<usize>;

/// One node of the tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands, without surrounding blanks or comments.
    pub span: Span,
    /// What it is.
    pub kind: NodeKind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// Nothing: `key:` or `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(String),
    /// Text.
    Text(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in their order; duplicate keys are still in it.
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug)]
pub struct Key {
    /// The word.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl NodeKind {
    /// What a person calls it.
    #[must_use]
    pub const fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// Parses one YAML document.
///
/// # Errors
///
/// One problem: too large, too deep, too many nodes, not YAML, or a duplicate key.
pub fn parse(text: &str, file: &str) -> Result<Node, Problem> {
    if text.len() > MAX_BYTES {
        let message = format!("file is {} bytes long; a definition may have at most {MAX_BYTES}", text.len());
        return Err(Problem::error("yaml::too_large", message).file(file).help("move long SQL into files beside the definition"));
    }
    if let Some((at, _)) = text.match_indices(['[', '{']).nth(MAX_BRACKETS) {
        let message = format!("more than {MAX_BRACKETS} opening brackets in one file");
        return Err(Problem::error("yaml::too_deep", message).at(file, at..at + 1).help("write lists and mappings over several lines"));
    }
    NODES.set(0);
    let raw: RawSpanned<RawKind> = serde_yaml::from_str(text).map_err(|error| syntax_problem(&error, text, file))?;
    let node = convert(raw, text);
    if matches!(node.kind, NodeKind::Null) {
        return Err(Problem::error("yaml::syntax", "the file is empty").file(file).help("a definition begins with `version: 1`"));
    }
    match duplicate_key(&node) {
        Some((first, second)) => {
            let line = text[..first.span.start].matches('\n').count() + 1;
            let message = format!("key `{}` stands here twice", second.text);
            Err(Problem::error("yaml::duplicate_key", message)
                .at(file, second.span.clone())
                .help(format!("remove it here or on line {line}")))
        }
        None => Ok(node),
    }
}

fn syntax_problem(error: &serde_yaml::Error, text: &str, file: &str) -> Problem {
    let full = error.to_string();
    let message = full.split(" at line ").next().unwrap_or(&full).to_owned();
    let (code, message, help) = match message.as_str() {
        m if m.contains("recursion limit") => {
            ("yaml::too_deep", "nested too deeply".to_owned(), "a definition needs fewer than 128 levels")
        }
        m if m.contains("repetition limit") || m.contains(TOO_MANY_NODES) => {
            ("yaml::too_many_nodes", format!("more than {MAX_NODES} values, aliases counted each time"), "use fewer aliases")
        }
        _ => match error.location().and_then(|location| slip(text, floor_boundary(text, location.index()))) {
            Some((span, message, help)) => return Problem::error("yaml::syntax", message).at(file, span).help(help),
            None => ("yaml::syntax", format!("not valid YAML: {message}"), "check indentation, quotes and colons just before this place"),
        },
    };
    let problem = Problem::error(code, message).file(file).help(help);
    match error.location() {
        Some(location) => {
            let start = floor_boundary(text, location.index());
            let end = text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
            problem.at(file, start..end)
        }
        None => problem,
    }
}

/// The two slips that the parser has no words for, on the line where it stopped or on the one before: where, what and what to do.
fn slip(text: &str, at: usize) -> Option<(Span, &'static str, &'static str)> {
    let line_of = |at: usize| text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = |start: usize| (start, text[start..].lines().next().unwrap_or_default());
    let (start, stopped) = line(line_of(at));
    let blanks = stopped.len() - stopped.trim_start_matches([' ', '\t']).len();
    if let Some(tab) = stopped[..blanks].find('\t') {
        let span = start + tab..start + tab + 1;
        return Some((span, "a tab stands in the indentation", "indent with blanks: YAML takes no tabs there"));
    }
    let before = line(line_of(text[..start].trim_end().len()));
    [(start, stopped), before].into_iter().find_map(|(start, line)| {
        let dash = line.trim_start().strip_prefix("- ").map(|item| line.len() - item.len());
        let values = dash.into_iter().chain(line.match_indices(": ").map(|(colon, _)| colon + 2));
        values.into_iter().find_map(|value| {
            let value = line.len() - line[value..].trim_start().len();
            let (length, message, help) = unquoted(&line[value..])?;
            Some((start + value..start + value + length, message, help))
        })
    })
}

/// Why a value must stand in quotes, by its first characters, of which there are so many.
fn unquoted(value: &str) -> Option<(usize, &'static str, &'static str)> {
    match value.as_bytes() {
        [b'{', b'{', ..] => Some((
            2,
            "a value that begins with `{{` stands without quotes",
            "put the whole value in quotes, such as `\"{{ run.date }}.csv\"`: in YAML `{` begins a mapping",
        )),
        [b'*', ..] => Some((
            1,
            "a value that begins with `*` stands without quotes",
            "put the whole value in quotes, such as `\"*/5 * * * *\"`: in YAML `*` begins an alias",
        )),
        [b'@' | b'`' | b'%', ..] => Some((
            1,
            "a value that begins with `@`, `%` or a backtick stands without quotes",
            "put the whole value in quotes: in YAML no value begins so without them",
        )),
        _ => None,
    }
}

fn floor_boundary(text: &str, index: usize) -> usize {
    (0..=index.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn duplicate_key(node: &Node) -> Option<(&Key, &Key)> {
    match &node.kind {
        NodeKind::Mapping(entries) => {
            let mut seen = std::collections::HashMap::with_capacity(entries.len());
            for (key, _) in entries {
                if let Some(first) = seen.insert(key.text.as_str(), key) {
                    return Some((first, key));
                }
            }
            entries.iter().find_map(|(_, value)| duplicate_key(value))
        }
        NodeKind::Sequence(items) => items.iter().find_map(duplicate_key),
        NodeKind::Null | NodeKind::Bool(_) | NodeKind::Number(_) | NodeKind::Text(_) => None,
    }
}

const TOO_MANY_NODES: &str = "too many nodes";

thread_local! {
    /// Nodes built so far by the parse under way on this thread: serde gives a visitor inside `Spanned` no other state.
    static NODES: Cell<usize> = const { Cell::new(0) };
}

enum RawKind {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Sequence(Vec<RawSpanned<RawKind>>),
    Mapping(Vec<(RawSpanned<RawKey>, RawSpanned<RawKind>)>),
}

struct RawKey(String);

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = RawKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value without tags")
    }

    fn visit_unit<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }

    /// A text without any node.
    fn visit_none<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawKind, E> {
        Ok(RawKind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawKind, E> {
        Ok(RawKind::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawKind, E> {
        Ok(RawKind::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawKind, E> {
        Ok(RawKind::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<RawKind, E> {
        Ok(RawKind::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawKind, E> {
        Ok(RawKind::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawKind, E> {
        Ok(RawKind::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawKind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawKind::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawKind, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(RawKind::Mapping(entries))
    }
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let nodes = NODES.get() + 1;
        NODES.set(nodes);
        if nodes > MAX_NODES {
            return Err(D::Error::custom(TOO_MANY_NODES));
        }
        deserializer.deserialize_any(KindVisitor)
    }
}

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(KindVisitor)? {
            RawKind::Text(text) | RawKind::Number(text) => Ok(Self(text)),
            RawKind::Bool(value) => Ok(Self(value.to_string())),
            RawKind::Null | RawKind::Sequence(_) | RawKind::Mapping(_) => Err(D::Error::custom("a key must be a word")),
        }
    }
}

fn convert(raw: RawSpanned<RawKind>, text: &str) -> Node {
    let span = raw.span().start.index()..raw.span().end.index();
    let span = span.start.min(text.len())..span.end.clamp(span.start.min(text.len()), text.len());
    let (span, kind) = match raw.into_inner() {
        RawKind::Null => (scalar_span(text, &span), NodeKind::Null),
        RawKind::Bool(value) => (scalar_span(text, &span), NodeKind::Bool(value)),
        RawKind::Number(value) => {
            let span = scalar_span(text, &span);
            let written = &text[span.clone()];
            let faithful = written.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
            (span, NodeKind::Number(if faithful { written.to_owned() } else { value }))
        }
        RawKind::Text(value) => (scalar_span(text, &span), NodeKind::Text(value)),
        RawKind::Sequence(items) => (trim(text, &span), NodeKind::Sequence(items.into_iter().map(|item| convert(item, text)).collect())),
        RawKind::Mapping(entries) => {
            let entries = entries.into_iter().map(|(key, value)| (convert_key(key, text), convert(value, text))).collect();
            (trim(text, &span), NodeKind::Mapping(entries))
        }
    };
    Node { span, kind }
}

fn convert_key(raw: RawSpanned<RawKey>, text: &str) -> Key {
    let start = raw.span().start.index().min(text.len());
    let rest = &text[start..raw.span().end.index().clamp(start, text.len())];
    let written = rest.trim_end().trim_end_matches(':').trim_end();
    Key { span: start..start + written.len(), text: raw.into_inner().0 }
}

/// The parser's span of a scalar runs on to the next token: cut comments, blanks and the punctuation of flow collections.
fn scalar_span(text: &str, span: &Span) -> Span {
    let written = &text[span.clone()];
    let length = match written.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted_length(written, quote),
        Some('|' | '>') => written.trim_end().len(),
        _ => {
            let line = written.lines().next().unwrap_or("");
            let line = line.find(" #").map_or(line, |comment| &line[..comment]);
            line.trim_end().trim_end_matches([',', ']', '}']).trim_end().len()
        }
    };
    span.start..span.start + length
}

fn quoted_length(written: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in written.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote && quote == '\'' && written[at + 1..].starts_with('\'') => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    written.trim_end().len()
}

fn trim(text: &str, span: &Span) -> Span {
    // Of a flow collection, the span may hold the comma behind it.
    let blank = |c: char| c.is_whitespace() || c == ',';
    let written = &text[span.clone()];
    let is_flow = written.starts_with(['[', '{']);
    span.start..span.start + if is_flow { written.trim_end_matches(blank) } else { written.trim_end() }.len()
}

#[cfg(test)]
mod tests {
    use super::{MAX_BRACKETS, MAX_BYTES, Node, NodeKind, parse};

    fn written<'a>(text: &'a str, path: &[&str]) -> &'a str {
        let root = parse(text, "job.yaml").expect("valid");
        let mut node: &Node = &root;
        for key in path {
            node = match &node.kind {
                NodeKind::Mapping(entries) => &entries.iter().find(|(k, _)| k.text == *key).expect("key").1,
                NodeKind::Sequence(items) => &items[key.parse::<usize>().expect("index")],
                _ => panic!("not a collection"),
            };
        }
        &text[node.span.clone()]
    }

    #[test]
    fn spans_hold_the_value_and_nothing_else() {
        let text = "a: plain # c\nb: \"q é \\\" x\"   # c\nc: 'it''s'\nd: { x: 1.50 , y: [p, q ] }\ne: |\n  two\n  lines\nf:\n  - one\n";
        assert_eq!(written(text, &["a"]), "plain");
        assert_eq!(written(text, &["b"]), "\"q é \\\" x\"");
        assert_eq!(written(text, &["c"]), "'it''s'");
        assert_eq!(written(text, &["d", "x"]), "1.50");
        assert_eq!(written(text, &["d", "y", "1"]), "q");
        assert_eq!(written(text, &["e"]), "|\n  two\n  lines");
        assert_eq!(written(text, &["f", "0"]), "one");
    }

    /// The problem as `what is pointed at: message`.
    fn told(text: &str) -> String {
        let problem = parse(text, "job.yaml").expect_err("refused");
        assert!(problem.code == "yaml::syntax" && problem.help.is_some(), "{problem:?}");
        format!("{}: {}", problem.span.map_or("", |span| &text[span]), problem.message)
    }

    #[test]
    fn common_slips_are_named() {
        for tab in ["steps:\n\t- id: a\n", "steps:\n  - id: a\n\t  sql: { text: select 1 }\n", "a:\n  b: 1\n  \tc: 2\n"] {
            assert_eq!(told(tab), "\t: a tab stands in the indentation", "{tab}");
        }
        for empty in ["", "\n\n", "# nothing yet\n", "---\n"] {
            assert_eq!(told(empty), ": the file is empty", "{empty}");
        }
        for template in [
            "path: {{ run.date }}.csv\nname: x\n",
            "steps:\n  - export: { format: csv, to: { connection: lake, path: {{ run.date }}.csv } }\n",
            "path:   {{ run.date }}\n",
            "- {{ run.date }}.csv\n",
        ] {
            assert_eq!(told(template), "{{: a value that begins with `{{` stands without quotes", "{template}");
        }
        for star in ["schedule:\n  cron: */5 * * * *\n  timezone: UTC\n", "cron: * * * * *\n", "path: *.csv\n", "a:\n  - *.csv\n"] {
            assert_eq!(told(star), "*: a value that begins with `*` stands without quotes", "{star}");
        }
        assert!(told("cron: @daily\n").starts_with("@: a value that begins with `@`"));
        assert!(told("a: \"x\nb: 1\n").contains("not valid YAML"));
    }

    fn code(text: &str) -> &'static str {
        parse(text, "job.yaml").expect_err("refused").code
    }

    #[test]
    fn attacks_are_refused_quickly() {
        let started = std::time::Instant::now();
        assert_eq!(code(&"[".repeat(MAX_BRACKETS + 1)), "yaml::too_deep");
        assert_eq!(code(&"{a: ".repeat(MAX_BRACKETS - 1)), "yaml::too_deep");
        assert_eq!(code(&(0..400).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>()), "yaml::too_deep");
        assert_eq!(code(&" ".repeat(MAX_BYTES + 1)), "yaml::too_large");
        let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (name, before) in ('b'..'k').zip('a'..) {
            bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(",")));
        }
        assert_eq!(code(&bomb), "yaml::too_many_nodes");
        assert_eq!(code("a: 1\nb: { c: 1, c: 2 }\n"), "yaml::duplicate_key");
        assert_eq!(code("a: !tag x\n"), "yaml::syntax");
        assert_eq!(code("a: [1\nb: 2\n"), "yaml::syntax");
        assert_eq!(code("? [a]\n: 1\n"), "yaml::syntax");
        assert!(started.elapsed().as_secs() < 5);
    }
}
