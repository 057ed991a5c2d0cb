//! Tables of plain text that fit the width they are given, with colour where it is welcome.

use comfy_table::{Attribute, Cell as Drawn, CellAlignment, Color, ContentArrangement, Table as Drawing, presets};

use super::figure;

/// How output looks: characters in a line, and whether colour is welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Characters in a line.
    pub width: usize,
    /// Whether colour is welcome.
    pub color: bool,
}

/// What a piece of text means; each has its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// No colour.
    Plain,
    /// Bold.
    Strong,
    /// Dim.
    Faint,
    /// Green.
    Good,
    /// Yellow.
    Doubtful,
    /// Red.
    Bad,
}

impl Style {
    /// `text` in the colour of `tone`.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31;1",
            Tone::Plain => return text.to_owned(),
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// `text` broken between words so that it fits with `indent` spaces before every line. Its own line ends stay.
    #[must_use]
    pub fn wrapped(self, indent: usize, text: &str) -> String {
        let room = self.width.saturating_sub(indent).max(20);
        let mut lines = Vec::new();
        for paragraph in text.lines() {
            let mut line = String::new();
            for word in paragraph.split(' ') {
                if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                    lines.push(std::mem::take(&mut line));
                }
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            lines.push(line);
        }
        let margin = " ".repeat(indent);
        lines.iter().map(|line| format!("{margin}{line}\n")).collect()
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain, right: false }
    }

    /// A figure: on the right of its column.
    #[must_use]
    pub fn figure(text: impl Into<String>) -> Self {
        Self { right: true, ..Self::text(text) }
    }

    /// With a meaning.
    #[must_use]
    pub fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// A table whose columns keep their width, but for one that is cut where room is short.
#[derive(Clone, Debug)]
pub struct Table {
    titles: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    flexible: usize,
}

/// Between columns.
const GAP: u16 = 2;

/// A table that would cut its flexible column below this is a bad fit.
const GOOD: usize = 16;

/// The flexible column is never cut below this.
const LEAST: usize = 10;

impl Table {
    /// A table with these titles; the column `flexible` may be cut.
    #[must_use]
    pub fn new(titles: Vec<&'static str>, flexible: usize, rows: Vec<Vec<Cell>>) -> Self {
        debug_assert!(rows.iter().all(|row| row.len() == titles.len()), "a cell for every title");
        Self { titles, rows, flexible }
    }

    /// The first of several tables that fits, from the richest to the barest; the last one when none does.
    #[must_use]
    pub fn best(tables: Vec<Self>, width: usize) -> Option<Self> {
        let fits = tables.iter().position(|table| table.good_width() <= width);
        let at = fits.unwrap_or(tables.len().saturating_sub(1));
        tables.into_iter().nth(at)
    }

    /// The table as lines, each with `indent` spaces before it.
    #[must_use]
    pub fn render(&self, style: Style, indent: usize) -> String {
        let room =
            self.column_width(self.flexible).saturating_sub(self.width().saturating_sub(style.width.saturating_sub(indent))).max(LEAST);
        let mut drawing = Drawing::new();
        drawing.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
        if style.color {
            drawing.enforce_styling();
        }
        let right = |column: usize| self.rows.first().is_some_and(|row| row[column].right);
        let titles = self
            .titles
            .iter()
            .enumerate()
            .map(|(at, title)| drawn(&Cell { right: right(at), ..Cell::text(*title).tone(Tone::Faint) }, None));
        drawing.set_header(titles.collect::<Vec<_>>());
        for row in &self.rows {
            drawing
                .add_row(row.iter().enumerate().map(|(at, cell)| drawn(cell, (at == self.flexible).then_some(room))).collect::<Vec<_>>());
        }
        for column in drawing.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        let margin = " ".repeat(indent);
        drawing.lines().map(|line| format!("{margin}{}\n", line.trim_end())).collect()
    }

    fn column_width(&self, column: usize) -> usize {
        let widest = self.rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
        widest.max(self.titles[column].len())
    }

    fn width(&self) -> usize {
        let gaps = usize::from(GAP) * self.titles.len().saturating_sub(1);
        (0..self.titles.len()).map(|column| self.column_width(column)).sum::<usize>() + gaps
    }

    fn good_width(&self) -> usize {
        let flexible = self.column_width(self.flexible);
        self.width() - flexible + flexible.min(GOOD)
    }
}

fn drawn(cell: &Cell, room: Option<usize>) -> Drawn {
    let text = room.map_or_else(|| cell.text.clone(), |room| figure::cut(&cell.text, room));
    let drawn = Drawn::new(text).set_alignment(if cell.right { CellAlignment::Right } else { CellAlignment::Left });
    match cell.tone {
        Tone::Plain => drawn,
        Tone::Strong => drawn.add_attribute(Attribute::Bold),
        Tone::Faint => drawn.add_attribute(Attribute::Dim),
        Tone::Good => drawn.fg(Color::DarkGreen),
        Tone::Doubtful => drawn.fg(Color::DarkYellow),
        Tone::Bad => drawn.fg(Color::DarkRed).add_attribute(Attribute::Bold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { width: 24, color: false };

    fn table() -> Table {
        let rows = [("a_step_with_a_long_name", "12"), ("b", "1,234")];
        Table::new(
            vec!["STEP", "ROWS"],
            0,
            rows.iter().map(|(step, rows)| vec![Cell::text(*step), Cell::figure(*rows).tone(Tone::Bad)]).collect(),
        )
    }

    #[test]
    fn the_flexible_column_is_cut_and_figures_stand_on_the_right() {
        insta::assert_snapshot!(table().render(PLAIN, 2), @r"
          STEP              ROWS
          a_step_with_a_…     12
          b                1,234
        ");
    }

    #[test]
    fn colour_only_where_it_is_welcome() {
        assert!(table().render(Style { color: true, ..PLAIN }, 0).contains("\x1b["));
        assert!(!table().render(PLAIN, 0).contains("\x1b["));
        assert_eq!(PLAIN.paint(Tone::Bad, "x"), "x");
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(PLAIN.wrapped(2, "one two three four five\nsix"), "  one two three four\n  five\n  six\n");
        assert_eq!(PLAIN.wrapped(0, "a_word_that_is_longer_than_the_line b"), "a_word_that_is_longer_than_the_line\nb\n");
    }
}
