//! Snowflake's stages: missing, elsewhere, without rights; and servers that go away while rows are copied from one.

use e2e::errand::Errand;
use e2e::proxy::{Direction, Fault, Proxy};
use e2e::s3::Bucket;
use e2e::snowflake::Database;
use e2e::snowflake_server::{Reply, Script, SnowflakeServer};

use super::snowflake::{BY_PASSWORD, connection, fresh, scene};
use super::{DAY, Scene};

/// Rows on their way into an account through a stage: a job, its account and its bucket.
struct Loading {
    scene: Scene,
    database: Database,
    bucket: Bucket,
    proxy: Proxy,
}

const INGEST: &str = "
  - id: load
    ingest: { source: { files: { connection: lake, path: 'a.csv', format: csv } }, target: { table: t } }
";

impl Loading {
    fn new() -> Self {
        let (database, bucket) = (Database::create(), Bucket::create());
        database.execute(&[&format!("CREATE STAGE {}.PUBLIC.STAGE URL='s3://{}/stage/'", database.name(), bucket.name())]);
        let settings = database.settings().clone();
        let proxy = Proxy::start(settings.host.as_deref().unwrap_or_default().trim_start_matches("http://"));
        let password = settings.password.clone().expect("the tests log in with a password");
        let errand = Errand::new()
            .env("ERRAND_SECRET_SNOWFLAKE", &password)
            .env("AWS_ACCESS_KEY_ID", "testing")
            .env("AWS_SECRET_ACCESS_KEY", "not-even-tested");
        let scene = Scene::new(errand, "").secret(password).secret("not-even-tested");
        let scene = scene
            .hiding(format!("127.0.0.1:{}", proxy.port()), "SERVER")
            .hiding(database.name(), "DATABASE")
            .hiding(bucket.name(), "BUCKET");
        let loading = Self { scene, database, bucket, proxy };
        loading.connect("PUBLIC.STAGE", "stage/");
        loading.scene.project.write("data/a.csv", "id,name\n1,ada\n2,bob\n3,\n").steps(INGEST);
        loading
    }

    /// Names a stage, and the prefix of the bucket that is thought to be its place.
    fn connect(&self, stage: &str, prefix: &str) {
        let (settings, database, bucket, port) = (self.database.settings(), self.database.name(), &self.bucket, self.proxy.port());
        let warehouse = format!(
            "      warehouse: {{ snowflake: {{ account: {}, user: {}, password: {{ secret: snowflake }}, database: {database}, \
             host: \"http://127.0.0.1:{port}\", stage: \"@{database}.{stage}\", staging: stage }} }}\n",
            settings.account, settings.user
        );
        let files = format!(
            "      stage: {{ s3: {{ bucket: {}, prefix: {prefix}, region: us-east-1, endpoint: \"{}\" }} }}\n\
             \x20     lake: {{ directory: {{ path: data }} }}\n",
            bucket.name(),
            bucket.endpoint()
        );
        self.scene.connect(&(warehouse + &files));
    }

    /// The next run gives exactly the rows of the file, and leaves nothing behind.
    #[track_caller]
    fn loses_nothing(&self) {
        self.scene.run().ok();
        let rows = self.database.rows(&format!("SELECT ID, NAME FROM {}.PUBLIC.T ORDER BY ID", self.database.name()));
        assert_eq!(rows, ["1|ada", "2|bob", "3|NULL"]);
        assert_eq!(self.scene.run().ok().how("load"), "already_done");
        assert_eq!(self.bucket.keys("stage/"), [""; 0], "what was staged is gone");
    }

    /// The server is gone for good when a statement with `part` is on its way to it; then it is back.
    #[track_caller]
    fn goes_away_at(&self, part: &str, expected: &str) {
        self.proxy.when(Direction::ToServer, part, Fault::Stall);
        let (running, id) = self.scene.project.spawn(&["--interval", DAY]);
        self.proxy.wait_until_fired();
        self.proxy.refuse(true);
        self.proxy.cut();
        self.proxy.resume();
        let run = self.scene.project.ended(running, &id);
        self.scene.says(&run, expected);
        self.proxy.refuse(false);
    }

    #[track_caller]
    fn wrote_nothing(&self) {
        let tables =
            self.database.rows(&format!("SELECT COUNT(*) FROM {}.INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'T'", self.database.name()));
        assert_eq!(tables, ["0"]);
    }
}

#[test]
fn a_stage_that_is_missing() {
    let loading = Loading::new();
    loading.connect("PUBLIC.NO_STAGE", "stage/");
    loading.scene.fails("\
17 Errand.Permanent warehouse::missing_object
error 002003: SQL compilation error: Stage 'DATABASE.PUBLIC.NO_STAGE' does not exist or not authorized. (query ID)  step=load attempt=1 code=warehouse::missing_object
help: check the name, and that the role may use its database and schema: Snowflake hides what a role may not see
");
    loading.wrote_nothing();
    loading.connect("PUBLIC.STAGE", "stage/");
    loading.loses_nothing();
}

#[test]
fn files_that_are_not_where_the_stage_looks() {
    let loading = Loading::new();
    loading.connect("PUBLIC.STAGE", "elsewhere/");
    loading.scene.fails("\
17 Errand.Permanent warehouse::missing_object
error 091016: Remote file 's3://BUCKET/stage/PART' was not found. If you are running a copy command, please make sure files are not deleted. (query ID)  step=load attempt=1 code=warehouse::missing_object
help: check the URL of the stage, and that the bucket and the file are there
");
    loading.wrote_nothing();
    loading.connect("PUBLIC.STAGE", "stage/");
    loading.loses_nothing();
}

#[test]
fn a_server_that_goes_away_in_mid_copy() {
    let loading = Loading::new();
    loading.goes_away_at("COPY INTO", "\
14 Errand.Transient warehouse::connection_lost
warn  outcome of a statement is not known, it is looked up  why=\"network error: error sending request: WHY\"
warn  the staging table of `t` could not be dropped, the next run will: cannot log in to Snowflake account `ERRAND-TESTS` at `127.0.0.1`: network error: error sending request: WHY  step=load
error the connection to Snowflake was lost: network error: error sending request: WHY  step=load attempt=1 code=warehouse::connection_lost
help: what was not committed is undone; errand reads its ledger before it repeats anything
");
    loading.wrote_nothing();
    loading.loses_nothing();
}

#[test]
fn a_server_that_goes_away_before_the_commit() {
    let loading = Loading::new();
    loading.goes_away_at("COMMIT", "\
14 Errand.Transient warehouse::unreachable
error connection `warehouse`: cannot log in to Snowflake account `ERRAND-TESTS` at `127.0.0.1`: network error: error sending request: WHY  step=load attempt=1 code=warehouse::unreachable
help: check `account` and `host`, that the name resolves, and that the network lets this machine through
");
    loading.loses_nothing();
}

/// An account that refuses to copy from the stage; nothing is committed.
#[track_caller]
fn refuses_to_copy(code: &str, state: &str, message: &str, expected: &str) {
    let server = SnowflakeServer::start(Script::new().on("COPY INTO", Reply::error(code, state, message)).then(fresh()));
    let scene = scene(&server.url(), BY_PASSWORD);
    let warehouse = connection(&server.url(), BY_PASSWORD).replace(" } }\n", ", stage: \"@d.public.s\", staging: stage } }\n");
    scene.connect(&(warehouse + "      stage: { directory: { path: staged } }\n      lake: { directory: { path: data } }\n"));
    scene.project.write("data/a.csv", "id\n1\n").steps(INGEST);
    scene.fails(expected);
    assert_eq!(server.executions("COMMIT"), 0);
}

#[test]
fn no_rights_on_the_stage() {
    let message = "SQL access control error:\nInsufficient privileges to operate on stage 'S'";
    refuses_to_copy("003001", "42501", message, "\
17 Errand.Permanent warehouse::permission
error 003001: SQL access control error: Insufficient privileges to operate on stage 'S' (query ID)  step=load attempt=1 code=warehouse::permission
help: grant the privilege to the role of the connection, or name another `role`
");
}

/// The account may not read the bucket that the runner may write.
#[test]
fn no_rights_on_the_bucket_behind_the_stage() {
    let message = "Failure using stage area. Cause: [Access Denied (Status Code: 403; Error Code: AccessDenied)]";
    refuses_to_copy("091003", "22000", message, "\
17 Errand.Permanent warehouse::permission
error 091003: Failure using stage area. Cause: [Access Denied (Status Code: 403; Error Code: AccessDenied)] (query ID)  step=load attempt=1 code=warehouse::permission
help: check the storage integration of the stage, and the rights of its AWS role on the bucket
");
}

#[test]
fn a_bucket_behind_the_stage_that_is_none() {
    let message = "Failure using stage area. Cause: [The specified bucket does not exist (Status Code: 404; Error Code: NoSuchBucket)]";
    refuses_to_copy("091003", "22000", message, "\
17 Errand.Permanent warehouse::missing_object
error 091003: Failure using stage area. Cause: [The specified bucket does not exist (Status Code: 404; Error Code: NoSuchBucket)] (query ID)  step=load attempt=1 code=warehouse::missing_object
help: check the URL of the stage, and that the bucket and the file are there
");
}

/// The role of the integration does not trust the account.
#[test]
fn an_integration_that_may_not_take_its_role() {
    let message = "Error assuming AWS_ROLE:\nUser: arn:aws:iam::111111111111:user/x4rv0000-s is not authorized to perform: sts:AssumeRole on \
                   resource: arn:aws:iam::222222222222:role/errand";
    refuses_to_copy("003167", "42601", message, "\
17 Errand.Permanent warehouse::permission
error 003167: Error assuming AWS_ROLE: User: arn:aws:iam::111111111111:user/x4rv0000-s is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::222222222222:role/errand (query ID)  step=load attempt=1 code=warehouse::permission
help: check the storage integration of the stage, and the rights of its AWS role on the bucket
");
}
