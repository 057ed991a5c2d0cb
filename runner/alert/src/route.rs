//! Who hears of what, and which of the two texts: from the job's `owner`, `product_owner` and `alerts`, and the contacts of the project.
//!
//! Pure.

use errand_model::deployment::{DeployedChannel, DeployedJob, Deployment};
use errand_model::document::job::AlertEvent;

use crate::message::Audience;
use crate::record::Delivery;

/// The word of a channel, in records and logs.
pub(crate) const fn word(channel: &DeployedChannel) -> &'static str {
    match channel {
        DeployedChannel::Slack { .. } => "slack",
        DeployedChannel::Pagerduty { .. } => PAGERDUTY,
        DeployedChannel::Teams { .. } => "teams",
        DeployedChannel::Sns { .. } => "sns",
        DeployedChannel::Email { .. } => "email",
        DeployedChannel::Webhook { .. } => "webhook",
    }
}

/// The channel with incidents that are open until they are resolved.
pub(crate) const PAGERDUTY: &str = "pagerduty";

/// The deliveries of an event to all that listen, but for the contacts that `covered` names.
///
/// Fails naming a contact that the deployment lacks; the others are still there.
pub(crate) fn deliveries(
    deployment: &Deployment,
    job: &DeployedJob,
    event: AlertEvent,
    covered: &[String],
) -> (Vec<Delivery>, Vec<String>) {
    let names = job.listeners(event).into_iter().filter(|name| !covered.iter().any(|covered| covered == name));
    to(deployment, job, names)
}

/// The deliveries to these contacts, and what is wrong with them.
pub(crate) fn to<'a>(deployment: &Deployment, job: &DeployedJob, names: impl Iterator<Item = &'a str>) -> (Vec<Delivery>, Vec<String>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for name in names {
        match deployment.contacts.get(name) {
            Some(contact) => {
                let audience = audience(job, name);
                found.extend(contact.channels.iter().map(|channel| Delivery::new(name, word(channel), audience)));
            }
            None => problems.push(format!("there is no contact `{name}` in the deployment")),
        }
    }
    (found, problems)
}

/// A product owner who is not on call as well reads the impact; everybody else, the cause.
pub(crate) fn audience(job: &DeployedJob, contact: &str) -> Audience {
    if job.product_owner.as_deref() == Some(contact) && job.owner != contact { Audience::Impact } else { Audience::OnCall }
}

/// The channel of a delivery.
pub(crate) fn channel<'a>(deployment: &'a Deployment, delivery: &Delivery) -> Option<&'a DeployedChannel> {
    let contact = deployment.contacts.get(&delivery.contact)?;
    contact.channels.iter().find(|channel| word(channel) == delivery.channel)
}

#[cfg(test)]
mod tests {
    use errand_model::document::job::AlertEvent;

    use super::deliveries;
    use crate::alert::tests::deployment;
    use crate::message::Audience;

    fn told(event: AlertEvent, covered: &[&str]) -> Vec<String> {
        let deployment = deployment();
        let covered: Vec<String> = covered.iter().map(|name| (*name).to_owned()).collect();
        let (found, problems) = deliveries(&deployment, &deployment.jobs["orders"], event, &covered);
        let audience = |audience| if audience == Audience::Impact { "impact" } else { "on call" };
        let found = found.into_iter().map(|it| format!("{} {} {}", it.contact, it.channel, audience(it.audience)));
        found.chain(problems).collect()
    }

    #[test]
    fn each_contact_is_told_once_on_each_channel() {
        assert_eq!(
            told(AlertEvent::Failure, &[]),
            [
                "data-platform slack on call",
                "data-platform pagerduty on call",
                "finance email impact",
                "there is no contact `gone` in the deployment"
            ]
        );
        assert_eq!(told(AlertEvent::Late, &["data-platform"]), ["finance email impact"]);
        assert!(told(AlertEvent::Warning, &[]).is_empty());
    }
}
