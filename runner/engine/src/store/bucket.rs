//! A bucket of S3 as a store: what a pattern names there.

use errand_model::failure::{Failure, FailureKind};
use tokio_util::sync::CancellationToken;

use super::FileEntry;
use super::glob::{Pattern, is_inside};
use crate::aws::s3::Bucket;

/// Keys of one page.
const PAGE: i32 = 1000;

/// The objects that `pattern` names, sorted by path.
pub(super) async fn list(bucket: Bucket, pattern: String, cancelled: CancellationToken) -> Result<Vec<FileEntry>, Failure> {
    let pattern = Pattern::parse(&pattern)?;
    // Keys come in their order: of those that begin with the name of one, the first is that one.
    let most = if pattern.is_literal() { 1 } else { PAGE };
    let mut found = Vec::new();
    let mut next = None;
    loop {
        let page = bucket.page(pattern.prefix(), pattern.is_flat() && !pattern.is_literal(), most, next).await?;
        for object in page.objects {
            if !pattern.is_match(&object.key) {
                continue;
            }
            if !is_inside(&object.key) {
                return Err(no_path(&bucket.url(&object.key)));
            }
            found.push(FileEntry::of_object(&bucket, object, cancelled.clone()));
        }
        next = page.next;
        if next.is_none() || pattern.is_literal() {
            break;
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn no_path(url: &str) -> Failure {
    Failure::new(FailureKind::Rejected, "source::path", format!("the key of `{url}` is no path: it has an empty part, `.` or `..`"))
        .help("copy the object to a plain key, or choose a pattern that does not match it")
}
