//! `insertFiles`: the call that tells a pipe of files. The server writes the names down, and loads them in its own time.

use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use reqwest::{Client, StatusCode, Url};
use serde_json::json;
use snowflake_connector_rs::EndpointConfig;

use super::super::account::Account;
use super::super::error;
use super::token;
use crate::clock::Clock;
use crate::warehouse::Pipe;

/// Most files of one call.
const FILES: usize = 5000;
/// Time for one call.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often one call is made: the server loads a name once, however often it hears it.
const TRIES: u32 = 4;

/// Tells a pipe of files, by their paths under its stage.
pub(super) async fn insert(account: &Account, pipe: &Pipe, paths: &[String]) -> Result<(), Failure> {
    let Some((key, passphrase)) = &account.key else { return Err(no_key(pipe)) };
    let client = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
    let client = client.map_err(|error| error::internal(&error.to_string()))?;
    for files in paths.chunks(FILES) {
        let body = json!({ "files": files.iter().map(|path| json!({ "path": path })).collect::<Vec<_>>() });
        let mut tries = 1;
        loop {
            let bearer = token::token(&account.account, &account.user, key, passphrase.as_ref(), Clock::system().now().as_second())?;
            let url = url(account, pipe, &format!("{:032x}", fastrand::u128(..)))?;
            let request = client.post(url).bearer_auth(bearer).header("Accept", "application/json");
            let request = request.header("X-Snowflake-Authorization-Token-Type", "KEYPAIR_JWT").json(&body);
            let (again, failure) = match request.send().await {
                Ok(answer) if answer.status() == StatusCode::OK => break,
                Ok(answer) => {
                    let status = answer.status();
                    refused(pipe, status, &answer.text().await.unwrap_or_default())
                }
                Err(error) => (true, error::unreachable(&error.without_url().to_string())),
            };
            if !again || tries == TRIES {
                return Err(failure);
            }
            tracing::debug!(error = %failure, tries, "files are told again");
            tokio::time::sleep(Duration::from_millis(500 << tries)).await;
            tries += 1;
        }
        tracing::info!(pipe = pipe.name, files = files.len(), "files are told to the pipe");
    }
    Ok(())
}

fn url(account: &Account, pipe: &Pipe, request: &str) -> Result<Url, Failure> {
    let mut url = match &account.endpoint {
        EndpointConfig::CustomBaseUrl(url) => url.clone(),
        _ => Url::parse(&format!("https://{}.snowflakecomputing.com", account.account))
            .map_err(|error| error::internal(&error.to_string()))?,
    };
    let name = plain(&pipe.sql_name);
    let mut segments = url.path_segments_mut().map_err(|()| error::internal("an endpoint without paths"))?;
    segments.clear().extend(["v1", "data", "pipes", &name, "insertFiles"]);
    drop(segments);
    url.query_pairs_mut().append_pair("requestId", request);
    Ok(url)
}

/// A name without its quotes where it needs none: each part stands for itself there.
fn plain(sql_name: &str) -> String {
    let is_plain = |part: &str| part.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '_' | '$'));
    let parts = sql_name.split("\".\"").map(|part| part.trim_matches('"')).collect::<Vec<_>>();
    if parts.iter().all(|part| is_plain(part)) { parts.join(".") } else { sql_name.to_owned() }
}

fn refused(pipe: &Pipe, status: StatusCode, body: &str) -> (bool, Failure) {
    let said = serde_json::from_str::<serde_json::Value>(body).ok().and_then(|body| body["message"].as_str().map(str::to_owned));
    let said = said.map(|said| format!(": {}", said.replace('\n', " "))).unwrap_or_default();
    let message = format!("Snowflake does not take files for pipe `{}` (HTTP {}){said}", pipe.name, status.as_u16());
    match status.as_u16() {
        401 | 403 => (
            false,
            Failure::new(FailureKind::Permanent, "warehouse::authentication", message).help(
                "set the public key with `ALTER USER ... SET RSA_PUBLIC_KEY`, and make a role with OPERATE and MONITOR on the pipe the user's default",
            ),
        ),
        404 => (
            false,
            Failure::new(FailureKind::Permanent, "warehouse::missing_object", message)
                .help("`errand setup snowflake` prints the SQL that makes the pipe; the user's default role must be one that may operate it"),
        ),
        408 | 429 | 500..=599 => (true, Failure::new(FailureKind::Transient, "warehouse::unreachable", message)),
        _ => (false, Failure::new(FailureKind::Permanent, "warehouse::refused", message)),
    }
}

fn no_key(pipe: &Pipe) -> Failure {
    let message = format!("pipe `{}` must be told of files, which takes a key pair, and the connection has none", pipe.name);
    Failure::new(FailureKind::Definition, "warehouse::authentication", message)
        .help("give the connection a `private_key`, or make the pipe with `AUTO_INGEST = TRUE`, as `errand setup snowflake` does")
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn names_lose_quotes_that_they_do_not_need() {
        assert_eq!(plain(r#""D"."RAW"."ORDERS_PIPE""#), "D.RAW.ORDERS_PIPE");
        assert_eq!(plain(r#""d"."RAW"."X""#), r#""d"."RAW"."X""#);
    }
}
