//! One HTTPS request to a webhook: what its answer means. Addresses are secrets: no error holds one.

use std::time::Duration;

use errand_model::failure::chain;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode, Url};

use super::{Again, Trouble};
use crate::text::{cut, one_line};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most characters of an answer that are told.
const MOST: usize = 200;

/// The client of all webhooks. Redirects are not followed: they would lead elsewhere what is meant for one receiver.
///
/// Fails when there is no source of trust.
pub(crate) fn client() -> Result<Client, String> {
    Client::builder()
        .timeout(PATIENCE)
        .connect_timeout(Duration::from_secs(4))
        .redirect(Policy::none())
        .user_agent("errand-alert")
        .build()
        .map_err(|error| format!("no HTTPS client: {error}"))
}

/// An address as a secret holds it: encrypted, unless it is this machine.
pub(super) fn address(text: &str) -> Result<Url, Trouble> {
    let wrong = || Trouble::never("the address in its secret is no `https://` URL");
    let url = Url::parse(text.trim()).map_err(|_| wrong())?;
    let is_local = url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    if url.scheme() == "https" || (url.scheme() == "http" && is_local) { Ok(url) } else { Err(wrong()) }
}

/// Sends a request; `name` is the service, for people.
pub(super) async fn send(name: &str, request: RequestBuilder) -> Result<(), Trouble> {
    let answer = request.send().await.map_err(|error| unreachable(name, error))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let pause = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    let said = one_line(&answer.text().await.unwrap_or_default());
    let said = if said.is_empty() { String::new() } else { format!(": {}", cut(&said, MOST)) };
    let why = format!("{name} answered {}{said}", status.as_u16());
    let again = match (status, pause) {
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(pause)) => Again::After(pause),
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => Again::Soon,
        _ if status.is_server_error() => Again::Soon,
        _ => Again::Never,
    };
    Err(Trouble { why, again })
}

/// The client's error would show the address.
fn unreachable(name: &str, error: reqwest::Error) -> Trouble {
    if error.is_timeout() {
        return Trouble::soon(format!("{name} did not answer in time"));
    }
    Trouble::soon(format!("{name} cannot be reached: {}", chain(&error.without_url())))
}
