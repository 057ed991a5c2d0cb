//! What stands where it may not: templates that nobody reads, and secrets.

use crate::problem::Problem;
use crate::yaml::{Node, NodeKind};

/// Keys of a job whose text is a template, whether or not all else around them is right.
const TEMPLATED: &[&str] = &["path", "text", "query", "expression", "run", "env", "if"];

/// Walks a whole definition: `templates` says whether the file may hold any.
pub(super) fn check(root: &Node, file: &str, templates: bool, problems: &mut Vec<Problem>) {
    let mut walk = Walk { file, templates, problems };
    walk.node(root, "", "", false);
}

/// A secret that stands where its name should is one problem: that it is no mapping says nothing more.
pub(super) fn once(problems: &mut Vec<Problem>) {
    let places: Vec<_> =
        problems.iter().filter(|problem| problem.code == "definition::literal_secret").map(|problem| problem.span.clone()).collect();
    problems.retain(|problem| problem.code != "definition::wrong_type" || !places.contains(&problem.span));
}

struct Walk<'a> {
    file: &'a str,
    templates: bool,
    problems: &'a mut Vec<Problem>,
}

impl Walk<'_> {
    fn node(&mut self, node: &Node, key: &str, parent: &str, read: bool) {
        match &node.kind {
            NodeKind::Text(text) => self.text(node, text, key, parent, read),
            // `max_token: 5` is a number that is meant as one.
            NodeKind::Number(text) if key.to_lowercase().contains("passw") => self.secret(node, text, key, parent),
            NodeKind::Sequence(items) => items.iter().for_each(|item| self.node(item, key, parent, read)),
            NodeKind::Mapping(entries) => {
                for (name, value) in entries {
                    if name.text.contains("{{") || name.text.contains("{%") {
                        self.problem("template::not_read", "a key cannot be a template", "write the key itself", name.span.clone());
                    }
                    let scalar_env = key == "env" && !matches!(value.kind, NodeKind::Mapping(_));
                    let read = self.templates && (scalar_env || (name.text != "env" && TEMPLATED.contains(&name.text.as_str())));
                    self.node(value, &name.text, key, read);
                }
            }
            NodeKind::Null | NodeKind::Bool(_) | NodeKind::Number(_) => {}
        }
    }

    fn text(&mut self, node: &Node, text: &str, key: &str, parent: &str, read: bool) {
        let is_template = text.contains("{{") || text.contains("{%");
        if is_template && !read {
            let message =
                if key.is_empty() { "templates are not read here".to_owned() } else { format!("templates are not read in `{key}`") };
            self.problem(
                "template::not_read",
                message,
                "write the value itself; templates stand in SQL, paths, conditions and commands",
                node.span.clone(),
            );
        }
        if !is_template {
            self.secret(node, text, key, parent);
        }
        if let Some(what) = secret_in(text) {
            self.literal(node, what);
        }
    }

    fn secret(&mut self, node: &Node, text: &str, key: &str, parent: &str) {
        let name = if key == "default" { parent } else { key };
        if is_secret_name(name) && !text.is_empty() && secret_in(text).is_none() {
            self.literal(node, &format!("the value of `{name}`"));
        }
    }

    fn literal(&mut self, node: &Node, what: &str) {
        let help = "remove it from the repository and its history, change it, and write `{ secret: name }` where one may stand";
        self.problem("definition::literal_secret", format!("{what} looks like a secret"), help, node.span.clone());
    }

    fn problem(&mut self, code: &'static str, message: impl Into<String>, help: &str, span: crate::yaml::Span) {
        self.problems.push(Problem::error(code, message).at(self.file, span).help(help));
    }
}

/// Secrets in the text of a SQL file.
pub(super) fn secrets_in_sql(text: &str, file: &str) -> Option<Problem> {
    let what = secret_in(text)?;
    let at = text.lines().scan(0, |start, line| {
        let from = *start;
        *start += line.len() + 1;
        Some((from, line))
    });
    let span =
        at.into_iter().find(|(_, line)| secret_in(line).is_some()).map_or(0..0, |(start, line)| start..start + line.trim_end().len());
    let help = "remove it from the repository and its history, and change it; SQL cannot read secrets";
    Some(Problem::error("definition::literal_secret", format!("{what} looks like a secret")).at(file, span).help(help))
}

/// Whether a name says that its value is a secret. `secret` alone is the key that names one.
pub(super) fn is_secret_name(name: &str) -> bool {
    const ENDINGS: &[&str] = &[
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "secret",
        "token",
        "api_key",
        "apikey",
        "private_key",
        "access_key",
        "routing_key",
        "signing_key",
        "webhook",
    ];
    let lower = name.to_lowercase().replace('-', "_");
    lower != "secret"
        && ENDINGS.iter().any(|ending| lower.strip_suffix(ending).is_some_and(|before| before.is_empty() || before.ends_with('_')))
}

/// What secret a text holds by its looks.
fn secret_in(text: &str) -> Option<&'static str> {
    let has_key_after = |prefix: &str, length: usize, class: fn(char) -> bool| {
        text.match_indices(prefix).any(|(at, _)| text[at + prefix.len()..].chars().take_while(|c| class(*c)).count() >= length)
    };
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if has_key_after("AKIA", 16, upper) || has_key_after("ASIA", 16, upper) {
        return Some("an AWS access key");
    }
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY") {
        return Some("a private key");
    }
    if ["ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "sk_live_"].iter().any(|prefix| has_key_after(prefix, 16, word))
    {
        return Some("an access token");
    }
    if has_key_after("hooks.slack.com/services/", 8, word) {
        return Some("a Slack webhook");
    }
    has_password(text).then_some("a URL with a password")
}

/// `scheme://user:password@host`.
fn has_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, sign)| {
        let rest = &text[at + sign.len()..];
        let authority =
            &rest[..rest.find(|c: char| c == '/' || c == '?' || c == '#' || c.is_whitespace() || "\"'`".contains(c)).unwrap_or(rest.len())];
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty() && !password.contains("{{"))
    })
}

#[cfg(test)]
mod tests {
    use super::{is_secret_name, secret_in};

    #[test]
    fn secrets_are_known_by_name_and_by_looks() {
        assert!(
            is_secret_name("PASSWORD")
                && is_secret_name("shop_db_password")
                && is_secret_name("API-TOKEN")
                && is_secret_name("aws_secret_access_key")
        );
        assert!(
            !is_secret_name("secret") && !is_secret_name("token_url") && !is_secret_name("password_column") && !is_secret_name("broken")
        );
        assert!(secret_in("key AKIAIOSFODNN7EXAMPLE").is_some() && secret_in("-----BEGIN RSA PRIVATE KEY-----").is_some());
        assert!(
            secret_in("postgres://u:p@host/db").is_some()
                && secret_in("https://host:8080/a@b:c").is_none()
                && secret_in("ssh://git@host/x").is_none()
        );
        assert!(secret_in("AKIA is a prefix").is_none() && secret_in("select 1 -- a:b@c").is_none());
    }
}
