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
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Which warehouse, and what keeps its database.
pub(crate) enum Place {
    Duckdb,
    Postgres(postgres::Database),
    Snowflake(snowflake::Database),
}

/// One warehouse under test. Its database vanishes with it.
pub(crate) struct Site {
    pub(crate) place: Place,
    pub(crate) project: Project,
    environment: Environment,
    secrets: Secrets,
}

/// The variables that the S3 client needs.
const KEYS: [(&str, &str); 3] = [("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "testing"), ("AWS_REGION", "us-east-1")];

impl Site {
    /// DuckDB: a file of the project.
    pub(crate) fn duckdb() -> Self {
        Self::new(Place::Duckdb, "duckdb: { path: state/warehouse.duckdb }", &[], "")
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
        Self::new(Place::Postgres(database), &inner(&connection), &[("WAREHOUSE_PASSWORD", password)], "")
    }

    /// Snowflake, or what stands in for it: a database and a bucket behind a stage.
    pub(crate) fn snowflake() -> Self {
        let (database, bucket) = (snowflake::Database::create(), s3::Bucket::create());
        let prefix = "staged/";
        database.execute(&[&format!("CREATE STAGE ERRAND_STAGE URL = 's3://{}/{prefix}'", bucket.name())]);
        let settings = database.settings().clone();
        let (key, secret) = match (&settings.password, &settings.private_key, &settings.token) {
            (Some(password), ..) => ("password", password.clone()),
            (None, Some(file), _) => ("private_key", std::fs::read_to_string(file).expect("the private key can be read")),
            (None, None, Some(token)) => ("oauth_token", token.clone()),
            (None, None, None) => panic!("set ERRAND_TEST_SNOWFLAKE_PASSWORD, _PRIVATE_KEY or _TOKEN"),
        };
        let mut connection = json!({ "snowflake": {
            "account": settings.account, "user": settings.user, key: { "secret": "warehouse_password" }, "role": settings.role,
            "compute_warehouse": settings.warehouse, "database": settings.database, "schema": settings.schema,
            "stage": format!("@{}.PUBLIC.ERRAND_STAGE", settings.database), "staging": "staging",
        } });
        if let Some(host) = settings.host {
            connection["snowflake"]["host"] = json!(host);
        }
        let staging = json!({ "bucket": bucket.name(), "prefix": prefix, "region": services::s3_region(), "endpoint": bucket.endpoint() });
        let staging = format!("      staging: {{ \"s3\": {staging} }}\n");
        Self::new(Place::Snowflake(database), &inner(&connection), &[("WAREHOUSE_PASSWORD", secret)], &staging)
    }

    fn new(place: Place, connection: &str, secrets: &[(&str, String)], others: &str) -> Self {
        let yaml = format!(
            "version: 1
default_environment: local
environments:
  local:
    connections:
      warehouse: {{ {connection} }}
      lake: {{ directory: {{ path: data }} }}
      state: {{ directory: {{ path: state }} }}
{others}    reports: {{ connection: state, path: runs }}
contacts:
  team: {{ email: {{ to: [team@example.com] }} }}
"
        );
        let mut errand = Errand::new().deadline(Duration::from_secs(100));
        let mut known = Vec::new();
        for (name, value) in secrets {
            errand = errand.env(&format!("ERRAND_SECRET_{name}"), value.clone());
            known.push((format!("ERRAND_SECRET_{name}"), value.clone()));
        }
        for (name, value) in KEYS {
            errand = errand.env(name, value);
        }
        let project = Project::within(errand);
        project.write("errand.yaml", &yaml);
        let mut problems = Vec::new();
        let parsed = validate::project(&yaml, "errand.yaml", &mut problems).unwrap_or_else(|| panic!("{problems:?}\n{yaml}"));
        let environment = parsed.environments.into_values().next().expect("the project has an environment");
        let secrets = Secrets::new(known, project.path("secrets"));
        Self { place, project, environment, secrets }
    }

    /// The warehouse, opened as the engine does.
    pub(crate) async fn open(&self) -> Box<dyn Warehouse> {
        let directory = self.project.path("");
        let surroundings = Surroundings {
            environment: &self.environment,
            state_dir: &directory,
            secrets: &self.secrets,
            budget: Budget { memory_bytes: 512 << 20 },
        };
        warehouse::open(&self.environment.connections["warehouse"], surroundings).await.expect("the warehouse opens")
    }

    /// What it can do.
    pub(crate) fn capabilities(&self) -> &'static Capabilities {
        warehouse::capabilities(&self.environment.connections["warehouse"]).expect("a warehouse")
    }

    /// Whether a stand-in answers for Snowflake. It keeps whole numbers in 64 bits, and loads columns by upper-cased names.
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
        }
    }

    /// Names of the tables that are not Errand's own, in lower case, sorted.
    #[track_caller]
    pub(crate) fn tables(&self) -> Vec<String> {
        let schema = match &self.place {
            Place::Duckdb => "main",
            Place::Postgres(_) | Place::Snowflake(_) => "public",
        };
        self.rows(&format!(
            "SELECT lower(table_name) AS n FROM information_schema.tables WHERE lower(table_schema) = '{schema}' ORDER BY n"
        ))
    }
}

/// The one key of a JSON object, as the inside of a flow mapping of YAML.
fn inner(value: &serde_json::Value) -> String {
    let text = value.to_string();
    text[1..text.len() - 1].to_owned()
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
