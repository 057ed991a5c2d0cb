//! A Snowflake database for one test: in an account, or in what stands in for it.

use std::fs::{self, File};

use snowflake_connector_rs::{AuthConfig, Client, ClientConfig, DynamicRow, EndpointConfig, Error, KeyPairConfig, SessionConfig};

use crate::services::{self, Snowflake};

/// Schemas that Errand makes beside that of a connection.
const ERRANDS: [&str; 2] = ["_ERRAND", "_ERRAND_FAILURES"];

/// A database of its own, or the only one that tests may have, by turns. What was made is dropped with the value.
pub struct Database {
    settings: Snowflake,
    /// Held while others wait for their turn.
    turn: Option<File>,
}

impl Database {
    /// Makes one, with the schema `PUBLIC`: the role must be allowed to. Where `ERRAND_TEST_SNOWFLAKE_SCRATCH_DATABASE` names one, waits for
    /// its turn and makes a schema of it: the role must own that database.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn create() -> Self {
        let server = services::snowflake();
        match server.scratch_database.clone() {
            Some(database) => Self::take_turn(server, database),
            None => Self::make(server),
        }
    }

    fn make(server: Snowflake) -> Self {
        let database = services::unique_name().to_uppercase();
        // In an account, nothing of it is kept for days after it was dropped.
        let kind = if server.host.is_some() { "DATABASE" } else { "TRANSIENT DATABASE" };
        let kept = if server.host.is_some() { "" } else { " DATA_RETENTION_TIME_IN_DAYS = 0" };
        ask(&server, &[&format!("CREATE {kind} {database}{kept}"), &format!("CREATE SCHEMA IF NOT EXISTS {database}.PUBLIC")]);
        Self { settings: Snowflake { database, schema: "PUBLIC".to_owned(), ..server }, turn: None }
    }

    fn take_turn(server: Snowflake, database: String) -> Self {
        let is_for_tests = database.to_uppercase().starts_with("ERRAND_TEST");
        assert!(is_for_tests, "`{database}`: a database whose schema `_ERRAND` tests drop has a name that begins with `ERRAND_TEST`");
        let place = std::env::temp_dir().join(format!("{database}.turn"));
        let turn = File::create(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
        turn.lock().unwrap_or_else(|error| panic!("{}: {error}", place.display()));
        let schema = services::unique_name().to_uppercase();
        let taken = Self { settings: Snowflake { database, schema, ..server }, turn: Some(turn) };
        // A test that was killed left its own.
        let mut statements = taken.drops();
        statements.push(format!("CREATE SCHEMA {}.{}", taken.settings.database, taken.settings.schema));
        ask(&services::snowflake(), &statements.iter().map(String::as_str).collect::<Vec<_>>());
        taken
    }

    fn drops(&self) -> Vec<String> {
        let Snowflake { database, schema, .. } = &self.settings;
        if self.turn.is_none() {
            return vec![format!("DROP DATABASE IF EXISTS {database}")];
        }
        ERRANDS
            .iter()
            .copied()
            .chain([schema.as_str()])
            .map(|schema| format!("DROP SCHEMA IF EXISTS {database}.{schema} CASCADE"))
            .collect()
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
        ask(&services::snowflake(), &self.drops().iter().map(String::as_str).collect::<Vec<_>>());
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
