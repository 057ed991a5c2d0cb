//! The settings of libgit2 that hold for the whole process.
//!
//! They are C globals, set once, before the first repository is opened. The only unsafe code of the checkout.

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use errand_model::failure::{Failure, FailureKind};
use git2::{ConfigLevel, opts};

/// A server that does not answer the first packet in this time is not there.
const CONNECT_TIMEOUT_MS: i32 = 20_000;

/// A server that sends nothing for this time has stalled.
const READ_TIMEOUT_MS: i32 = 45_000;

/// Applies the settings, the first time it is called. Later calls do nothing.
///
/// Configuration of the machine and of the user is not read: no `insteadOf`, no proxy, no credential helper, no `safe.directory`.
/// A directory may belong to another user, as it does in a container that runs as root over a mounted work tree; git refuses that
/// because it runs programs named in a repository's configuration, libgit2 runs none.
pub(super) fn prepare() -> Result<(), Failure> {
    static PREPARED: LazyLock<Result<(), String>> = LazyLock::new(|| set_options().map_err(|error| error.message().to_owned()));
    PREPARED.clone().map_err(|why| Failure::new(FailureKind::Internal, "checkout::library", format!("cannot set up libgit2: {why}")))
}

#[expect(unsafe_code, reason = "the options of libgit2 are C globals")]
fn set_options() -> Result<(), git2::Error> {
    // SAFETY: libgit2 reads these globals when it opens a repository or a connection. This module alone writes them, once, under the
    // lock of `PREPARED`, and every use of libgit2 in this program comes after a call of `prepare`.
    unsafe {
        for level in [ConfigLevel::ProgramData, ConfigLevel::System, ConfigLevel::XDG, ConfigLevel::Global] {
            opts::set_search_path(level, "")?;
        }
        opts::set_server_connect_timeout_in_milliseconds(CONNECT_TIMEOUT_MS)?;
        opts::set_server_timeout_in_milliseconds(READ_TIMEOUT_MS)?;
        opts::set_verify_owner_validation(false)
    }
}

/// Trusts the authorities in `file` (PEM) beside those of the system, for every later connection of the process.
pub(super) fn trust(file: &Path) -> Result<(), Failure> {
    static TRUSTED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let mut trusted = TRUSTED.lock().unwrap_or_else(PoisonError::into_inner);
    if trusted.iter().any(|known| known == file) {
        return Ok(());
    }
    add_authorities(file).map_err(|error| {
        let message = format!("cannot read the certificate authorities in `{}`: {}", file.display(), error.message());
        Failure::new(FailureKind::Definition, "checkout::bad_ca_file", message).help("name a file of certificates in PEM format")
    })?;
    trusted.push(file.to_owned());
    Ok(())
}

#[expect(unsafe_code, reason = "the options of libgit2 are C globals")]
fn add_authorities(file: &Path) -> Result<(), git2::Error> {
    // SAFETY: adds to the certificate store of the one OpenSSL context, which OpenSSL locks; `TRUSTED` keeps two writers apart.
    unsafe { opts::set_ssl_cert_file(file) }
}
