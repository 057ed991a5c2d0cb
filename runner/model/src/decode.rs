//! From nodes to typed documents, and the JSON Schema of the same types: one declaration gives both.
//!
//! Decoding never stops at the first problem: what can be read is read, every problem is collected.

mod object;

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::foreign;
use crate::problem::{Problem, nearest};
use crate::yaml::{Key, Node, NodeKind, Span};

pub(crate) use object::ObjectSchema;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Where problems go while one file is decoded.
pub struct Context<'a> {
    file: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Context<'a> {
    /// Collects the problems of `file`.
    pub fn new(file: &'a str, problems: &'a mut Vec<Problem>) -> Self {
        Self { file, problems }
    }

    /// Adds a problem at a place of this file.
    pub fn problem(&mut self, problem: Problem, span: &Span) {
        self.problems.push(problem.at(self.file, span.clone()));
    }

    fn wrong_type(&mut self, node: &Node, expected: &str) {
        let message = format!("expected {expected}, found {}", node.kind.describe());
        let problem = Problem::error("definition::wrong_type", message);
        let problem = match (&node.kind, expected) {
            (NodeKind::Number(_) | NodeKind::Bool(_), "text") => problem.help("put it in quotes if it is meant as text"),
            (NodeKind::Text(_) | NodeKind::Number(_), "a list") => problem.help("write `[a, b]`, or one `- item` a line"),
            _ => problem,
        };
        self.problem(problem, &node.span);
    }
}

/// A type that can be read from a definition.
pub trait Decode: Sized + JsonSchema {
    /// Reads it; what is wrong goes to `cx`. `None` when nothing usable was there.
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self>;
}

impl<T: Decode> Decode for Spanned<T> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self> {
        T::decode(node, cx).map(|value| Self { value, span: node.span.clone() })
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl Decode for String {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self> {
        match &node.kind {
            NodeKind::Text(text) => Some(text.clone()),
            _ => {
                cx.wrong_type(node, "text");
                None
            }
        }
    }
}

impl Decode for bool {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self> {
        match &node.kind {
            NodeKind::Bool(value) => Some(*value),
            _ => {
                cx.wrong_type(node, "`true` or `false`");
                None
            }
        }
    }
}

impl Decode for u32 {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self> {
        let value = if let NodeKind::Number(text) = &node.kind { text.parse().ok() } else { None };
        if value.is_none() {
            cx.wrong_type(node, "a whole number from 0 to 4294967295");
        }
        value
    }
}

impl Decode for u64 {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self> {
        let value = if let NodeKind::Number(text) = &node.kind { text.parse().ok() } else { None };
        if value.is_none() {
            cx.wrong_type(node, "a whole number, 0 or more");
        }
        value
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self> {
        match &node.kind {
            NodeKind::Sequence(items) => Some(items.iter().filter_map(|item| T::decode(item, cx)).collect()),
            _ => {
                cx.wrong_type(node, "a list");
                None
            }
        }
    }
}

/// A mapping from names that the author chooses to values, in the author's order.
#[derive(Clone, Debug, Default)]
pub struct Entries<T>(pub Vec<(Key, T)>);

impl<T> Entries<T> {
    /// The value under a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.text.as_str())
    }
}

impl<T: Decode> Decode for Entries<T> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self> {
        let NodeKind::Mapping(entries) = &node.kind else {
            cx.wrong_type(node, "a mapping of names to values");
            return None;
        };
        let mut out = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if !is_identifier(&key.text) {
                let message = format!("`{}` cannot be a name", key.text);
                let help = "names are letters, digits, `_` and `-`, and start with a letter or `_`";
                cx.problem(Problem::error("definition::bad_name", message).help(help), &key.span);
            }
            if let Some(value) = T::decode(value, cx) {
                out.push((key.clone(), value));
            }
        }
        Some(Self(out))
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("EntriesOf{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

/// Any scalar: constants, defaults, accepted values.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar(pub serde_json::Value);

impl Decode for Scalar {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self> {
        let value = match &node.kind {
            NodeKind::Null => serde_json::Value::Null,
            NodeKind::Bool(value) => (*value).into(),
            NodeKind::Text(text) => text.clone().into(),
            NodeKind::Number(text) => number(text),
            NodeKind::Sequence(_) | NodeKind::Mapping(_) => {
                cx.wrong_type(node, "text, a number, `true`, `false` or `null`");
                return None;
            }
        };
        Some(Self(value))
    }
}

/// A number as JSON holds it; one that JSON's numbers would change stays text.
fn number(text: &str) -> serde_json::Value {
    let plain = text.trim_start_matches('+');
    if let Ok(integer) = plain.parse::<i64>() {
        return integer.into();
    }
    match plain.parse::<f64>() {
        Ok(float) if float.to_string() == plain => serde_json::Number::from_f64(float).map_or_else(|| text.into(), Into::into),
        _ => text.into(),
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean", "null"] })
    }
}

/// The keys of one mapping while a document takes its fields out of it.
pub struct Mapping<'n> {
    entries: &'n [(Key, Node)],
    span: Span,
    what: &'static str,
}

impl<'n> Mapping<'n> {
    /// Opens a mapping and reports every key that is not a field.
    pub fn open(node: &'n Node, what: &'static str, fields: &[&str], cx: &mut Context<'_>) -> Option<Self> {
        let NodeKind::Mapping(entries) = &node.kind else {
            cx.wrong_type(node, &format!("a mapping ({what})"));
            return None;
        };
        for (key, _) in entries.iter().filter(|(key, _)| !fields.contains(&field_name(&key.text, fields))) {
            let problem = Problem::error("definition::unknown_key", format!("unknown key `{}` in {what}", key.text));
            let problem =
                match foreign::suggestion(&key.text, fields).or_else(|| nearest(&key.text, fields.iter().copied()).map(did_you_mean)) {
                    Some(help) => problem.help(help),
                    None => problem.help(format!("known here: {}", fields.join(", "))),
                };
            cx.problem(problem, &key.span);
        }
        Some(Self { entries, span: node.span.clone(), what })
    }

    /// Takes one field; `required` reports it when it is missing.
    pub fn take<T: Decode>(&self, field: &'static str, required: bool, cx: &mut Context<'_>) -> Option<Spanned<T>> {
        match self.entries.iter().find(|(key, _)| key.text == field) {
            Some((key, node)) if matches!(node.kind, NodeKind::Null) => {
                let problem =
                    Problem::error("definition::empty_value", format!("`{field}` has no value")).help("write a value, or remove the key");
                cx.problem(problem, &key.span);
                None
            }
            Some((_, node)) => Spanned::decode(node, cx),
            None if required => {
                let message = format!("{} lacks `{field}`", self.what);
                let start = self.span.start;
                let end = self.entries.first().map_or(self.span.end, |(key, _)| key.span.end);
                cx.problem(Problem::error("definition::missing_key", message).help(format!("add `{field}:`")), &(start..end));
                None
            }
            None => None,
        }
    }

    /// Reports unless exactly one of `choices` is there.
    pub fn exactly_one(&self, choices: &[&'static str], cx: &mut Context<'_>) {
        let present: Vec<&Key> = self.entries.iter().map(|(key, _)| key).filter(|key| choices.contains(&key.text.as_str())).collect();
        let words = choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
        match present.as_slice() {
            [_] => {}
            [] => {
                let end = self.entries.first().map_or(self.span.end, |(key, _)| key.span.end);
                let problem = Problem::error("definition::no_choice", format!("{} has none of {words}", self.what));
                cx.problem(problem.help("add exactly one of them"), &(self.span.start..end));
            }
            [first, second, ..] => {
                let message = format!("{} has both `{}` and `{}`", self.what, first.text, second.text);
                cx.problem(Problem::error("definition::two_choices", message).help(format!("keep exactly one of {words}")), &second.span);
            }
        }
    }
}

fn field_name<'f>(key: &'f str, fields: &[&'f str]) -> &'f str {
    fields.iter().find(|field| **field == key).copied().unwrap_or(key)
}

fn did_you_mean(word: &str) -> String {
    format!("did you mean `{word}`?")
}

/// Reads one of a closed set of words, or reports the nearest.
pub fn word<T: Copy>(node: &Node, what: &str, words: &[(&'static str, T)], cx: &mut Context<'_>) -> Option<T> {
    let NodeKind::Text(text) = &node.kind else {
        let known: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let message = format!("expected {what}, found {}", node.kind.describe());
        cx.problem(Problem::error("definition::wrong_type", message).help(format!("known: {}", known.join(", "))), &node.span);
        return None;
    };
    if let Some((_, value)) = words.iter().find(|(name, _)| name == text) {
        return Some(*value);
    }
    let known: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let problem = Problem::error("definition::unknown_word", format!("`{text}` is not {what}"));
    let help = foreign::suggestion(text, &known).or_else(|| nearest(text, known.iter().copied()).map(did_you_mean));
    cx.problem(problem.help(help.unwrap_or_else(|| format!("known: {}", known.join(", ")))), &node.span);
    None
}

/// Reads text through a parser whose error says what was expected.
pub fn parsed<T>(node: &Node, cx: &mut Context<'_>, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
    let (NodeKind::Text(text) | NodeKind::Number(text)) = &node.kind else {
        cx.wrong_type(node, "text");
        return None;
    };
    match parse(text) {
        Ok(value) => Some(value),
        Err(expected) => {
            cx.problem(Problem::error("definition::bad_value", format!("`{text}` is not {expected}")), &node.span);
            None
        }
    }
}

/// Declares a document: a struct whose every field is optional and knows its place, its decoder and its JSON Schema.
///
/// `required` fields are reported when missing; of the `@one_of` group exactly one must be there.
macro_rules! document {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident as $what:literal {
            $( $(#[doc = $field_doc:literal])* $need:ident $field:ident: $type:ty, )*
            $( @one_of { $( $(#[doc = $choice_doc:literal])* $choice:ident: $choice_type:ty, )+ } )?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $( $(#[doc = $field_doc])* pub $field: Option<$crate::decode::Spanned<$type>>, )*
            $( $( $(#[doc = $choice_doc])* pub $choice: Option<$crate::decode::Spanned<$choice_type>>, )+ )?
        }

        impl $crate::decode::Decode for $name {
            fn decode(node: &$crate::yaml::Node, cx: &mut $crate::decode::Context<'_>) -> Option<Self> {
                const FIELDS: &[&str] = &[ $( $crate::decode::plain(stringify!($field)), )* $( $( $crate::decode::plain(stringify!($choice)), )+ )? ];
                let mapping = $crate::decode::Mapping::open(node, $what, FIELDS, cx)?;
                $( mapping.exactly_one(&[ $( $crate::decode::plain(stringify!($choice)) ),+ ], cx); )?
                Some(Self {
                    $( $field: mapping.take($crate::decode::plain(stringify!($field)), $crate::decode::is_required(stringify!($need)), cx), )*
                    $( $( $choice: mapping.take($crate::decode::plain(stringify!($choice)), false, cx), )+ )?
                })
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).trim_end_matches("Document").into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut object = $crate::decode::ObjectSchema::new(concat!($($doc, "\n"),*));
                $( object.field::<$type>(
                    $crate::decode::plain(stringify!($field)), concat!($($field_doc, "\n"),*),
                    $crate::decode::is_required(stringify!($need)), generator); )*
                $( $( object.choice::<$choice_type>(
                    $crate::decode::plain(stringify!($choice)), concat!($($choice_doc, "\n"),*), generator); )+ )?
                object.finish()
            }
        }
    };
}
pub(crate) use document;

/// Declares a closed set of words with its decoder, its JSON Schema and the same words for wire formats.
macro_rules! words {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident as $what:literal { $( $(#[doc = $variant_doc:literal])* $variant:ident = $word:literal, )+ }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $( $(#[doc = $variant_doc])* #[serde(rename = $word)] $variant, )+ }

        impl $name {
            /// The word as it is written in a definition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::decode::Decode for $name {
            fn decode(node: &$crate::yaml::Node, cx: &mut $crate::decode::Context<'_>) -> Option<Self> {
                $crate::decode::word(node, $what, &[ $( ($word, Self::$variant), )+ ], cx)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [ $( $word ),+ ], "description": concat!($($doc, "\n"),*).trim() })
            }
        }
    };
}
pub(crate) use words;

/// A field's name as it is written in YAML: `r#if` is `if`.
pub(crate) const fn plain(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

pub(crate) const fn is_required(need: &str) -> bool {
    matches!(need.as_bytes(), b"required")
}
