//! The token that a call to Snowpipe carries: signed with the private key of the user.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use errand_model::failure::{Failure, FailureKind};
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePublicKey};
use rsa::sha2::{Digest, Sha256};
use rsa::signature::{SignatureEncoding, Signer};
use serde_json::json;

use crate::secret::Secret;

/// How long a token is good for, in seconds; the server's limit is an hour.
const LIFE: i64 = 600;

/// A token for a user of an account, from now (seconds since 1970) on.
///
/// Fails as `Definition` with `warehouse::authentication`; the key is never part of it.
pub(super) fn token(account: &str, user: &str, key: &Secret, passphrase: Option<&Secret>, now: i64) -> Result<String, Failure> {
    let private = match passphrase {
        Some(passphrase) => RsaPrivateKey::from_pkcs8_encrypted_pem(key.expose(), passphrase.expose()),
        None => RsaPrivateKey::from_pkcs8_pem(key.expose()),
    };
    let private = private.map_err(|_| unusable("cannot be read"))?;
    let public = private.to_public_key().to_public_key_der().map_err(|_| unusable("has no public part"))?;
    let fingerprint = STANDARD.encode(Sha256::digest(public.as_bytes()));
    // A locator with its region, as in `xy12345.eu-west-1`, is known to the server by its first part.
    let account = account.split('.').next().unwrap_or(account).to_ascii_uppercase();
    let subject = format!("{account}.{}", user.to_ascii_uppercase());
    let claims = json!({ "iss": format!("{subject}.SHA256:{fingerprint}"), "sub": subject, "iat": now, "exp": now + LIFE });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(&claims));
    let signature = SigningKey::<Sha256>::new(private).try_sign(signed.as_bytes()).map_err(|_| unusable("cannot sign"))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes())))
}

fn unusable(what: &str) -> Failure {
    Failure::new(FailureKind::Definition, "warehouse::authentication", format!("the private key of the connection {what}"))
        .help("check the key and its passphrase: a PKCS#8 file of an RSA key in PEM, encrypted with AES or not at all")
}

#[cfg(test)]
mod tests {
    use rsa::pkcs1v15::{Signature, VerifyingKey};
    use rsa::pkcs8::{EncodePrivateKey, LineEnding};
    use rsa::signature::Verifier;

    use super::*;

    #[test]
    fn a_token_names_the_user_and_is_signed_by_the_key() {
        let private = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).expect("a key can be made");
        let pem = private.to_pkcs8_pem(LineEnding::LF).expect("a key has a PEM form");
        let token = token("xy12345.eu-west-1", "errand", &Secret::new(&pem), None, 1_767_225_600).expect("a token");
        let parts: Vec<&str> = token.split('.').collect();
        let claims = URL_SAFE_NO_PAD.decode(parts[1]).expect("base64");
        let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
        assert_eq!((claims["sub"].as_str(), claims["exp"].as_i64()), (Some("XY12345.ERRAND"), Some(1_767_226_200)));
        assert!(claims["iss"].as_str().is_some_and(|issuer| issuer.starts_with("XY12345.ERRAND.SHA256:") && issuer.ends_with('=')));
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64");
        let signature = Signature::try_from(signature.as_slice()).expect("a signature");
        let verifying = VerifyingKey::<Sha256>::new(private.to_public_key());
        verifying.verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &signature).expect("the signature is right");
    }

    #[test]
    fn a_key_that_cannot_be_read_is_not_shown() {
        let failure = token("a", "u", &Secret::new("hunter2hunter2"), None, 0).expect_err("refused");
        assert_eq!(failure.code, "warehouse::authentication");
        assert!(!format!("{failure:?}").contains("hunter2"));
    }
}
