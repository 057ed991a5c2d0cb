//! The images as they run in a task: what is in them, and that names, encryption and git work from inside, where static linking breaks them
//! without a word.
#![allow(clippy::panic, reason = "a helper that cannot do its work fails the test that asked for it")]

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::condition::wait_for;
use e2e::container::{self, Container, Network, PYTHON, SLIM, docker};
use e2e::git_server::{HttpServer, SshServer};
use e2e::postgres::Database;
use e2e::proxy::Proxy;
use e2e::repository::Repository;
use e2e::services;
use serde_json::json;
use tempfile::TempDir;

/// A job repository, published as `served/jobs.git`, whose warehouse is a Postgres database.
struct Jobs {
    scratch: TempDir,
    database: Database,
    commit: String,
}

impl Jobs {
    fn new(host: &str, port: u16, tls: &str, steps: &str) -> Self {
        Self::with(host, port, tls, steps, |_| {})
    }

    fn with(host: &str, port: u16, tls: &str, steps: &str, also: impl FnOnce(&Repository)) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let database = Database::create();
        let repository = Repository::create(scratch.path().join("work"));
        let url: tokio_postgres::Config = database.url().parse().expect("the URL of the tests is one");
        let mut server = json!({ "host": host, "port": port, "database": database.name(), "user": url.get_user(), "tls": tls });
        if url.get_password().is_some() {
            server["password"] = json!({ "secret": "warehouse_password" });
        }
        if tls == "verify" {
            server["ca_file"] = json!("authority.pem");
            let authority = fs::read_to_string(services::postgres_authority()).expect("the authority of the services");
            repository.write("authority.pem", &authority);
        }
        let project = format!(
            "version: 1\ndefault_environment: test\nenvironments:\n  test:\n    connections:\n      warehouse: {}\n      \
             state: {{ directory: {{ path: /scratch/state }} }}\n    reports: {{ connection: state, path: runs }}\n\
             contacts: {{ team: {{ email: {{ to: [team@example.com] }} }} }}\n",
            json!({ "postgres": server })
        );
        repository
            .write("errand.yaml", &project)
            .write("jobs/load/job.yaml", &format!("version: 1\nname: load\nowner: team\nsteps:\n{steps}"));
        also(&repository);
        let commit = repository.commit("jobs");
        repository.publish(&scratch.path().join("served/jobs.git"));
        Self { scratch, database, commit }
    }

    /// On the server of the tests itself.
    fn here(tls: &str, steps: &str) -> Self {
        let (host, port) = services_address();
        let host = if tls == "verify" { "localhost".to_owned() } else { host };
        Self::new(&host, port, tls, steps)
    }

    fn served(&self) -> std::path::PathBuf {
        self.scratch.path().join("served")
    }

    fn container(&self, image: &str) -> Container {
        let url: tokio_postgres::Config = self.database.url().parse().expect("the URL of the tests is one");
        let password = String::from_utf8_lossy(url.get_password().unwrap_or_default()).into_owned();
        Container::of(image).env("ERRAND_SECRET_WAREHOUSE_PASSWORD", &password)
    }

    fn has_run(&self) {
        assert_eq!(self.database.value("SELECT commit_id FROM seen"), self.commit);
    }
}

fn services_address() -> (String, u16) {
    let url: tokio_postgres::Config = services::postgres_url().parse().expect("the URL of the tests is one");
    let host = match url.get_hosts() {
        [tokio_postgres::config::Host::Tcp(host), ..] => host.clone(),
        other => panic!("a host by name or address is needed, not {other:?}"),
    };
    (host, url.get_ports().first().copied().unwrap_or(5432))
}

/// A step that leaves the commit in the warehouse.
const SEEN: &str = "  - id: seen\n    sql: { text: \"create table seen as select {{ run.commit }}::text as commit_id\" }\n";

#[test]
fn the_slim_image_holds_one_program_and_nothing_that_runs_beside_it() {
    let created = docker(["create", SLIM]);
    assert!(created.status.success(), "the image `{SLIM}` is not built; run `tests/images`");
    let id = String::from_utf8_lossy(&created.stdout).trim().to_owned();
    let archive = docker(["export", &id]);
    let _ = docker(["rm", "--volumes", &id]);
    let mut list = Command::new("tar").arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("tar is installed");
    let mut input = list.stdin.take().expect("a pipe");
    let writing = std::thread::spawn(move || input.write_all(&archive.stdout));
    let listed = list.wait_with_output().expect("tar ends");
    writing.join().expect("written").expect("tar read it all");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    // What Docker itself lays over every image.
    let laid = ["dev/", "proc/", "sys/", ".dockerenv", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"];
    let mut files: Vec<&str> =
        text.lines().filter(|name| !laid.iter().any(|laid| name.starts_with(laid)) && !name.ends_with('/')).collect();
    files.sort_unstable();
    assert_eq!(files, ["errand", "etc/group", "etc/nsswitch.conf", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "scratch/.keep"]);
    let configuration =
        docker(["image", "inspect", "--format", "{{.Config.User}} {{.Config.StopSignal}} {{.Config.Entrypoint}} {{.Config.Cmd}}", SLIM]);
    assert_eq!(String::from_utf8_lossy(&configuration.stdout).trim(), "10001:10001 SIGTERM [/errand] [task]");
}

#[test]
fn a_job_from_https_runs_over_tls_with_a_read_only_root() {
    let jobs = Jobs::here("verify", SEEN);
    let server = HttpServer::https(&jobs.served());
    let ended = jobs
        .container(SLIM)
        .file(&server.authority(), "/authority.pem")
        .env("ERRAND_CA_FILE", "/authority.pem")
        .env("ERRAND_SECRET_GIT_TOKEN", HttpServer::PASSWORD)
        .env("ERRAND_SECRET_GIT_USERNAME", HttpServer::USER)
        .run(["run", "load", "--repo", &server.private_url("jobs.git")])
        .expect_code(0);
    jobs.has_run();
    assert!(!ended.log.contains(HttpServer::PASSWORD), "{}", ended.log);
}

#[test]
fn an_authority_that_nobody_named_is_not_trusted() {
    let jobs = Jobs::here("disable", SEEN);
    let server = HttpServer::https(&jobs.served());
    let ended = jobs.container(SLIM).run(["run", "load", "--repo", &server.public_url("jobs.git")]).expect_code(11);
    assert!(ended.log.contains("checkout::untrusted_certificate"), "{}", ended.log);
}

#[test]
fn a_job_from_ssh_runs() {
    let jobs = Jobs::here("disable", SEEN);
    let server = SshServer::start(&jobs.served());
    let hosts = jobs.scratch.path().join("known_hosts");
    fs::write(&hosts, server.known_host()).expect("the scratch directory can be written");
    let key = fs::read_to_string(server.private_key()).expect("a key file");
    let ended = jobs
        .container(SLIM)
        .file(&hosts, "/known_hosts")
        .env("ERRAND_KNOWN_HOSTS", "/known_hosts")
        .env("ERRAND_SECRET_GIT_SSH_KEY", &key)
        .run(["run", "load", "--repo", &server.url("jobs.git")])
        .expect_code(0);
    jobs.has_run();
    assert!(!ended.log.contains("PRIVATE KEY"), "{}", ended.log);
}

/// A job in a directory of this machine that the container sees.
fn mounted(jobs: &Jobs, container: Container) -> Container {
    container.file(&jobs.scratch.path().join("work"), "/jobs")
}

#[test]
fn names_are_resolved_by_dns_and_by_the_hosts_file() {
    let network = Network::create();
    let proxy = Proxy::start_at(&network.host(), &Database::create().address());
    let _forwarder = container::forwarder(&network, "warehouse.example", 5432, &format!("{}:{}", network.host(), proxy.port()));
    let by_dns = Jobs::new("warehouse.example", 5432, "disable", SEEN);
    let _ =
        mounted(&by_dns, by_dns.container(SLIM)).option("--network", network.name()).run(["run", "load", "--repo", "/jobs"]).expect_code(0);
    by_dns.has_run();

    let by_file = Jobs::new("warehouse.file.example", proxy.port(), "disable", SEEN);
    let _ = mounted(&by_file, by_file.container(SLIM))
        .option("--network", network.name())
        .option("--add-host", &format!("warehouse.file.example:{}", network.host()))
        .run(["run", "load", "--repo", "/jobs"])
        .expect_code(0);
    by_file.has_run();

    let nowhere = Jobs::new("nowhere.example", 5432, "disable", SEEN);
    let ended = mounted(&nowhere, nowhere.container(SLIM)).option("--network", network.name()).run(["run", "load", "--repo", "/jobs"]);
    assert!(ended.code != 0 && ended.log.contains("nowhere.example"), "{}", ended.log);
}

#[test]
fn a_container_that_is_told_to_stop_cancels_its_statement_and_says_so() {
    let steps = "  - id: slow\n    sql: { text: 'create table slow as select 1 as one from pg_sleep(300)' }\n";
    let jobs = Jobs::here("disable", steps);
    let running = mounted(&jobs, jobs.container(SLIM)).start(["run", "load", "--repo", "/jobs"]);
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(300)%' AND pid <> pg_backend_pid()";
    wait_for("the statement", Duration::from_secs(60), || (jobs.database.value(sleeping) == "1").then_some(()));
    running.stop(30);
    let ended = running.wait().expect_code(16);
    assert!(ended.log.contains("Cancelled"), "{}", ended.log);
    assert_eq!(jobs.database.value(sleeping), "0");
    assert_eq!(jobs.database.value("SELECT count(*) FROM information_schema.tables WHERE table_name = 'slow'"), "0");
}

#[test]
fn a_program_that_is_asked_for_what_the_image_lacks_says_so() {
    let steps = "  - id: script\n    command: { run: [python3, -c, 'print(1)'] }\n";
    let jobs = Jobs::here("disable", steps);
    let ended = mounted(&jobs, jobs.container(SLIM)).run(["run", "load", "--repo", "/jobs"]);
    assert!(ended.code != 0 && ended.log.contains("python3"), "{}", ended.log);
}

/// A dbt project with one model and one test, which finds the warehouse by the environment that its step declares.
fn dbt(repository: &Repository, host: &str, port: u16, database: &str, user: &str) {
    repository
        .write("dbt/dbt_project.yml", "name: shop\nversion: '1.0'\nconfig-version: 2\nprofile: shop\nmodel-paths: [models]\nflags: { send_anonymous_usage_stats: false }\n")
        .write(
            "dbt/profiles.yml",
            &format!(
                "shop:\n  target: test\n  outputs:\n    test: {{ type: postgres, host: {host}, port: {port}, dbname: {database}, user: {user}, \
                 password: \"{{{{ env_var('DBT_PASSWORD') }}}}\", schema: public, threads: 2 }}\n"
            ),
        )
        .write("dbt/models/orders.sql", "select 1 as id, 10.50 as amount union all select 2, 20.25\n")
        .write("dbt/models/totals.sql", "{{ config(materialized='table') }}\nselect sum(amount) as total from {{ ref('orders') }}\n")
        .write("dbt/models/schema.yml", "version: 2\nmodels:\n  - name: orders\n    columns: [{ name: id, data_tests: [unique, not_null] }]\n");
}

#[test]
fn a_dbt_project_runs_in_the_image_with_python() {
    let (host, port) = services_address();
    let steps = "
  - id: dbt
    command:
      run: [dbt, build, --profiles-dir, ., --target-path, /scratch/target, --log-path, /scratch/logs]
      working_dir: dbt
      env: { DBT_PASSWORD: { secret: warehouse_password } }
  - id: right
    check: { query: 'select total from totals where total <> 30.75', expect: [{ row_count: { max: 0 } }] }
";
    let user: tokio_postgres::Config = services::postgres_url().parse().expect("the URL of the tests is one");
    let user = user.get_user().unwrap_or("postgres").to_owned();
    let jobs = Jobs::with(&host, port, "disable", steps, |repository| dbt(repository, &host, port, "DATABASE", &user));
    // The name of the database is known only now.
    let profile = jobs.scratch.path().join("work/dbt/profiles.yml");
    let text = fs::read_to_string(&profile).expect("written above").replace("DATABASE", jobs.database.name());
    fs::write(&profile, text).expect("the scratch directory can be written");
    let ended = mounted(&jobs, jobs.container(PYTHON)).run(["run", "load", "--repo", "/jobs"]).expect_code(0);
    assert_eq!(jobs.database.value("SELECT total FROM totals"), "30.75", "{}", ended.log);
}
