use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use serde_json::Value;

use super::{email, pagerduty, slack, sns, teams, webhook};
use crate::alert::tests::{failed, recovered};
use crate::message::{Fact, Link, Message};

fn shown(value: &Value) -> String {
    format!("{value:#}")
}

#[test]
fn slack_gets_blocks() {
    insta::assert_snapshot!(shown(&slack::payload(&failed().on_call)));
    insta::assert_snapshot!("slack_gets_blocks_of_a_recovery", shown(&slack::payload(&recovered().on_call)));
}

#[test]
fn pagerduty_gets_a_trigger_and_a_resolve_under_one_key() {
    let (trigger, resolve) = (pagerduty::payload(&failed().on_call), pagerduty::payload(&recovered().on_call));
    assert_eq!(trigger["dedup_key"], resolve["dedup_key"]);
    insta::assert_snapshot!(shown(&trigger));
    insta::assert_snapshot!("pagerduty_gets_a_resolve", shown(&resolve));
}

#[test]
fn teams_gets_an_adaptive_card() {
    insta::assert_snapshot!(shown(&teams::payload(&failed().on_call)));
}

#[test]
fn mail_and_sns_get_subject_and_text() {
    let message = failed().impact;
    insta::assert_snapshot!(format!("{}\n{}\n\n{}", sns::subject(&message), email::subject(&message), message.text()));
}

#[test]
fn a_webhook_gets_signed_json() {
    let message = failed().on_call;
    insta::assert_snapshot!(shown(&webhook::payload(&message)));
    assert_eq!(webhook::delivery(&message), "run-orders-20.failure");
    // Python: hmac.new(b"key", b"1700000000.{}", hashlib.sha256).hexdigest()
    let expected = "v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
    assert_eq!(webhook::signature("key", 1_700_000_000, "{}").expect("a key"), expected);
    assert_ne!(webhook::signature("key", 1, "a").expect("a key"), webhook::signature("key", 2, "a").expect("a key"));
}

/// A message whose texts are all the same.
fn of(text: &str, facts: usize) -> Message {
    let mut message = failed().on_call;
    (message.title, message.lead, message.incident) = (text.to_owned(), text.to_owned(), text.to_owned());
    message.facts = (0..facts).map(|index| if index % 2 == 0 { Fact::literal(text, text) } else { Fact::plain(text, text) }).collect();
    message.links = vec![Link::new(text, text); 5];
    message.notes = vec![text.to_owned(); 3];
    message
}

fn keeps_the_limits(message: &Message) {
    let units = |value: &Value| value.as_str().map_or(0, |text| text.encode_utf16().count());
    let blocks = slack::payload(message);
    let blocks = blocks["blocks"].as_array().expect("blocks");
    assert!(blocks.len() <= 50);
    assert!(units(&blocks[0]["text"]["text"]) <= 150);
    for block in blocks {
        let text = if block["type"] == "context" { &block["elements"][0]["text"] } else { &block["text"]["text"] };
        assert!(units(text) <= 3_000, "{}", units(text));
    }
    let event = pagerduty::payload(message);
    assert!(event["payload"]["summary"].as_str().is_some_and(|text| text.chars().count() <= 1_024));
    assert!(event["dedup_key"].as_str().is_some_and(|text| text.chars().count() <= 255) && event.to_string().len() < 512_000);
    assert!(teams::payload(message).to_string().len() <= 28_000);
    let subject = sns::subject(message);
    assert!(subject.len() <= 100 && subject.is_ascii() && !subject.chars().any(char::is_control));
    assert!(!email::subject(message).contains(['\n', '\r']));
}

#[test]
fn huge_texts_keep_the_limits_of_every_channel() {
    for piece in ["x", "&", "<>", "🦀", "\"\\\n", "\u{1}", "```"] {
        keeps_the_limits(&of(&piece.repeat(5_000), 12));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_text_keeps_the_limits(text in any::<String>(), times in 1_usize..200) {
        keeps_the_limits(&of(&text.repeat(times), 10));
        prop_assert!(sns::subject(&of(&text, 1)).is_ascii());
    }
}
