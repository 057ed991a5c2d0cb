//! How a run reaches its buckets: with its own authorities, and with one client for each connection.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use e2e::errand::Errand;
use e2e::project::Project;
use e2e::s3::Bucket;
use e2e::services;
use e2e::tls_front::TlsFront;

const EXPORT: &str = "
  - id: orders
    export: { query: 'select 1 as id', to: { connection: bucket, path: orders.csv }, format: csv }
";

/// A project that exports to a bucket behind an endpoint.
fn project(errand: Errand, bucket: &Bucket, endpoint: &str, steps: &str) -> Project {
    let project = Project::within(errand.env("AWS_REGION", services::s3_region()));
    let yaml = format!(
        "version: 1
default_environment: local
environments:
  local:
    connections:
      warehouse: {{ duckdb: {{ path: state/warehouse.duckdb }} }}
      bucket: {{ s3: {{ bucket: {}, prefix: out/, region: us-east-1, endpoint: '{endpoint}' }} }}
contacts:
  team: {{ email: {{ to: [team@example.com] }} }}
",
        bucket.name()
    );
    project.write("errand.yaml", yaml).steps(steps);
    project
}

fn with_keys() -> Errand {
    services::s3_credentials().into_iter().fold(Errand::new(), |errand, (name, value)| errand.env(name, value))
}

fn path(file: &Path) -> String {
    file.to_string_lossy().into_owned()
}

#[test]
fn a_bucket_behind_a_private_authority_is_reached_with_its_certificate() {
    let bucket = Bucket::create();
    let front = TlsFront::before(bucket.endpoint());
    let errand = with_keys().env("ERRAND_CA_FILE", path(&front.authority()));
    let project = project(errand, &bucket, &front.endpoint(), EXPORT);
    assert_eq!(project.run("2026-01-05").ok().how("orders"), "succeeded");
    assert_eq!(bucket.get("out/orders.csv"), b"id\n1\n");
}

#[test]
fn without_its_certificate_it_is_not_trusted() {
    let bucket = Bucket::create();
    let front = TlsFront::before(bucket.endpoint());
    let project = project(with_keys(), &bucket, &front.endpoint(), EXPORT);
    let run = project.run("2026-01-05").fails(14, "store::unreachable");
    assert!(run.message().contains("certificate") && !bucket.keys("out/").contains(&"out/orders.csv".to_owned()), "{}", run.message());
}

#[test]
fn a_file_without_certificates_is_named() {
    let bucket = Bucket::create();
    let project = project(with_keys().env("ERRAND_CA_FILE", "/dev/null"), &bucket, bucket.endpoint(), EXPORT);
    let run = project.run("2026-01-05").fails(10, "aws::ca_file");
    assert!(run.message().contains("`/dev/null`"), "{}", run.message());
}

#[test]
fn all_steps_of_a_run_share_the_client_of_a_connection() {
    let bucket = Bucket::create();
    let directory = tempfile::tempdir().expect("a directory");
    let (script, asked) = (directory.path().join("credentials"), directory.path().join("asked"));
    let answer = r#"{"Version": 1, "AccessKeyId": "testing", "SecretAccessKey": "testing"}"#;
    fs::write(&script, format!("#!/bin/sh\necho asked >>{}\necho '{answer}'\n", asked.display())).expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a file of our own");
    let config = directory.path().join("config");
    fs::write(&config, format!("[default]\ncredential_process = {}\n", script.display())).expect("written");
    let steps: String = (0..4).map(|at| EXPORT.replace("orders", &format!("orders_{at}"))).collect();
    let errand = Errand::new().env("AWS_CONFIG_FILE", path(&config));
    let project = project(errand, &bucket, bucket.endpoint(), &steps);
    let _ = project.run("2026-01-05").ok();
    assert_eq!(bucket.keys("out/").len(), 4);
    // A client asks when it is made, and once more for what it keeps.
    let times = fs::read_to_string(&asked).expect("the SDK asks").lines().count();
    assert!((1..=2).contains(&times), "credentials were asked for {times} times");
}
