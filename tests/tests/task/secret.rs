//! Secrets of AWS Secrets Manager: those that a run needs, and nowhere to be seen.

use e2e::{moto, services};
use serde_json::json;

use crate::stage::Stage;

fn step(secret: &str) -> String {
    format!("  - id: tell\n    command: {{ run: [/bin/sh, -c, 'echo got $TOKEN; exit 3'], env: {{ TOKEN: {{ secret: {secret} }} }} }}\n")
}

/// Keeps a secret in moto's Secrets Manager, under a name of its own.
fn keep(name: &str, value: &str) {
    let secret = json!({ "Name": name, "SecretString": value, "ClientRequestToken": "0123456789abcdef0123456789abcdef" });
    let _ = moto::ask("secretsmanager", "POST", "/", "secretsmanager.CreateSecret", &secret);
}

#[test]
fn a_secret_of_secrets_manager_reaches_its_step_and_nobody_else() {
    let stage = Stage::new("", &step("shop_token"));
    let prefix = format!("{}/", services::unique_name());
    keep(&format!("{prefix}shop_token"), "hunter2-hunter2");
    let outcome = stage.task("run").env("ERRAND_SECRET_PREFIX", &prefix).run(["task"]).expect_code(17);
    let (error, cause) = stage.failure();
    assert_eq!(error, "Errand.Permanent");
    let everything = format!("{}{}{cause}{}{:?}", outcome.stdout, outcome.stderr, stage.report("run"), stage.aws.calls());
    assert!(outcome.stderr.contains("got [secret]"), "{}", outcome.stderr);
    assert!(!everything.contains("hunter2"), "{everything}");
}

#[test]
fn a_secret_that_is_nowhere_is_a_failure_that_names_its_place() {
    let stage = Stage::new("", &step("no_such_secret"));
    let _ = stage.run("run").expect_code(10);
    let (error, cause) = stage.failure();
    assert_eq!((error.as_str(), &cause["code"]), ("Errand.Definition", &"secret::missing".into()));
    assert!(cause["help"].as_str().unwrap_or_default().contains("`errand/prod/no_such_secret`"), "{cause}");
}
