//! A warehouse under test: a database of its own, reached as a library and by the built `errand` through one project file.

use std::time::{Duration, Instant};

use e2e::errand::Errand;
use e2e::project::{Project, text_rows};
use e2e::proxy::Proxy;
use e2e::{postgres, s3, services, snowflake};
use errand_engine::secret::Secrets;
use errand_engine::warehouse::{self, Budget, Capabilities, Purpose, Session, Surroundings, Warehouse, quote_exact};
use errand_model::failure::Failure;
use errand_model::job::{Environment, TableName};
use errand_model::validate;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::cluster;

/// Which warehouse, and what keeps its database.
pub(crate) enum Place {
    Duckdb,
    Postgres(postgres::Database),
    Snowflake(snowflake::Database),
    Redshift(cluster::Database),
}

/// One warehouse under test. Its database vanishes with it.
pub(crate) struct Site {
    pub(crate) place: Place,
    pub(crate) project: Project,
    environment: Environment,
    secrets: Secrets,
}

/// The variable from which `errand` takes the secret `warehouse_password`.
pub(crate) const SECRET: &str = "ERRAND_SECRET_WAREHOUSE_PASSWORD";
/// Longest run of `errand` here.
const RUN: Duration = Duration::from_secs(100);
/// Longest run in an account, which may be far away and asleep.
const RUN_IN_ACCOUNT: Duration = Duration::from_secs(600);

impl Site {
    /// DuckDB: a file of the project.
    pub(crate) fn duckdb() -> Self {
        Self::new(Place::Duckdb, &json!({ "duckdb": { "path": "state/warehouse.duckdb" } }), String::new(), None)
    }

    /// Postgres: a database of its own.
    pub(crate) fn postgres() -> Self {
        let database = postgres::Database::create();
        let url = database.url();
        Self::of_postgres(database, &url)
    }

    /// Postgres through a proxy.
    pub(crate) fn postgres_behind_proxy() -> (Self, Proxy) {
        let database = postgres::Database::create();
        let proxy = Proxy::start(&database.address());
        let url = database.url_through(proxy.port());
        (Self::of_postgres(database, &url), proxy)
    }

    fn of_postgres(database: postgres::Database, url: &str) -> Self {
        let config: tokio_postgres::Config = url.parse().expect("the URL of the tests is one");
        let host = match config.get_hosts() {
            [tokio_postgres::config::Host::Tcp(host), ..] => host.clone(),
            other => panic!("a host by name or address is needed, not {other:?}"),
        };
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned();
        let connection = json!({ "postgres": {
            "host": host, "port": config.get_ports().first().copied().unwrap_or(5432), "database": config.get_dbname(),
            "user": config.get_user(), "password": { "secret": "warehouse_password" }, "tls": "disable",
        } });
        Self::new(Place::Postgres(database), &connection, password, None)
    }

    /// Snowflake, or what stands in for it: a database, and a folder behind a stage.
    pub(crate) fn snowflake() -> Self {
        let (database, folder) = (snowflake::Database::create(), snowflake_folder());
        let settings = database.settings().clone();
        let through = settings.integration.as_ref().map_or_else(String::new, |name| format!(" STORAGE_INTEGRATION = {name}"));
        database.execute(&[&format!("CREATE STAGE ERRAND_STAGE URL = '{}'{through}", folder.url())]);
        let (key, secret) = match (&settings.password, &settings.private_key, &settings.token) {
            (Some(password), ..) => ("password", password.clone()),
            (None, Some(file), _) => ("private_key", std::fs::read_to_string(file).expect("the private key can be read")),
            (None, None, Some(token)) => ("oauth_token", token.clone()),
            (None, None, None) => panic!("set ERRAND_TEST_SNOWFLAKE_PASSWORD, _PRIVATE_KEY or _TOKEN"),
        };
        let mut connection = json!({ "snowflake": {
            "account": settings.account, "user": settings.user, key: { "secret": "warehouse_password" }, "role": settings.role,
            "compute_warehouse": settings.warehouse, "database": settings.database, "schema": settings.schema,
            "stage": format!("@{}.{}.ERRAND_STAGE", settings.database, settings.schema), "staging": "staging",
        } });
        if let Some(host) = settings.host {
            connection["snowflake"]["host"] = json!(host);
        }
        Self::new(Place::Snowflake(database), &connection, secret, Some(&folder.connection()))
    }

    /// What stands in for Snowflake on this machine.
    pub(crate) fn stand_in() -> Self {
        Self::snowflake()
    }

    /// Redshift: a database of a cluster, and a folder of a bucket that it reaches.
    pub(crate) fn redshift() -> Self {
        let database = cluster::Database::create();
        let (connection, password, staging) = (database.connection(), database.password(), database.staging());
        Self::new(Place::Redshift(database), &connection, password, Some(&staging))
    }

    fn new(place: Place, connection: &Value, secret: String, staging: Option<&Value>) -> Self {
        let deadline = if is_account(&place) { RUN_IN_ACCOUNT } else { RUN };
        let mut errand = Errand::new().deadline(deadline);
        if !secret.is_empty() {
            errand = errand.env(SECRET, secret.clone());
        }
        for (name, value) in staging.map(|_| services::s3_credentials()).unwrap_or_default() {
            errand = errand.env(name, value);
        }
        let files = Project::within(errand);
        let yaml = project(connection, staging);
        files.write("errand.yaml", &yaml);
        let secrets = Secrets::new([(SECRET.to_owned(), secret)], files.path("secrets"));
        Self { place, project: files, environment: environment(&yaml), secrets }
    }

    /// The warehouse, opened as the engine does.
    pub(crate) async fn open(&self) -> Box<dyn Warehouse> {
        let directory = self.project.path("");
        let surroundings = Surroundings {
            environment: &self.environment,
            state_dir: &directory,
            repository: &directory,
            secrets: &self.secrets,
            budget: Budget { memory_bytes: 512 << 20 },
        };
        warehouse::open(&self.environment.connections["warehouse"], surroundings).await.expect("the warehouse opens")
    }

    /// What it can do.
    pub(crate) fn capabilities(&self) -> &'static Capabilities {
        warehouse::capabilities(&self.environment.connections["warehouse"]).expect("a warehouse")
    }

    /// Whether a stand-in answers for Snowflake. It keeps whole numbers in 64 bits, loads columns by upper-cased names, and lets a transaction
    /// see what was there at its first statement.
    pub(crate) fn is_stand_in(&self) -> bool {
        matches!(&self.place, Place::Snowflake(database) if database.settings().host.is_some())
    }

    /// The rows of a query in its order: values as text with `|` between them, `NULL` for none. DuckDB: only while nothing else has the file open.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        match &self.place {
            Place::Duckdb => text_rows(&self.project.warehouse(), sql),
            Place::Postgres(database) => database.rows(sql),
            Place::Snowflake(database) => database.rows(sql),
            Place::Redshift(database) => database.rows(sql),
        }
    }

    /// The only value of a query.
    #[track_caller]
    pub(crate) fn value(&self, sql: &str) -> String {
        let rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.into_iter().next().unwrap_or_default()
    }

    /// Executes a statement beside Errand.
    #[track_caller]
    pub(crate) fn execute(&self, sql: &str) {
        match &self.place {
            Place::Duckdb => {
                self.project.write("state/.keep", "");
                let connection = duckdb::Connection::open(self.project.database()).expect("the database opens");
                connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
            Place::Postgres(database) => database.execute(sql),
            Place::Snowflake(database) => database.execute(&[sql]),
            Place::Redshift(database) => drop(database.rows(sql)),
        }
    }

    /// Names of the tables that are not Errand's own, in lower case, sorted.
    #[track_caller]
    pub(crate) fn tables(&self) -> Vec<String> {
        let schema = match &self.place {
            Place::Duckdb => "main".to_owned(),
            Place::Postgres(_) | Place::Redshift(_) => "public".to_owned(),
            Place::Snowflake(database) => database.settings().schema.to_lowercase(),
        };
        self.rows(&format!(
            "SELECT lower(table_name) AS n FROM information_schema.tables WHERE lower(table_schema) = '{schema}' ORDER BY n"
        ))
    }
}

/// Where the parts of a stage lie: in a bucket of the test's own where a stand-in answers, else in that of the account.
fn snowflake_folder() -> s3::Folder {
    if services::snowflake().host.is_some() { s3::Folder::create() } else { s3::Folder::of_account() }
}

fn is_account(place: &Place) -> bool {
    match place {
        Place::Duckdb | Place::Postgres(_) => false,
        Place::Snowflake(database) => database.settings().host.is_none(),
        Place::Redshift(_) => true,
    }
}

/// A project file with the connection `warehouse`, and another one called `staging` where there is one.
pub(crate) fn project(connection: &Value, staging: Option<&Value>) -> String {
    let staging = staging.map(|staging| format!("      staging: {staging}\n")).unwrap_or_default();
    format!(
        "version: 1
default_environment: local
environments:
  local:
    connections:
      warehouse: {connection}
      lake: {{ directory: {{ path: data }} }}
      state: {{ directory: {{ path: state }} }}
{staging}    reports: {{ connection: state, path: runs }}
contacts:
  team: {{ email: {{ to: [team@example.com] }} }}
"
    )
}

/// The only environment of a project file.
pub(crate) fn environment(yaml: &str) -> Environment {
    let mut problems = Vec::new();
    let parsed = validate::project(yaml, "errand.yaml", &mut problems).unwrap_or_else(|| panic!("{problems:?}\n{yaml}"));
    parsed.environments.into_values().next().expect("the project has an environment")
}

/// A purpose with nothing special.
pub(crate) fn purpose() -> Purpose {
    Purpose {
        run_id: "run".to_owned(),
        job: "contract".to_owned(),
        step: "step".to_owned(),
        attempt: 1,
        load_id: Some("0123456789abcdef".to_owned()),
        statement_timeout: None,
        cancelled: CancellationToken::new(),
    }
}

/// A session for [`purpose`].
pub(crate) async fn session(warehouse: &dyn Warehouse) -> Box<dyn Session> {
    warehouse.session(&purpose()).await.expect("a session begins")
}

/// Runs statements that must succeed.
pub(crate) async fn run(session: &mut dyn Session, statements: &[&str]) {
    for sql in statements {
        session.execute(sql).await.unwrap_or_else(|failure| panic!("{sql}: {failure}"));
    }
}

/// The first value of a query.
pub(crate) async fn value(session: &mut dyn Session, sql: &str) -> String {
    let rows = session.query(sql, 1).await.unwrap_or_else(|failure| panic!("{sql}: {failure}"));
    rows.into_iter().flatten().flatten().next().unwrap_or_else(|| "NULL".to_owned())
}

/// Asserts what a statement failed with.
#[track_caller]
pub(crate) fn is_failure<T>(result: Result<T, Failure>, code: &str) -> Failure {
    match result {
        Ok(_) => panic!("it succeeded, and `{code}` was expected"),
        Err(failure) => {
            assert_eq!(failure.code, code, "{failure:?}");
            failure
        }
    }
}

/// A table of the default schema.
pub(crate) fn table(name: &str) -> TableName {
    TableName { schema: None, name: name.to_owned() }
}

/// A name as it is kept, in quotes.
pub(crate) fn exact(name: &str) -> String {
    quote_exact(name)
}

/// Asserts that what began at `begun` ended soon.
#[track_caller]
pub(crate) fn ended_within(begun: Instant, seconds: u64) {
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(seconds), "took {took:?}");
}
