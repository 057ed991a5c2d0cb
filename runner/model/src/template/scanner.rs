//! Follows the quotes and comments of SQL over the plain parts of a template, as each warehouse that may run it reads them.

/// How a warehouse reads quotes and comments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// DuckDB and Postgres: a backslash escapes only in `E'...'`, comments nest, `$tag$` quotes.
    #[default]
    Standard,
    /// Redshift: as the standard, but a backslash escapes in every text.
    Redshift,
    /// Snowflake: a backslash escapes in every text, `//` is a comment too, comments do not nest, only `$$` quotes.
    Snowflake,
}

impl Dialect {
    /// What a person calls it.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Standard => "DuckDB or Postgres",
            Self::Redshift => "Redshift",
            Self::Snowflake => "Snowflake",
        }
    }

    /// Whether a backslash escapes in every text.
    #[must_use]
    pub const fn escapes(self) -> bool {
        matches!(self, Self::Redshift | Self::Snowflake)
    }
}

/// Where in SQL the text of a template has come to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Within {
    /// Between tokens or in one.
    #[default]
    Code,
    /// In `'...'`; true when a backslash escapes there.
    Text(bool),
    /// In `"..."`.
    Identifier,
    /// After `--`.
    LineComment,
    /// Within `/* */`, nested so often.
    BlockComment(usize),
    /// In `$tag$...$tag$`.
    Dollar(String),
}

impl Within {
    /// What a person calls it; nothing for code.
    #[must_use]
    pub const fn describe(&self) -> Option<&'static str> {
        match self {
            Self::Code => None,
            Self::Text(_) => Some("quotes"),
            Self::Identifier => Some("double quotes"),
            Self::LineComment | Self::BlockComment(_) => Some("a comment"),
            Self::Dollar(_) => Some("dollar quotes"),
        }
    }
}

/// Reads SQL in every dialect that may meet it.
#[derive(Clone, Debug)]
pub struct Scanner {
    lanes: Vec<Lane>,
}

impl Scanner {
    /// Without a dialect, the standard's.
    #[must_use]
    pub fn new(dialects: &[Dialect]) -> Self {
        let dialects = if dialects.is_empty() { &[Dialect::Standard] } else { dialects };
        Self { lanes: dialects.iter().map(|dialect| Lane { dialect: *dialect, ..Lane::default() }).collect() }
    }

    /// Reads on.
    pub fn read(&mut self, text: &str) {
        self.lanes.iter_mut().for_each(|lane| lane.read(text));
    }

    /// Where it has come to: code only when it is code in every dialect. The dialect is told when others see it otherwise.
    #[must_use]
    pub fn within(&self) -> (&Within, Option<Dialect>) {
        let odd = self.lanes.iter().find(|lane| lane.within != Within::Code);
        let differs = self.lanes.iter().any(|lane| lane.within == Within::Code);
        odd.map_or((&Within::Code, None), |lane| (&lane.within, differs.then_some(lane.dialect)))
    }

    /// Whether every dialect is in the same place as in the other scanner.
    #[must_use]
    pub fn is_within_the_same(&self, other: &Self) -> bool {
        self.lanes.iter().zip(&other.lanes).all(|(one, other)| one.within == other.within)
    }

    /// Whether some dialect would read a literal that follows here as one with what is before it.
    #[must_use]
    pub fn is_glued(&self) -> bool {
        self.lanes.iter().any(|lane| lane.last.is_some_and(glues))
    }

    /// A value was written here that ends in this character.
    pub fn follow(&mut self, last: char) {
        for lane in &mut self.lanes {
            (lane.last, lane.word, lane.continues) = (Some(last), 0, false);
        }
    }

    /// What follows may come after this text as well as after the other's.
    pub fn join(&mut self, other: &Self) {
        for (lane, other) in self.lanes.iter_mut().zip(&other.lanes) {
            if other.last.is_some_and(glues) {
                (lane.last, lane.word) = (other.last, other.word);
            }
        }
    }
}

/// What a piece of SQL is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A character of code.
    Code(char),
    /// A part of a text, a quoted name or a dollar quote.
    Quoted,
    /// A part of a comment.
    Comment,
}

/// SQL piece by piece, as one dialect reads it: where each begins, and what it is.
pub fn pieces(text: &str, dialect: Dialect) -> impl Iterator<Item = (usize, Piece)> + '_ {
    let (mut lane, mut at) = (Lane { dialect, ..Lane::default() }, 0);
    std::iter::from_fn(move || {
        let rest = &text[at..];
        let c = rest.chars().next()?;
        let before = lane.kind();
        let start = at;
        at += lane.step(rest, c);
        let piece = match (before, lane.kind()) {
            (Piece::Code(_), Piece::Code(_)) => Piece::Code(c),
            (Piece::Code(_), inside) | (inside, _) => inside,
        };
        Some((start, piece))
    })
}

/// Whether SQL would read a literal right after this character as one with it.
fn glues(c: char) -> bool {
    c.is_alphanumeric() || "_'\"$&\\".contains(c)
}

/// One dialect's reading.
#[derive(Clone, Debug, Default)]
struct Lane {
    dialect: Dialect,
    within: Within,
    /// The last character of code, to tell what a value would be glued to.
    last: Option<char>,
    /// Characters of the word under way, 0 between words.
    word: usize,
    /// Only blanks since an `E'...'`: a text after them is its second half, in which backslashes escape too.
    continues: bool,
}

impl Lane {
    fn read(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[self.step(rest, c)..];
        }
    }

    fn kind(&self) -> Piece {
        match self.within {
            Within::Code => Piece::Code(' '),
            Within::Text(_) | Within::Identifier | Within::Dollar(_) => Piece::Quoted,
            Within::LineComment | Within::BlockComment(_) => Piece::Comment,
        }
    }

    /// Reads one piece, which begins with `c`; says how long it is.
    fn step(&mut self, rest: &str, c: char) -> usize {
        match &mut self.within {
            Within::Code => self.code(rest, c),
            Within::Text(_) if rest.starts_with("''") => 2,
            Within::Text(true) if c == '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            Within::Text(escapes) if c == '\'' => {
                self.continues = *escapes;
                self.leave('\'')
            }
            Within::Identifier if c == '"' => self.leave('"'),
            Within::LineComment if c == '\n' || (c == '\r' && self.dialect != Dialect::Snowflake) => self.leave('\n'),
            Within::BlockComment(depth) if rest.starts_with("*/") => {
                *depth -= 1;
                if *depth == 0 { 1 + self.leave(' ') } else { 2 }
            }
            Within::BlockComment(depth) if self.dialect != Dialect::Snowflake && rest.starts_with("/*") => {
                *depth += 1;
                2
            }
            Within::Dollar(tag) if rest.starts_with(tag.as_str()) => {
                let length = tag.len();
                self.leave('$');
                length
            }
            Within::Text(_) | Within::Identifier | Within::LineComment | Within::BlockComment(_) | Within::Dollar(_) => c.len_utf8(),
        }
    }

    fn leave(&mut self, last: char) -> usize {
        self.within = Within::Code;
        self.last = Some(last);
        self.word = 0;
        1
    }

    fn code(&mut self, rest: &str, c: char) -> usize {
        let (word, before) = (self.word, self.last.replace(c));
        let goes_on = if word > 0 { c.is_alphanumeric() || matches!(c, '_' | '$') } else { c.is_alphabetic() || c == '_' };
        self.word = if goes_on { word + 1 } else { 0 };
        let continues = self.continues && (c.is_whitespace() || c == '\'');
        self.continues = continues;
        match c {
            '\'' => {
                let is_escaping = continues || (word == 1 && matches!(before, Some('e' | 'E')));
                self.within = Within::Text(self.dialect.escapes() || is_escaping);
            }
            '"' => self.within = Within::Identifier,
            '-' if rest.starts_with("--") => self.within = Within::LineComment,
            '/' if self.dialect == Dialect::Snowflake && rest.starts_with("//") => self.within = Within::LineComment,
            '/' if rest.starts_with("/*") => {
                self.within = Within::BlockComment(1);
                return 2;
            }
            '$' if word == 0 => {
                if let Some(tag) = self.dollar_tag(rest) {
                    self.within = Within::Dollar(tag.to_owned());
                    return tag.len();
                }
            }
            _ => {}
        }
        c.len_utf8()
    }

    fn dollar_tag<'t>(&self, rest: &'t str) -> Option<&'t str> {
        let end = rest[1..].find('$')? + 1;
        let name = &rest[1..end];
        let is_name = !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        (is_name && (name.is_empty() || self.dialect != Dialect::Snowflake)).then(|| &rest[..=end])
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Scanner, Within};

    fn within(dialect: Dialect, text: &str) -> Within {
        let mut scanner = Scanner::new(&[dialect]);
        scanner.read(text);
        scanner.within().0.clone()
    }

    #[test]
    fn quotes_and_comments_are_followed() {
        let within = |text: &str| within(Dialect::Standard, text);
        assert_eq!(within("a = 'it''s'"), Within::Code);
        assert_eq!(within("a = '"), Within::Text(false));
        assert_eq!(within("a = E'\\'"), Within::Text(true));
        assert_eq!(within("a = E'it''s \\'"), Within::Text(true));
        assert_eq!(within("a like'\\'"), Within::Code);
        assert_eq!(within("a$E'\\'"), Within::Code);
        assert_eq!(within("E'a'\n '\\'"), Within::Text(true));
        assert_eq!(within("E'a', '\\'"), Within::Code);
        assert_eq!(within("\"a"), Within::Identifier);
        assert_eq!(within("-- it's"), Within::LineComment);
        assert_eq!(within("-- it's\n"), Within::Code);
        assert_eq!(within("-- it's\r"), Within::Code);
        assert_eq!(within("a // it's"), Within::Text(false));
        assert_eq!(within("/* /* */ '"), Within::BlockComment(1));
        assert_eq!(within("/* /* */ ' */ /"), Within::Code);
        assert_eq!(within("$$ ' "), Within::Dollar("$$".to_owned()));
        assert_eq!(within("$a$ ' $$ $a$ $1 a$b$c a$$b$"), Within::Code);
    }

    #[test]
    fn snowflake_reads_backslashes_slashes_and_comments_in_its_own_way() {
        let within = |text: &str| within(Dialect::Snowflake, text);
        assert_eq!(within("a like '\\'"), Within::Text(true));
        assert_eq!(within("a like '\\\\'"), Within::Code);
        assert_eq!(within("'it\\'s'"), Within::Code);
        assert_eq!(within("\"a\\\""), Within::Code);
        assert_eq!(within("select 1 // it's"), Within::LineComment);
        assert_eq!(within("'s3://b' "), Within::Code);
        assert_eq!(within("/* /* */ "), Within::Code);
        assert_eq!(within("$$ ' \\"), Within::Dollar("$$".to_owned()));
        assert_eq!(within("$$ ' $$ $a $a$"), Within::Code);
    }

    #[test]
    fn redshift_reads_backslashes_as_escapes_and_nests_comments() {
        assert_eq!(within(Dialect::Redshift, "a like '\\'"), Within::Text(true));
        assert_eq!(within(Dialect::Redshift, "/* /* */ "), Within::BlockComment(1));
    }

    #[test]
    fn a_value_may_stand_only_where_every_dialect_sees_code() {
        let mut scanner = Scanner::new(&[Dialect::Standard, Dialect::Snowflake]);
        scanner.read("a like '\\' || ");
        assert_eq!(scanner.within(), (&Within::Text(true), Some(Dialect::Snowflake)));
        let mut scanner = Scanner::new(&[Dialect::Standard, Dialect::Snowflake]);
        scanner.read("a like '%''%' || ");
        assert_eq!(scanner.within(), (&Within::Code, None));
    }
}
