//! From a branch, tag or commit id, as asked for, to what to fetch: a decision over the list of references a server shows.
//!
//! Pure. The rules are those of gitrevisions(7), but a name that means two different commits is refused, not guessed.

use errand_model::failure::{Failure, FailureKind};
use errand_model::problem::nearest;
use git2::Oid;

/// From this many digits on, an abbreviated id that fits the tip of a branch is that tip: another commit with the same beginning would
/// be one in 2^48. Shorter ones are looked up in the whole history.
const SURE_DIGITS: usize = 12;

/// The shortest abbreviation git knows.
const MIN_DIGITS: usize = 4;

/// How many names a message lists.
const MAX_LISTED: usize = 3;

/// One line of the list of references a server shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advertised {
    pub(super) name: String,
    pub(super) id: Oid,
}

/// What to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// What the server shows under this name. An annotated tag's id is that of the tag, not yet of its commit.
    Tip(Advertised),
    /// A commit id that is no tip.
    Id(Oid),
    /// The beginning of a commit id.
    Abbreviation(String),
}

/// Chooses what `reference` means, the default branch when there is none. Fails as `Checkout` with `checkout::no_such_ref` or
/// `checkout::ambiguous_ref`.
pub(super) fn choose(advertised: &[Advertised], reference: Option<&str>) -> Result<Choice, Failure> {
    let wanted = match reference {
        None | Some("HEAD") => return default_branch(advertised),
        Some(wanted) => wanted,
    };
    if let Some(tip) = by_name(advertised, wanted)? {
        return Ok(Choice::Tip(tip.clone()));
    }
    let is_hexadecimal = wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hexadecimal || !(MIN_DIGITS..=40).contains(&wanted.len()) {
        return Err(no_such_ref(wanted, advertised));
    }
    let digits = wanted.to_ascii_lowercase();
    let fits = |tip: &&Advertised| is_fetchable(&tip.name) && tip.id.to_string().starts_with(&digits);
    match advertised.iter().find(fits) {
        Some(tip) if digits.len() >= SURE_DIGITS => Ok(Choice::Tip(tip.clone())),
        Some(_) | None => match Oid::from_str(&digits) {
            Ok(id) if digits.len() == 40 => Ok(Choice::Id(id)),
            Ok(_) | Err(_) => Ok(Choice::Abbreviation(digits)),
        },
    }
}

/// The failure that says what there is instead.
pub(super) fn no_such_ref(wanted: &str, advertised: &[Advertised]) -> Failure {
    let looks_like_id = wanted.len() >= 7 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (message, hint) = if looks_like_id {
        (format!("no commit `{wanted}` in the job repository"), "push the commit to a branch; a commit that no branch or tag holds is gone")
    } else {
        (format!("no branch, tag or commit `{wanted}` in the job repository"), "push it, or name another")
    };
    let names = near_names(wanted, advertised);
    let help = if names.is_empty() { hint.to_owned() } else { format!("{hint}; there is {}", names.join(", ")) };
    Failure::new(FailureKind::Checkout, "checkout::no_such_ref", message).help(help)
}

/// The failure of an abbreviation that fits several commits.
pub(super) fn ambiguous(wanted: &str, why: &str) -> Failure {
    Failure::new(FailureKind::Checkout, "checkout::ambiguous_ref", format!("`{wanted}` means more than one commit: {why}"))
        .help("write the whole commit id, or the whole name such as `refs/heads/main`")
}

fn default_branch(advertised: &[Advertised]) -> Result<Choice, Failure> {
    if let Some(head) = advertised.iter().find(|tip| tip.name == "HEAD") {
        return Ok(Choice::Tip(head.clone()));
    }
    let names = near_names("main", advertised);
    let (message, help) = if names.is_empty() {
        ("the job repository is empty", "push a commit to it".to_owned())
    } else {
        (
            "the job repository has no default branch: its `HEAD` names a branch that is not there",
            format!("name a branch, such as {}", names.join(", ")),
        )
    };
    Err(Failure::new(FailureKind::Checkout, "checkout::no_such_ref", message).help(help))
}

/// The reference that `wanted` names, in the order of git.
fn by_name<'a>(advertised: &'a [Advertised], wanted: &str) -> Result<Option<&'a Advertised>, Failure> {
    let find = |name: &str| advertised.iter().find(|tip| tip.name == name);
    if let Some(exact) = find(wanted).filter(|tip| tip.name.starts_with("refs/")) {
        return Ok(Some(exact));
    }
    let tag = find(&format!("refs/tags/{wanted}"));
    let branch = find(&format!("refs/heads/{wanted}"));
    if let (Some(tag), Some(branch)) = (tag, branch) {
        let commit_of_tag = find(&format!("{}^{{}}", tag.name)).unwrap_or(tag);
        if commit_of_tag.id != branch.id {
            return Err(ambiguous(wanted, "there is a branch and a tag of that name"));
        }
    }
    Ok(tag.or(branch).or_else(|| find(&format!("refs/{wanted}"))))
}

fn is_fetchable(name: &str) -> bool {
    name.starts_with("refs/") && !name.ends_with("^{}")
}

/// Names of branches and tags near to `wanted`, else of some branches, in backticks.
fn near_names(wanted: &str, advertised: &[Advertised]) -> Vec<String> {
    let short =
        |prefix: &'static str| advertised.iter().filter_map(move |tip| tip.name.strip_prefix(prefix).filter(|name| !name.ends_with("^{}")));
    let mut candidates: Vec<&str> = short("refs/heads/").chain(short("refs/tags/")).collect();
    let mut names = Vec::new();
    while let Some(name) = nearest(wanted, candidates.iter().copied()).filter(|_| names.len() < MAX_LISTED) {
        names.push(format!("`{name}`"));
        candidates.retain(|candidate| *candidate != name);
    }
    if names.is_empty() {
        names.extend(candidates.iter().take(MAX_LISTED).map(|name| format!("`{name}`")));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "1111111111111111111111111111111111111111";
    const SECOND: &str = "2222222222222222222222222222222222222222";
    const TAG: &str = "aaaabbbbccccddddaaaabbbbccccddddaaaabbbb";

    fn advertised(list: &[(&str, &str)]) -> Vec<Advertised> {
        list.iter().map(|(name, id)| Advertised { name: (*name).to_owned(), id: Oid::from_str(id).expect("an id") }).collect()
    }

    fn usual() -> Vec<Advertised> {
        advertised(&[
            ("HEAD", FIRST),
            ("refs/heads/main", FIRST),
            ("refs/heads/release", SECOND),
            ("refs/pull/7/head", SECOND),
            ("refs/tags/v1.0", TAG),
            ("refs/tags/v1.0^{}", SECOND),
        ])
    }

    #[track_caller]
    fn tip(reference: Option<&str>) -> String {
        match choose(&usual(), reference) {
            Ok(Choice::Tip(tip)) => tip.name,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn names_are_found_as_git_finds_them() {
        assert_eq!(tip(None), "HEAD");
        assert_eq!(tip(Some("HEAD")), "HEAD");
        assert_eq!(tip(Some("main")), "refs/heads/main");
        assert_eq!(tip(Some("heads/main")), "refs/heads/main");
        assert_eq!(tip(Some("refs/heads/main")), "refs/heads/main");
        assert_eq!(tip(Some("v1.0")), "refs/tags/v1.0");
        assert_eq!(tip(Some("pull/7/head")), "refs/pull/7/head");
    }

    #[test]
    fn ids_are_tips_or_looked_up() {
        assert_eq!(tip(Some(SECOND)), "refs/heads/release");
        assert_eq!(tip(Some(&SECOND[..12])), "refs/heads/release");
        assert_eq!(choose(&usual(), Some(&SECOND[..7])), Ok(Choice::Abbreviation(SECOND[..7].to_owned())));
        let other = "ABCDEF0123456789abcdef0123456789abcdef01";
        assert_eq!(choose(&usual(), Some(other)), Ok(Choice::Id(Oid::from_str(other).expect("an id"))));
    }

    #[test]
    fn a_name_that_is_not_there_gets_the_nearest_ones() {
        let failure = choose(&usual(), Some("relaese")).expect_err("refused");
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Checkout, "checkout::no_such_ref"));
        assert_eq!(failure.message, "no branch, tag or commit `relaese` in the job repository");
        assert_eq!(failure.help.as_deref(), Some("push it, or name another; there is `release`"));
        let failure = choose(&usual(), Some("something-else")).expect_err("refused");
        assert_eq!(failure.help.as_deref(), Some("push it, or name another; there is `main`, `release`, `v1.0`"));
    }

    #[test]
    fn an_empty_repository_and_a_lost_default_branch_are_told_apart() {
        assert_eq!(choose(&[], None).expect_err("refused").message, "the job repository is empty");
        let failure = choose(&advertised(&[("refs/heads/master", FIRST)]), None).expect_err("refused");
        assert_eq!(failure.help.as_deref(), Some("name a branch, such as `master`"));
    }

    #[test]
    fn a_branch_and_a_tag_of_one_name_must_agree() {
        let list = |commit| advertised(&[("refs/heads/x", FIRST), ("refs/tags/x", TAG), ("refs/tags/x^{}", commit)]);
        assert_eq!(choose(&list(SECOND), Some("x")).expect_err("refused").code, "checkout::ambiguous_ref");
        assert!(choose(&list(FIRST), Some("x")).is_ok());
        assert!(choose(&list(SECOND), Some("refs/heads/x")).is_ok());
    }
}
