//! Postgres: refusals at the door, servers that go away, disks that are full.

use std::io::{Read, Write};
use std::net::TcpListener;

use e2e::errand::Errand;
use e2e::postgres::Database;
use e2e::proxy::{Direction, Fault, Proxy};
use e2e::services;

use super::{DAY, Scene, same};

/// How to reach a database: what a connection says.
#[derive(Clone)]
struct Reach {
    host: String,
    port: String,
    user: String,
    password: String,
    database: String,
    rest: &'static str,
}

impl Reach {
    fn of(database: &Database) -> Self {
        let url = database.url();
        let (user, rest) = url.trim_start_matches("postgres://").split_once(':').expect("a URL has a user");
        let (password, rest) = rest.split_once('@').expect("a URL has a password");
        let (host, port) = rest.split_once('/').expect("a URL has a database").0.split_once(':').expect("a URL has a port");
        let text = str::to_owned;
        Self { host: text(host), port: text(port), user: text(user), password: text(password), database: text(database.name()), rest: "" }
    }

    fn warehouse(&self) -> String {
        let Self { host, port, user, database, rest, .. } = self;
        format!(
            "      warehouse: {{ postgres: {{ host: {host}, port: {port}, database: {database}, user: {user}, password: {{ secret: postgres }}{rest} }} }}\n"
        )
    }

    fn connection(&self) -> String {
        self.warehouse() + "      lake: { directory: { path: data } }\n"
    }

    /// A job that loads three rows by it.
    fn scene(&self) -> Scene {
        let scene = Scene::new(Errand::new().env("ERRAND_SECRET_POSTGRES", &self.password), &self.connection());
        scene.project.write("data/a.csv", "id,name\n1,ada\n2,bob\n3,\n").steps(INGEST);
        scene.hiding(&self.port, "PORT").hiding(&self.database, "DATABASE")
    }
}

/// The connection `warehouse` of a database, as YAML, and the secret `postgres`.
pub(super) fn warehouse(database: &Database) -> (String, String) {
    let reach = Reach::of(database);
    (reach.warehouse(), reach.password)
}

const INGEST: &str = "
  - id: load
    ingest: { source: { files: { connection: lake, path: 'a.csv', format: csv } }, target: { table: t } }
";

/// The job meets this, and with what is right it gives exactly its rows.
#[track_caller]
fn refuses(change: impl Fn(&mut Reach), expected: &str) {
    let database = Database::create();
    let right = Reach::of(&database);
    let mut wrong = right.clone();
    change(&mut wrong);
    wrong.scene().hiding(&right.port, "PORT").secret("not-the-password").fails(expected);
    loses_nothing(&right.scene(), &database);
}

#[track_caller]
fn loses_nothing(scene: &Scene, database: &Database) {
    scene.run().ok();
    assert_eq!(database.rows("SELECT id, name FROM t ORDER BY id"), ["1|ada", "2|bob", "3|NULL"]);
    assert_eq!(scene.run().ok().how("load"), "already_done");
    let tables = database.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1");
    assert_eq!(tables, ["t"], "nothing else is left");
}

#[track_caller]
fn wrote_nothing(database: &Database) {
    assert_eq!(database.value("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"), "0");
    assert_eq!(database.value("SELECT count(*) FROM _errand.ledger"), "0");
}

#[test]
fn a_wrong_password() {
    refuses(|reach| reach.password = "not-the-password".to_owned(), "\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: the server at `127.0.0.1:PORT` refused user `errand` and database `DATABASE`: password authentication failed for user \"errand\" [28P01]  step=load attempt=1 code=warehouse::authentication
help: check `user` and the secret that `password` names, and the server's `pg_hba.conf`
");
}

#[test]
fn a_user_who_is_none() {
    refuses(|reach| reach.user = "nobody_at_all".to_owned(), "\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: the server at `127.0.0.1:PORT` refused user `nobody_at_all` and database `DATABASE`: password authentication failed for user \"nobody_at_all\" [28P01]  step=load attempt=1 code=warehouse::authentication
help: check `user` and the secret that `password` names, and the server's `pg_hba.conf`
");
}

#[test]
fn a_password_that_is_not_given() {
    let database = Database::create();
    let reach = Reach::of(&database);
    let scene = reach.scene();
    scene.connect(&reach.connection().replace(", password: { secret: postgres }", ""));
    scene.fails("\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: the server at `127.0.0.1:PORT` wants a password of user `errand`: invalid configuration: password missing  step=load attempt=1 code=warehouse::authentication
help: name the secret that holds it with `password` in the connection
");
}

#[test]
fn a_database_that_is_none() {
    refuses(|reach| reach.database = "no_such_database".to_owned(), "\
17 Errand.Permanent warehouse::missing_object
error connection `warehouse`: the server at `127.0.0.1:PORT` refused user `[secret]` and database `DATABASE`: database \"DATABASE\" does not exist [3D000]  step=load attempt=1 code=warehouse::missing_object
help: check `database` of the connection: it must be there before the first run
");
}

#[test]
fn a_server_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port().to_string();
    drop(listener);
    refuses(|reach| reach.port.clone_from(&port), "\
14 Errand.Transient warehouse::unreachable
error connection `warehouse`: cannot reach the server at `127.0.0.1:PORT`: error connecting to server: Connection refused (os error 111)  step=load attempt=1 code=warehouse::unreachable
help: check `host` and `port` of the connection, that the server runs, and that the network lets this machine through
");
}

#[test]
fn a_name_that_does_not_resolve() {
    let database = Database::create();
    let reach = Reach { host: "warehouse.invalid".to_owned(), ..Reach::of(&database) };
    let scene = reach.scene();
    let run = scene.run().fails(14, "warehouse::unreachable");
    // What the resolver says differs from machine to machine.
    let said = scene.told(&run.outcome.stderr);
    assert!(said.starts_with("error connection `warehouse`: cannot reach the server at `warehouse.invalid:PORT`: "), "{said}");
    assert!(said.contains("failed to lookup address information"), "{said}");
    assert!(
        said.ends_with(
            "\nhelp: check `host` and `port` of the connection, that the server runs, and that the network lets this machine through\n"
        ),
        "{said}"
    );
}

#[test]
fn a_server_without_tls() {
    // The answer to the request for TLS: no.
    let port = answers(b"N");
    refuses(
        |reach| (reach.port, reach.rest) = (port.clone(), ", tls: verify"),
        "\
17 Errand.Permanent warehouse::refused
error connection `warehouse`: the server at `127.0.0.1:PORT` does not speak TLS  step=load attempt=1 code=warehouse::refused
help: switch TLS on there, or say `tls: disable` where the network between is trusted
",
    );
}

#[test]
fn a_certificate_of_an_authority_that_is_not_known() {
    refuses(|reach| reach.rest = ", tls: verify", "\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: TLS with the server at `127.0.0.1:PORT` failed: invalid peer certificate: UnknownIssuer  step=load attempt=1 code=warehouse::authentication
help: `host` must be a name in the server's certificate, and `ca_file` must hold its root where the system does not trust it
");
}

#[test]
fn a_certificate_for_another_host() {
    let authority = std::fs::read(services::postgres_authority()).expect("the certificate of the authority can be read");
    let database = Database::create();
    // An address of this machine that the certificate does not name.
    let reach = Reach { host: "127.0.0.2".to_owned(), rest: ", tls: verify, ca_file: ca.pem", ..Reach::of(&database) };
    let proxy = Proxy::start_at("127.0.0.2", &database.address());
    let scene = Reach { port: proxy.port().to_string(), ..reach }.scene();
    scene.project.write("ca.pem", authority);
    scene.fails("\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: TLS with the server at `127.0.0.2:PORT` failed: invalid peer certificate: certificate not valid for name \"127.0.0.2\"; certificate is only valid for DnsName(\"localhost\") or IpAddress(127.0.0.1)  step=load attempt=1 code=warehouse::authentication
help: `host` must be a name in the server's certificate, and `ca_file` must hold its root where the system does not trust it
");
}

#[test]
fn an_authority_that_is_no_certificate() {
    let database = Database::create();
    let scene = Reach { rest: ", tls: verify, ca_file: ca.pem", ..Reach::of(&database) }.scene();
    scene.project.write("ca.pem", "no certificate");
    let directory = scene.project.path("").display().to_string();
    scene.hiding(directory.trim_end_matches('/'), "PROJECT").fails(
        "\
10 Errand.Definition warehouse::ca_file
error connection `warehouse`: cannot read certificates from `PROJECT/ca.pem`: it holds none  step=load attempt=1 code=warehouse::ca_file
help: `ca_file` names a PEM file with the roots of trust of the server, relative to the repository
",
    );
}

#[test]
fn a_server_that_is_starting() {
    let port = answers(&refusal("57P03", "the database system is starting up"));
    refuses(|reach| reach.port.clone_from(&port), "\
14 Errand.Transient warehouse::unreachable
error connection `warehouse`: the server at `127.0.0.1:PORT` refused user `[secret]` and database `DATABASE`: the database system is starting up [57P03]  step=load attempt=1 code=warehouse::unreachable
help: the server is starting or stopping; the next attempt may find it ready
");
}

#[test]
fn a_server_that_is_full() {
    let port = answers(&refusal("53300", "sorry, too many clients already"));
    refuses(|reach| reach.port.clone_from(&port), "\
14 Errand.Transient warehouse::unreachable
error connection `warehouse`: the server at `127.0.0.1:PORT` refused user `[secret]` and database `DATABASE`: sorry, too many clients already [53300]  step=load attempt=1 code=warehouse::unreachable
help: raise `max_connections` of the server, or the limit of the role or database, or run fewer steps at a time
");
}

/// A user of its own: roles belong to the whole server.
struct Role<'a> {
    database: &'a Database,
    name: String,
}

impl<'a> Role<'a> {
    fn create(database: &'a Database, options: &str) -> Self {
        let name = services::unique_name();
        database.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'a-long-password' {options}"));
        Self { database, name }
    }

    fn reach(&self) -> Reach {
        Reach { user: self.name.clone(), password: "a-long-password".to_owned(), ..Reach::of(self.database) }
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        self.database.execute(&format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", self.name));
    }
}

#[test]
fn a_user_who_may_connect_no_more() {
    let database = Database::create();
    let role = Role::create(&database, "CONNECTION LIMIT 0");
    let scene = role.reach().scene().hiding(&role.name, "ROLE").secret("a-long-password");
    scene.fails("\
14 Errand.Transient warehouse::unreachable
error connection `warehouse`: the server at `127.0.0.1:PORT` refused user `ROLE` and database `DATABASE`: too many connections for role \"ROLE\" [53300]  step=load attempt=1 code=warehouse::unreachable
help: raise `max_connections` of the server, or the limit of the role or database, or run fewer steps at a time
");
    database.execute(&format!(
        "ALTER ROLE {} CONNECTION LIMIT 10; GRANT ALL ON SCHEMA public TO {0}; GRANT CREATE ON DATABASE {} TO {0}",
        role.name,
        database.name()
    ));
    loses_nothing(&scene, &database);
}

#[test]
fn a_user_who_may_make_nothing() {
    let database = Database::create();
    let role = Role::create(&database, "");
    let scene = role.reach().scene().hiding(&role.name, "ROLE").secret("a-long-password");
    scene.fails(
        "\
17 Errand.Permanent warehouse::permission
error connection `warehouse`: permission denied for database DATABASE [42501]  step=load attempt=1 code=warehouse::permission
help: grant the right to the user of the connection, or use another user
",
    );
    database.execute(&format!("GRANT CREATE ON DATABASE {} TO {}", database.name(), role.name));
    scene.fails(
        "\
17 Errand.Permanent warehouse::permission
error permission denied for schema public [42501]  step=load attempt=1 code=warehouse::permission
help: grant the right to the user of the connection, or use another user
",
    );
    wrote_nothing(&database);
    database.execute(&format!("GRANT ALL ON SCHEMA public TO {}", role.name));
    loses_nothing(&scene, &database);
}

#[test]
fn a_database_that_is_read_only() {
    let database = Database::create();
    let scene = Reach::of(&database).scene();
    database.execute(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name()));
    scene.fails(
        "\
17 Errand.Permanent warehouse::read_only
error connection `warehouse`: cannot execute CREATE SCHEMA in a read-only transaction [25006]  step=load attempt=1 code=warehouse::read_only
help: the server is a standby or read-only: connect to the primary
",
    );
    database.execute(&format!("BEGIN READ WRITE; ALTER DATABASE {} RESET default_transaction_read_only; COMMIT", database.name()));
    loses_nothing(&scene, &database);
}

/// What a server says when its disk is full, in mid-statement.
#[test]
fn a_disk_of_the_server_that_is_full() {
    let database = Database::create();
    let scene = Reach::of(&database).scene();
    let raise = "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100', HINT = 'Check free disk space.', \
                 MESSAGE = 'could not extend file \"base/16384/24576\": No space left on device'; END $$";
    scene.project.write("jobs/load/full.sql", format!("CREATE TABLE t (id int);\nINSERT INTO t VALUES (1);\n{raise};\n"));
    scene.project.steps("\n  - id: fill\n    sql: { file: full.sql }\n");
    scene.fails("\
17 Errand.Permanent warehouse::disk_full
error jobs/load/full.sql:3: could not extend file \"base/16384/24576\": No space left on device; hint: Check free disk space. (in PL/pgSQL function inline_code_block line 1 at RAISE) [53100]  step=fill attempt=1 code=warehouse::disk_full
help: free space on the server, or move the table to another tablespace; nothing was written
");
    wrote_nothing(&database);
    scene.project.steps(INGEST);
    loses_nothing(&scene, &database);
}

/// A restart of the server, in the middle of a statement: the administrator's command ends the sessions.
#[test]
fn a_server_that_restarts_in_mid_statement() {
    let database = Database::create();
    let scene = Reach::of(&database).scene();
    scene.project.steps("\n  - id: wait\n    sql: { text: \"create table t as select 1 as s from pg_sleep(60)\" }\n");
    let (running, id) = scene.project.spawn(&["--interval", DAY]);
    terminate(&database, "wait_event = 'PgSleep'");
    let run = scene.project.ended(running, &id);
    scene.says(
        &run,
        "\
14 Errand.Transient warehouse::connection_lost
error jobs/load/job.yaml:8: terminating connection due to administrator command [57P01]  step=wait attempt=1 code=warehouse::connection_lost
help: whether the last statement took effect is not known; [secret] looks before it repeats anything
",
    );
    wrote_nothing(&database);
    scene.project.steps(INGEST);
    loses_nothing(&scene, &database);
}

#[test]
fn a_server_that_restarts_in_mid_statement_and_is_there_at_the_next_attempt() {
    let database = Database::create();
    let scene = Reach::of(&database).scene();
    let step = "\n  - id: wait\n    sql: { text: \"create table t as select 1 as s from pg_sleep({{ 60 if run.attempt == 1 else 0 }})\" }\n    retry: { max_attempts: 2, interval: 1s }\n";
    scene.project.steps(step);
    let (running, id) = scene.project.spawn(&["--interval", DAY]);
    terminate(&database, "wait_event = 'PgSleep'");
    let run = scene.project.ended(running, &id).ok();
    assert_eq!(run.step("wait")["attempts"].as_array().map_or(0, Vec::len), 2);
    same(&scene.told(&run.outcome.stderr), "\
warn  attempt failed, tried again after a pause: jobs/load/job.yaml:8: terminating connection due to administrator command [57P01]  step=wait attempt=1 code=warehouse::connection_lost pause_ms=N
");
    assert_eq!(database.value("SELECT count(*) FROM t"), "1");
}

/// While rows are on their way.
#[test]
fn a_server_that_goes_away_in_mid_copy() {
    let database = Database::create();
    let proxy = Proxy::start(&database.address());
    let reach = Reach { port: proxy.port().to_string(), ..Reach::of(&database) };
    let scene = reach.scene();
    let rows: String = (0..200_000).map(|id| format!("{id},name {id}\n")).collect();
    scene.project.write("data/a.csv", format!("id,name\n{rows}"));
    // Several, for one may lie in two pieces.
    for id in 150_000..150_005 {
        proxy.when(Direction::ToServer, format!("name {id}"), Fault::Cut);
    }
    proxy.when(Direction::ToServer, "COPY ", Fault::Stall);
    let (running, id) = scene.project.spawn(&["--interval", DAY]);
    proxy.wait_until_fired();
    proxy.refuse(true);
    proxy.resume();
    let run = scene.project.ended(running, &id);
    scene.says(
        &run,
        "\
14 Errand.Transient warehouse::connection_lost
error lost the connection to the server: connection closed  step=load attempt=1 code=warehouse::connection_lost
help: whether the last statement took effect is not known; [secret] looks before it repeats anything
",
    );
    wrote_nothing(&database);
    scene.connect(&Reach::of(&database).connection());
    scene.run().ok();
    assert_eq!(database.rows("SELECT count(*), count(DISTINCT id), max(name) FROM t"), ["200000|200000|name 99999"]);
    assert_eq!(scene.run().ok().how("load"), "already_done");
}

/// Ends the session that runs such a statement, as a shutdown does.
fn terminate(database: &Database, which: &str) {
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND {which}"
    );
    e2e::condition::wait_for("the statement", std::time::Duration::from_secs(20), || (!database.rows(&sql).is_empty()).then_some(()));
}

/// A server that says this to whoever comes; its port.
fn answers(what: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a bound listener has an address").port().to_string();
    let what = what.to_owned();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            // What the client does not hear of is what it is tested with.
            let _ = client.read(&mut [0; 8192]);
            let _ = client.write_all(&what);
        }
    });
    port
}

/// The message `ErrorResponse` of the protocol.
fn refusal(code: &str, message: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
    let length = u32::try_from(fields.len() + 4).expect("a short message");
    [b"E".as_slice(), &length.to_be_bytes(), fields.as_bytes()].concat()
}
