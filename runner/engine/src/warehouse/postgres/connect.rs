//! From a connection of the project file to sessions: TLS, the pool, the settings of a session, what a refusal means.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime};
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Server, Tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::DEFAULT_SCHEMA;
use super::error::{self, Sent};
use super::link::Link;
use crate::secret::SecretName;
use crate::warehouse::{Purpose, Surroundings, quote_exact, quote_text};

/// Longest time for one address to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time until a session is there, with TLS and log-in.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for one of the pool's places.
const POOL_TIMEOUT: Duration = Duration::from_secs(300);
/// Sessions at a time; servers allow 100 by default, and some of them to others.
const POOL_SIZE: usize = 64;
/// Longest wait for a lock, where the step's own time is not shorter: the other writer of a load may take this long.
const LOCK_TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of `application_name` that the server keeps.
const APPLICATION_NAME: usize = 63;

/// Which of the servers that speak the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::warehouse) enum Dialect {
    /// Postgres itself.
    Postgres,
    /// Redshift.
    Redshift,
}

/// The sessions of one connection.
pub(in crate::warehouse) struct Pool {
    pool: deadpool_postgres::Pool,
    tls: MakeRustlsConnect,
    server: Server,
    schema: String,
    /// Whether that schema is known to be there.
    has_schema: OnceCell<()>,
    dialect: Dialect,
}

impl Pool {
    /// Reads the password and the roots of trust; connects to nothing.
    pub(in crate::warehouse) async fn open(server: &Server, surroundings: Surroundings<'_>, dialect: Dialect) -> Result<Self, Failure> {
        let mut config = configuration(server);
        if let Some(name) = &server.password {
            let password = surroundings.secrets.resolve(&SecretName::parse(name.as_str())?)?;
            config.password(password.expose());
        }
        let ca_file = server.ca_file.as_ref().filter(|_| is_encrypted(server)).map(|path| surroundings.repository.join(path));
        let encrypted = is_encrypted(server);
        let roots = tokio::task::spawn_blocking(move || roots(encrypted, ca_file.as_deref())).await;
        let tls = connector(roots.map_err(|error| error::internal(format!("the thread that reads certificates ended: {error}")))??)?;
        let recycling_method = RecyclingMethod::Clean;
        let manager = Manager::from_config(config, tls.clone(), ManagerConfig { recycling_method });
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(POOL_SIZE)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(POOL_TIMEOUT))
            .create_timeout(Some(SESSION_TIMEOUT))
            .recycle_timeout(Some(CONNECT_TIMEOUT))
            .build()
            .map_err(|error| error::internal(format!("the pool of sessions: {error}")))?;
        let schema = server.schema.clone().unwrap_or_else(|| DEFAULT_SCHEMA.to_owned());
        Ok(Self { pool, tls, server: server.clone(), schema, has_schema: OnceCell::new(), dialect })
    }

    /// The schema of a table that names none.
    pub(in crate::warehouse) fn schema(&self) -> &str {
        &self.schema
    }

    /// A session with its settings.
    pub(in crate::warehouse) async fn link(&self, purpose: &Purpose) -> Result<Link, Failure> {
        let client = tokio::select! {
            client = self.pool.get() => client.map_err(|error| refused(&error, &self.server))?,
            () = purpose.cancelled.cancelled() => return Err(error::cancelled()),
        };
        let mut link = Link::new(client, self.tls.clone(), self.dialect, self.schema.clone(), purpose);
        link.run_own(&settings(self.dialect, &self.schema, purpose)).await?;
        self.has_schema.get_or_try_init(async || self.ensure_schema(&mut link).await).await?;
        Ok(link)
    }

    /// Makes the schema of tables that name none, where the connection names one and it is missing.
    async fn ensure_schema(&self, link: &mut Link) -> Result<(), Failure> {
        let known = format!("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {}", quote_text(&self.schema));
        if self.schema == DEFAULT_SCHEMA || !link.query(&known, 1).await?.is_empty() {
            return Ok(());
        }
        let create = format!("CREATE SCHEMA IF NOT EXISTS {}", quote_exact(&self.schema));
        let made = match link.execute(&create).await {
            // Another run made it at the same moment.
            Err(failure) if failure.code == "warehouse::exists_already" => link.execute(&create).await,
            made => made,
        };
        made.map(|_| ()).map_err(|failure| {
            let message = format!("schema `{}` of the connection is missing, and cannot be made: {}", self.schema, failure.message);
            Failure { message, ..failure }
        })
    }
}

/// A connection of the pool.
pub(super) type Connected = Object;

fn is_encrypted(server: &Server) -> bool {
    server.tls == Tls::Verify && !server.host.starts_with('/')
}

fn configuration(server: &Server) -> Config {
    let mut config = Config::new();
    config
        .host(&server.host)
        .port(server.port)
        .dbname(&server.database)
        .user(&server.user)
        .application_name("errand")
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(60))
        .ssl_mode(if is_encrypted(server) { SslMode::Require } else { SslMode::Disable });
    config
}

/// Roots of trust: those of the system, and those of a file.
fn roots(encrypted: bool, ca_file: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    if !encrypted {
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    for problem in &found.errors {
        tracing::debug!(error = %problem, "a root of trust cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    if let Some(path) = ca_file {
        let unreadable = |why: &dyn std::fmt::Display| {
            Failure::new(
                FailureKind::Definition,
                "warehouse::ca_file",
                format!("cannot read certificates from `{}`: {why}", path.display()),
            )
            .help("`ca_file` names a PEM file with the roots of trust of the server, relative to the repository")
        };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
        let mut count = 0_usize;
        for certificate in certificates {
            roots.add(certificate.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))?;
            count += 1;
        }
        if count == 0 {
            return Err(unreadable(&"it holds none"));
        }
    }
    Ok(roots)
}

fn connector(roots: RootCertStore) -> Result<MakeRustlsConnect, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error::internal(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// What a fresh session is told before anything else.
fn settings(dialect: Dialect, schema: &str, purpose: &Purpose) -> String {
    let milliseconds = |time: Duration| time.as_millis().clamp(1, i32::MAX as u128);
    let mut sql = vec![
        format!("SET application_name = {}", quote_text(&application_name(purpose))),
        "SET TimeZone = 'UTC'".to_owned(),
        "SET DateStyle = 'ISO, YMD'".to_owned(),
        format!("SET search_path = {}", quote_exact(schema)),
    ];
    if let Some(timeout) = purpose.statement_timeout {
        sql.push(format!("SET statement_timeout = {}", milliseconds(timeout)));
    }
    if dialect == Dialect::Postgres {
        sql.push("SET client_min_messages = warning".to_owned());
        sql.push("SET standard_conforming_strings = on".to_owned());
        sql.push("SET IntervalStyle = 'iso_8601'".to_owned());
        sql.push("SET bytea_output = 'hex'".to_owned());
        // The ledger is read after the fence, and must be seen as it is by then.
        sql.push("SET default_transaction_isolation = 'read committed'".to_owned());
        sql.push(format!("SET lock_timeout = {}", milliseconds(LOCK_TIMEOUT)));
        // A server older than 14 has no such setting: it notices a dead runner when it next writes to it.
        sql.push("SELECT set_config(name, '10s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'".to_owned());
    }
    sql.join("; ")
}

fn application_name(purpose: &Purpose) -> String {
    let name = match (purpose.job.as_str(), purpose.step.as_str()) {
        ("", _) => "errand".to_owned(),
        (job, "") => format!("errand {job} run {}", purpose.run_id),
        (job, step) => format!("errand {job}.{step} run {}", purpose.run_id),
    };
    let end = (0..=APPLICATION_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    name[..end].to_owned()
}

/// Why there is no session.
fn refused(error: &PoolError, server: &Server) -> Failure {
    let address = if server.host.starts_with('/') {
        format!("{}/.s.PGSQL.{}", server.host, server.port)
    } else {
        format!("{}:{}", server.host, server.port)
    };
    let unreachable = |why: &str| {
        Failure::new(FailureKind::Transient, "warehouse::unreachable", format!("cannot reach the server at `{address}`: {why}"))
            .help("check `host` and `port` of the connection, that the server runs, and that the network lets this machine through")
    };
    match error {
        PoolError::Backend(error) => backend(error, server, &address, unreachable),
        PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => {
            unreachable(&format!("all {POOL_SIZE} sessions of this run are in use")).help("run fewer steps at a time")
        }
        PoolError::Timeout(_) => unreachable(&format!("no answer within {} s", SESSION_TIMEOUT.as_secs())),
        other => unreachable(&error::with_causes(other)),
    }
}

fn backend(error: &tokio_postgres::Error, server: &Server, address: &str, unreachable: impl Fn(&str) -> Failure) -> Failure {
    if let Some(db) = error.as_db_error() {
        let failure = error::said(db, Sent::own());
        let message =
            format!("the server at `{address}` refused user `{}` and database `{}`: {}", server.user, server.database, failure.message);
        return match failure.code.as_str() {
            "warehouse::connection_lost" => unreachable(&failure.message),
            _ => Failure { message, ..failure },
        };
    }
    let text = error::with_causes(error);
    if text.starts_with("error performing TLS handshake") {
        return untrusted(error, &text, address).unwrap_or_else(|| unreachable(&text));
    }
    if text.contains("password missing") || text.starts_with("authentication error") {
        let message = format!("the server at `{address}` wants a password of user `{}`: {text}", server.user);
        return Failure::new(FailureKind::Permanent, "warehouse::authentication", message)
            .help("name the secret that holds it with `password` in the connection");
    }
    unreachable(&text)
}

/// A TLS failure that another attempt cannot change.
fn untrusted(error: &tokio_postgres::Error, text: &str, address: &str) -> Option<Failure> {
    if text.contains("does not support TLS") {
        let message = format!("the server at `{address}` does not speak TLS");
        let failure = Failure::new(FailureKind::Permanent, "warehouse::refused", message);
        return Some(failure.help("switch TLS on there, or say `tls: disable` where the network between is trusted"));
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inner.is::<rustls::Error>() || wrapped.is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) {
            let message =
                format!("TLS with the server at `{address}` failed: {}", text.trim_start_matches("error performing TLS handshake: "));
            let failure = Failure::new(FailureKind::Permanent, "warehouse::authentication", message);
            return Some(failure.help(
                "`host` must be a name in the server's certificate, and `ca_file` must hold its root where the system does not trust it",
            ));
        }
        cause = inner.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_session_fits_and_names_the_run() {
        let purpose = Purpose { run_id: "0192".to_owned(), job: "sales".to_owned(), step: "load".to_owned(), ..Purpose::default() };
        assert_eq!(application_name(&purpose), "errand sales.load run 0192");
        let long = Purpose { job: "ä".repeat(48), ..purpose };
        assert!(application_name(&long).len() <= APPLICATION_NAME);
        assert_eq!(application_name(&Purpose::default()), "errand");
    }

    #[test]
    fn settings_are_quoted_and_the_timeout_is_in_milliseconds() {
        let purpose = Purpose { job: "o'clock".to_owned(), statement_timeout: Some(Duration::from_secs(90)), ..Purpose::default() };
        let sql = settings(Dialect::Postgres, "my \"schema\"", &purpose);
        assert!(sql.contains("application_name = 'errand o''clock run '"), "{sql}");
        assert!(sql.contains("search_path = \"my \"\"schema\"\"\"") && sql.contains("statement_timeout = 90000"), "{sql}");
    }

    #[test]
    fn redshift_is_told_what_it_knows() {
        let purpose = Purpose { statement_timeout: Some(Duration::from_secs(90)), ..Purpose::default() };
        insta::assert_snapshot!(
            settings(Dialect::Redshift, "public", &purpose),
            @r#"SET application_name = 'errand'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET search_path = "public"; SET statement_timeout = 90000"#
        );
    }
}
