//! Invariants of the layout that the compiler does not see: what each package may depend on, and how large a file may grow.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_path_buf()
}

fn dependencies(package: &str, arguments: &[&str]) -> Vec<String> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let mut command = Command::new(cargo);
    command.current_dir(root()).args([
        "tree",
        "--offline",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "-p",
        package,
    ]);
    let output = command.args(arguments).output().expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn assert_without(package: &str, arguments: &[&str], banned: &[&str]) {
    let found = dependencies(package, arguments);
    assert!(found.len() > 3, "{package} has dependencies: {found:?}");
    let offending: Vec<&String> = found.iter().filter(|name| banned.iter().any(|word| name.contains(word))).collect();
    assert!(offending.is_empty(), "{package} must not depend on {offending:?}");
}

#[test]
fn the_model_has_no_runtime_no_driver_and_no_cloud() {
    assert_without("errand-model", &[], &["tokio", "duckdb", "git2", "aws", "reqwest", "tracing", "arrow"]);
}

#[test]
fn the_lambda_never_links_the_embedded_warehouse() {
    assert_without("errand-alert", &[], &["duckdb", "git2", "arrow"]);
}

#[test]
fn the_slim_build_has_no_embedded_warehouse() {
    assert_without("errand-engine", &["--no-default-features"], &["duckdb"]);
}

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let mut folders = vec![root().join("runner"), root().join("tests")];
    let mut long = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let lines = std::fs::read_to_string(&path).expect("UTF-8").lines().count();
                if lines > 500 {
                    long.push(format!("{}: {lines}", path.display()));
                }
            }
        }
    }
    assert!(long.is_empty(), "files that want to be two: {long:?}");
}
