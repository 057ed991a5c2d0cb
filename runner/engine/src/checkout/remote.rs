//! Job repositories on a server: one connection that lists the references, and a transfer of the one commit that is wanted.
//!
//! Credentials reach libgit2 by callback alone. The remote has no name, so nothing about it is written to a configuration file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use errand_model::failure::{Failure, FailureKind};
use git2::{
    AutotagOption, CertificateCheckStatus, Cred, CredentialType, Direction, ErrorCode, FetchOptions, ObjectType, Oid, Remote,
    RemoteCallbacks, Repository,
};

use super::fault;
use super::known_hosts::{self, Verdict};
use super::reference::{Advertised, Choice, ambiguous, choose, no_such_ref};
use super::source::{RemoteUrl, Scheme};
use super::watch::Watch;
use super::{Credentials, library};

/// The user that git servers expect over ssh when the address names none.
const SSH_USER: &str = "git";

/// The user beside a token when none is configured: what GitHub asks for, and others ignore.
const TOKEN_USER: &str = "x-access-token";

/// One job repository on a server, and how to talk to it.
pub(super) struct Server<'a> {
    pub(super) url: &'a RemoteUrl,
    pub(super) credentials: &'a Credentials,
    pub(super) watch: &'a Watch,
}

impl Server<'_> {
    /// Fetches what `reference` means into a new bare repository at `store`, and returns it with the commit.
    pub(super) fn fetch(&self, reference: Option<&str>, store: &Path) -> Result<(Repository, Oid), Failure> {
        if let Some(file) = &self.credentials.ca_file {
            library::trust(file)?;
        }
        let repository = new_store(store).map_err(|error| fault::local("cannot make the scratch repository", &error))?;
        let (advertised, choice) = self.fetch_tip(&repository, reference)?;
        match &choice {
            Choice::Tip(_) => {}
            Choice::Id(id) => {
                if !self.fetch_id(&repository, *id)? {
                    self.fetch_history(&repository)?;
                }
            }
            Choice::Abbreviation(_) => self.fetch_history(&repository)?,
        }
        let commit = commit_of(&repository, &choice, reference, &advertised)?;
        Ok((repository, commit))
    }

    /// Lists the references and chooses; a tip is fetched over the same connection, so it cannot move in between.
    fn fetch_tip(&self, repository: &Repository, reference: Option<&str>) -> Result<(Vec<Advertised>, Choice), Failure> {
        let explain = |error: git2::Error| fault::explain(&error, self.url, self.watch);
        let mut remote = repository.remote_anonymous(self.url.as_str()).map_err(explain)?;
        let mut options = self.options(1);
        let mut connection = remote.connect_auth(Direction::Fetch, Some(self.callbacks()), None).map_err(explain)?;
        let heads = connection.list().map_err(explain)?;
        let advertised: Vec<_> = heads.iter().map(|head| Advertised { name: head.name().to_owned(), id: head.oid() }).collect();
        let choice = choose(&advertised, reference)?;
        if let Choice::Tip(tip) = &choice {
            download(connection.remote(), &[&tip.name], &mut options).map_err(explain)?;
        }
        Ok((advertised, choice))
    }

    /// Asks for a commit by its id alone. Whether the server gave it: many do not, for ids that are no tip.
    fn fetch_id(&self, repository: &Repository, id: Oid) -> Result<bool, Failure> {
        self.watch.next_transfer();
        let explain = |error: git2::Error| fault::explain(&error, self.url, self.watch);
        let mut remote = repository.remote_anonymous(self.url.as_str()).map_err(explain)?;
        match download(&mut remote, &[&format!("{id}:refs/errand/checkout")], &mut self.options(1)) {
            Ok(()) => Ok(repository.find_object(id, None).is_ok()),
            Err(error) if self.watch.noted().is_some() || error.code() == ErrorCode::Timeout => Err(explain(error)),
            Err(error) => {
                tracing::debug!(commit = %id, reason = error.message(), "the server gives no commit by its id, fetching the history");
                Ok(false)
            }
        }
    }

    /// Fetches all branches and tags with their history, within the limits.
    fn fetch_history(&self, repository: &Repository) -> Result<(), Failure> {
        self.watch.next_transfer();
        let explain = |error: git2::Error| fault::explain(&error, self.url, self.watch);
        let mut remote = repository.remote_anonymous(self.url.as_str()).map_err(explain)?;
        let everything = ["refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*"];
        download(&mut remote, &everything, &mut self.options(0)).map_err(explain)
    }

    fn options(&self, depth: i32) -> FetchOptions<'static> {
        let mut options = FetchOptions::new();
        options.depth(depth).download_tags(AutotagOption::None).update_fetchhead(false).remote_callbacks(self.callbacks());
        options
    }

    fn callbacks(&self) -> RemoteCallbacks<'static> {
        let mut callbacks = RemoteCallbacks::new();
        let watch = self.watch.clone();
        callbacks.transfer_progress(move |progress| watch.received(progress.received_bytes() as u64));
        let watch = self.watch.clone();
        callbacks.sideband_progress(move |_| watch.goes_on());
        self.answer_credentials(&mut callbacks);
        self.check_host(&mut callbacks);
        callbacks
    }

    /// libgit2 asks again after a refusal, without end: credentials are given once.
    fn answer_credentials(&self, callbacks: &mut RemoteCallbacks<'static>) {
        let (url, credentials, watch) = (self.url.clone(), self.credentials.clone(), self.watch.clone());
        let given = AtomicBool::new(false);
        callbacks.credentials(move |_, user, allowed| {
            let refuse = |why: &str| {
                watch.note(fault::not_authorised(&url, why));
                let mut error = git2::Error::from_str("refused");
                error.set_code(ErrorCode::Auth);
                error
            };
            if !watch.goes_on() {
                return Err(refuse("stopped"));
            }
            if allowed.contains(CredentialType::USERNAME) {
                return Cred::username(credentials.username.as_deref().unwrap_or(SSH_USER));
            }
            if given.swap(true, Ordering::Relaxed) {
                return Err(refuse("the server refuses the credentials"));
            }
            answer(&url, &credentials, user, allowed).unwrap_or_else(|why| Err(refuse(why)))
        });
    }

    /// The key of an ssh host is judged here; the certificate of an https host by libgit2, with OpenSSL.
    fn check_host(&self, callbacks: &mut RemoteCallbacks<'static>) {
        let (url, watch) = (self.url.clone(), self.watch.clone());
        let known_hosts: Arc<str> = self.credentials.known_hosts.as_deref().unwrap_or_default().into();
        callbacks.certificate_check(move |certificate, _| {
            let Some(host_key) = certificate.as_hostkey() else { return Ok(CertificateCheckStatus::CertificatePassthrough) };
            match refusal(&known_hosts, &url, host_key.hostkey().unwrap_or_default()) {
                None => Ok(CertificateCheckStatus::CertificateOk),
                Some(failure) => {
                    watch.note(failure);
                    let mut error = git2::Error::from_str("the host key is not accepted");
                    error.set_code(ErrorCode::Certificate);
                    Err(error)
                }
            }
        });
    }
}

/// The commit that a choice means in a repository that holds it.
pub(super) fn commit_of(
    repository: &Repository,
    choice: &Choice,
    reference: Option<&str>,
    advertised: &[Advertised],
) -> Result<Oid, Failure> {
    let wanted = reference.unwrap_or("HEAD");
    let object = match choice {
        Choice::Tip(tip) => repository.find_object(tip.id, None),
        Choice::Id(id) => repository.find_object(*id, None),
        Choice::Abbreviation(digits) => repository.find_object_by_prefix(digits, Some(ObjectType::Commit)),
    };
    let object = object.map_err(|error| match error.code() {
        ErrorCode::NotFound => no_such_ref(wanted, advertised),
        ErrorCode::Ambiguous => ambiguous(wanted, "several begin so"),
        _ => fault::local("cannot read the job repository", &error),
    })?;
    let kind = object.kind().map_or("object", |kind| kind.str());
    object.peel_to_commit().map(|commit| commit.id()).map_err(|_| {
        let message = format!("`{wanted}` in the job repository is a {kind} that leads to no commit");
        Failure::new(FailureKind::Checkout, "checkout::no_such_ref", message).help("name a branch, a tag of a commit, or a commit id")
    })
}

fn new_store(store: &Path) -> Result<Repository, git2::Error> {
    let mut options = git2::RepositoryInitOptions::new();
    options.bare(true).external_template(false).no_reinit(true).mkdir(true);
    let repository = Repository::init_opts(store, &options)?;
    // Redirects are followed on the same host only: libgit2 would show the credentials to the next one.
    repository.config()?.set_bool("http.followRedirects", false)?;
    Ok(repository)
}

fn download(remote: &mut Remote<'_>, references: &[&str], options: &mut FetchOptions<'_>) -> Result<(), git2::Error> {
    remote.download(references, Some(options))
}

/// The answer to a server that asks who is there, or why there is none.
fn answer(
    url: &RemoteUrl,
    credentials: &Credentials,
    user: Option<&str>,
    allowed: CredentialType,
) -> Result<Result<Cred, git2::Error>, &'static str> {
    match url.scheme() {
        Scheme::Http | Scheme::Https => {
            let token = credentials.token.as_ref().ok_or("the server asks for credentials and no token is set")?;
            if !allowed.contains(CredentialType::USER_PASS_PLAINTEXT) {
                return Err("the server does not take a user and a token");
            }
            Ok(Cred::userpass_plaintext(credentials.username.as_deref().unwrap_or(TOKEN_USER), token.expose()))
        }
        Scheme::Ssh => {
            let key = credentials.ssh_key.as_ref().ok_or("the server asks for a key and no private key is set")?;
            if !allowed.contains(CredentialType::SSH_MEMORY) {
                return Err("the server does not take a key");
            }
            // A key from an environment variable often lacks the last line end, without which it is no PEM text.
            let text = format!("{}\n", key.expose().trim_end());
            Ok(Cred::ssh_key_from_memory(user.unwrap_or(SSH_USER), None, &text, None))
        }
    }
}

/// Why the key that an ssh host shows is not accepted; nothing when it is the known one.
fn refusal(known: &str, url: &RemoteUrl, key: &[u8]) -> Option<Failure> {
    let (host, port) = (url.host(), url.port());
    let shown = known_hosts::key_type(key).unwrap_or("unknown");
    let fingerprint = known_hosts::fingerprint(key);
    let failure = |code: &str, message: String| Failure::new(FailureKind::Checkout, code, message);
    match known_hosts::judge(known, host, port, key) {
        Verdict::Known => None,
        Verdict::Unknown { other_types } => {
            let known_with = match other_types.as_slice() {
                [] => String::new(),
                types => format!(", it is known with {} only", types.join(", ")),
            };
            let message = format!("the host key of `{host}` is not known: it shows {shown} {fingerprint}{known_with}");
            let line = known_hosts::line(host, port, key);
            let help =
                format!("compare the fingerprint with the one that the operator of the server publishes, then add to known hosts: {line}");
            Some(failure("checkout::unknown_host", message).help(help))
        }
        Verdict::Changed { line } => {
            let message =
                format!("the host key of `{host}` has changed: it shows {shown} {fingerprint}, line {line} of known hosts has another");
            let help = "someone may be answering in its place; ask the operator of the server, and replace that line only if they confirm the fingerprint";
            Some(failure("checkout::host_key_changed", message).help(help))
        }
        Verdict::Revoked { line } => {
            let message = format!("the host key of `{host}` is revoked by line {line} of known hosts: {shown} {fingerprint}");
            Some(failure("checkout::host_key_changed", message).help("the server shows a key that must not be used; ask its operator"))
        }
    }
}
