//! Brings a job repository here, at one commit: over https, over ssh, from a git repository of this machine, or a directory as it lies.
//!
//! Runs nothing of the repository (no hook, no filter), follows no link or submodule, and is bounded in bytes, files and time. Must not
//! read the environment or print: credentials, known hosts and limits are arguments. Blocking: callers use a thread for it.

mod fault;
mod known_hosts;
mod library;
mod local;
mod reference;
mod remote;
mod source;
mod tree;
mod watch;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use errand_model::report::CheckoutReport;
use git2::{Oid, Repository};
use tokio_util::sync::CancellationToken;

pub use source::{Location, RemoteUrl, Scheme, Source};

use self::watch::Watch;
use crate::secret::Secret;

/// How often the one who waits looks whether the run was cancelled.
const TICK: Duration = Duration::from_millis(50);

/// Bounds of one checkout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes received, and bytes of all files together.
    pub max_bytes: u64,
    /// Files and folders.
    pub max_files: u64,
    /// Time from the first packet to the last file.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 512 * 1024 * 1024, max_files: 100_000, timeout: Duration::from_secs(120) }
    }
}

/// What a checkout may show to a git server, and how it knows the server. All of it optional.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Token or password, for `https`.
    pub token: Option<Secret>,
    /// User beside the token (default `x-access-token`), and of `ssh` addresses that name none (default `git`).
    pub username: Option<String>,
    /// Private key without passphrase, PEM or OpenSSH, for `ssh`.
    pub ssh_key: Option<Secret>,
    /// Text in the format of `known_hosts`. Without it no `ssh` host is known, and none is accepted.
    pub known_hosts: Option<String>,
    /// Authorities (PEM) to trust for `https` beside those of the system; for the whole process, from then on.
    pub ca_file: Option<PathBuf>,
}

/// A job repository that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// The directory that holds `errand.yaml`, absolute.
    pub root: PathBuf,
    /// What the run report says of it.
    pub report: CheckoutReport,
}

/// Sets up libgit2, which changes variables of the process environment (`SSL_CERT_FILE`, `SSL_CERT_DIR`) when they are not set.
///
/// [`fetch`] does so itself; a program with threads calls this first, before it starts the second one.
pub fn prepare() -> Result<(), Failure> {
    library::prepare()
}

/// Brings `source` here, at one commit, and says which.
///
/// Files are written below `scratch`, a directory that is empty or not there yet and that the caller removes. A directory without
/// reference is used in place and `scratch` is not touched. Blocks until done, until `limits.timeout`, or until `cancelled`; a server
/// that does not answer is then left to a thread that ends by itself.
///
/// Fails as `Checkout` (`checkout::not_found`, `not_authorised`, `no_such_ref`, `ambiguous_ref`, `unknown_host`, `host_key_changed`,
/// `untrusted_certificate`, `redirected`, `too_large`, `symlink`, `submodule`, `bad_path`, `failed`), as `Transient`
/// (`checkout::network`, `checkout::timeout`), as `Cancelled` (`checkout::cancelled`), as `Permanent` (`checkout::scratch`).
pub fn fetch(
    source: &Source,
    scratch: &Path,
    limits: Limits,
    credentials: &Credentials,
    cancelled: &CancellationToken,
) -> Result<Checkout, Failure> {
    library::prepare()?;
    let watch = Watch::start(limits, cancelled.clone());
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = {
        let (source, scratch, credentials, watch) = (source.clone(), scratch.to_owned(), credentials.clone(), watch.clone());
        move || {
            // An error means that nobody waits any more.
            let _ = sender.send(bring(&source, &scratch, &credentials, &watch));
        }
    };
    thread::Builder::new()
        .name("checkout".to_owned())
        .spawn(work)
        .map_err(|error| Failure::new(FailureKind::Transient, "checkout::thread", format!("cannot start a thread: {error}")))?;
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => {
                watch.check().inspect_err(|_| watch.abandon())?;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(FailureKind::Internal, "checkout::panicked", "the checkout ended without a result"));
            }
        }
    }
}

fn bring(source: &Source, scratch: &Path, credentials: &Credentials, watch: &Watch) -> Result<Checkout, Failure> {
    let reference = source.reference.as_deref();
    match &source.location {
        Location::Directory(directory) if reference.is_none() => match local::work_tree(directory)? {
            Some(found) => Ok(in_place(source, found)),
            None => committed(source, directory, scratch, watch),
        },
        Location::Directory(directory) | Location::Repository(directory) => committed(source, directory, scratch, watch),
        Location::Remote(url) => {
            let scratch = make_scratch(scratch)?;
            let store = scratch.join("objects.git");
            let (repository, commit) = remote::Server { url, credentials, watch }.fetch(reference, &store)?;
            let checkout = write(source, &repository, commit, &scratch, watch)?;
            drop(repository);
            // The files are here; what they came from only takes space. The caller removes all of `scratch` anyway.
            let _ = fs::remove_dir_all(store);
            Ok(checkout)
        }
    }
}

fn in_place(source: &Source, found: local::WorkTree) -> Checkout {
    let report = CheckoutReport {
        repository: source.location.to_string(),
        reference: None,
        commit: found.commit.map(|commit| commit.to_string()),
        uncommitted_changes: found.uncommitted_changes,
    };
    Checkout { root: found.root, report }
}

fn committed(source: &Source, directory: &Path, scratch: &Path, watch: &Watch) -> Result<Checkout, Failure> {
    let (repository, commit) = local::committed(directory, source.reference.as_deref())?;
    write(source, &repository, commit, &make_scratch(scratch)?, watch)
}

fn write(source: &Source, repository: &Repository, commit: Oid, scratch: &Path, watch: &Watch) -> Result<Checkout, Failure> {
    let root = scratch.join("repository");
    tree::write(repository, commit, &root, watch)?;
    let report = CheckoutReport {
        repository: source.location.to_string(),
        reference: source.reference.clone(),
        commit: Some(commit.to_string()),
        uncommitted_changes: false,
    };
    tracing::info!(repository = %report.repository, commit = %commit, "checked out the job repository");
    Ok(Checkout { root, report })
}

/// Makes the scratch directory, or makes sure that it is empty, and returns its absolute path.
fn make_scratch(scratch: &Path) -> Result<PathBuf, Failure> {
    let failure = |why: &dyn std::fmt::Display| {
        Failure::new(
            FailureKind::Permanent,
            "checkout::scratch",
            format!("cannot use the scratch directory `{}`: {why}", scratch.display()),
        )
        .help("it must be empty and writable")
    };
    match fs::create_dir(scratch) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if fs::read_dir(scratch).map_err(|error| failure(&error))?.next().is_some() {
                return Err(failure(&"it is not empty"));
            }
        }
        Err(error) => return Err(failure(&error)),
    }
    scratch.canonicalize().map_err(|error| failure(&error))
}
