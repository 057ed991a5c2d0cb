//! The fingerprint of what a step does, written the same whatever the layout of the file.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::yaml::{Node, NodeKind};

/// SHA-256 in hex over the step's kind with all its keys, the texts of the files it names, and the constants of the job.
///
/// Places, comments and the order of keys do not count, nor do `id`, `name`, `needs`, `if`, timeouts and retries.
pub(super) fn digest(kind: &str, body: &Node, vars: Option<&Node>, files: &[Arc<str>]) -> String {
    let mut text = format!("errand step 1\n{kind}\n");
    canonical(body, &mut text);
    text.push('\n');
    if let Some(vars) = vars {
        canonical(vars, &mut text);
    }
    for file in files {
        let _ = write!(text, "\nfile {}\n{file}", file.len());
    }
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn canonical(node: &Node, out: &mut String) {
    let _ = match &node.kind {
        NodeKind::Null => write!(out, "null"),
        NodeKind::Bool(value) => write!(out, "{value}"),
        NodeKind::Number(text) => write!(out, "#{text}"),
        NodeKind::Text(text) => write!(out, "{text:?}"),
        NodeKind::Sequence(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            write!(out, "]")
        }
        NodeKind::Mapping(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by(|(one, _), (other, _)| one.text.cmp(&other.text));
            out.push('{');
            for (key, value) in sorted {
                let _ = write!(out, "{:?}:", key.text);
                canonical(value, out);
                out.push(',');
            }
            write!(out, "}}")
        }
    };
}
