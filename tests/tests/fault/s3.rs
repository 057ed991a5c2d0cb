//! Buckets: rights, regions, credentials, servers that go away; and that files go in and out whole in every format.

use std::net::TcpListener;

use duckdb::Connection;
use e2e::errand::Errand;
use e2e::postgres::Database;
use e2e::project::text_rows;
use e2e::s3::Bucket;
use e2e::s3_fault::{Fault, FaultyS3};

use super::{Scene, postgres};

const KEY: &str = "the-secret-access-key";
const ROWS: &str = "id,name,amount\n1,ada,1.50\n2,bob,\n3,\"c, d\",-0.25\n";
const WAREHOUSE: &str = "      warehouse: { duckdb: { path: state/warehouse.duckdb } }\n";
const INGEST: &str = "
  - id: load
    ingest: { source: { files: { connection: lake, path: 'in/*.csv', format: csv } }, target: { table: t } }
";
const EXPORT: &str = "
  - id: rows
    sql: { text: \"create or replace table t as select 1 as id, 'ada' as name\" }
  - id: out
    export: { table: t, format: csv, to: { connection: lake, path: 'out/{{ run.date }}/t.csv' } }
";

/// Keys that the server of the tests takes, as it takes all.
pub(super) fn with_keys() -> Errand {
    Errand::new().env("AWS_ACCESS_KEY_ID", "AKIATESTING").env("AWS_SECRET_ACCESS_KEY", KEY)
}

pub(super) fn connection(name: &str, bucket: &str, endpoint: &str) -> String {
    format!("      {name}: {{ s3: {{ bucket: {bucket}, region: us-east-1, endpoint: \"{endpoint}\" }} }}\n")
}

/// A bucket with one file, behind a proxy, and a job that loads it.
struct Lake {
    bucket: Bucket,
    proxy: FaultyS3,
    scene: Scene,
}

impl Lake {
    fn new(steps: &str) -> Self {
        let bucket = Bucket::create();
        bucket.put("in/a.csv", ROWS);
        let proxy = FaultyS3::before(bucket.endpoint());
        let connections = WAREHOUSE.to_owned() + &connection("lake", bucket.name(), &proxy.endpoint());
        let scene = Scene::new(with_keys(), &connections).secret(KEY);
        scene.project.steps(steps);
        let scene = scene.hiding(bucket.name(), "BUCKET").hiding(proxy.endpoint().trim_start_matches("http://"), "SERVER");
        Self { bucket, proxy, scene }
    }

    #[track_caller]
    fn loads_its_rows(&self) {
        self.scene.run().ok();
        assert_eq!(self.scene.project.rows("select id, name, amount from t"), ["1|ada|1.50", "2|bob|NULL", "3|c, d|-0.25"]);
        assert_eq!(self.scene.run().ok().how("load"), "already_done");
    }

    fn tables(&self) -> Vec<String> {
        self.scene.project.tables()
    }
}

/// The server refuses requests that begin so; with that gone the job loads its rows.
#[track_caller]
fn refuses(request: &str, status: u16, code: &'static str, expected: &str) {
    let lake = Lake::new(INGEST);
    lake.proxy.inject(request, Fault::Refuse { status, code }, 1);
    lake.scene.fails(expected);
    assert_eq!(lake.tables(), [""; 0]);
    lake.loads_its_rows();
}

#[test]
fn no_right_to_list() {
    refuses(
        "GET ",
        403,
        "AccessDenied",
        "\
17 Errand.Permanent store::permission
error cannot list `s3://BUCKET/in/`: said by the test (AccessDenied, request TEST)  step=load attempt=1 code=store::permission
help: give the role `s3:ListBucket` on `arn:aws:s3:::BUCKET`, or correct `bucket` and `prefix` of the connection
",
    );
}

#[test]
fn no_right_to_read() {
    refuses(
        "/in/a.csv",
        403,
        "AccessDenied",
        "\
17 Errand.Permanent store::permission
error cannot look at `s3://BUCKET/in/a.csv`: the server answered 403 (request TEST)  step=load attempt=1 code=store::permission
help: give the role `s3:GetObject` and `s3:ListBucket` on `arn:aws:s3:::BUCKET/*`, or correct `bucket` and `prefix` of the connection
",
    );
}

#[test]
fn a_token_that_expired() {
    refuses(
        "GET ",
        400,
        "ExpiredToken",
        "\
17 Errand.Permanent store::expired_token
error cannot list `s3://BUCKET/in/`: said by the test (ExpiredToken, request TEST)  step=load attempt=1 code=store::expired_token
help: get new credentials: the session they belong to has ended
",
    );
}

#[test]
fn a_token_that_is_none() {
    refuses(
        "GET ",
        403,
        "InvalidAccessKeyId",
        "\
17 Errand.Permanent store::authentication
error cannot list `s3://BUCKET/in/`: said by the test (InvalidAccessKeyId, request TEST)  step=load attempt=1 code=store::authentication
help: correct the access key, its secret and the session token
",
    );
}

#[test]
fn a_secret_key_that_is_wrong() {
    refuses(
        "GET ",
        403,
        "SignatureDoesNotMatch",
        "\
17 Errand.Permanent store::authentication
error cannot list `s3://BUCKET/in/`: said by the test (SignatureDoesNotMatch, request TEST)  step=load attempt=1 code=store::authentication
help: correct the access key, its secret and the session token
",
    );
}

#[test]
fn a_clock_that_is_wrong() {
    refuses(
        "GET ",
        403,
        "RequestTimeTooSkewed",
        "\
17 Errand.Permanent store::clock
error cannot list `s3://BUCKET/in/`: said by the test (RequestTimeTooSkewed, request TEST)  step=load attempt=1 code=store::clock
help: set the clock of this machine
",
    );
}

#[test]
fn a_bucket_of_another_region() {
    refuses(
        "GET ",
        301,
        "PermanentRedirect",
        "\
10 Errand.Definition store::wrong_region
error cannot list `s3://BUCKET/in/`: said by the test (PermanentRedirect, request TEST)  step=load attempt=1 code=store::wrong_region
help: set `region: eu-west-1` in the connection
",
    );
}

#[test]
fn a_key_of_kms_that_may_not_be_used() {
    refuses(
        "x-id=GetObject",
        400,
        "KMS.DisabledException",
        "\
17 Errand.Permanent store::permission
error cannot read `s3://BUCKET/in/a.csv`: said by the test (KMS.DisabledException, request TEST)  step=load attempt=1 code=store::permission
help: give the role `kms:Decrypt` and `kms:GenerateDataKey` for the bucket's key
",
    );
}

#[test]
fn a_bucket_that_is_none() {
    let lake = Lake::new(INGEST);
    lake.scene.connect(&(WAREHOUSE.to_owned() + &connection("lake", "errand-no-such-bucket", &lake.proxy.endpoint())));
    lake.scene.fails("\
10 Errand.Definition store::no_bucket
error cannot list `s3://errand-no-such-bucket/in/`: the specified bucket does not exist (NoSuchBucket)  step=load attempt=1 code=store::no_bucket
help: correct `bucket` of the connection, or create the bucket
");
    lake.scene.connect(&(WAREHOUSE.to_owned() + &connection("lake", lake.bucket.name(), &lake.proxy.endpoint())));
    lake.loads_its_rows();
}

#[test]
fn no_credentials() {
    let bucket = Bucket::create();
    let scene = Scene::new(Errand::new(), &(WAREHOUSE.to_owned() + &connection("lake", bucket.name(), bucket.endpoint())));
    scene.project.steps(INGEST);
    scene.fails("\
17 Errand.Permanent store::no_credentials
error no credentials for AWS: none in the environment, its files, the container and the machine  step=load attempt=1 code=store::no_credentials
help: give the task or machine a role, or set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `AWS_PROFILE`
");
}

#[test]
fn a_server_that_is_overloaded_for_long() {
    let lake = Lake::new(INGEST);
    lake.proxy.inject("GET ", Fault::Refuse { status: 503, code: "SlowDown" }, 6);
    lake.scene.fails(
        "\
14 Errand.Transient store::unavailable
error cannot list `s3://BUCKET/in/`: said by the test (SlowDown, request TEST)  step=load attempt=1 code=store::unavailable
help: the server was asked several times; run again later
",
    );
    lake.loads_its_rows();
}

#[test]
fn a_server_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let scene = Scene::new(with_keys(), &(WAREHOUSE.to_owned() + &connection("lake", "lake", &format!("http://{address}"))));
    scene.project.steps(INGEST);
    scene.hiding(address, "SERVER").secret(KEY).fails("\
14 Errand.Transient store::unreachable
error cannot list `s3://lake/in/`: dispatch failure: io error: client error (Connect): tcp connect error: Connection refused (os error 111)  step=load attempt=1 code=store::unreachable
help: see whether the network, a proxy and `endpoint` and `region` of the connection are right
");
}

#[test]
fn a_body_that_breaks_off_again_and_again() {
    let lake = Lake::new(INGEST);
    lake.proxy.inject("/in/a.csv", Fault::Cut(0), 100);
    lake.scene.fails("\
14 Errand.Transient store::cut
warn  an object is read on after its body broke off  object=s3://BUCKET/in/a.csv attempt=1 why=\"streaming error: error reading a body from connection: end of file before message length reached\"
warn  an object is read on after its body broke off  object=s3://BUCKET/in/a.csv attempt=2 why=\"streaming error: error reading a body from connection: end of file before message length reached\"
warn  an object is read on after its body broke off  object=s3://BUCKET/in/a.csv attempt=3 why=\"streaming error: error reading a body from connection: end of file before message length reached\"
warn  an object is read on after its body broke off  object=s3://BUCKET/in/a.csv attempt=4 why=\"streaming error: error reading a body from connection: end of file before message length reached\"
warn  an object is read on after its body broke off  object=s3://BUCKET/in/a.csv attempt=5 why=\"streaming error: error reading a body from connection: end of file before message length reached\"
error cannot read `s3://BUCKET/in/a.csv`: 6 answers in a row broke off, the last one: streaming error: error reading a body from connection: end of file before message length reached  step=load attempt=1 code=store::cut
help: see whether the network and the server are well
");
    assert_eq!(lake.tables(), [""; 0]);
    lake.proxy.forget();
    lake.loads_its_rows();
}

#[test]
fn no_right_to_write() {
    let lake = Lake::new(EXPORT);
    lake.proxy.inject("PUT ", Fault::Refuse { status: 403, code: "AccessDenied" }, 1);
    lake.scene.fails("\
17 Errand.Permanent store::permission
error cannot write `s3://BUCKET/out/2026-01-05/t.csv`: said by the test (AccessDenied, request TEST)  step=out attempt=1 code=store::permission
help: give the role `s3:PutObject` and `s3:AbortMultipartUpload` on `arn:aws:s3:::BUCKET/*`, or correct `bucket` and `prefix` of the connection
");
    assert_eq!(lake.bucket.keys("out/"), [""; 0], "nothing half written");
    lake.scene.run().ok();
    assert_eq!(lake.bucket.get("out/2026-01-05/t.csv"), b"id,name\n1,ada\n");
}

#[test]
fn a_server_that_goes_away_while_it_is_written_to() {
    let lake = Lake::new(EXPORT);
    lake.proxy.inject("PUT ", Fault::Lose, 100);
    lake.scene.fails("\
14 Errand.Transient store::unreachable
error cannot write `s3://BUCKET/out/2026-01-05/t.csv`: dispatch failure: other: client error (SendRequest): connection closed before message completed  step=out attempt=1 code=store::unreachable
help: see whether the network, a proxy and `endpoint` and `region` of the connection are right
");
    lake.proxy.forget();
    lake.scene.run().ok();
    assert_eq!(lake.bucket.get("out/2026-01-05/t.csv"), b"id,name\n1,ada\n");
}

/// A table of every type that files hold, as DuckDB writes it to Parquet.
const TYPES: &str = "select i::bigint as id, 'name ' || i as name, (i / 8)::decimal(12,2) as amount, date '2026-01-05' + i::integer as day, \
                     timestamp '2026-01-05 06:00:00' + to_seconds(i) as moment, i % 2 = 0 as even, case when i % 3 = 0 then null else i / 7.0 end::double as ratio \
                     from range(1000) r(i)";

/// The same digest of the rows on both warehouses.
const DIGEST: &str =
    "select count(*), sum(id), sum(amount), min(day), max(moment), sum(case when even then 1 else 0 end), count(ratio), min(name) from t";

fn parquet() -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("t.parquet");
    let duckdb = Connection::open_in_memory().expect("a database in memory opens");
    duckdb
        .execute_batch(&format!("COPY ({TYPES}) TO '{}' (FORMAT parquet, ROW_GROUP_SIZE 300)", file.display()))
        .expect("DuckDB writes files");
    std::fs::read(file).expect("it is there")
}

const PARQUET: &str = "
  - id: load
    ingest: { source: { files: { connection: lake, path: 'in/*.parquet', format: parquet } }, target: { table: t } }
  - id: csv
    needs: [load]
    export: { query: select * from t order by id, format: csv, to: { connection: lake, path: 'out/t.csv' } }
  - id: jsonl
    needs: [load]
    export: { query: select * from t order by id, format: jsonl, to: { connection: lake, path: 'out/t.jsonl' } }
  - id: parquet
    needs: [load]
    export: { query: select * from t order by id, format: parquet, to: { connection: lake, path: 'out/t.parquet' } }
";

/// What was exported holds what was loaded, in each format.
fn exports_are_whole(bucket: &Bucket) {
    let duckdb = Connection::open_in_memory().expect("a database in memory opens");
    let directory = tempfile::tempdir().expect("a directory");
    for (format, scan) in [("csv", "read_csv"), ("jsonl", "read_json"), ("parquet", "read_parquet")] {
        let file = directory.path().join(format);
        std::fs::write(&file, bucket.get(&format!("out/t.{format}"))).expect("written");
        let columns =
            "id, name, amount::decimal(12,2) as amount, day::date as day, moment::timestamp as moment, even, round(ratio, 9) as ratio";
        let theirs = format!("select {columns} from {scan}('{}')", file.display());
        let ours = format!("select {columns} from ({TYPES})");
        let difference = text_rows(&duckdb, &format!("select count(*) from (({theirs}) except all ({ours}))"));
        assert_eq!(
            (difference, text_rows(&duckdb, &format!("select count(*) from ({theirs})"))),
            (vec!["0".to_owned()], vec!["1000".to_owned()]),
            "{format}"
        );
    }
}

#[test]
fn parquet_of_a_bucket_goes_into_duckdb_and_out_in_every_format() {
    let lake = Lake::new(PARQUET);
    lake.bucket.put("in/t.parquet", parquet());
    let run = lake.scene.run().ok();
    assert_eq!(run.counts("load"), [1000, 1000, 0, 0]);
    assert_eq!(lake.scene.project.rows(DIGEST), ["1000|499500|62440.00|2026-01-05|2026-01-05 06:16:39|500|666|name 0"]);
    exports_are_whole(&lake.bucket);
    assert_eq!(lake.bucket.keys("out/").len(), 3);
}

#[test]
fn parquet_of_a_bucket_goes_into_postgres_and_out_in_every_format() {
    let (lake, database) = (Lake::new(PARQUET), Database::create());
    lake.bucket.put("in/t.parquet", parquet());
    let (warehouse, password) = postgres::warehouse(&database);
    let scene = Scene::new(
        with_keys().env("ERRAND_SECRET_POSTGRES", password),
        &(warehouse + &connection("lake", lake.bucket.name(), &lake.proxy.endpoint())),
    );
    scene.project.steps(PARQUET);
    let run = scene.run().ok();
    assert_eq!(run.counts("load"), [1000, 1000, 0, 0]);
    assert_eq!(database.rows(DIGEST), ["1000|499500|62440.00|2026-01-05|2026-01-05 06:16:39|500|666|name 0"]);
    exports_are_whole(&lake.bucket);
}
