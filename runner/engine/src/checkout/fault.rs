//! From an error of libgit2 to a failure that says which of the few things went wrong that a user can act on.
//!
//! Kinds and codes of libgit2 come first. Where it has none (the status of an HTTP answer, what a server says over ssh) its text is all
//! there is; the tests against real servers hold these texts fast.

use errand_model::failure::{Failure, FailureKind};
use git2::{ErrorClass, ErrorCode};

use super::source::{RemoteUrl, Scheme};
use super::watch::{Watch, timeout};

/// Words of git servers for a repository that is not there, or that they do not show.
const NOT_FOUND_WORDS: [&str; 5] =
    ["not found", "does not appear to be a git repository", "does not exist", "no such file", "could not be found"];

/// Words of git servers for a repository that may not be read.
const NOT_AUTHORISED_WORDS: [&str; 5] = ["permission denied", "access denied", "not authorized", "unauthorized", "forbidden"];

/// What went wrong while `url` was read. A reason that a callback noted wins over what libgit2 made of it.
pub(super) fn explain(error: &git2::Error, url: &RemoteUrl, watch: &Watch) -> Failure {
    if let Some(noted) = watch.noted() {
        return noted;
    }
    if let Err(failure) = watch.check() {
        return failure;
    }
    let text = one_line(error.message());
    let lower = text.to_ascii_lowercase();
    let timed_out_over_ssh = error.class() == ErrorClass::Ssh && (lower.contains("timed out") || lower.contains("timeout expired"));
    if error.code() == ErrorCode::Timeout || lower.ends_with("timed out") || timed_out_over_ssh {
        return Failure { message: format!("the git server of `{url}` has stalled: {text}"), ..timeout(watch.limits().timeout) };
    }
    match error.code() {
        ErrorCode::Auth => return not_authorised(url, &text),
        ErrorCode::Certificate => return untrusted(url, &text),
        ErrorCode::NotFound if error.class() != ErrorClass::Reference => return not_found(url, &text),
        _ => {}
    }
    if ["cannot redirect", "unexpected redirect", "redirect without"].iter().any(|words| lower.starts_with(words)) {
        return redirected(url, &text);
    }
    match error.class() {
        ErrorClass::Http => by_status(url, &text),
        ErrorClass::Ssl if lower.contains("certificate") => untrusted(url, &text),
        ErrorClass::Ssh => by_words(url, &text, &lower),
        ErrorClass::Net | ErrorClass::Os | ErrorClass::Ssl | ErrorClass::Zlib | ErrorClass::Indexer => network(url, &text),
        _ => other(&format!("cannot read the job repository `{url}`: {text}")),
    }
}

/// The failure of an error that no server caused: a broken repository, a full disk.
pub(super) fn local(what: &str, error: &git2::Error) -> Failure {
    other(&format!("{what}: {}", one_line(error.message())))
}

/// The failure of a repository that may not be read.
pub(super) fn not_authorised(url: &RemoteUrl, why: &str) -> Failure {
    let help = match url.scheme() {
        Scheme::Http | Scheme::Https => "set a token that may read the repository as the secret of the checkout",
        Scheme::Ssh => "set a private key whose public half the server knows as the secret of the checkout",
    };
    failure("checkout::not_authorised", format!("not authorised to read the job repository `{url}`: {why}"), help)
}

/// The failure of a repository that is not there.
pub(super) fn not_found(url: &RemoteUrl, why: &str) -> Failure {
    let help = "check the address, and that the credentials may read it: most servers answer so to those who may not";
    failure("checkout::not_found", format!("no job repository at `{url}`: {why}"), help)
}

fn by_status(url: &RemoteUrl, text: &str) -> Failure {
    let status = text.rsplit_once("status code: ").and_then(|(_, status)| status.trim().parse::<u16>().ok());
    match status {
        Some(401 | 403 | 407) => not_authorised(url, text),
        Some(404 | 410) => not_found(url, text),
        Some(408 | 429 | 500..=599) => network(url, text),
        Some(_) => other(&format!("the git server of `{url}` refuses: {text}")),
        None if text.contains("content-type") => not_found(url, "what answers there is no git server"),
        None => network(url, text),
    }
}

fn by_words(url: &RemoteUrl, text: &str, lower: &str) -> Failure {
    if NOT_FOUND_WORDS.iter().any(|words| lower.contains(words)) {
        return not_found(url, text);
    }
    if NOT_AUTHORISED_WORDS.iter().any(|words| lower.contains(words)) {
        return not_authorised(url, text);
    }
    // libssh2 reads the user's own file to choose among the types of host keys, though it does not decide.
    if lower.contains("known_hosts") {
        let help = "repair or remove the file `known_hosts` in the directory `.ssh` of this user, which the ssh library cannot read";
        return failure("checkout::failed", format!("cannot reach `{}`: {text}", url.host()), help);
    }
    if lower.contains("private key") || lower.contains("authenticat") {
        return unusable_key(url, text);
    }
    network(url, text)
}

/// libssh2 reads neither a key with a passphrase nor what is no key, and says of both that it cannot.
fn unusable_key(url: &RemoteUrl, text: &str) -> Failure {
    let help = "set a private key without passphrase, whole, with its first and last line, as the secret of the checkout";
    failure("checkout::not_authorised", format!("cannot log in to `{}` with the private key: {text}", url.host()), help)
}

fn untrusted(url: &RemoteUrl, text: &str) -> Failure {
    let help =
        "if the server has a certificate of its own authority, name the file of that authority; certificates are never taken on trust";
    failure("checkout::untrusted_certificate", format!("the certificate of `{}` is not trusted: {text}", url.host()), help)
}

fn redirected(url: &RemoteUrl, text: &str) -> Failure {
    let help = "write the address where the repository is now; a redirect to another host would carry the credentials there";
    failure("checkout::redirected", format!("the git server of `{url}` points elsewhere: {text}"), help)
}

fn network(url: &RemoteUrl, text: &str) -> Failure {
    Failure::new(FailureKind::Transient, "checkout::network", format!("cannot reach the job repository `{url}`: {text}"))
        .help("try again; if it stays so, check the address, the network and the git server")
}

fn other(message: &str) -> Failure {
    failure("checkout::failed", message.to_owned(), "look at the repository and at the space on the disk")
}

fn failure(code: &str, message: String, help: &str) -> Failure {
    Failure::new(FailureKind::Checkout, code, message).help(help)
}

/// Text of a server or of libgit2 as one short line without control characters.
fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|character: char| character.is_control() || character == ' ').filter(|word| !word.is_empty()).collect();
    words.join(" ").trim_end_matches('.').chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::checkout::Limits;
    use crate::checkout::source::{Location, Source};
    use crate::checkout::watch::Watch;

    #[track_caller]
    fn code(url: &str, class: ErrorClass, text: &str) -> (String, FailureKind) {
        let Location::Remote(url) = Source::parse(url, None).expect("an address").location else { unreachable!("a remote") };
        let mut error = git2::Error::from_str(text);
        error.set_class(class);
        let failure = explain(&error, &url, &Watch::start(Limits::default(), CancellationToken::new()));
        (failure.code, failure.kind)
    }

    #[test]
    fn answers_of_http_are_told_apart() {
        for (status, expected, kind) in [
            (401, "checkout::not_authorised", FailureKind::Checkout),
            (403, "checkout::not_authorised", FailureKind::Checkout),
            (404, "checkout::not_found", FailureKind::Checkout),
            (429, "checkout::network", FailureKind::Transient),
            (503, "checkout::network", FailureKind::Transient),
            (418, "checkout::failed", FailureKind::Checkout),
        ] {
            let text = format!("unexpected http status code: {status}");
            assert_eq!(code("https://host/x", ErrorClass::Http, &text), (expected.to_owned(), kind), "{status}");
        }
        assert_eq!(code("https://host/x", ErrorClass::Http, "invalid content-type: 'text/html'").0, "checkout::not_found");
        assert_eq!(code("https://host/x", ErrorClass::Net, "cannot redirect from 'a' to 'b'").0, "checkout::redirected");
        assert_eq!(code("https://host/x", ErrorClass::Net, "failed to connect to host: Operation timed out").0, "checkout::timeout");
        assert_eq!(code("https://redirect/x", ErrorClass::Net, "failed to connect to redirect").0, "checkout::network");
    }

    #[test]
    fn words_of_ssh_servers_are_told_apart() {
        for (text, expected) in [
            ("ERROR: Repository not found.\n", "checkout::not_found"),
            ("fatal: '/x' does not appear to be a git repository", "checkout::not_found"),
            ("remote: Permission denied to read", "checkout::not_authorised"),
            ("Failed to open SSH channel", "checkout::network"),
            ("failed to start SSH session: API timeout expired", "checkout::timeout"),
            ("error loading known_hosts: Failed to parse known hosts file", "checkout::failed"),
        ] {
            assert_eq!(code("git@host:x", ErrorClass::Ssh, text).0, expected, "{text}");
        }
    }

    #[test]
    fn text_of_a_server_becomes_one_short_line() {
        assert_eq!(one_line("ERROR: \u{1b}[31mno\n\nway.  "), "ERROR: [31mno way");
        assert_eq!(one_line(&"x".repeat(1000)).len(), 300);
    }
}
