//! Statements of a template: which are allowed, and in SQL, where a value may be written out.
//!
//! A value becomes a literal where it is written, so it must stand between tokens: not in quotes, not in a comment, not glued
//! to other text. Branches and loops are followed, so that a quote cannot be opened in one and closed in another.

use minijinja::machinery::{Span, ast};
use std::ops::Range;

use super::check::{Check, ROOTS, range};
use super::scanner::{Dialect, Within};
use crate::problem::Problem;

/// Most levels of `for`: a body is walked twice, to see how its end meets its start.
const MAX_LOOPS: usize = 4;

impl<'a> Check<'a, '_> {
    pub(super) fn block(&mut self, statements: &[ast::Stmt<'a>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &ast::Stmt<'a>) {
        match statement {
            ast::Stmt::Template(template) => self.block(&template.children),
            ast::Stmt::EmitRaw(raw) => self.plain(raw.raw),
            ast::Stmt::EmitExpr(emit) => self.emit(emit),
            ast::Stmt::IfCond(condition) => self.condition(condition),
            ast::Stmt::ForLoop(each) => self.each(each),
            ast::Stmt::Set(set) => {
                let weight = self.expression(&set.expr);
                self.assign(&set.target, weight);
            }
            ast::Stmt::SetBlock(set) => self.refused("set", set.span(), "write `{% set name = value %}`"),
            ast::Stmt::WithBlock(with) => self.refused("with", with.span(), "write `{% set name = value %}`"),
            ast::Stmt::AutoEscape(escape) => self.refused("autoescape", escape.span(), "values in SQL are quoted without it"),
            ast::Stmt::FilterBlock(filter) => self.refused("filter", filter.span(), "filter each value: `{{ name | upper }}`"),
            ast::Stmt::Do(call) => self.refused("do", call.span(), "templates only put values in place"),
        }
    }

    fn refused(&mut self, word: &str, span: Span, help: &str) {
        let message = format!("`{{% {word} %}}` is not allowed in a template");
        self.problem("template::statement", message, help, &range(span));
    }

    fn plain(&mut self, text: &str) {
        if let Some(scanner) = &mut self.scanner {
            let glued = self.after_value && text.starts_with(['\'', '"']);
            scanner.read(text);
            self.after_value &= text.is_empty();
            if glued {
                let at = self.bytes(text).start;
                let help = "put a space, or `||`, between the value and the quote";
                self.problem("template::glued", "a quote stands right after a value; SQL reads both as one text", help, &(at..at + 1));
            }
        }
    }

    fn emit(&mut self, emit: &ast::Spanned<ast::EmitExpr<'a>>) {
        self.expression(&emit.expr);
        let within = self.whole(&emit.expr);
        let last_filter = if let ast::Expr::Filter(filter) = &emit.expr { Some(filter.name) } else { None };
        if last_filter == Some("raw") {
            self.after_value = false;
            if let Some(scanner) = &mut self.scanner {
                scanner.follow(' ');
            }
            return;
        }
        let Some(scanner) = &mut self.scanner else { return };
        let (state, dialect) = scanner.within();
        let (state, dialect, is_glued) = (state.clone(), dialect, scanner.is_glued());
        let quote = if last_filter == Some("ident") { '"' } else { '\'' };
        scanner.follow(quote);
        let glued = std::mem::replace(&mut self.after_value, state == Within::Code) || is_glued;
        match state {
            Within::Code if glued => {
                let help = "put a space before it; to paste text as it is, write `| raw`";
                self.problem("template::glued", "the value stands right after other text; SQL would read both as one", help, &within);
            }
            Within::Code => {}
            state => self.enclosed(&state, dialect, &within),
        }
    }

    fn enclosed(&mut self, state: &Within, dialect: Option<Dialect>, within: &Range<usize>) {
        let reader = dialect.map_or_else(String::new, |dialect| format!(", as {} reads it", dialect.describe()));
        let message = format!("a value stands inside {}{reader}", state.describe().unwrap_or_default());
        let help = match state {
            Within::Text(_) if dialect.is_some() => {
                "a backslash before a quote is read in two ways; write the quote twice, and the backslash twice where it escapes"
            }
            Within::Code | Within::Text(_) => "remove the quotes; values are quoted for you",
            Within::Identifier => "remove the quotes and write `| ident`; it quotes the name for you",
            Within::LineComment | Within::BlockComment(_) => {
                "a value could end the comment; write `{# ... #}` around what is not meant to run"
            }
            Within::Dollar(_) => "a value could end the quotes; build the text with `||`",
        };
        self.problem("template::quoted_value", message, help, within);
    }

    fn condition(&mut self, condition: &ast::Spanned<ast::IfCond<'a>>) {
        self.expression(&condition.expr);
        let before = (self.scanner.clone(), self.after_value);
        self.block(&condition.true_body);
        let after_true = std::mem::replace(&mut self.scanner, before.0);
        let value_in_true = std::mem::replace(&mut self.after_value, before.1);
        self.block(&condition.false_body);
        self.after_value |= value_in_true;
        let same = match (&after_true, &self.scanner) {
            (Some(one), Some(other)) => one.is_within_the_same(other),
            _ => true,
        };
        if let (Some(one), Some(other)) = (after_true, &mut self.scanner) {
            other.join(&one);
        }
        if !same {
            let help = "close the quote or comment in the same branch";
            let message = "a quote or comment opened or closed in one branch of `if` and not in the other";
            self.problem("template::open_quote", message, help, &range(condition.span()));
        }
    }

    fn each(&mut self, each: &ast::Spanned<ast::ForLoop<'a>>) {
        if each.recursive {
            self.refused("for ... recursive", each.span(), "write a plain `for`");
        }
        if self.loops == MAX_LOOPS {
            self.refused("for", each.span(), "loops may stand four deep");
            return;
        }
        self.loops += 1;
        let weight = self.expression(&each.iter);
        let depth = self.locals.len();
        self.assign(&each.target, weight);
        self.locals.push(("loop", 0));
        if let Some(filter) = &each.filter_expr {
            self.expression(filter);
        }
        let before = self.scanner.clone();
        self.block(&each.body);
        let is_same = match (&before, &self.scanner) {
            (Some(before), Some(after)) => before.is_within_the_same(after),
            _ => true,
        };
        if !is_same {
            let message = "a quote or comment is opened in the body of `for` and not closed in it";
            self.problem("template::open_quote", message, "close the quote or comment in the body", &range(each.span()));
        } else if self.scanner.is_some() {
            self.block(&each.body);
            let mut seen: Vec<Problem> = Vec::new();
            for problem in std::mem::take(&mut self.problems) {
                if !seen.contains(&problem) {
                    seen.push(problem);
                }
            }
            self.problems = seen;
        }
        self.loops -= 1;
        self.locals.truncate(depth);
        self.block(&each.else_body);
    }

    fn assign(&mut self, target: &ast::Expr<'a>, weight: usize) {
        match target {
            ast::Expr::Var(var) => {
                if ROOTS.contains(&var.id) {
                    let message = format!("`{}` cannot be set; it belongs to the run", var.id);
                    self.problem("template::reserved_name", message, "choose another name", &self.bytes(var.id));
                }
                self.locals.push((var.id, weight));
            }
            ast::Expr::List(list) => list.items.iter().for_each(|item| self.assign(item, weight)),
            other => {
                self.problem("template::statement", "only plain names can be set", "write `{% set name = value %}`", &range(other.span()));
            }
        }
    }
}
