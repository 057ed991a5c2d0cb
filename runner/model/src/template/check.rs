//! Walks the syntax tree of a template and reports every name that is not known, every statement that is not allowed, and
//! every value that stands where its quoting would not hold.
//!
//! Names are slices of the template's own text, so their places are exact.

use std::collections::BTreeSet;
use std::ops::Range;

use minijinja::machinery::{Span, ast};

use super::place::Origin;
use super::scanner::Scanner;
use super::{FILTERS, Scope, Syntax, TESTS};
use crate::problem::{Problem, nearest};

/// What `run.` holds.
const RUN: &[&str] = &["id", "job", "date", "start", "end", "scheduled_at", "attempt", "commit"];
/// What `loop.` holds within a `for`.
const LOOP: &[&str] = &["index", "index0", "first", "last", "length", "revindex", "revindex0"];
/// Names that a template starts from.
pub(super) const ROOTS: &[&str] = &["run", "inputs", "vars", "steps"];
/// Most parts that one value may be put together from: doubling a value over and over must not fill memory.
const MAX_WEIGHT: usize = 64;
/// Weight of a repetition, `text * n`.
const REPEAT_WEIGHT: usize = 16;

/// The walk over one template.
pub(super) struct Check<'a, 's> {
    pub(super) source: &'a str,
    pub(super) origin: &'a Origin<'a>,
    pub(super) scope: Option<&'s Scope>,
    pub(super) problems: Vec<Problem>,
    /// Steps whose outputs are read.
    pub(super) steps: BTreeSet<String>,
    /// Names set by the template itself, with their weight.
    pub(super) locals: Vec<(&'a str, usize)>,
    /// Follows quotes; only in SQL.
    pub(super) scanner: Option<Scanner>,
    /// The text between the last value and here is empty.
    pub(super) after_value: bool,
    /// Levels of `for` around this place.
    pub(super) loops: usize,
}

impl<'a, 's> Check<'a, 's> {
    pub(super) fn new(source: &'a str, syntax: Syntax, origin: &'a Origin<'a>, scope: Option<&'s Scope>) -> Self {
        let scanner = (syntax == Syntax::Sql).then(|| Scanner::new(scope.map_or(&[], |scope| scope.dialects.as_slice())));
        Self {
            source,
            origin,
            scope,
            problems: Vec::new(),
            steps: BTreeSet::new(),
            locals: Vec::new(),
            scanner,
            after_value: false,
            loops: 0,
        }
    }

    pub(super) fn problem(&mut self, code: &'static str, message: impl Into<String>, help: impl Into<String>, within: &Range<usize>) {
        let span = self.origin.span(within);
        self.problems.push(Problem::error(code, message).at(self.origin.file, span).help(help));
    }

    /// Bytes of a slice of the source.
    pub(super) fn bytes(&self, slice: &str) -> Range<usize> {
        let start = (slice.as_ptr() as usize).saturating_sub(self.source.as_ptr() as usize);
        if start + slice.len() <= self.source.len() { start..start + slice.len() } else { 0..self.source.len() }
    }

    /// Checks an expression and tells from how many parts its value is put together.
    pub(super) fn expression(&mut self, expr: &ast::Expr<'a>) -> usize {
        let weight = self.weigh(expr);
        if weight > MAX_WEIGHT {
            let help = "a template puts values in place; build long texts in a step";
            self.problem("template::too_long", "the value is put together from too many parts", help, &range(expr.span()));
            return 0;
        }
        weight
    }

    fn weigh(&mut self, expr: &ast::Expr<'a>) -> usize {
        match expr {
            ast::Expr::Var(var) => self.variable(var),
            ast::Expr::Const(_) => 0,
            ast::Expr::GetAttr(attribute) => self.attribute(&attribute.expr, attribute.name),
            ast::Expr::GetItem(item) => self.item(item),
            ast::Expr::UnaryOp(operation) => self.expression(&operation.expr),
            ast::Expr::BinOp(operation) => {
                let weight = self.expression(&operation.left) + self.expression(&operation.right);
                weight + if matches!(operation.op, ast::BinOpKind::Mul) { REPEAT_WEIGHT } else { 0 }
            }
            ast::Expr::Compare(compare) => {
                self.expression(&compare.expr);
                for op in &compare.ops {
                    self.expression(&op.expr);
                }
                0
            }
            ast::Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr);
                let other = choice.false_expr.as_ref().map_or(0, |other| self.expression(other));
                self.expression(&choice.true_expr).max(other)
            }
            ast::Expr::Filter(filter) => self.filter(filter),
            ast::Expr::Test(test) => self.test(test),
            ast::Expr::Slice(slice) => {
                for part in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    self.expression(part);
                }
                self.expression(&slice.expr)
            }
            ast::Expr::List(list) => list.items.iter().map(|item| self.expression(item)).sum(),
            ast::Expr::Tuple(tuple) => tuple.items.iter().map(|item| self.expression(item)).sum(),
            ast::Expr::Map(map) => map.keys.iter().chain(&map.values).map(|item| self.expression(item)).sum(),
            ast::Expr::Call(call) => self.call(call),
        }
    }

    fn variable(&mut self, var: &ast::Spanned<ast::Var<'a>>) -> usize {
        if let Some((_, weight)) = self.locals.iter().rev().find(|(name, _)| *name == var.id) {
            return (*weight).max(1);
        }
        let at = self.bytes(var.id);
        let (message, help) = match var.id {
            "run" => ("`run` is a group of values".to_owned(), "write one of them, such as `run.date`".to_owned()),
            "inputs" | "vars" => (format!("`{}` is a group of values", var.id), format!("write one of them, such as `{}.name`", var.id)),
            "steps" => ("`steps` is a group of values".to_owned(), "write `steps.<id>.outputs.<name>`".to_owned()),
            name => (format!("`{name}` is not defined"), self.owner_of(name).unwrap_or_else(|| known(name, ROOTS))),
        };
        self.problem("template::undefined_name", message, help, &at);
        1
    }

    /// The full name, when a bare word is the last part of one.
    fn owner_of(&self, word: &str) -> Option<String> {
        let scope = self.scope?;
        let full = if scope.inputs.iter().any(|input| input == word) {
            format!("inputs.{word}")
        } else if scope.vars.iter().any(|var| var == word) {
            format!("vars.{word}")
        } else if RUN.contains(&word) {
            format!("run.{word}")
        } else {
            return None;
        };
        Some(format!("did you mean `{full}`?"))
    }

    fn item(&mut self, item: &ast::Spanned<ast::GetItem<'a>>) -> usize {
        if let ast::Expr::Const(constant) = &item.subscript_expr
            && let Some(name) = constant.value.as_str()
        {
            let at = range(constant.span());
            return self.member(&item.expr, name, &at);
        }
        self.expression(&item.subscript_expr);
        match path(&item.expr).as_deref() {
            Some([root, ..]) if ROOTS.contains(root) && !self.is_local(root) => {
                let help = "write the name itself, so that it can be checked before the run";
                self.problem("template::dynamic_name", format!("a computed name within `{root}`"), help, &range(item.span()));
                1
            }
            _ => self.expression(&item.expr).max(1),
        }
    }

    fn is_local(&self, name: &str) -> bool {
        self.locals.iter().any(|(local, _)| *local == name)
    }

    fn attribute(&mut self, base: &ast::Expr<'a>, name: &'a str) -> usize {
        let at = self.bytes(name);
        self.member(base, name, &at)
    }

    fn member(&mut self, base: &ast::Expr<'a>, name: &str, at: &Range<usize>) -> usize {
        let Some(parents) = path(base) else {
            return self.expression(base).max(1);
        };
        match parents.as_slice() {
            [root, ..] if self.is_local(root) => {
                if *root == "loop" && !LOOP.contains(&name) {
                    self.problem("template::undefined_name", format!("`loop.{name}` is not defined"), known(name, LOOP), at);
                }
                return self.expression(base).max(1);
            }
            ["run"] => self.one_of("run", name, RUN, at),
            ["inputs"] => self.declared("inputs", name, self.scope.map(|scope| scope.inputs.as_slice()), at),
            ["vars"] => self.declared("vars", name, self.scope.map(|scope| scope.vars.as_slice()), at),
            ["steps"] => self.step(name, at),
            ["steps", step] if name != "outputs" => {
                let help = format!("write `steps.{step}.outputs.<name>`");
                self.problem("template::undefined_name", format!("`steps.{step}.{name}` is not defined"), help, at);
            }
            ["steps", _] => {
                self.expression(base);
            }
            ["steps", step, "outputs"] => {
                self.expression(base);
                self.output(step, name, at);
            }
            ["run" | "inputs" | "vars", ..] | ["steps", _, "outputs", ..] => {
                let whole = parents.join(".");
                self.problem(
                    "template::undefined_name",
                    format!("`{whole}` is one value and has no `{name}`"),
                    format!("write `{whole}`"),
                    at,
                );
            }
            _ => {
                self.expression(base);
            }
        }
        1
    }

    fn one_of(&mut self, group: &str, name: &str, names: &[&str], at: &Range<usize>) {
        if !names.contains(&name) {
            self.problem("template::undefined_name", format!("`{group}.{name}` is not defined"), known(name, names), at);
        }
    }

    fn declared(&mut self, group: &str, name: &str, names: Option<&[String]>, at: &Range<usize>) {
        let Some(names) = names else { return };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if names.is_empty() {
            let help = format!("declare it under `{group}:`");
            self.problem("template::undefined_name", format!("`{group}.{name}` is not defined"), help, at);
        } else {
            self.one_of(group, name, &names, at);
        }
    }

    fn step(&mut self, id: &str, at: &Range<usize>) {
        self.steps.insert(id.to_owned());
        let Some(scope) = self.scope else { return };
        match scope.steps.iter().find(|step| step.id == id) {
            None => {
                let ids: Vec<&str> = scope.steps.iter().map(|step| step.id.as_str()).collect();
                self.problem("template::undefined_name", format!("there is no step `{id}`"), known(id, &ids), at);
            }
            Some(step) if !step.is_needed => {
                let message = format!("step `{id}` may not have run yet: this step does not need it");
                self.problem("template::unneeded_step", message, format!("add `{id}` to `needs`"), at);
            }
            Some(_) => {}
        }
    }

    fn output(&mut self, id: &str, name: &str, at: &Range<usize>) {
        let Some(step) = self.scope.and_then(|scope| scope.steps.iter().find(|step| step.id == id)) else { return };
        let names: Vec<&str> = step.outputs.iter().map(String::as_str).collect();
        if names.is_empty() {
            let help = "only `command` steps have outputs: declare them under `outputs:`";
            self.problem("template::undefined_name", format!("step `{id}` has no outputs"), help, at);
        } else {
            self.one_of(&format!("steps.{id}.outputs"), name, &names, at);
        }
    }

    fn filter(&mut self, filter: &ast::Spanned<ast::Filter<'a>>) -> usize {
        let weight = filter.expr.as_ref().map_or(0, |inner| self.expression(inner)) + self.arguments(&filter.args);
        if !FILTERS.contains(&filter.name) {
            let at = self.bytes(filter.name);
            self.problem("template::unknown_filter", format!("there is no filter `{}`", filter.name), known(filter.name, FILTERS), &at);
        }
        if filter.name == "strftime" {
            self.time_format(&filter.args);
        }
        weight
    }

    fn time_format(&mut self, args: &[ast::CallArg<'a>]) {
        let problem = match args {
            [ast::CallArg::Pos(ast::Expr::Const(constant))] => match constant.value.as_str() {
                Some(format) => super::filter::strftime("2026-11-19T06:00:00+00:00", format).err().map(|_| range(constant.span())),
                None => Some(range(constant.span())),
            },
            [ast::CallArg::Pos(_)] => None,
            _ => Some(0..self.source.len()),
        };
        if let Some(at) = problem {
            self.problem("template::bad_format", "not a format of dates and times", "write such as `strftime(\"%Y-%m-%d\")`", &at);
        }
    }

    fn test(&mut self, test: &ast::Spanned<ast::Test<'a>>) -> usize {
        self.expression(&test.expr);
        self.arguments(&test.args);
        if !TESTS.contains(&test.name) {
            let at = self.bytes(test.name);
            self.problem("template::unknown_test", format!("there is no test `{}`", test.name), known(test.name, TESTS), &at);
        }
        0
    }

    fn arguments(&mut self, args: &[ast::CallArg<'a>]) -> usize {
        args.iter()
            .map(|arg| match arg {
                ast::CallArg::Pos(expr) | ast::CallArg::Kwarg(_, expr) | ast::CallArg::PosSplat(expr) | ast::CallArg::KwargSplat(expr) => {
                    self.expression(expr)
                }
            })
            .sum()
    }

    fn call(&mut self, call: &ast::Spanned<ast::Call<'a>>) -> usize {
        self.arguments(&call.args);
        let (name, at) = match &call.expr {
            ast::Expr::Var(var) => (var.id, self.bytes(var.id)),
            ast::Expr::GetAttr(attribute) => (attribute.name, self.bytes(attribute.name)),
            other => ("", range(other.span())),
        };
        let help = match FILTERS.contains(&name) {
            true => format!("`{name}` is a filter: write `value | {name}`"),
            false => format!("templates have no functions; filters are {}", FILTERS.join(", ")),
        };
        self.problem("template::unknown_function", format!("there is no function `{name}`"), help, &at);
        1
    }

    /// The bytes of an expression from its first name on: what an editor should mark.
    pub(super) fn whole(&self, expr: &ast::Expr<'a>) -> Range<usize> {
        let end = range(expr.span()).end;
        let start = match first_name(expr) {
            Some(name) => self.bytes(name).start,
            None => range(expr.span()).start,
        };
        start..end.max(start + 1).min(self.source.len().max(start + 1))
    }
}

fn first_name<'a>(expr: &ast::Expr<'a>) -> Option<&'a str> {
    match expr {
        ast::Expr::Var(var) => Some(var.id),
        ast::Expr::GetAttr(attribute) => first_name(&attribute.expr),
        ast::Expr::GetItem(item) => first_name(&item.expr),
        ast::Expr::Filter(filter) => filter.expr.as_ref().and_then(first_name),
        ast::Expr::BinOp(operation) => first_name(&operation.left),
        _ => None,
    }
}

/// `a.b["c"]` as its names; `None` for anything else.
fn path<'e>(expr: &'e ast::Expr<'_>) -> Option<Vec<&'e str>> {
    match expr {
        ast::Expr::Var(var) => Some(vec![var.id]),
        ast::Expr::GetAttr(attribute) => {
            let mut names = path(&attribute.expr)?;
            names.push(attribute.name);
            Some(names)
        }
        ast::Expr::GetItem(item) => {
            let ast::Expr::Const(constant) = &item.subscript_expr else { return None };
            let mut names = path(&item.expr)?;
            names.push(constant.value.as_str()?);
            Some(names)
        }
        _ => None,
    }
}

fn known(word: &str, names: &[&str]) -> String {
    match nearest(word, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known here: {}", names.join(", ")),
    }
}

pub(super) fn range(span: Span) -> Range<usize> {
    span.start_offset as usize..span.end_offset as usize
}
