//! The services and the proxy that other tests build on do what those tests believe.

use e2e::postgres::Database;
use e2e::proxy::{Direction, Fault, Proxy};
use e2e::{s3, snowflake};
use tokio_postgres::{Client, Error, NoTls};

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the proxy lets it through");
    tokio::spawn(connection);
    client
}

async fn insert_and_commit(client: &Client) -> Result<(), Error> {
    client.batch_execute("BEGIN; INSERT INTO kept VALUES (1)").await?;
    client.batch_execute("COMMIT").await
}

#[tokio::test]
async fn a_commit_that_is_cut_off_before_the_server_leaves_nothing() {
    let database = Database::create();
    database.execute("CREATE TABLE kept (id int)");
    let proxy = Proxy::start(&database.address());
    proxy.when(Direction::ToServer, "COMMIT", Fault::Cut);
    let client = connect(&database.url_through(proxy.port())).await;
    assert!(insert_and_commit(&client).await.is_err());
    assert_eq!(database.value("SELECT count(*) FROM kept"), "0");
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_committed() {
    let database = Database::create();
    database.execute("CREATE TABLE kept (id int)");
    let proxy = Proxy::start(&database.address());
    proxy.when(Direction::ToClient, "COMMIT\0", Fault::Cut);
    let client = connect(&database.url_through(proxy.port())).await;
    assert!(insert_and_commit(&client).await.is_err());
    assert_eq!(database.value("SELECT count(*) FROM kept"), "1");
    proxy.when(Direction::ToServer, "COMMIT", Fault::CutAfterAnswer);
    let client = connect(&database.url_through(proxy.port())).await;
    assert!(insert_and_commit(&client).await.is_err());
    assert_eq!((database.value("SELECT count(*) FROM kept"), proxy.fired(), proxy.connections()), ("2".to_owned(), 2, 2));
}

#[tokio::test]
async fn a_stalled_connection_goes_on_when_it_is_resumed() {
    let database = Database::create();
    let proxy = Proxy::start(&database.address());
    let client = connect(&database.url_through(proxy.port())).await;
    proxy.stall();
    let asking = tokio::spawn(async move { client.batch_execute("SELECT 1").await });
    tokio::task::yield_now().await;
    assert!(!asking.is_finished());
    proxy.resume();
    asking.await.expect("no panic").expect("the answer came");
    proxy.refuse(true);
    assert!(tokio_postgres::connect(&database.url_through(proxy.port()), NoTls).await.is_err());
}

#[test]
fn each_test_has_a_snowflake_database_of_its_own() {
    let (one, other) = (snowflake::Database::create(), snowflake::Database::create());
    one.execute(&["CREATE TABLE T (ID INT, NAME VARCHAR)", "INSERT INTO T VALUES (1, NULL), (2, 'ä')"]);
    other.execute(&["CREATE TABLE T (ID INT)"]);
    assert_eq!(one.rows("SELECT * FROM T ORDER BY ID"), ["1|NULL", "2|ä"]);
    assert!(other.rows("SELECT * FROM T").is_empty());
}

#[test]
fn each_test_has_a_bucket_of_its_own() {
    let (one, other) = (s3::Bucket::create(), s3::Bucket::create());
    one.put("folder/a.csv", "1,2\n");
    assert_eq!(one.get("folder/a.csv"), b"1,2\n");
    assert_eq!((one.keys("folder/"), other.keys("")), (vec!["folder/a.csv".to_owned()], Vec::new()));
}

#[test]
fn snowflake_loads_from_and_unloads_to_a_bucket() {
    let (bucket, database) = (s3::Bucket::create(), snowflake::Database::create());
    bucket.put("in/a.csv", "1,x\n2,\\N\n");
    let stage = format!("CREATE STAGE S URL='s3://{}/' STORAGE_INTEGRATION = I", bucket.name());
    let load = "COPY INTO T FROM @S/in/ FILES = ('a.csv') FILE_FORMAT = (TYPE = CSV) FORCE = FALSE PURGE = FALSE";
    let unload = "COPY INTO @S/out/ FROM (SELECT * FROM T) FILE_FORMAT = (TYPE = PARQUET) HEADER = TRUE";
    database.execute(&["CREATE TABLE T (ID INT, NAME VARCHAR)", &stage, load, load, unload]);
    assert_eq!(database.rows("SELECT * FROM T ORDER BY ID"), ["1|x", "2|NULL"]);
    assert_eq!(bucket.keys("out/"), ["out/data_0_0_0.snappy.parquet"]);
}
