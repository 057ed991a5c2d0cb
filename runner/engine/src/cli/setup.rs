//! `errand setup snowflake`: the SQL that makes an account ready, printed, or run statement by statement.

use std::io::Write;
use std::path::PathBuf;

use errand_model::document::step::Through;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Connection, Environment, Job, Project, Snowflake, StepKind, TableName};
use tokio_util::sync::CancellationToken;

use super::definitions::Definitions;
use super::{Surroundings, print};
use crate::report::figure;
use crate::repository::Repository;
use crate::step::FAILURES_SCHEMA;
use crate::warehouse::snowflake_setup::{self as setup, Request, Section};
use crate::warehouse::{self, Budget, Purpose, Session};

/// Makes a warehouse ready for jobs.
#[derive(clap::Args, Clone, Debug)]
pub struct SetupArgs {
    /// Which warehouse.
    #[command(subcommand)]
    pub command: SetupCommand,
}

/// Which warehouse.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum SetupCommand {
    /// Print the SQL for role, warehouse, integration, formats, stage, schemas, ledger and pipes; or run it.
    Snowflake(SnowflakeArgs),
}

/// What is to be set up.
#[derive(clap::Args, Clone, Debug)]
pub struct SnowflakeArgs {
    /// Directory with `errand.yaml`.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub repo: PathBuf,
    /// Environment of `errand.yaml`; its default without it.
    #[arg(long = "env", visible_alias = "environment", value_name = "NAME")]
    pub environment: Option<String>,
    /// The `snowflake` connection.
    #[arg(long, value_name = "NAME", default_value = "warehouse")]
    pub connection: String,
    /// A table that jobs write, beside those of the job repository: its schema is made and opened to the role; may be repeated.
    #[arg(long = "job-table", value_name = "SCHEMA.TABLE", num_args = 1.., value_parser = TableName::parse)]
    pub job_tables: Vec<TableName>,
    /// Role of AWS with which Snowflake reads and writes the bucket.
    #[arg(long, value_name = "ARN")]
    pub storage_role: Option<String>,
    /// Run the statements as the connection's user, who needs ACCOUNTADMIN. What is there already stays as it is.
    #[arg(long)]
    pub apply: bool,
}

/// Prints or runs the SQL. The exit code.
///
/// # Errors
///
/// The project has errors or says too little, or a statement fails.
pub fn run(args: &SetupArgs, surroundings: &Surroundings, out: &mut dyn Write) -> Result<u8, Failure> {
    let SetupCommand::Snowflake(args) = &args.command;
    let definitions = Definitions::accept(Repository::open(&args.repo)?.validate(), surroundings)?;
    let name = definitions.environment(args.environment.as_ref(), surroundings);
    let (environment, account) = chosen(args, &definitions.project, name)?;
    let sections = plan(args, (environment, account), &definitions.jobs)?;
    if !args.apply {
        print(out, &setup::text(&head(args, name), &sections))?;
        return Ok(0);
    }
    apply(args, surroundings, environment, account, &sections, out)
}

fn head(args: &SnowflakeArgs, environment: &str) -> String {
    format!(
        "What connection `{}` of environment `{environment}` needs in Snowflake. Read it, then run it as a user who may act as ACCOUNTADMIN: here, or \
         with `errand setup snowflake --apply`. It may be run again: what is there stays as it is.",
        args.connection
    )
}

fn chosen<'a>(args: &SnowflakeArgs, project: &'a Project, name: &str) -> Result<(&'a Environment, &'a Snowflake), Failure> {
    let refused = |code: &str, message: String, help: String| Failure::new(FailureKind::Definition, code, message).help(help);
    let known = |names: Vec<&str>| names.join(", ");
    let environment = project.environments.get(name).ok_or_else(|| {
        let help = format!("its environments: {}", known(project.environments.keys().map(|name| &**name).collect()));
        refused("setup::unknown_environment", format!("the project has no environment `{name}`"), help)
    })?;
    match environment.connections.get(args.connection.as_str()) {
        Some(Connection::Snowflake(account)) => Ok((environment, account)),
        Some(other) => {
            let message = format!("connection `{}` of environment `{name}` is `{}`, not `snowflake`", args.connection, other.word());
            Err(refused(
                "setup::not_snowflake",
                message,
                "choose another with `--connection`, or another environment with `--env`".to_owned(),
            ))
        }
        None => {
            let help = format!("its connections: {}", known(environment.connections.keys().map(|name| &**name).collect()));
            let message = format!("environment `{name}` has no connection `{}`", args.connection);
            Err(refused("setup::unknown_connection", message, help))
        }
    }
}

fn plan(args: &SnowflakeArgs, (environment, account): (&Environment, &Snowflake), jobs: &[Job]) -> Result<Vec<Section>, Failure> {
    let (mut tables, mut piped) = (args.job_tables.clone(), Vec::new());
    for job in jobs {
        for step in &job.steps {
            match &step.kind {
                StepKind::Ingest(ingest) if ingest.connection.as_str() == args.connection => {
                    tables.push(ingest.table.clone());
                    if ingest.through == Through::Pipe {
                        piped.push((format!("step `{}` of job `{}`", step.id, job.name), ingest.clone()));
                    }
                }
                StepKind::Sql(sql) if sql.connection.as_str() == args.connection => {
                    tables.extend(sql.materialize.as_ref().map(|materialize| materialize.table.clone()));
                }
                StepKind::Ingest(_) | StepKind::Sql(_) | StepKind::Check(_) | StepKind::Export(_) | StepKind::Command(_) => {}
            }
        }
    }
    let request = Request {
        label: &args.connection,
        account,
        environment,
        storage_role: args.storage_role.as_deref(),
        failures_schema: FAILURES_SCHEMA,
        tables: &tables,
        piped: &piped,
    };
    setup::sections(&request)
}

fn apply(
    args: &SnowflakeArgs,
    surroundings: &Surroundings,
    environment: &Environment,
    account: &Snowflake,
    sections: &[Section],
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let is_bucket =
        account.staging.as_ref().is_some_and(|label| matches!(environment.connections.get(label.as_str()), Some(Connection::S3(_))));
    if is_bucket && args.storage_role.is_none() {
        let message = "the storage integration needs a role of AWS with which Snowflake reaches the bucket";
        return Err(Failure::new(FailureKind::Definition, "setup::no_storage_role", message).help("name it with `--storage-role`"));
    }
    // Role, warehouse and schema of the connection may not be there yet.
    let admin = Snowflake { role: None, compute_warehouse: None, stage: None, staging: None, ..account.clone() };
    let connection = Connection::Snowflake(Box::new(admin));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FailureKind::Transient, "run::no_runtime", format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        let budget = Budget { memory_bytes: 64 << 20 };
        let secrets = &surroundings.settings.secrets;
        let warehouse = warehouse::open(
            &connection,
            warehouse::Surroundings { environment, state_dir: &args.repo, repository: &args.repo, secrets, budget },
        )
        .await?;
        let cancelled = CancellationToken::new();
        let purpose = Purpose { run_id: "setup".to_owned(), job: "setup".to_owned(), cancelled, ..Purpose::default() };
        let mut session = warehouse.session(&purpose).await?;
        let total = sections.iter().map(|section| section.statements.len()).sum();
        let mut number = 0;
        for section in sections {
            for statement in &section.statements {
                number += 1;
                one(session.as_mut(), section, statement, (number, total), surroundings, out).await?;
            }
        }
        print(out, &format!("{} done\n", figure::plural(total, "statement")))?;
        Ok(0)
    })
}

/// Runs one statement and says so. What a statement shows is shown.
async fn one(
    session: &mut dyn Session,
    section: &Section,
    statement: &str,
    (number, total): (usize, usize),
    surroundings: &Surroundings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let first = statement.lines().next().unwrap_or_default();
    let shown: String = first.chars().take(64).collect();
    print(out, &format!("{number:>3}/{total} {shown}\n"))?;
    let is_shown = first.starts_with("DESC ") || first.starts_with("SHOW ");
    let ended = if is_shown { session.query(statement, 1000).await } else { session.execute(statement).await.map(|_| Vec::new()) };
    let rows = ended.map_err(|failure| stopped(failure, section, first, (number, total)))?;
    for row in rows {
        let values: Vec<String> = row.into_iter().flatten().filter(|value| !value.is_empty()).collect();
        let line = format!("        {}\n", values.join(" | ").replace('\n', " "));
        print(out, &surroundings.settings.secrets.redactor().redact(&line))?;
    }
    Ok(())
}

fn stopped(failure: Failure, section: &Section, first: &str, (number, total): (usize, usize)) -> Failure {
    let message =
        format!("statement {number} of {total}, `{first}` ({}), failed: {}", section.title.to_lowercase(), failure.message.trim());
    let help = match failure.code.as_str() {
        "warehouse::permission" | "warehouse::missing_object" => {
            "it takes a user who may act as ACCOUNTADMIN: let one run it, or run the printed SQL; then again, what is done stays done"
                .to_owned()
        }
        _ => {
            let own = failure.help.as_deref().map(|help| format!("{help}; ")).unwrap_or_default();
            format!("{own}the {} before it are done; mend this one and run the command again", figure::plural(number - 1, "statement"))
        }
    };
    Failure { message, ..failure }.help(help)
}
