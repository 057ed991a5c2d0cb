//! The alerting Lambda: tells people of failed, late and recovered runs.
//!
//! An event comes in (`event`), what to say is decided without any input or output (`alert`, `watchdog`, `recovery`, `route`), and what was
//! said to whom is kept in S3 (`state`, `record`), so that everybody is told once. Must never link an embedded warehouse.

mod alert;
mod aws;
mod catchup;
mod cause;
mod channel;
mod clock;
mod event;
mod execution;
mod handler;
mod history;
mod link;
mod message;
mod patrol;
mod record;
mod recovery;
mod route;
mod secret;
mod send;
mod settings;
mod state;
mod text;
mod time;
mod watchdog;

use std::sync::Arc;

use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use serde_json::Value;

use crate::handler::Handler;
use crate::settings::Settings;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let settings = Settings::from_environment()?;
    tracing_subscriber::fmt().json().with_env_filter(settings.log_filter.clone()).with_current_span(false).init();
    let handler = Arc::new(Handler::new(settings).await?);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        let handler = Arc::clone(&handler);
        async move { handler.handle(&event.payload, &event.context).await.map_err(untold) }
    }))
    .await
}

/// The error that Lambda records, and tries again.
fn untold(error_message: String) -> Diagnostic {
    Diagnostic { error_type: "Errand.Untold".to_owned(), error_message }
}
