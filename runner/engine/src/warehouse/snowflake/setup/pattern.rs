//! Patterns of definitions as the regular expressions of Snowflake.

/// The expression that matches the whole path of each file that a pattern may name, templates in it filled in whichever way.
pub(super) fn expression(prefix: &str, pattern: &str) -> String {
    let mut out = prefix.chars().map(literal).collect::<String>();
    let mut rest = pattern;
    let mut alternatives = 0_u32;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        if let Some((part, after)) = template(rest) {
            out.push_str(part);
            rest = after;
            continue;
        }
        let (part, after) = match c {
            '*' if rest.starts_with("**/") => ("(.*/)?".to_owned(), &rest[3..]),
            '*' if rest.starts_with("**") => (".*".to_owned(), &rest[2..]),
            '*' => ("[^/]*".to_owned(), tail),
            '?' => ("[^/]".to_owned(), tail),
            '[' => class(tail),
            '{' => {
                alternatives += 1;
                ("(".to_owned(), tail)
            }
            '}' if alternatives > 0 => {
                alternatives -= 1;
                (")".to_owned(), tail)
            }
            ',' if alternatives > 0 => ("|".to_owned(), tail),
            '\\' => match tail.chars().next() {
                Some(next) => (literal(next), &tail[next.len_utf8()..]),
                None => (literal(c), tail),
            },
            other => (literal(other), tail),
        };
        out.push_str(&part);
        rest = after;
    }
    out
}

/// What a template becomes, and what follows it.
fn template(rest: &str) -> Option<(&'static str, &str)> {
    for (open, close, part) in [("{{", "}}", ".*"), ("{%", "%}", ""), ("{#", "#}", "")] {
        if let Some(inside) = rest.strip_prefix(open) {
            let after = inside.find(close).map_or("", |end| &inside[end + close.len()..]);
            return Some((part, after));
        }
    }
    None
}

/// `[ab]` and `[!ab]`, from behind the bracket on.
fn class(tail: &str) -> (String, &str) {
    let Some(end) = tail.char_indices().skip(1).find(|(_, c)| *c == ']').map(|(at, _)| at) else { return (literal('['), tail) };
    let inside = &tail[..end];
    let (not, inside) = inside.strip_prefix('!').map_or(("", inside), |inside| ("^", inside));
    (format!("[{not}{}]", inside.replace('\\', "\\\\").replace('^', "\\^")), &tail[end + 1..])
}

/// A character that stands for itself.
fn literal(c: char) -> String {
    match c {
        '\\' | '^' => format!("\\{c}"),
        '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '$' => format!("[{c}]"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::expression;

    #[test]
    fn patterns_become_expressions() {
        for (pattern, expected) in [
            ("orders.csv", "lake/orders[.]csv"),
            ("orders-{{ run.date }}*.csv", "lake/orders-.*[^/]*[.]csv"),
            ("**/*.{csv,csv.gz}", "lake/(.*/)?[^/]*[.](csv|csv[.]gz)"),
            ("a?/[!0-9]\\*.csv", "lake/a[^/]/[^0-9][*][.]csv"),
            ("{{ run.date | strftime('%Y/%m') }}/x", "lake/.*/x"),
        ] {
            assert_eq!(expression("lake/", pattern), expected, "{pattern}");
        }
    }
}
