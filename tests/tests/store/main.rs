//! Directories and buckets behave alike; buckets also on bad days of servers and networks.
//!
//! Needs an S3 server: `ERRAND_TEST_S3_ENDPOINT`, which `tests/services start` starts.

mod connection;
mod staging;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use e2e::s3_fault::{Fault, FaultyS3};
use errand_engine::store::{Existing, Patience, Put, Store, failure_of};
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Connection, S3};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;

#[expect(clippy::disallowed_methods, reason = "services are named to tests by the environment")]
fn endpoint() -> String {
    std::env::var("ERRAND_TEST_S3_ENDPOINT").expect("ERRAND_TEST_S3_ENDPOINT is set: run `tests/services start`, then `tests/services env`")
}

fn s3(endpoint: &str, bucket: &str, prefix: &str) -> Store {
    let s3 = S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        region: Some("us-east-1".to_owned()),
        endpoint: Some(endpoint.to_owned()),
    };
    let patience = Patience {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(20),
        stall: Duration::from_millis(500),
        attempts: 4,
        backoff: Duration::from_millis(10),
    };
    Store::open(&Connection::S3(s3), Path::new("/")).expect("opened").with_patience(patience)
}

/// A bucket of the test's own, behind a proxy.
fn bucket(name: &str) -> (FaultyS3, Store) {
    let proxy = FaultyS3::before(&endpoint());
    let bucket = format!("errand-{name}-{}", std::process::id());
    make_bucket(&bucket);
    let store = s3(&proxy.endpoint(), &bucket, "in/");
    (proxy, store)
}

fn make_bucket(name: &str) {
    use std::io::Write;
    let endpoint = endpoint();
    let host = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let mut server = std::net::TcpStream::connect(host).expect("the S3 server listens");
    write!(server, "PUT /{name} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").expect("asked");
    let mut answer = String::new();
    server.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn content(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}

async fn read(store: &Store, key: &str) -> Result<Vec<u8>, Failure> {
    let entry = store.head(key).await?.expect("it is there");
    tokio::task::spawn_blocking(move || {
        let mut content = Vec::new();
        match entry.open()?.read_to_end(&mut content) {
            Ok(_) => Ok(content),
            Err(error) => Err(failure_of(&error).expect("the server is to blame")),
        }
    })
    .await
    .expect("no panic")
}

async fn paths(store: &Store, pattern: &str) -> Vec<String> {
    store.list(pattern).await.expect("listed").into_iter().map(|entry| entry.path).collect()
}

async fn behaves(store: &Store) {
    for key in ["b.csv", "a.csv", "a.txt", "2026/11/x.csv", "2026/11/deep/y.csv", "2026/12/z.csv", "odd name (1)+ü%.csv"] {
        store.put(key, key.as_bytes().to_vec().into()).await.expect("written");
    }
    assert_eq!(paths(store, "?.csv").await, ["a.csv", "b.csv"]);
    assert_eq!(paths(store, "2026/**/*.csv").await, ["2026/11/deep/y.csv", "2026/11/x.csv", "2026/12/z.csv"]);
    assert_eq!(paths(store, "2026/1?/[xz].csv").await, ["2026/11/x.csv", "2026/12/z.csv"]);
    assert_eq!(paths(store, "{a,b}.{csv,txt}").await, ["a.csv", "a.txt", "b.csv"]);
    assert_eq!(paths(store, "2026/11/x.csv").await, ["2026/11/x.csv"]);
    assert!(paths(store, "a.cs").await.is_empty() && paths(store, "2026").await.is_empty() && paths(store, "2025/*").await.is_empty());
    assert_eq!(store.list("../x").await.expect_err("outside").code, "source::path");
    assert_eq!(read(store, "odd name (1)+ü%.csv").await.expect("read"), "odd name (1)+ü%.csv".as_bytes());
    assert_eq!(store.put_new("a.csv", "other".into()).await, Ok(Put::Exists));
    assert_eq!(store.put_new("new/c.csv", "mine".into()).await, Ok(Put::Created));
    assert_eq!(store.get_small("a.csv", 100).await.expect("read").as_deref(), Some(b"a.csv".as_slice()));
    assert_eq!(store.get_small("a.csv", 3).await.expect_err("large").code, "store::too_large");
    assert_eq!(store.get_small("none.csv", 3).await, Ok(None));
    assert_eq!(store.head("none.csv").await, Ok(None));
    let under = store.under("2026");
    assert_eq!(paths(&under, "12/*").await, ["12/z.csv"]);
    let entry = store.head("a.csv").await.expect("asked").expect("there");
    let listed = store.list("a.csv").await.expect("listed").remove(0);
    let known = tokio::task::spawn_blocking(move || {
        listed.check_unchanged().expect("the same");
        (entry.digest().expect("read"), entry.read_at(2, 3).expect("read"), entry.read_at(4, 2).expect_err("past the end").code)
    });
    let (digest, part, code) = known.await.expect("no panic");
    assert_eq!((&digest[..8], &part[..], code.as_str()), ("32f29f33", b"csv".as_slice(), "source::unreadable"));
    store.remove(&["a.csv".to_owned(), "none.csv".to_owned()]).await.expect("removed");
    assert_eq!(store.head("a.csv").await, Ok(None));
}

#[tokio::test]
async fn a_directory_is_a_store() {
    let root = tempfile::tempdir().expect("a directory");
    behaves(&Store::directory(root.path())).await;
}

#[tokio::test]
async fn a_bucket_is_a_store() {
    let (_proxy, store) = bucket("store");
    behaves(&store).await;
}

#[tokio::test]
async fn large_files_arrive_whole_in_both_ways() {
    let (_proxy, bucket) = bucket("large");
    let root = tempfile::tempdir().expect("a directory");
    let expected = content(41 * MIB + 13);
    let local = root.path().join("local.bin");
    std::fs::write(&local, &expected).expect("written");
    for store in [bucket, Store::directory(root.path().join("store"))] {
        assert_eq!(store.put_file(&local, "a/big.bin").await, Ok(expected.len() as u64));
        assert!(read(&store, "a/big.bin").await.expect("read") == expected, "the content is the same");
        assert_eq!(store.put_new_file(&local, "a/big.bin").await, Ok(Put::Exists));
        assert_eq!(store.put_new_file(&local, "a/other.bin").await, Ok(Put::Created));
        assert_eq!(paths(&store, "a/*").await, ["a/big.bin", "a/other.bin"]);
    }
}

#[tokio::test]
async fn an_upload_that_is_dropped_never_was() {
    let (proxy, bucket) = bucket("dropped");
    let root = tempfile::tempdir().expect("a directory");
    for store in [bucket, Store::directory(root.path())] {
        let mut upload = store.upload("big.bin", Existing::Replace).expect("begun");
        for bytes in [30 * MIB, 10, 10] {
            upload.write(content(bytes).into()).await.expect("written");
        }
        upload.abort().await;
        assert!(paths(&store, "**").await.is_empty());
    }
    assert!(std::fs::read_dir(root.path()).expect("read").next().is_none());
    assert_eq!((proxy.requests("POST "), proxy.requests("DELETE ")), (1, 1));
}

#[tokio::test]
async fn a_cancelled_upload_is_aborted() {
    let (proxy, store) = bucket("cancelled");
    let token = CancellationToken::new();
    let store = store.cancelled_by(token.clone());
    let mut upload = store.upload("big.bin", Existing::Replace).expect("begun");
    upload.write(content(30 * MIB).into()).await.expect("written");
    // The third is taken once the first is on its way.
    for _ in 0..2 {
        upload.write(content(10).into()).await.expect("written");
    }
    token.cancel();
    assert_eq!(upload.finish().await.expect_err("cancelled").kind, FailureKind::Cancelled);
    assert_eq!((proxy.requests("POST "), proxy.requests("DELETE ")), (1, 1));
    assert_eq!(store.list("*").await.expect_err("cancelled").kind, FailureKind::Cancelled);
}

#[tokio::test]
async fn a_server_that_is_slow_down_is_asked_again_and_not_for_ever() {
    let (proxy, store) = bucket("slow");
    proxy.inject("PUT ", Fault::Refuse { status: 503, code: "SlowDown" }, 2);
    store.put("a.csv", "a".into()).await.expect("written in the end");
    proxy.inject("GET ", Fault::Refuse { status: 503, code: "SlowDown" }, 2);
    assert_eq!(paths(&store, "*").await, ["a.csv"]);
    proxy.inject("GET ", Fault::Refuse { status: 503, code: "SlowDown" }, 1000);
    let before = proxy.requests("GET ");
    let failure = store.list("*").await.expect_err("never");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Transient, "store::unavailable"));
    assert_eq!(proxy.requests("GET ") - before, 4);
}

#[tokio::test]
async fn a_body_that_is_cut_or_stalls_is_read_on_and_not_for_ever() {
    let (proxy, store) = bucket("cut");
    let expected = content(11 * MIB);
    store.put("big.bin", expected.clone().into()).await.expect("written");
    proxy.inject("GET ", Fault::Cut(100_000), 2);
    proxy.inject("GET ", Fault::Stall(200_000), 1);
    proxy.inject("GET ", Fault::Lose, 1);
    assert!(read(&store, "big.bin").await.expect("read") == expected, "the content is the same");
    proxy.inject("GET ", Fault::Cut(10), 1000);
    let failure = read(&store, "big.bin").await.expect_err("never whole");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Transient, "store::cut"));
}

#[tokio::test]
async fn an_object_that_is_replaced_while_it_is_read_is_noticed() {
    let (_proxy, store) = bucket("replaced");
    store.put("big.bin", content(MIB).into()).await.expect("written");
    let entry = store.head("big.bin").await.expect("asked").expect("there");
    let (entry, mut opened) = tokio::task::spawn_blocking(move || {
        let mut opened = entry.open().expect("opened");
        opened.read_exact(&mut [0; 1000]).expect("read");
        (entry, opened)
    })
    .await
    .expect("no panic");
    store.put("big.bin", content(MIB + 1).into()).await.expect("written");
    let failures = tokio::task::spawn_blocking(move || {
        let error = opened.read_to_end(&mut Vec::new()).expect_err("changed");
        (failure_of(&error).expect("a failure"), entry.check_unchanged().expect_err("changed"))
    });
    let (failure, unchanged) = failures.await.expect("no panic");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Transient, "source::changed"));
    assert_eq!(unchanged.code, "source::changed");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_known_to_be_its_own() {
    let (proxy, store) = bucket("lost");
    proxy.inject("PUT ", Fault::Lose, 1);
    assert_eq!(store.put_new("a.csv", "a".into()).await, Ok(Put::Created));
    assert_eq!(store.put_new("a.csv", "a".into()).await, Ok(Put::Exists));
}

#[tokio::test]
async fn a_failed_part_leaves_nothing_behind() {
    let (proxy, store) = bucket("part");
    proxy.inject("partNumber=2", Fault::Refuse { status: 403, code: "AccessDenied" }, 1000);
    let mut upload = store.upload("big.bin", Existing::Replace).expect("begun");
    let mut failure = None;
    for _ in 0..8 {
        failure = failure.or(upload.write(content(8 * MIB).into()).await.err());
        if failure.is_some() {
            break;
        }
    }
    let failure = failure.expect("a part was refused");
    assert_eq!((failure.code.as_str(), failure.kind), ("store::permission", FailureKind::Permanent));
    assert_eq!(proxy.requests("DELETE "), 1);
    assert!(paths(&store, "**").await.is_empty());
}

#[tokio::test]
async fn what_a_server_refuses_is_one_clear_failure() {
    let (proxy, store) = bucket("refused");
    let expected = BTreeMap::from([
        ("AccessDenied", (403, "store::permission", FailureKind::Permanent)),
        ("ExpiredToken", (400, "store::expired_token", FailureKind::Permanent)),
        ("InvalidAccessKeyId", (403, "store::authentication", FailureKind::Permanent)),
        ("PermanentRedirect", (301, "store::wrong_region", FailureKind::Definition)),
        ("NoSuchBucket", (404, "store::no_bucket", FailureKind::Definition)),
    ]);
    for (code, (status, expected, kind)) in expected {
        proxy.inject("GET ", Fault::Refuse { status, code }, 1);
        let failure = store.list("*").await.expect_err(code);
        assert_eq!((failure.code.as_str(), failure.kind), (expected, kind), "{failure}");
        assert!(failure.help.is_some() && failure.message.contains("said by the test") && failure.message.contains(code), "{failure}");
    }
    let failure = s3(&endpoint(), "errand-no-such-bucket", "").list("*").await.expect_err("no bucket");
    assert_eq!(failure.code, "store::no_bucket");
    let failure = s3("http://127.0.0.1:1", "lake", "").list("*").await.expect_err("nobody there");
    assert_eq!((failure.code.as_str(), failure.kind), ("store::unreachable", FailureKind::Transient));
}

#[tokio::test]
async fn listings_of_many_pages_are_whole() {
    let (proxy, store) = bucket("pages");
    let names: Vec<String> = (0..1100).map(|at| format!("{at:05}.csv")).collect();
    for name in &names {
        store.put(name, "x".into()).await.expect("written");
    }
    assert_eq!(paths(&store, "*.csv").await, names);
    assert!(proxy.requests("continuation-token") >= 1);
    store.remove(&names).await.expect("removed");
    assert!(paths(&store, "**").await.is_empty());
}
