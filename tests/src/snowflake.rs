//! A Snowflake database for one test: in an account, or in what stands in for it.

use std::fs;

use snowflake_connector_rs::{AuthConfig, Client, ClientConfig, DynamicRow, EndpointConfig, Error, KeyPairConfig, SessionConfig};

use crate::services::{self, Snowflake};

/// A database of its own. Dropped with the value.
pub struct Database {
    settings: Snowflake,
}

impl Database {
    /// Makes one, with the schema `PUBLIC`. The role must be allowed to make databases.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn create() -> Self {
        let server = services::snowflake();
        let database = services::unique_name().to_uppercase();
        ask(&server, &[&format!("CREATE DATABASE {database}"), &format!("CREATE SCHEMA IF NOT EXISTS {database}.PUBLIC")]);
        Self { settings: Snowflake { database, schema: "PUBLIC".to_owned(), ..server } }
    }

    /// How to reach it.
    #[must_use]
    pub const fn settings(&self) -> &Snowflake {
        &self.settings
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.database
    }

    /// Executes statements, one after the other, in one session.
    ///
    /// # Panics
    /// When one is refused.
    #[track_caller]
    pub fn execute(&self, statements: &[&str]) {
        ask(&self.settings, statements);
    }

    /// The rows of a query in its order: values as Snowflake writes them with `|` between them, `NULL` for none.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<String> {
        ask(&self.settings, &[sql])
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let server = services::snowflake();
        ask(&server, &[&format!("DROP DATABASE IF EXISTS {}", self.settings.database)]);
    }
}

#[track_caller]
fn ask(settings: &Snowflake, statements: &[&str]) -> Vec<String> {
    // A runtime of its own, in a thread of its own: a test may have one already, and may not block it.
    let ended = std::thread::scope(|scope| scope.spawn(|| block_on(settings, statements)).join());
    match ended {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => panic!("{statements:?}: {error}"),
        Err(_) => panic!("{statements:?}: the thread that asked it panicked"),
    }
}

fn block_on(settings: &Snowflake, statements: &[&str]) -> Result<Vec<String>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let session = Client::new(configuration(settings))?.create_session().await?;
        let mut rows = Vec::new();
        for sql in statements {
            let table = session.query((*sql).to_owned()).await?.collect_table().await?;
            let found: Result<Vec<DynamicRow>, Error> = table.dynamic_rows()?.collect();
            rows = found?.into_iter().map(|row| row.values().iter().map(shown).collect::<Vec<_>>().join("|")).collect();
        }
        Ok(rows)
    })
}

fn configuration(settings: &Snowflake) -> ClientConfig {
    let login = match (&settings.password, &settings.private_key, &settings.token) {
        (Some(password), ..) => AuthConfig::password(password.as_str()),
        (None, Some(file), _) => {
            AuthConfig::key_pair(KeyPairConfig::from_pem(fs::read_to_string(file).expect("the private key can be read")))
        }
        (None, None, Some(token)) => AuthConfig::oauth(token),
        (None, None, None) => panic!("set ERRAND_TEST_SNOWFLAKE_PASSWORD, _PRIVATE_KEY or _TOKEN"),
    };
    let session = SessionConfig::new().with_role(&settings.role).with_warehouse(&settings.warehouse);
    let session = session.with_database(&settings.database).with_schema(&settings.schema);
    let configuration = ClientConfig::new(&settings.user, &settings.account, login).with_session(session);
    match &settings.host {
        Some(host) => configuration.with_endpoint(EndpointConfig::custom_base_url(host.parse().expect("the host is a URL"))),
        None => configuration,
    }
}

fn shown(value: &snowflake_connector_rs::CellValue) -> String {
    use snowflake_connector_rs::CellValue;
    match value {
        CellValue::Null => "NULL".to_owned(),
        CellValue::Boolean(value) => value.to_string(),
        CellValue::Integer(value) => value.to_string(),
        CellValue::Float(value) => value.to_string(),
        CellValue::Decimal(value) => value.raw().to_owned(),
        CellValue::String(value) => value.clone(),
        CellValue::Date(value) => value.to_string(),
        CellValue::Json(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}
