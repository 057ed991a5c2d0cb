//! The SQL that makes an account ready, for `errand setup snowflake`: every statement may be run again.
//!
//! Must not know how it is printed or run, nor how a job repository is read.

mod copy;
mod layout;
mod pattern;

use std::collections::BTreeSet;

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Connection, Environment, IngestStep, Snowflake, TableName};

use super::kind::CAPABILITIES;
use crate::warehouse::ledger;

pub(crate) use layout::text;

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The connection's name, for messages.
    pub(crate) label: &'a str,
    /// The connection.
    pub(crate) account: &'a Snowflake,
    /// The connections beside it.
    pub(crate) environment: &'a Environment,
    /// ARN of the role with which Snowflake reads and writes the bucket.
    pub(crate) storage_role: Option<&'a str>,
    /// Where rows that break checks are kept.
    pub(crate) failures_schema: &'a str,
    /// The tables that jobs write.
    pub(crate) tables: &'a [TableName],
    /// The ingests with `through: pipe`, each with the name of its job and step.
    pub(crate) piped: &'a [(String, IngestStep)],
}

/// Statements that belong together, and why they are there.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// One line.
    pub(crate) title: &'static str,
    /// What a reader wants to know about it.
    pub(crate) why: String,
    /// Its statements, without a semicolon.
    pub(crate) statements: Vec<String>,
}

/// Credits that a month may cost before the monitor stops the warehouse.
const CREDITS: u32 = 50;
/// What `--storage-role` stands for in print.
const ROLE_ARN: &str = "arn:aws:iam::<account>:role/<name>";

/// The sections, in order.
///
/// # Errors
///
/// `Definition` when the connection does not say enough, or an ingest asks what no pipe can do.
pub(crate) fn sections(request: &Request<'_>) -> Result<Vec<Section>, Failure> {
    let place = Place::of(request)?;
    let names = Names::of(request.account);
    let mut sections = vec![role(&names, request.account), compute(&names), schemas(request, &names, &place)];
    sections.extend(storage(request, &names, &place));
    sections.push(formats(&place));
    sections.push(stage(&names, &place));
    sections.push(grants(request, &names, &place));
    let statements = [format!("USE ROLE {}", names.role), format!("USE WAREHOUSE {}", names.warehouse)];
    // Its schema is there, and the role may not make one.
    let tables = ledger::ddl(&CAPABILITIES).into_iter().filter(|statement| !statement.starts_with("CREATE SCHEMA"));
    sections.push(Section {
        title: "The ledger",
        why: "What was loaded, claims of running loads, known files and row counts of checks. The role makes the tables, so that they are its own."
            .to_owned(),
        statements: statements.into_iter().chain(tables).collect(),
    });
    sections.extend(copy::sections(request, &place)?);
    Ok(sections)
}

/// Names of what is made, in quotes.
struct Names {
    role: String,
    warehouse: String,
    database: String,
    monitor: String,
    user: String,
}

impl Names {
    fn of(account: &Snowflake) -> Self {
        let warehouse = account.compute_warehouse.as_deref().unwrap_or("ERRAND");
        Self {
            role: CAPABILITIES.quote(account.role.as_deref().unwrap_or("ERRAND")),
            warehouse: CAPABILITIES.quote(warehouse),
            database: CAPABILITIES.quote(&account.database),
            monitor: CAPABILITIES.quote(&format!("{warehouse}_MONITOR")),
            user: CAPABILITIES.quote(&account.user),
        }
    }
}

/// The stage, and where its files lie.
struct Place {
    /// Database, schema and name, in quotes.
    stage: String,
    /// Database and schema, in quotes.
    schema: String,
    /// The stage with `@` and the path of the connection.
    with_path: String,
    /// The URL of the stage itself, with `/` at its end.
    url: String,
    /// The URL of the stage with the path of the connection, with `/` at its end.
    root: String,
    /// Whether an integration must let Snowflake in.
    is_bucket: bool,
}

impl Place {
    fn of(request: &Request<'_>) -> Result<Self, Failure> {
        let label = request.label;
        let refused = |message: String, help: &str| Failure::new(FailureKind::Definition, "setup::no_stage", message).help(help);
        let Some(stage) = &request.account.stage else {
            let message = format!("connection `{label}` names no `stage`, through which rows would go");
            return Err(refused(message, "add `stage: \"@<database>.<schema>.<name>\"` and `staging: <connection with its files>`"));
        };
        let Some(staging) = &request.account.staging else {
            let message = format!("connection `{label}` does not say where the files of its stage lie");
            return Err(refused(message, "add `staging`: the name of an `s3` connection in the same environment"));
        };
        let (root, is_bucket) = match request.environment.connections.get(staging.as_str()) {
            Some(Connection::S3(s3)) => (format!("s3://{}/{}", s3.bucket, s3.prefix), true),
            Some(Connection::Directory { path }) => (format!("file://{path}"), false),
            _ => {
                let message = format!("`staging` of connection `{label}` is `{staging}`, which is no connection with files");
                return Err(refused(message, "name an `s3` connection of the same environment"));
            }
        };
        let root = format!("{}/", root.trim_end_matches('/'));
        let (name, path) = split(stage.trim_start_matches('@'));
        let Some(url) = root.strip_suffix(&path).filter(|url| path.is_empty() || url.ends_with('/')) else {
            let message = format!("stage `{stage}` ends in a path that the URL of `{staging}`, `{root}`, does not end in");
            return Err(refused(message, "let `staging` be the files under the stage with its path"));
        };
        let mut parts = identifiers(name);
        if parts.is_empty() || parts.len() > 3 {
            return Err(refused(format!("`{stage}` is no name of a stage"), "write it as `\"@<database>.<schema>.<name>\"`"));
        }
        if parts.len() == 1 {
            parts.insert(0, CAPABILITIES.quote(&request.account.schema));
        }
        if parts.len() == 2 {
            parts.insert(0, CAPABILITIES.quote(&request.account.database));
        }
        let stage = parts.join(".");
        parts.pop();
        let with_path = if path.is_empty() { format!("@{stage}") } else { format!("@{stage}/{path}") };
        Ok(Self { schema: parts.join("."), with_path, url: url.to_owned(), root: root.clone(), is_bucket, stage })
    }
}

/// Name and path of a stage; the path ends in `/` where there is one.
fn split(stage: &str) -> (&str, String) {
    let mut in_quotes = false;
    let end = stage.find(|c| {
        in_quotes ^= c == '"';
        c == '/' && !in_quotes
    });
    match end.map(|end| stage.split_at(end)) {
        Some((name, path)) if path.trim_matches('/').is_empty() => (name, String::new()),
        Some((name, path)) => (name, format!("{}/", path.trim_matches('/'))),
        None => (stage, String::new()),
    }
}

/// The parts of a name with dots, each in quotes.
fn identifiers(name: &str) -> Vec<String> {
    let (mut parts, mut part, mut in_quotes) = (Vec::new(), String::new(), false);
    for c in name.chars().chain(['.']) {
        match c {
            '.' if !in_quotes => parts.push(std::mem::take(&mut part)),
            '"' => {
                in_quotes = !in_quotes;
                part.push(c);
            }
            c => part.push(c),
        }
    }
    let quoted = |part: String| if part.starts_with('"') { part } else { CAPABILITIES.quote(&part) };
    parts.into_iter().filter(|part| !part.is_empty()).map(quoted).collect()
}

fn role(names: &Names, account: &Snowflake) -> Section {
    let Names { role, user, .. } = names;
    let mut why = "Jobs run as this role, and it may do no more than they need. Through SYSADMIN administrators may act as it.".to_owned();
    if account.role.is_none() {
        why.push_str(" The connection names no role: set `role: ERRAND` there, too.");
    }
    let statements = vec![
        "USE ROLE ACCOUNTADMIN".to_owned(),
        format!("CREATE ROLE IF NOT EXISTS {role}\nCOMMENT = 'runs the jobs of errand'"),
        format!("GRANT ROLE {role} TO ROLE SYSADMIN"),
        format!("GRANT ROLE {role} TO USER {user}"),
    ];
    Section { title: "Role", why, statements }
}

fn compute(names: &Names) -> Section {
    let Names { role, warehouse, monitor, .. } = names;
    let statements = vec![
        format!(
            "CREATE RESOURCE MONITOR IF NOT EXISTS {monitor} WITH\nCREDIT_QUOTA = {CREDITS}\nFREQUENCY = MONTHLY\nSTART_TIMESTAMP = IMMEDIATELY\n\
             TRIGGERS ON 80 PERCENT DO NOTIFY\nON 100 PERCENT DO SUSPEND"
        ),
        format!(
            "CREATE WAREHOUSE IF NOT EXISTS {warehouse}\nWAREHOUSE_SIZE = XSMALL\nAUTO_SUSPEND = 60\nAUTO_RESUME = TRUE\n\
             INITIALLY_SUSPENDED = TRUE\nRESOURCE_MONITOR = {monitor}"
        ),
        format!("GRANT USAGE ON WAREHOUSE {warehouse} TO ROLE {role}"),
    ];
    let why = format!(
        "The smallest warehouse, asleep after a minute. The monitor stops it at {CREDITS} credits a month, once what runs has ended: choose your own number. \
         A warehouse that is there keeps its size and its monitor."
    );
    Section { title: "Warehouse and resource monitor", why, statements }
}

/// The schemas that jobs write to, as the definitions name them.
fn target_schemas(request: &Request<'_>) -> BTreeSet<String> {
    let piped = request.piped.iter().map(|(_, step)| &step.table);
    let named = request.tables.iter().chain(piped).filter_map(|table| table.schema.as_deref());
    named.chain([request.account.schema.as_str()]).map(|schema| CAPABILITIES.quote(schema)).collect()
}

fn schemas(request: &Request<'_>, names: &Names, place: &Place) -> Section {
    let database = &names.database;
    let own = [ledger::SCHEMA, request.failures_schema].map(|schema| CAPABILITIES.quote(schema));
    let mut statements = vec![format!("CREATE DATABASE IF NOT EXISTS {database}"), format!("USE DATABASE {database}")];
    let targets = target_schemas(request).into_iter().chain(own);
    statements.extend(targets.map(|schema| format!("CREATE SCHEMA IF NOT EXISTS {schema}")));
    let of_stage = format!("CREATE SCHEMA IF NOT EXISTS {}", place.schema);
    let is_made = statements.iter().any(|made| made.ends_with(place.schema.rsplit('.').next().unwrap_or_default()));
    if !is_made || !place.schema.starts_with(database.as_str()) {
        statements.push(of_stage);
    }
    let why = format!(
        "The schemas that jobs write to, one for Errand's ledger, and one for rows that break checks with `store_failures` (`{}`).",
        request.failures_schema
    );
    Section { title: "Database and schemas", why, statements }
}

fn storage(request: &Request<'_>, names: &Names, place: &Place) -> Option<Section> {
    if !place.is_bucket {
        return None;
    }
    let integration = integration(names);
    let role = CAPABILITIES.text(request.storage_role.unwrap_or(ROLE_ARN));
    let statements = vec![
        format!(
            "CREATE STORAGE INTEGRATION IF NOT EXISTS {integration}\nTYPE = EXTERNAL_STAGE\nSTORAGE_PROVIDER = 'S3'\nENABLED = TRUE\n\
             STORAGE_AWS_ROLE_ARN = {role}\nSTORAGE_ALLOWED_LOCATIONS = ({})",
            CAPABILITIES.text(&place.url)
        ),
        format!("DESC STORAGE INTEGRATION {integration}"),
    ];
    let mut why = "Snowflake takes on this role of AWS, so that no key is kept in the account. The role needs s3:GetObject, s3:GetObjectVersion, \
                   s3:PutObject, s3:DeleteObject, s3:ListBucket and s3:GetBucketLocation for this bucket and prefix. Put STORAGE_AWS_IAM_USER_ARN and \
                   STORAGE_AWS_EXTERNAL_ID, which the second statement shows, into its trust policy."
        .to_owned();
    if request.storage_role.is_none() {
        why.push_str(" Give the role with `--storage-role`, or put it in the place of the one below.");
    }
    Some(Section { title: "Storage integration", why, statements })
}

fn integration(names: &Names) -> String {
    CAPABILITIES.quote(&format!("{}_STORAGE", names.role.trim_matches('"')))
}

fn formats(place: &Place) -> Section {
    let schema = &place.schema;
    let statements = vec![
        format!(
            "CREATE FILE FORMAT IF NOT EXISTS {schema}.\"ERRAND_CSV\"\nTYPE = CSV\nFIELD_OPTIONALLY_ENCLOSED_BY = '\"'\n\
             ESCAPE_UNENCLOSED_FIELD = NONE\nERROR_ON_COLUMN_COUNT_MISMATCH = TRUE\nNULL_IF = ('\\\\N')\nEMPTY_FIELD_AS_NULL = FALSE\n\
             TRIM_SPACE = FALSE\nREPLACE_INVALID_CHARACTERS = FALSE"
        ),
        format!(
            "CREATE FILE FORMAT IF NOT EXISTS {schema}.\"ERRAND_JSON\"\nTYPE = JSON\nSTRIP_NULL_VALUES = FALSE\nALLOW_DUPLICATE = FALSE\n\
             TRIM_SPACE = FALSE\nREPLACE_INVALID_CHARACTERS = FALSE\nIGNORE_UTF8_ERRORS = FALSE"
        ),
        format!(
            "CREATE FILE FORMAT IF NOT EXISTS {schema}.\"ERRAND_PARQUET\"\nTYPE = PARQUET\nUSE_VECTORIZED_SCANNER = TRUE\nTRIM_SPACE = FALSE\n\
             REPLACE_INVALID_CHARACTERS = FALSE"
        ),
    ];
    let why =
        "For queries and loads by hand, with the options that Errand sets itself: nothing is trimmed, replaced or skipped.".to_owned();
    Section { title: "File formats", why, statements }
}

fn stage(names: &Names, place: &Place) -> Section {
    let (stage, url) = (&place.stage, CAPABILITIES.text(&place.url));
    let access = if place.is_bucket { format!("\nSTORAGE_INTEGRATION = {}", integration(names)) } else { String::new() };
    let why = "Rows go in and out through files here. Errand's own lie under the id of their load and vanish after it. A pipe reads only what its pattern \
               names: bring nothing there that a COPY loads, too."
        .to_owned();
    Section { title: "External stage", why, statements: vec![format!("CREATE STAGE IF NOT EXISTS {stage}\nURL = {url}{access}")] }
}

fn grants(request: &Request<'_>, names: &Names, place: &Place) -> Section {
    let Names { role, database, .. } = names;
    let mut statements = vec![format!("GRANT USAGE ON DATABASE {database} TO ROLE {role}")];
    let own = [ledger::SCHEMA, request.failures_schema].map(|schema| CAPABILITIES.quote(schema));
    let of_pipe = |schema: &String| {
        let schema_of = |table: &TableName| CAPABILITIES.quote(table.schema.as_deref().unwrap_or(&request.account.schema));
        request.piped.iter().any(|(_, step)| schema_of(&step.table) == *schema)
    };
    for schema in target_schemas(request).into_iter().chain(own) {
        let pipe = if of_pipe(&schema) { ", CREATE PIPE" } else { "" };
        statements.push(format!("GRANT USAGE, CREATE TABLE{pipe} ON SCHEMA {schema}\nTO ROLE {role}"));
    }
    let (of_database, _) = place.schema.rsplit_once('.').unwrap_or_default();
    if of_database != database {
        statements.push(format!("GRANT USAGE ON DATABASE {of_database} TO ROLE {role}"));
    }
    statements.push(format!("GRANT USAGE ON SCHEMA {} TO ROLE {role}", place.schema));
    statements.push(format!("GRANT USAGE ON STAGE {} TO ROLE {role}", place.stage));
    statements.extend(
        ["CSV", "JSON", "PARQUET"].map(|format| format!("GRANT USAGE ON FILE FORMAT {}.\"ERRAND_{format}\"\nTO ROLE {role}", place.schema)),
    );
    let why = "Tables that jobs make belong to the role. One that somebody else has made takes grants of its own: SELECT, INSERT, UPDATE, DELETE; to add \
               columns or to `replace` it, OWNERSHIP."
        .to_owned();
    Section { title: "Rights of the role", why, statements }
}

#[cfg(test)]
mod tests;
