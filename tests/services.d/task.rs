//! A stand-in for `errand task` in tests of the state machine: does what `ERRAND_INPUTS` says, and nothing else.
//!
//! Compiled by rustc alone (tests/src/cloud.rs), static, into an image FROM scratch. `ERRAND_INPUTS` holds parts divided by `|`, one for
//! each attempt, the last for all later ones too. A part holds commands divided by `;`:
//!
//!     succeed               SendTaskSuccess with outcome `succeeded`
//!     leave <outcome>       SendTaskSuccess with an outcome that leaves the work undone
//!     odd                   SendTaskSuccess with an output that is not a report
//!     fail <error>          SendTaskFailure
//!     fail <error> <code>   the same, with a code in its cause
//!     beat <n> <ms>         n heartbeats, each after ms milliseconds
//!     sleep <ms>            does nothing for so long
//!     memory                allocates until it is killed
//!     exit <code>           ends

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn main() {
    let script = variable("ERRAND_INPUTS");
    let attempt: usize = variable("ERRAND_ATTEMPT").parse().unwrap_or(1);
    let parts: Vec<&str> = script.split('|').collect();
    println!("{} attempt {attempt} {}", variable("ERRAND_RUN_ID"), variable("ERRAND_JOB"));
    for command in parts[(attempt - 1).min(parts.len() - 1)].split(';') {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["succeed"] => ask("SendTaskSuccess", &[("output", &report("succeeded", true))]),
            ["leave", outcome] => ask("SendTaskSuccess", &[("output", &report(outcome, false))]),
            ["odd"] => ask("SendTaskSuccess", &[("output", "{}")]),
            ["fail", error, code] => {
                let cause = format!("{{\"version\":1,\"message\":\"as the test says\",\"code\":\"{code}\"}}");
                ask("SendTaskFailure", &[("error", error), ("cause", &cause)]);
            }
            ["fail", error] => ask("SendTaskFailure", &[("error", error), ("cause", "{\"version\":1,\"message\":\"as the test says\"}")]),
            ["beat", times, pause] => (0..number(times)).for_each(|_| {
                std::thread::sleep(Duration::from_millis(number(pause)));
                ask("SendTaskHeartbeat", &[]);
            }),
            ["sleep", pause] => std::thread::sleep(Duration::from_millis(number(pause))),
            ["memory"] => {
                let mut kept = Vec::new();
                loop {
                    kept.push(vec![1_u8; 1 << 20]);
                }
            }
            ["exit", code] => std::process::exit(i32::try_from(number(code)).unwrap_or(1)),
            _ => std::process::exit(99),
        }
    }
}

fn report(outcome: &str, done: bool) -> String {
    format!(
        r#"{{"errand":{{"version":1,"outcome":"{outcome}","done":{done},"run_id":"{}","job":"{}","report":"","duration_ms":1,"rows_written":0,"warnings":0}}}}"#,
        variable("ERRAND_RUN_ID"),
        variable("ERRAND_JOB")
    )
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn ask(action: &str, members: &[(&str, &str)]) {
    let token = variable("ERRAND_TASK_TOKEN");
    let members: Vec<String> = std::iter::once(&("taskToken", token.as_str()))
        .chain(members)
        .map(|(name, value)| format!("\"{name}\":\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    let body = format!("{{{}}}", members.join(","));
    let url = variable("AWS_ENDPOINT_URL");
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let request = format!(
        "POST / HTTP/1.0\r\nHost: {host}\r\nX-Amz-Target: AWSStepFunctions.{action}\r\nContent-Type: application/x-amz-json-1.0\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={}/20260101/us-east-1/states/aws4_request, SignedHeaders=host, Signature=none\r\n\
         Content-Length: {}\r\n\r\n{body}",
        variable("AWS_ACCESS_KEY_ID"),
        body.len()
    );
    let answer = TcpStream::connect(host).and_then(|mut stream| {
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    match answer {
        Ok(answer) => println!("{action}: {}", answer.lines().next().unwrap_or_default()),
        Err(error) => println!("{action}: {error}"),
    }
}
