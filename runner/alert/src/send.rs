//! Deliveries of one alert, side by side: each channel is tried again as long as it is worth it and there is time, and none waits for another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use errand_model::deployment::Deployment;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::channel::{Again, Channel, Tools, open};
use crate::clock;
use crate::message::{Audience, Message};
use crate::record::{Delivery, Telling};
use crate::route;

/// Most tries of one delivery in one invocation.
const TRIES: u32 = 6;
/// First pause between two tries; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// Tries every delivery that is not done, and writes down what became of it.
pub(crate) async fn deliver(telling: &mut Telling, deployment: &Deployment, tools: &Arc<Tools>, deadline: Instant) {
    let waiting: Vec<usize> = (0..telling.deliveries.len()).filter(|index| telling.deliveries[*index].done_at.is_none()).collect();
    let mut opened = opened(&waiting, &telling.deliveries, deployment, tools, deadline).await;
    // The others tell of a channel that cannot even be opened: somebody must repair it.
    let notes: Vec<String> = waiting
        .iter()
        .filter_map(|index| {
            let why = opened.get(index)?.as_ref().err()?;
            let Delivery { contact, channel, .. } = &telling.deliveries[*index];
            Some(format!("{channel} of `{contact}` could not be told: {why}"))
        })
        .collect();
    let mut sending = JoinSet::new();
    let mut results: BTreeMap<usize, Result<(), String>> = BTreeMap::new();
    for index in waiting {
        match opened.remove(&index) {
            Some(Ok(channel)) => {
                let delivery = &telling.deliveries[index];
                let message = telling.said.to(delivery.audience).clone();
                let message = with_notes(message, delivery.audience, &notes).map(|text| tools.secrets.clean(text));
                sending.spawn(async move { (index, persist(&*channel, &message, deadline).await) });
            }
            Some(Err(why)) => {
                results.insert(index, Err(why));
            }
            None => {
                results.insert(index, Err("there was no time left".to_owned()));
            }
        }
    }
    while let Some(ended) = sending.join_next().await {
        match ended {
            Ok((index, result)) => {
                results.insert(index, result);
            }
            Err(error) => tracing::error!(%error, "a delivery ended early"),
        }
    }
    for (index, result) in results {
        write_down(&mut telling.deliveries[index], result.map_err(|why| tools.secrets.clean(&why)));
    }
}

type Opened = Result<Box<dyn Channel>, String>;

async fn opened(
    waiting: &[usize],
    deliveries: &[Delivery],
    deployment: &Deployment,
    tools: &Arc<Tools>,
    deadline: Instant,
) -> BTreeMap<usize, Opened> {
    let mut opening = JoinSet::new();
    for index in waiting.iter().copied() {
        let channel = route::channel(deployment, &deliveries[index]).cloned();
        let tools = Arc::clone(tools);
        opening.spawn(async move {
            let Some(channel) = channel else { return (index, Err("the deployment has no such channel any more".to_owned())) };
            let opened = timeout_at(deadline, open(&channel, &tools)).await;
            (index, opened.unwrap_or_else(|_| Err("its secret could not be read in time".to_owned())))
        });
    }
    let mut all = BTreeMap::new();
    while let Some(ended) = opening.join_next().await {
        all.extend(ended);
    }
    all
}

fn with_notes(mut message: Message, audience: Audience, notes: &[String]) -> Message {
    if audience == Audience::OnCall {
        message.notes.extend_from_slice(notes);
    }
    message
}

/// Sends until it is done, refused, or there is no time left.
async fn persist(channel: &dyn Channel, message: &Message, deadline: Instant) -> Result<(), String> {
    let mut pause = PAUSE;
    let mut tries = 1;
    loop {
        let trouble = match timeout_at(deadline, channel.send(message)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(trouble)) => trouble,
            Err(_) => return Err(format!("no answer in the time that was left (try {tries})")),
        };
        let wait = match trouble.again {
            Again::Never => return Err(trouble.why),
            Again::Soon => pause,
            Again::After(asked) => asked.max(PAUSE),
        };
        if tries == TRIES || Instant::now() + wait >= deadline {
            return Err(format!("{} (tries: {tries})", trouble.why));
        }
        sleep(wait).await;
        pause *= 2;
        tries += 1;
    }
}

fn write_down(delivery: &mut Delivery, result: Result<(), String>) {
    delivery.tries += 1;
    let Delivery { contact, channel, .. } = &*delivery;
    match result {
        Ok(()) => {
            tracing::info!(contact, channel, "told");
            delivery.done_at = Some(clock::now());
            delivery.error = None;
        }
        Err(why) => {
            tracing::error!(contact, channel, why, "could not be told");
            delivery.error = Some(why);
        }
    }
}
