//! A Redshift database for one test. It is reached by the engine: the tests have no other client of it that speaks TLS.

use std::time::Duration;

use e2e::condition::answer_within;
use e2e::s3::Folder;
use e2e::services;
use errand_engine::secret::Secrets;
use errand_engine::warehouse::{self, Budget, Surroundings};
use errand_model::failure::Failure;
use errand_model::job::Environment;
use serde_json::{Value, json};
use tokio_postgres::config::{Host, SslMode};

use super::site::{SECRET, environment, project, purpose};

/// Redshift listens there.
const PORT: u16 = 5439;
/// How long a session that ends may stay in the way of `DROP DATABASE`.
const LAST_SESSION: Duration = Duration::from_secs(60);

/// A database of its own. Dropped with the value.
pub(crate) struct Database {
    name: String,
    staging: Folder,
    cluster: services::Redshift,
}

impl Database {
    /// Makes one. The user must be allowed to.
    pub(crate) fn create() -> Self {
        let cluster = services::redshift();
        let database = Self { name: services::unique_name(), staging: Folder::of_account(), cluster };
        database.ask(None, &format!("CREATE DATABASE {}", database.name));
        database
    }

    /// The connection of a project file, whose password is the secret `warehouse_password`.
    pub(crate) fn connection(&self) -> Value {
        self.connection_to(&self.name)
    }

    /// The connection beside it through which rows go in and out.
    pub(crate) fn staging(&self) -> Value {
        self.staging.connection()
    }

    /// The password of the user.
    pub(crate) fn password(&self) -> String {
        String::from_utf8_lossy(self.config().get_password().unwrap_or_default()).into_owned()
    }

    /// The rows of a query; none of another statement.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        self.ask(Some(&self.name), sql)
    }

    fn config(&self) -> tokio_postgres::Config {
        self.cluster.url.parse().unwrap_or_else(|error| panic!("`ERRAND_TEST_REDSHIFT_URL` is no URL of a database: {error}"))
    }

    fn connection_to(&self, database: &str) -> Value {
        let config = self.config();
        let host = match config.get_hosts() {
            [Host::Tcp(host), ..] => host.clone(),
            other => panic!("`ERRAND_TEST_REDSHIFT_URL`: a host by name or address is needed, not {other:?}"),
        };
        let tls = if config.get_ssl_mode() == SslMode::Disable { "disable" } else { "verify" };
        json!({ "redshift": {
            "host": host, "port": config.get_ports().first().copied().unwrap_or(PORT), "database": database,
            "user": config.get_user(), "password": { "secret": "warehouse_password" }, "tls": tls,
            "iam_role": self.cluster.iam_role, "staging": "staging",
        } })
    }

    /// Asks a database, or the one of the URL.
    #[track_caller]
    fn ask(&self, database: Option<&str>, sql: &str) -> Vec<String> {
        self.try_ask(database, sql).unwrap_or_else(|failure| panic!("{sql}: {failure}"))
    }

    fn try_ask(&self, database: Option<&str>, sql: &str) -> Result<Vec<String>, Failure> {
        let config = self.config();
        let database = database.unwrap_or_else(|| config.get_dbname().unwrap_or("dev"));
        let environment = environment(&project(&self.connection_to(database), Some(&self.staging())));
        let secrets = Secrets::new([(SECRET.to_owned(), self.password())], "/nowhere".into());
        // A runtime of its own, in a thread of its own: a test may have one already, and may not block it.
        let ended = std::thread::scope(|scope| scope.spawn(|| block_on(&environment, &secrets, sql)).join());
        ended.unwrap_or_else(|_| panic!("{sql}: the thread that asked it panicked"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {}", self.name);
        if answer_within(LAST_SESSION, || self.try_ask(None, &drop).ok()).is_none() && !std::thread::panicking() {
            self.ask(None, &drop);
        }
    }
}

fn block_on(environment: &Environment, secrets: &Secrets, sql: &str) -> Result<Vec<String>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let nowhere = "/nowhere".as_ref();
        let surroundings =
            Surroundings { environment, state_dir: nowhere, repository: nowhere, secrets, budget: Budget { memory_bytes: 64 << 20 } };
        let warehouse = warehouse::open(&environment.connections["warehouse"], surroundings).await?;
        let mut session = warehouse.session(&purpose()).await?;
        let is_query = sql.trim_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case("select"));
        if !is_query {
            return session.execute(sql).await.map(|_| Vec::new());
        }
        let rows = session.query(sql, 100_000).await?;
        let text = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
        Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect::<Vec<_>>().join("|")).collect())
    })
}
