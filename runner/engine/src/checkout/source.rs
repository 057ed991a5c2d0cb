//! Where a job repository lies and which state of it is wanted, as a user writes it.
//!
//! Pure but for one question: whether a directory of that name exists. A source holds no credentials, so it may be logged.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use errand_model::failure::{Failure, FailureKind};
use percent_encoding::percent_decode_str;

/// Longer addresses and references are mistakes or attacks.
const MAX_LENGTH: usize = 2048;

/// A job repository and the state of it that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it lies.
    pub location: Location,
    /// Branch, tag or commit id. Without one: the default branch, or for a directory its files as they lie there.
    pub reference: Option<String>,
}

/// Where a job repository lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine. Without a reference it is used in place, changes that no commit holds included.
    Directory(PathBuf),
    /// A git repository of this machine, named by a `file` URL: only what is committed counts.
    Repository(PathBuf),
    /// A git repository behind `https`, `ssh`, or `http` on this very machine.
    Remote(RemoteUrl),
}

/// How a remote repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`, to a loopback address only.
    Http,
    /// `https`.
    Https,
    /// `ssh`, also when written `user@host:path`.
    Ssh,
}

/// The address of a remote repository. Holds no password or token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteUrl {
    text: String,
    scheme: Scheme,
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

impl Source {
    /// Understands a directory, an `https`, `ssh` or `file` URL, `http` to loopback, and `user@host:path`.
    ///
    /// Fails as `Definition` with `checkout::bad_url`, `checkout::credentials_in_url` or `checkout::bad_ref`.
    pub fn parse(location: &str, reference: Option<&str>) -> Result<Self, Failure> {
        let location = parse_location(location)?;
        let reference = reference.map(parse_reference).transpose()?;
        Ok(Self { location, reference })
    }
}

impl RemoteUrl {
    /// The address as libgit2 takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How it is reached.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The user named in an `ssh` address.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The host, in lower case, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, that of the scheme when the address names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
            Scheme::Ssh => 22,
        })
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Repository(path) => write!(f, "file://{}", path.display()),
            Self::Remote(url) => url.fmt(f),
        }
    }
}

fn parse_location(text: &str) -> Result<Location, Failure> {
    if text.is_empty() || text.len() > MAX_LENGTH || text.chars().any(char::is_control) {
        return Err(bad_url("the address of the job repository is empty, too long or holds control characters".to_owned()));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            "https" => parse_url(Scheme::Https, rest).map(Location::Remote),
            "http" => parse_url(Scheme::Http, rest).map(Location::Remote),
            "ssh" => parse_url(Scheme::Ssh, rest).map(Location::Remote),
            "file" => parse_file_url(rest),
            other => Err(bad_url(format!("`{other}` is no way to reach a job repository"))),
        };
    }
    match text.split_once(':') {
        Some((before, path)) if !before.contains('/') && !Path::new(text).exists() => parse_scp_like(text, before, path),
        Some(_) | None => Ok(Location::Directory(PathBuf::from(text))),
    }
}

fn parse_url(scheme: Scheme, rest: &str) -> Result<RemoteUrl, Failure> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, address) = authority.rsplit_once('@').map_or((None, authority), |(user, address)| (Some(user), address));
    refuse_credentials(scheme, user)?;
    let name = match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
        Scheme::Ssh => "ssh",
    };
    // The rest of a URL that is refused is not repeated: it may hold a token where none belongs.
    if path.contains(['?', '#']) {
        return Err(credentials_in_url(format!("the address of the job repository on `{address}` has a query or a fragment")));
    }
    if path.is_empty() {
        return Err(bad_url(format!("`{name}://{address}` names no repository")));
    }
    let (host, port) = parse_address(address)?;
    if scheme == Scheme::Http && !is_loopback(&host) {
        return Err(Failure::new(
            FailureKind::Definition,
            "checkout::bad_url",
            format!("`http` to `{host}` would send credentials and code unprotected"),
        )
        .help(format!("write `https://{address}/{path}`; `http` is for this machine only")));
    }
    let user = user.filter(|user| !user.is_empty()).map(str::to_owned);
    let at = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    Ok(RemoteUrl { text: format!("{name}://{at}{address}/{path}"), scheme, user, host, port })
}

/// A user name may stand in an `ssh` address. In an `https` one it is a token as often as not.
fn refuse_credentials(scheme: Scheme, user: Option<&str>) -> Result<(), Failure> {
    let Some(user) = user else { return Ok(()) };
    let is_secret = match scheme {
        Scheme::Http | Scheme::Https => true,
        Scheme::Ssh => user.contains(':'),
    };
    if is_secret {
        return Err(credentials_in_url("the address of the job repository holds a user or password before the `@`".to_owned()));
    }
    check_user(user)
}

fn check_user(user: &str) -> Result<(), Failure> {
    if !user.starts_with('-') && user.chars().all(|character| character.is_alphanumeric() || "-._".contains(character)) {
        return Ok(());
    }
    Err(bad_url("the user before the `@` holds characters that no user name has".to_owned()))
}

fn parse_address(address: &str) -> Result<(String, Option<u16>), Failure> {
    let bad = || bad_url(format!("`{address}` is no host"));
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(bad)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(bad)?) };
            (host, port)
        }
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let well_formed = !host.is_empty() && !host.starts_with(['-', '.']) && !host.contains(['@', '[', ']', '\\', '%', ' ', '\'', '"']);
    if !well_formed {
        return Err(bad());
    }
    let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad)).transpose()?;
    Ok((host.to_ascii_lowercase(), port))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn parse_file_url(rest: &str) -> Result<Location, Failure> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(bad_url(format!("`file://{rest}` does not begin with `file:///`")));
    }
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| bad_url(format!("`file://{rest}` is not UTF-8")))?;
    if decoded.contains('\0') {
        return Err(bad_url(format!("`file://{rest}` is no path")));
    }
    Ok(Location::Repository(PathBuf::from(decoded.into_owned())))
}

/// `user@host:path`, the short form of ssh.
fn parse_scp_like(text: &str, before: &str, path: &str) -> Result<Location, Failure> {
    if !before.contains('@') && path.split('/').next().is_some_and(|first| first.contains('@')) {
        return Err(credentials_in_url("the address of the job repository holds a password before the `@`".to_owned()));
    }
    let (user, host) = before.rsplit_once('@').map_or((None, before), |(user, host)| (Some(user), host));
    user.map_or(Ok(()), check_user)?;
    let (host, _) = parse_address(host)?;
    if path.is_empty() || path.starts_with(['-', ':']) {
        return Err(bad_url(format!("`{text}` names no repository, and no directory has that name")));
    }
    let user = user.filter(|user| !user.is_empty()).map(str::to_owned);
    Ok(Location::Remote(RemoteUrl { text: text.to_owned(), scheme: Scheme::Ssh, user, host, port: None }))
}

/// The rules of git for names of references, so that a reference can never be read as an option, a range or an expression.
fn parse_reference(text: &str) -> Result<String, Failure> {
    let wrong = text.is_empty()
        || text.len() > MAX_LENGTH
        || text == "@"
        || text.starts_with(['-', '/', '.'])
        || text.ends_with(['/', '.'])
        || ["..", "//", "@{"].iter().any(|sequence| text.contains(sequence))
        || text.chars().any(|character| character.is_control() || " ~^:?*[\\".contains(character));
    if wrong {
        return Err(Failure::new(FailureKind::Definition, "checkout::bad_ref", format!("`{}` is no reference", text.escape_debug()))
            .help("name a branch, a tag or a commit id; expressions such as `HEAD~1` are not understood"));
    }
    Ok(text.to_owned())
}

fn bad_url(message: String) -> Failure {
    Failure::new(FailureKind::Definition, "checkout::bad_url", message)
        .help("name a directory, or write `https://host/path`, `ssh://git@host/path`, `git@host:path` or `file:///path`")
}

fn credentials_in_url(message: String) -> Failure {
    Failure::new(FailureKind::Definition, "checkout::credentials_in_url", message)
        .help("remove it from the address, where logs would show it, and set the token or the key as a secret")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> RemoteUrl {
        match Source::parse(text, None).expect("understood").location {
            Location::Remote(url) => url,
            other @ (Location::Directory(_) | Location::Repository(_)) => unreachable!("{text} is {other:?}"),
        }
    }

    #[track_caller]
    fn refusal(text: &str) -> Failure {
        Source::parse(text, None).expect_err("refused")
    }

    #[test]
    fn what_users_write_is_understood() {
        let url = remote("https://Git.Example.com:8443/team/jobs.git");
        assert_eq!((url.scheme(), url.host(), url.port(), url.user()), (Scheme::Https, "git.example.com", 8443, None));
        let url = remote("ssh://git@[::1]:2222/srv/jobs");
        assert_eq!((url.scheme(), url.host(), url.port(), url.user()), (Scheme::Ssh, "::1", 2222, Some("git")));
        let url = remote("git@github.com:acme/jobs.git");
        assert_eq!((url.scheme(), url.host(), url.port(), url.user()), (Scheme::Ssh, "github.com", 22, Some("git")));
        assert_eq!(url.as_str(), "git@github.com:acme/jobs.git");
        assert_eq!(remote("http://127.0.0.1:8080/jobs").scheme(), Scheme::Http);
        assert_eq!(remote("HTTP://localhost/jobs").as_str(), "http://localhost/jobs");
    }

    #[test]
    fn paths_stay_paths() {
        for (text, location) in [
            (".", Location::Directory(".".into())),
            ("/srv/jobs:v2/x", Location::Directory("/srv/jobs:v2/x".into())),
            ("./host:path", Location::Directory("./host:path".into())),
            ("file:///srv/my%20jobs", Location::Repository("/srv/my jobs".into())),
            ("file://localhost/srv/jobs", Location::Repository("/srv/jobs".into())),
        ] {
            assert_eq!(Source::parse(text, None).expect("understood").location, location);
        }
    }

    #[test]
    fn a_url_with_credentials_is_refused_and_not_repeated() {
        for text in [
            "https://ghp_s3cr3t@github.com/acme/jobs",
            "https://user:s3cr3t@github.com/acme/jobs",
            "https://x:s3cr3t@@github.com/acme/jobs",
            "ssh://git:s3cr3t@github.com/acme/jobs",
            "git:s3cr3t@github.com:acme/jobs",
            "https://github.com/acme/jobs?token=s3cr3t",
            "https://github.com/acme/jobs#s3cr3t",
        ] {
            let failure = refusal(text);
            assert_eq!(failure.code, "checkout::credentials_in_url", "{text}");
            assert!(!format!("{failure:?}").contains("s3cr3t"), "{failure:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "https://",
            "https://github.com",
            "https://github.com/",
            "https://-oProxyCommand=x/y",
            "ssh://-oProxyCommand=x/y",
            "https://host:0/x",
            "https://host:99999/x",
            "https://[::1/x",
            "git://github.com/acme/jobs",
            "ext::sh -c touch% /tmp/pwned",
            "http://github.com/acme/jobs",
            "http://127.0.0.1.example.com/jobs",
            "file://server/share",
            "file://relative",
            "git@host:",
            "git@host:-x",
            "-x@host:y",
            "a\nb",
        ] {
            assert_eq!(refusal(text).code, "checkout::bad_url", "{text}");
        }
        assert!(refusal("http://github.com/a").help.expect("help").contains("`https://github.com/a`"));
    }

    #[test]
    fn references_are_names_not_expressions() {
        for good in ["main", "feature/x", "v1.2.3", "refs/heads/main", "HEAD", "deadbeef", "user@topic", "a{b"] {
            assert!(Source::parse(".", Some(good)).is_ok(), "{good}");
        }
        for bad in
            ["", "-x", "--upload-pack=x", "main~1", "main^", "a..b", "@{u}", "main@{1}", "a:b", "a b", "refs/*", "/x", "x/", "a//b", "@"]
        {
            assert_eq!(Source::parse(".", Some(bad)).expect_err("refused").code, "checkout::bad_ref", "{bad}");
        }
    }
}
