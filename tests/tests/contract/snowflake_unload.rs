//! Snowflake: rows that went to the stage on their way out, and a run that ends before they were read. They stay nowhere.

use std::path::{Path, PathBuf};

use e2e::snowflake_server::{Reply, Script, SnowflakeServer};
use errand_engine::warehouse::Purpose;
use errand_model::failure::Failure;
use tokio_util::sync::CancellationToken;

use super::site::{is_failure, purpose};
use super::snowflake_protocol::{open_staged, with_records};

/// What reading a query came to whose unload is answered so, after it wrote a file and `then` happened; and whether the file is there.
async fn read(reply: Reply, then: impl FnOnce(&SnowflakeServer, &CancellationToken)) -> (Result<u64, Failure>, bool) {
    let staged = tempfile::tempdir().expect("a directory can be made");
    let one = Reply::rows(&[("A", "fixed(10,0)")], &[]);
    let server = with_records(Script::new().on("COPY INTO", reply.stalls()).on("LIMIT 0", one));
    let (warehouse, cancelled) = (open_staged(&server, Some(staged.path())).await, CancellationToken::new());
    let mut session = warehouse.session(&Purpose { cancelled: cancelled.clone(), ..purpose() }).await.expect("a session");
    let (result, file) = tokio::join!(session.read("select a from t", Box::new(|_| Ok(()))), async {
        while server.executions("COPY INTO") == 0 {
            tokio::task::yield_now().await;
        }
        let file = unloaded(&server, staged.path());
        then(&server, &cancelled);
        file
    });
    (result, file.exists())
}

/// A file where the server was told to write.
fn unloaded(server: &SnowflakeServer, staged: &Path) -> PathBuf {
    let sql = server.statements().into_iter().find(|sql| sql.contains("COPY INTO")).unwrap_or_default();
    let name = sql.split("/unload/").nth(1).and_then(|rest| rest.split('/').next()).expect("a directory of its own");
    let file = staged.join("unload").join(name).join("data_0_0_0.snappy.parquet");
    std::fs::create_dir_all(file.parent().expect("a directory")).expect("a directory can be made");
    std::fs::write(&file, "rows of a customer").expect("a file can be written");
    file
}

#[tokio::test]
async fn an_unload_that_is_cancelled_leaves_no_file() {
    let (result, is_there) = read(Reply::done(), |_, cancelled| cancelled.cancel()).await;
    is_failure(result, "warehouse::cancelled");
    assert!(!is_there);
}

#[tokio::test]
async fn an_unload_that_fails_leaves_no_file() {
    let internal = Reply::error("000603", "XX000", "SQL execution internal error: Processing aborted due to error 300010.");
    let (result, is_there) = read(internal, |server, _| server.release()).await;
    is_failure(result, "warehouse::conflict");
    assert!(!is_there);
}
