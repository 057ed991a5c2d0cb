//! Sections as text: SQL with comments, in lines that fit a terminal.

use std::fmt::Write as _;

use super::Section;

/// Characters in a line.
const WIDTH: usize = 80;

/// The sections as one file of SQL. Lines end before the 80th column where a name does not make them longer.
pub(crate) fn text(head: &str, sections: &[Section]) -> String {
    let mut text = comment(head);
    for section in sections {
        let rule = "-".repeat(WIDTH.saturating_sub(section.title.len() + 9));
        let _ = write!(text, "\n-- ---- {} {}\n{}", section.title, rule, comment(&section.why));
        for statement in &section.statements {
            let _ = write!(text, "\n{};\n", broken(statement));
        }
    }
    text
}

fn comment(text: &str) -> String {
    let mut lines = vec!["--".to_owned()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("-- {word}")),
        }
    }
    lines.join("\n") + "\n"
}

/// A statement in lines: its own are kept and, but for the first, indented; long ones are broken after commas, else at blanks, outside of
/// quotes.
fn broken(statement: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (number, line) in statement.lines().enumerate() {
        let own = line.len() - line.trim_start().len();
        let indent = " ".repeat(if number == 0 || line == ")" { 0 } else { 4 + own });
        let mut current = String::new();
        for word in words(line.trim_start(), WIDTH - 1 - 4 - indent.len()) {
            if current.is_empty() {
                current = format!("{indent}{word}");
            } else if current.chars().count() + 1 + word.chars().count() < WIDTH {
                current = format!("{current} {word}");
            } else {
                lines.push(std::mem::replace(&mut current, format!("    {indent}{word}")));
            }
        }
        lines.push(current);
    }
    lines.join("\n")
}

/// The parts of a line that stay together: up to a comma, or to a blank where that is too long.
fn words(line: &str, room: usize) -> Vec<String> {
    let parts = split(line, |before| before == ',');
    parts.into_iter().flat_map(|part| if part.chars().count() > room { split(&part, |_| true) } else { vec![part] }).collect()
}

/// Splits at blanks outside of quotes, as far as the character before them allows.
fn split(line: &str, allows: impl Fn(char) -> bool) -> Vec<String> {
    let (mut parts, mut part, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match quote {
            None if c == ' ' && part.ends_with(&allows) => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}
