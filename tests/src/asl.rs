//! The definitions of `state-machines/` as they lie there, with minutes shortened to seconds. Nothing else of them differs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// What becomes of the times of a definition. Waits and pauses become a second or two.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Seconds without a heartbeat that are a hang, instead of 300.
    pub heartbeat: u64,
    /// Seconds after a job's timeout that are too late, instead of 300.
    pub margin: u64,
}

/// The folder of the definitions.
///
/// # Panics
/// Never: the package lies in the repository.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").join("state-machines")
}

/// A definition in Amazon States Language, with shorter times.
///
/// # Panics
/// When it is not JSON.
#[must_use]
pub fn shortened(text: &str, times: Times) -> Value {
    let mut definition = serde_json::from_str(text).unwrap_or_else(|error| panic!("a definition is no JSON: {error}"));
    shorten(&mut definition, times);
    definition
}

fn shorten(value: &mut Value, times: Times) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match (key.as_str(), member.as_str()) {
                    ("HeartbeatSeconds", _) => *member = json!(times.heartbeat),
                    ("IntervalSeconds" | "MaxDelaySeconds" | "Seconds", _) => *member = json!(1),
                    (_, Some(text)) if text.starts_with("States.MathRandom(") => *member = json!("States.MathRandom(1, 2)"),
                    (_, Some("States.MathAdd($.timeout_seconds, 300)")) => {
                        *member = json!(format!("States.MathAdd($.timeout_seconds, {})", times.margin));
                    }
                    _ => shorten(member, times),
                }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(|member| shorten(member, times)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
