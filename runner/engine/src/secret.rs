//! Secrets: a type that cannot be printed, where its value comes from, and its removal from text.
//!
//! A value comes from the environment, from a file, or, where a prefix is set, from AWS Secrets Manager: in this order.
//!
//! Must not read the environment: settings collect the variables and the directory and pass them in. Must not log a value,
//! and offers none of its forms but through [`Secret::expose`], which is easy to find in a review.

mod form;
mod redact;
mod remote;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use errand_model::failure::{Failure, FailureKind};

use remote::Remote;

pub use redact::{PLACEHOLDER, Redactor};

/// Prefix of the environment variables that hold secrets; the rest of the name is the secret's name in upper case.
pub const ENVIRONMENT_PREFIX: &str = "ERRAND_SECRET_";

/// The directory where containers mount secrets, one file per secret.
pub const DEFAULT_DIRECTORY: &str = "/run/secrets";

/// A secret larger than this is a mistake: the longest private keys have 4 KiB.
const MAX_BYTES: u64 = 64 * 1024;

/// The name of a secret: `[a-z][a-z0-9_]*`, at most 64 characters, so that it is a file name and, in upper case, part of a variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

impl SecretName {
    /// Accepts a name, or says what a name looks like (`secret::bad_name`).
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut bytes = text.bytes();
        let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase());
        let goes_on_well = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if starts_well && goes_on_well && text.len() <= 64 {
            return Ok(Self(text.to_owned()));
        }
        Err(Failure::new(FailureKind::Definition, "secret::bad_name", format!("`{text}` is no name of a secret"))
            .help("a name has lower-case letters, digits and `_`, starts with a letter and has at most 64 characters"))
    }

    /// The name as written in a definition.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The environment variable that may hold the value.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.0.to_ascii_uppercase())
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value that must not be seen. It has no `Display` and is not serialisable; `Debug` prints [`PLACEHOLDER`]. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a value. Register it with a [`Redactor`] unless [`Secrets::resolve`] made it, which does so itself.
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(Arc::from(value))
    }

    /// The value itself, for the driver or the callback that needs it, and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
    }
}

/// Finds the value of a secret by its name: first the environment, then a directory of files, then AWS Secrets Manager.
///
/// Cheap to clone; all clones share one [`Redactor`], which learns every value before its first use.
#[derive(Clone)]
pub struct Secrets {
    environment: Arc<BTreeMap<String, String>>,
    directory: Arc<Path>,
    remote: Option<Arc<Remote>>,
    redactor: Redactor,
}

impl Secrets {
    /// A resolver over `environment` (names with [`ENVIRONMENT_PREFIX`]; others are ignored) and the files of `directory`.
    #[must_use]
    pub fn new(environment: impl IntoIterator<Item = (String, String)>, directory: PathBuf) -> Self {
        let environment = environment.into_iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
        Self { environment: Arc::new(environment), directory: Arc::from(directory), remote: None, redactor: Redactor::default() }
    }

    /// The same, and what is found nowhere else is asked of AWS Secrets Manager, under this prefix and its name: once, when it is needed.
    #[must_use]
    pub fn with_remote(mut self, prefix: &str) -> Self {
        self.remote = Some(Arc::new(Remote::new(prefix)));
        self
    }

    /// Whether AWS Secrets Manager is asked.
    #[must_use]
    pub const fn has_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// The value of `name`, known to the redactor from here on. One line end at its end is not part of the value. Blocks for the seconds
    /// that AWS Secrets Manager takes, where that is asked.
    ///
    /// Fails as `Definition` with `secret::missing`, `secret::empty` or `secret::unreadable`, and with what Secrets Manager says.
    pub fn resolve(&self, name: &SecretName) -> Result<Secret, Failure> {
        let variable = name.variable();
        let file = self.directory.join(name.as_str());
        let (text, origin) = match self.environment.get(&variable) {
            Some(value) => (value.clone(), format!("environment variable `{variable}`")),
            None => match (read(&file)?, &self.remote) {
                (Some(value), _) => (value, format!("file `{}`", file.display())),
                (None, None) => return Err(missing(name, &variable, &file, None)),
                (None, Some(remote)) => match remote.get(name)? {
                    Some(value) => (value.expose().to_owned(), format!("AWS Secrets Manager as `{}`", remote.full(name))),
                    None => return Err(missing(name, &variable, &file, Some(&remote.full(name)))),
                },
            },
        };
        let value = without_line_end(&text);
        if value.is_empty() {
            return Err(Failure::new(FailureKind::Definition, "secret::empty", format!("secret `{name}` is empty in {origin}"))
                .help("give it its value, or remove it there"));
        }
        if value.chars().count() < form::MIN_CHARACTERS {
            tracing::warn!(secret = %name, "secret is too short to be removed from logs and reports, use a longer one");
        }
        let secret = Secret::new(value);
        self.redactor.register(&secret);
        Ok(secret)
    }

    /// The redactor that knows every secret resolved so far and later.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<_> = self.environment.keys().collect();
        let remote = self.remote.as_ref().map(|remote| remote.prefix());
        f.debug_struct("Secrets")
            .field("variables", &variables)
            .field("directory", &self.directory)
            .field("remote", &remote)
            .finish_non_exhaustive()
    }
}

fn missing(name: &SecretName, variable: &str, file: &Path, remote: Option<&str>) -> Failure {
    let failure = Failure::new(FailureKind::Definition, "secret::missing", format!("secret `{name}` is not set"));
    failure.help(match remote {
        Some(remote) => format!("store its value in AWS Secrets Manager as `{remote}`, or set the environment variable `{variable}`"),
        None => format!("set the environment variable `{variable}`, or write the value to the file `{}`", file.display()),
    })
}

/// The text of `file`, or nothing when there is no such file.
fn read(file: &Path) -> Result<Option<String>, Failure> {
    let unreadable = |why: &dyn fmt::Display| {
        Failure::new(FailureKind::Definition, "secret::unreadable", format!("cannot read the secret file `{}`: {why}", file.display()))
            .help(format!("it must be a file of UTF-8 text of at most {MAX_BYTES} bytes that this user may read"))
    };
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut bytes = Vec::new();
    opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(unreadable(&"it is too large"));
    }
    // The error of `from_utf8` holds the bytes themselves: only the fact is passed on.
    String::from_utf8(bytes).map(Some).map_err(|_| unreadable(&"it is not UTF-8"))
}

fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SecretName {
        SecretName::parse(text).expect("a name")
    }

    fn secrets(environment: &[(&str, &str)], directory: &Path) -> Secrets {
        Secrets::new(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())), directory.to_owned())
    }

    #[test]
    fn a_name_is_a_file_name_and_part_of_a_variable() {
        assert_eq!(name("shop_db_2").variable(), "ERRAND_SECRET_SHOP_DB_2");
        for wrong in ["", "Shop", "2fast", "a-b", "../passwd", "a/b", "ünicode", &"a".repeat(65)] {
            assert_eq!(SecretName::parse(wrong).expect_err("refused").code, "secret::bad_name", "{wrong}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let secrets = secrets(&[("ERRAND_SECRET_TOKEN", "hunter2-hunter2")], Path::new("/nowhere"));
        let secret = secrets.resolve(&name("token")).expect("set");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[secret] Some([secret])");
        assert!(!format!("{secrets:?} {:?}", secrets.redactor()).contains("hunter2"));
    }

    #[test]
    fn the_environment_wins_over_the_file_and_a_line_end_is_cut() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("both"), "from the file\r\n").expect("written");
        std::fs::write(directory.path().join("file_only"), "line one\nline two\n").expect("written");
        let secrets = secrets(&[("ERRAND_SECRET_BOTH", "from the variable\n"), ("OTHER", "x")], directory.path());
        assert_eq!(secrets.resolve(&name("both")).expect("set").expose(), "from the variable");
        assert_eq!(secrets.resolve(&name("file_only")).expect("set").expose(), "line one\nline two");
    }

    #[test]
    fn a_missing_secret_names_both_places() {
        let failure = secrets(&[], Path::new("/run/secrets")).resolve(&name("shop_token")).expect_err("missing");
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Definition, "secret::missing"));
        assert_eq!(failure.message, "secret `shop_token` is not set");
        assert_eq!(
            failure.help.as_deref(),
            Some("set the environment variable `ERRAND_SECRET_SHOP_TOKEN`, or write the value to the file `/run/secrets/shop_token`")
        );
    }

    #[test]
    fn what_is_empty_or_no_text_is_refused_without_its_bytes() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("binary"), b"abc\xff\xfehidden").expect("written");
        std::fs::write(directory.path().join("large"), vec![b'x'; 64 * 1024 + 1]).expect("written");
        std::fs::create_dir(directory.path().join("folder")).expect("made");
        let secrets = secrets(&[("ERRAND_SECRET_EMPTY", "\n")], directory.path());
        assert_eq!(secrets.resolve(&name("empty")).expect_err("empty").code, "secret::empty");
        for unreadable in ["binary", "large", "folder"] {
            let failure = secrets.resolve(&name(unreadable)).expect_err("unreadable");
            assert_eq!(failure.code, "secret::unreadable", "{unreadable}");
            assert!(!failure.message.contains("hidden"));
        }
    }

    #[test]
    fn what_was_resolved_is_removed_from_text_in_every_clone() {
        let secrets = secrets(&[("ERRAND_SECRET_TOKEN", "s3cr3t-value")], Path::new("/nowhere"));
        let earlier = secrets.redactor().clone();
        assert_eq!(earlier.redact("s3cr3t-value"), "s3cr3t-value");
        secrets.clone().resolve(&name("token")).expect("set");
        assert_eq!(earlier.redact("say s3cr3t-value twice"), "say [secret] twice");
    }
}
