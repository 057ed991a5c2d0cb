//! Problems as blocks of text: where, the source line with the place marked, what, and what to do.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use errand_model::problem::{Problem, Severity, line_and_column};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use crate::repository::Validation;
use crate::settings::Stream;

/// Code of problems whose place holds a secret: it is not shown again.
const SECRET: &str = "definition::literal_secret";
/// Most problems that are drawn.
const MOST: usize = 200;
/// Most bytes of the lines around a place that are drawn.
const LONGEST: usize = 4096;
/// Narrowest and widest block.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=120;

/// Writes each problem as a block, in the order of the validation.
///
/// # Errors
///
/// `out` cannot be written.
pub fn render(validation: &Validation, stream: Stream, out: &mut dyn Write) -> io::Result<()> {
    let theme = if stream.color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let width = stream.width.clamp(*WIDTHS.start(), *WIDTHS.end());
    let handler =
        GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false).with_context_lines(1).with_break_words(false);
    let texts = shown(validation);
    for problem in validation.problems.iter().take(MOST) {
        let text = problem.span.as_ref().and_then(|_| texts.get(problem.file.as_str()));
        let drawn = text.filter(|text| problem.span.as_ref().is_some_and(|span| is_drawable(text, span)));
        let place = match (text, &problem.span) {
            (Some(text), Some(span)) => {
                let (line, column) = line_and_column(text, span.start);
                format!("{}:{line}:{column}", problem.file)
            }
            _ => problem.file.clone(),
        };
        let block = Block { problem, place, source: drawn.map(|text| NamedSource::new(&problem.file, text.clone())) };
        let mut text = String::new();
        handler.render_report(&mut text, &block).map_err(|_| io::Error::other("a problem cannot be drawn"))?;
        // miette leaves blanks at the end of lines.
        for line in text.trim_matches('\n').lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        writeln!(out)?;
    }
    match validation.problems.len().saturating_sub(MOST) {
        0 => Ok(()),
        more => writeln!(out, "and {more} more problems, which `--format json` lists\n"),
    }
}

/// Whether the lines around a place are short enough to be shown.
fn is_drawable(text: &str, span: &Range<usize>) -> bool {
    let start = span.start.min(text.len());
    let before = text[..start].rsplit('\n').take(2).map(str::len).sum::<usize>();
    let after = text[start..].split('\n').take(2).map(str::len).sum::<usize>();
    before + after <= LONGEST
}

/// The texts of all files, with every secret that was found in them covered: it must not be shown in a log again, not even in
/// the lines around another problem.
fn shown(validation: &Validation) -> BTreeMap<&str, Arc<str>> {
    let mut texts: BTreeMap<&str, Arc<str>> = validation.texts.iter().map(|(file, text)| (file.as_str(), text.clone())).collect();
    for problem in validation.problems.iter().filter(|problem| problem.code == SECRET) {
        if let (Some(text), Some(span)) = (texts.get_mut(problem.file.as_str()), &problem.span) {
            *text = covered(text, span);
        }
    }
    texts
}

/// The text with the bytes of a place covered, lines kept.
fn covered(text: &str, span: &Range<usize>) -> Arc<str> {
    let Some(secret) = text.get(span.clone()) else { return text.into() };
    let cover = |byte: u8| if byte.is_ascii_whitespace() { char::from(byte) } else { '*' };
    format!("{}{}{}", &text[..span.start], secret.bytes().map(cover).collect::<String>(), &text[span.end..]).into()
}

#[derive(Debug)]
struct Block<'a> {
    problem: &'a Problem,
    place: String,
    source: Option<NamedSource<Arc<str>>>,
}

impl fmt::Display for Block<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.is_none() && !self.problem.file.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Block<'_> {}

impl Diagnostic for Block<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.problem.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.span.clone()?;
        let text = self.source.as_ref()?.inner();
        // A place over several lines is marked at its first line: the rest is context that nobody asked for.
        let start = span.start.min(text.len());
        let first = text[start..span.end.clamp(start, text.len())].lines().next().map_or(0, |line| line.trim_end().len());
        Some(Box::new(std::iter::once(LabeledSpan::underline(start..start + first.max(1).min(text.len() - start)))))
    }
}
