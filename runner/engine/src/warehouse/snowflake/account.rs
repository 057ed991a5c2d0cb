//! How an account is reached: endpoint, credential, names, the stage through which rows go.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Credential, Snowflake};
use errand_model::value::Name;
use snowflake_connector_rs::{AuthConfig, EndpointConfig, KeyPairConfig};

use super::bookkeeper::Bookkeeper;
use super::kind;
use crate::secret::{Secret, SecretName, Secrets};
use crate::store::Store;
use crate::warehouse::{Capabilities, Surroundings};

/// What every session of one connection shares.
pub(super) struct Account {
    pub(super) account: String,
    pub(super) user: String,
    pub(super) auth: AuthConfig,
    /// The private key and its passphrase, where the user has one.
    pub(super) key: Option<(Secret, Option<Secret>)>,
    pub(super) endpoint: EndpointConfig,
    pub(super) role: Option<String>,
    pub(super) compute_warehouse: Option<String>,
    pub(super) database: String,
    pub(super) schema: String,
    /// The stage with its `@`.
    pub(super) stage: Option<String>,
    /// Files under the stage's URL, where a connection says so.
    pub(super) staging: Option<Store>,
    /// The same, once the stage has told its URL.
    pub(super) found_staging: OnceLock<Store>,
    unload_refused: AtomicBool,
    /// Reads what statements cost.
    pub(super) bookkeeper: Bookkeeper,
}

impl Account {
    pub(super) fn new(definition: &Snowflake, surroundings: Surroundings<'_>) -> Result<Self, Failure> {
        let staging = match &definition.staging {
            Some(label) => {
                let connection = surroundings.environment.connections.get(label.as_str()).ok_or_else(|| {
                    let message = format!("connection `{label}`, the `staging` of a Snowflake connection, is not in this environment");
                    Failure::new(FailureKind::Definition, "warehouse::refused", message)
                        .help("add it to the environment as `directory` or `s3`, or leave `staging` out")
                })?;
                Some(Store::open(connection, surroundings.state_dir)?)
            }
            None => None,
        };
        Ok(Self {
            account: definition.account.clone(),
            user: definition.user.clone(),
            auth: auth(&definition.credential, surroundings.secrets)?,
            key: key(&definition.credential, surroundings.secrets)?,
            endpoint: endpoint(definition.host.as_deref())?,
            role: definition.role.clone(),
            compute_warehouse: definition.compute_warehouse.clone(),
            database: definition.database.clone(),
            schema: definition.schema.clone(),
            stage: definition.stage.as_ref().map(|stage| format!("@{}", stage.trim_start_matches('@'))),
            staging,
            found_staging: OnceLock::new(),
            unload_refused: AtomicBool::new(false),
            bookkeeper: Bookkeeper::default(),
        })
    }

    /// Database and schema of a login, in quotes.
    pub(super) fn home(&self) -> String {
        let capabilities = Self::capabilities();
        format!("{}.{}", capabilities.quote(&self.database), capabilities.quote(&self.schema))
    }

    /// Whether the server writes results to the stage, as far as it is known.
    pub(super) fn unloads(&self) -> bool {
        !self.unload_refused.load(Ordering::Relaxed)
    }

    /// Remembers that the server does not.
    pub(super) fn no_unload(&self) {
        self.unload_refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn capabilities() -> &'static Capabilities {
        &kind::CAPABILITIES
    }
}

fn auth(credential: &Credential, secrets: &Secrets) -> Result<AuthConfig, Failure> {
    let secret = |name: &Name| secrets.resolve(&SecretName::parse(name.as_str())?);
    Ok(match credential {
        // A programmatic access token takes the place of the password.
        Credential::Password(name) | Credential::AccessToken(name) => AuthConfig::password(secret(name)?.expose()),
        Credential::OauthToken(name) => AuthConfig::oauth(secret(name)?.expose()),
        Credential::PrivateKey { key, passphrase } => {
            let pem = secret(key)?;
            let config = match passphrase {
                Some(passphrase) => KeyPairConfig::from_encrypted_pem(pem.expose(), secret(passphrase)?.expose().as_bytes()),
                None => KeyPairConfig::from_pem(pem.expose()),
            };
            check_key(pem.expose(), key, passphrase.is_some())?;
            AuthConfig::key_pair(config)
        }
    })
}

fn key(credential: &Credential, secrets: &Secrets) -> Result<Option<(Secret, Option<Secret>)>, Failure> {
    let Credential::PrivateKey { key, passphrase } = credential else { return Ok(None) };
    let secret = |name: &Name| secrets.resolve(&SecretName::parse(name.as_str())?);
    Ok(Some((secret(key)?, passphrase.as_ref().map(secret).transpose()?)))
}

/// Says what is wrong with a key by its first line, where the client would only say that it is wrong.
fn check_key(pem: &str, name: &Name, has_passphrase: bool) -> Result<(), Failure> {
    let label = pem.trim_start().lines().next().unwrap_or_default().trim();
    let (message, help) = match (label, has_passphrase) {
        ("-----BEGIN PRIVATE KEY-----", false) | ("-----BEGIN ENCRYPTED PRIVATE KEY-----", true) => return Ok(()),
        ("-----BEGIN PRIVATE KEY-----", true) => ("is not encrypted, but a passphrase is given", "remove `passphrase`"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----", false) => ("is encrypted", "name the secret of its `passphrase`"),
        ("-----BEGIN RSA PRIVATE KEY-----", _) => {
            ("is in the PKCS#1 form", "convert it with `openssl pkcs8 -topk8 -nocrypt -in key.pem -out key.p8`")
        }
        _ => ("is no PEM file", "the secret holds the whole file, from `-----BEGIN PRIVATE KEY-----` to its last line"),
    };
    Err(Failure::new(FailureKind::Definition, "warehouse::authentication", format!("the private key in secret `{name}` {message}"))
        .help(help))
}

/// A bare host name, or a URL. Plain HTTP only to this machine.
fn endpoint(host: Option<&str>) -> Result<EndpointConfig, Failure> {
    let Some(host) = host else { return Ok(EndpointConfig::default()) };
    let refused = |message: String| {
        Failure::new(FailureKind::Definition, "warehouse::refused", message)
            .help("write `host` as a host name, as in `xy12345.eu-west-1.privatelink.snowflakecomputing.com`, or as an `https://` URL")
    };
    let text = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
    let url = reqwest::Url::parse(&text).map_err(|error| refused(format!("host `{host}` is no host or URL: {error}")))?;
    let is_root = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !is_root || !url.username().is_empty() || url.password().is_some() {
        return Err(refused(format!("host `{host}` holds more than a host and a port")));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err(refused(format!("host `{host}` is not encrypted: plain HTTP is for this machine only"))),
        scheme => return Err(refused(format!("host `{host}` has the scheme `{scheme}`"))),
    }
    Ok(EndpointConfig::custom_base_url(url))
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for right in
            ["http://127.0.0.1:8080", "http://localhost:9", "http://[::1]:80", "https://a.b", "a.snowflakecomputing.com", "a.b:8443"]
        {
            assert!(endpoint(Some(right)).is_ok(), "{right}");
        }
        for wrong in
            ["http://10.0.0.1", "http://127.0.0.1.example.com", "ftp://a", "https://u:p@a", "https://a/path", "https://a?x=1", "http://"]
        {
            let failure = endpoint(Some(wrong)).expect_err(wrong);
            assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Definition, "warehouse::refused"), "{wrong}");
        }
    }

    #[test]
    fn a_key_says_what_is_wrong_with_it_and_never_itself() {
        let name = Name::parse("sf_key").expect("a name");
        let text = |pem: &str, passphrase: bool| check_key(pem, &name, passphrase).expect_err("refused").to_string();
        assert!(check_key("-----BEGIN PRIVATE KEY-----\nMIIE", &name, false).is_ok());
        insta::assert_snapshot!(
            [text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE", false), text("-----BEGIN PRIVATE KEY-----", true), text("hunter2hunter2", false)]
                .join("\n"),
            @r"
        the private key in secret `sf_key` is encrypted
        the private key in secret `sf_key` is not encrypted, but a passphrase is given
        the private key in secret `sf_key` is no PEM file
        "
        );
    }
}
