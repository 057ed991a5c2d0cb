//! Text within limits.

/// What stands where something is missing.
const MARK: char = '…';

/// At most `most` characters; where something is missing, the last one is `…`.
pub(crate) fn cut(text: &str, most: usize) -> String {
    cut_by(text, most, |_| 1)
}

/// As much of a text as is not wider than `most`, whole characters, each as wide as `width` says; `…` counts as one.
pub(crate) fn cut_by(text: &str, most: usize, width: impl Fn(char) -> usize) -> String {
    let (mut total, mut fits) = (0, 0);
    for (at, c) in text.char_indices() {
        total += width(c);
        if total > most {
            return format!("{}{}", &text[..fits], if most == 0 { String::new() } else { MARK.to_string() });
        }
        if total < most {
            fits = at + c.len_utf8();
        }
    }
    text.to_owned()
}

/// One line: whatever is white space or control becomes one space.
pub(crate) fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Several things in a sentence: `a`, `b` and `c`.
pub(crate) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A word of a command line, in quotes where a shell would split or change it.
pub(crate) fn shell_word(word: &str) -> String {
    let is_plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// `1st`, `2nd`, `3rd`, `11th`.
pub(crate) fn ordinal(number: usize) -> String {
    let end = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::{cut, cut_by, listed, one_line, ordinal, shell_word};

    #[test]
    fn a_cut_is_marked() {
        assert_eq!((cut("abc", 3), cut("abcd", 3), cut("äöü€", 3)), ("abc".to_owned(), "ab…".to_owned(), "äö…".to_owned()));
    }

    #[test]
    fn words_of_a_command_survive_a_shell() {
        assert_eq!(["a=b", "it's", "", "$x"].map(shell_word), ["a=b", "'it'\\''s'", "''", "'$x'"]);
    }

    #[test]
    fn lists_and_numbers_read_well() {
        let three = ["a", "b", "c"].map(str::to_owned);
        assert_eq!((listed(&three), listed(&three[..1])), ("a, b and c".to_owned(), "a".to_owned()));
        assert_eq!([1, 2, 3, 4, 11, 12, 21, 112].map(ordinal), ["1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "112th"]);
        assert_eq!(one_line(" a\n\tb\u{0}c "), "a b c");
    }

    proptest! {
        #[test]
        fn no_cut_is_wider_than_asked(text in any::<String>(), most in 0_usize..50) {
            prop_assert!(cut(&text, most).chars().count() <= most);
            let width = |c: char| if c == '&' { 5 } else { 1 };
            prop_assert!(cut_by(&text, most, width).chars().map(width).sum::<usize>() <= most);
        }
    }
}
