//! Authorities that servers are trusted by beside those of the system, for every client of the SDK.
//!
//! One list for the process, as that of the system is: it is named once, before the first client is made.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use errand_model::failure::{Failure, FailureKind};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// Names the file of certificates in PEM. Only the first call counts; nothing is read yet.
pub(crate) fn add(file: &Path) {
    FILE.get_or_init(|| file.to_owned());
}

/// A client that trusts them; none when the SDK's own will do.
///
/// Fails as `Definition` with `aws::ca_file`.
pub(super) fn client() -> Result<Option<SharedHttpClient>, Failure> {
    FILE.get().map(|file| client_for(file)).transpose()
}

fn client_for(file: &Path) -> Result<SharedHttpClient, Failure> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Failure::new(FailureKind::Definition, "aws::ca_file", format!("cannot read certificates from `{}`: {why}", file.display()))
            .help("`ERRAND_CA_FILE` names a file of certificates in PEM format")
    };
    let pem = std::fs::read(file).map_err(|error| unreadable(&error))?;
    // The SDK panics over what it cannot read.
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"it holds none"));
    }
    let context = TlsContext::builder().with_trust_store(TrustStore::default().with_pem_certificate(pem)).build();
    let context = context.map_err(|error| unreadable(&error))?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build_https())
}

#[cfg(test)]
mod tests {
    use super::client_for;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("authorities.pem");
        for (content, why) in [
            (None, "No such file"),
            (Some("no certificate"), "it holds none"),
            (Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "cannot read certificates"),
        ] {
            if let Some(content) = content {
                std::fs::write(&file, content).expect("written");
            }
            let failure = client_for(&file).expect_err("refused");
            assert_eq!(failure.code, "aws::ca_file");
            assert!(failure.message.contains(why), "{failure}");
        }
    }
}
