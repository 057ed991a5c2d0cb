//! A table for a terminal of 80 columns, and the same in Markdown.

use std::fmt::Write;

/// Rows of a first column of words and others of figures.
pub(crate) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { heading: heading.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().collect();
        row.resize(self.heading.len(), String::new());
        self.rows.push(row);
    }

    /// With aligned columns.
    pub(crate) fn text(&self) -> String {
        let width = |column: usize| self.lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.heading.len()).map(width).collect();
        let line = |cells: &Vec<String>| {
            let mut text = format!("{:<1$}", cells[0], widths[0]);
            for (cell, width) in cells.iter().zip(&widths).skip(1) {
                // Writing to a `String` cannot fail.
                let _ = write!(text, "  {cell:>width$}");
            }
            text.trim_end().to_owned()
        };
        let mut lines: Vec<String> = self.lines().map(line).collect();
        let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1));
        lines.insert(1, rule);
        lines.join("\n")
    }

    /// In Markdown, with a line end.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &Vec<String>| format!("| {} |\n", cells.iter().map(|cell| cell.trim()).collect::<Vec<_>>().join(" | "));
        let rule = format!("| --- |{}\n", " ---: |".repeat(self.heading.len() - 1));
        let rows: String = self.rows.iter().map(line).collect();
        format!("{}{rule}{rows}", line(&self.heading))
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.heading).chain(&self.rows)
    }
}
