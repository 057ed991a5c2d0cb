//! Repositories on this machine: which state is taken, what stays as it is, and which trees are refused.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use e2e::program;
use errand_engine::checkout::{Credentials, Limits};

use crate::{Jobs, assert_at, assert_refused};

fn nobody() -> Credentials {
    Credentials::default()
}

/// Makes a commit of a tree that no git program would make, on branch `crafted` of the work repository: names may be anything.
fn craft(jobs: &Jobs, entries: &[(&str, &str, &str)]) {
    let mut tree = Vec::new();
    for (mode, name, id) in entries {
        tree.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        tree.extend((0..20).map(|at| u8::from_str_radix(&id[at * 2..at * 2 + 2], 16).expect("an id")));
    }
    let mut git = program::hermetic("git", jobs.scratch.path());
    git.current_dir(jobs.repository.path()).args(["hash-object", "-t", "tree", "-w", "--literally", "--stdin"]);
    let mut child = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git can be started");
    child.stdin.take().expect("piped").write_all(&tree).expect("git reads");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success());
    let tree = String::from_utf8(output.stdout).expect("an id");
    let commit = jobs.repository.git(["commit-tree", "-m", "crafted", tree.trim()]);
    jobs.repository.git(["update-ref", "refs/heads/crafted", &commit]);
}

fn blob(jobs: &Jobs) -> String {
    jobs.repository.git(["rev-parse", "HEAD:errand.yaml"])
}

#[test]
fn a_branch_a_tag_and_a_commit_become_one_commit() {
    let jobs = Jobs::new();
    let url = jobs.bare_url();
    for (reference, commit) in [
        (None, &jobs.third),
        (Some("main"), &jobs.third),
        (Some("release/1"), &jobs.second),
        (Some("refs/heads/release/1"), &jobs.second),
        (Some("v1.0"), &jobs.second),
        (Some(jobs.first.as_str()), &jobs.first),
        (Some(&jobs.first[..8]), &jobs.first),
        (Some(&jobs.first.to_ascii_uppercase()[..20]), &jobs.first),
    ] {
        let checkout = assert_at(&jobs, jobs.fetch(&url, reference, &nobody()), commit);
        assert_eq!(checkout.report.reference.as_deref(), reference);
        assert_eq!(checkout.report.repository, url);
    }
}

#[test]
fn a_directory_with_a_reference_is_taken_at_that_commit_and_left_alone() {
    let jobs = Jobs::new();
    jobs.repository.write("errand.yaml", "uncommitted: true\n");
    let path = jobs.repository.path().display().to_string();
    let checkout = assert_at(&jobs, jobs.fetch(&path, Some("v1.0"), &nobody()), &jobs.second);
    assert!(checkout.root.starts_with(jobs.target()));
    assert_eq!(fs::read_to_string(jobs.repository.path().join("errand.yaml")).expect("there"), "uncommitted: true\n");
    assert_eq!(jobs.repository.git(["status", "--porcelain"]), " M errand.yaml");
}

#[test]
fn a_directory_without_a_reference_is_used_in_place() {
    let jobs = Jobs::new();
    let path = jobs.repository.path().display().to_string();
    let checkout = assert_at(&jobs, jobs.fetch(&path, None, &nobody()), &jobs.third);
    assert_eq!(checkout.root, jobs.repository.path().canonicalize().expect("there"));
    jobs.repository.write("jobs/two/job.yaml", "name: two\n");
    let checkout = jobs.fetch(&path, None, &nobody()).expect("usable");
    assert_eq!(checkout.report.commit.as_deref(), Some(jobs.third.as_str()));
    assert!(checkout.report.uncommitted_changes);
    assert!(!jobs.target().exists());
}

#[test]
fn a_bare_repository_in_a_directory_gives_its_default_branch() {
    let jobs = Jobs::new();
    let path = jobs.served().join("jobs.git").display().to_string();
    assert_at(&jobs, jobs.fetch(&path, None, &nobody()), &jobs.third);
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let jobs = Jobs::new();
    let failure = assert_refused(jobs.fetch(&jobs.bare_url(), Some("realese/1"), &nobody()), "checkout::no_such_ref");
    assert!(failure.help.expect("help").contains("`release/1`"));
    let missing = "0123456789012345678901234567890123456789";
    assert_refused(jobs.fetch(&jobs.bare_url(), Some(missing), &nobody()), "checkout::no_such_ref");
    let tree = jobs.repository.git(["rev-parse", "main^{tree}"]);
    let failure = assert_refused(jobs.fetch(&jobs.bare_url(), Some(&tree), &nobody()), "checkout::no_such_ref");
    assert!(failure.message.contains("is a tree"), "{}", failure.message);
    assert_refused(jobs.fetch("file:///no/such/repository", None, &nobody()), "checkout::not_found");
    assert_refused(jobs.fetch("/no/such/directory", None, &nobody()), "checkout::not_found");
    let plain = tempfile::tempdir().expect("a temporary directory can be made");
    assert_refused(jobs.fetch(&plain.path().display().to_string(), Some("main"), &nobody()), "checkout::not_found");
}

#[test]
fn files_come_byte_for_byte_whatever_their_attributes_say() {
    let jobs = Jobs::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    jobs.repository.write("lines.sql", "select 1;\nselect 2;\n").write("big.bin", pointer).write("run.sh", "#!/bin/sh\ntouch /tmp/ran\n");
    fs::set_permissions(jobs.repository.path().join("run.sh"), fs::Permissions::from_mode(0o755)).expect("the owner can");
    jobs.repository.commit("plain files");
    let attributes = "*.sql text eol=crlf ident\n*.bin filter=lfs\n*.sh filter=run working-tree-encoding=UTF-16\n";
    jobs.repository.write(".gitattributes", attributes);
    jobs.repository.git(["add", ".gitattributes"]);
    jobs.repository.git(["commit", "--quiet", "--message", "attributes"]);
    jobs.publish();
    jobs.configure("filter.run.smudge", "touch /tmp/smudged");
    jobs.configure("core.autocrlf", "true");
    let root = jobs.fetch(&jobs.bare_url(), None, &nobody()).expect("checked out").root;
    assert_eq!(fs::read_to_string(root.join("lines.sql")).expect("there"), "select 1;\nselect 2;\n");
    assert_eq!(fs::read_to_string(root.join("big.bin")).expect("there"), pointer);
    let mode = |name: &str| fs::metadata(root.join(name)).expect("there").permissions().mode() & 0o111;
    assert_eq!((mode("run.sh") != 0, mode("lines.sql")), (true, 0));
    assert!(!root.join(".git").exists());
}

#[test]
fn a_symbolic_link_is_refused_with_its_path() {
    let jobs = Jobs::new();
    std::os::unix::fs::symlink("/etc/passwd", jobs.repository.path().join("jobs/one/secrets.yaml")).expect("a link can be made");
    jobs.repository.commit("link");
    jobs.publish();
    let failure = assert_refused(jobs.fetch(&jobs.bare_url(), None, &nobody()), "checkout::symlink");
    assert!(failure.message.contains("`jobs/one/secrets.yaml`"));
    assert!(!jobs.target().join("repository").exists(), "nothing is written");
}

#[test]
fn a_submodule_is_refused_with_its_path() {
    let jobs = Jobs::new();
    let cacheinfo = format!("160000,{},vendor/lib", jobs.first);
    jobs.repository.git(["update-index", "--add", "--cacheinfo", &cacheinfo]);
    jobs.repository.git(["commit", "--quiet", "--message", "submodule"]);
    jobs.publish();
    let failure = assert_refused(jobs.fetch(&jobs.bare_url(), None, &nobody()), "checkout::submodule");
    assert!(failure.message.contains("`vendor/lib`"));
    jobs.repository.git(["update-index", "--force-remove", "vendor/lib"]);
    jobs.repository.write(".gitmodules", "[submodule \"x\"]\n").commit("modules");
    jobs.publish();
    let failure = assert_refused(jobs.fetch(&jobs.bare_url(), None, &nobody()), "checkout::submodule");
    assert!(failure.message.contains("`.gitmodules`"));
}

#[test]
fn paths_that_lead_out_are_refused_before_anything_is_written() {
    let jobs = Jobs::new();
    let blob = blob(&jobs);
    let tree = jobs.repository.git(["rev-parse", "main^{tree}"]);
    for entries in [
        [("100644", "..", blob.as_str())],
        [("40000", "..", tree.as_str())],
        [("100644", "../../escaped", blob.as_str())],
        [("100644", "/tmp/escaped", blob.as_str())],
        [("100644", ".", blob.as_str())],
        [("40000", ".git", tree.as_str())],
        [("40000", ".GIT", tree.as_str())],
        [("40000", "git~1", tree.as_str())],
    ] {
        craft(&jobs, &entries);
        let url = jobs.repository.url();
        assert_refused(jobs.fetch(&url, Some("crafted"), &nobody()), "checkout::bad_path");
        assert!(!jobs.target().join("repository").exists(), "{entries:?}");
    }
}

#[test]
fn a_tree_of_too_many_or_too_large_files_is_refused() {
    let jobs = Jobs::new();
    let few = Limits { max_files: 3, ..Limits::default() };
    assert_refused(jobs.fetch_within(&jobs.bare_url(), None, &nobody(), few), "checkout::too_large");
    let small = Limits { max_bytes: 20, ..Limits::default() };
    assert_refused(jobs.fetch_within(&jobs.bare_url(), None, &nobody(), small), "checkout::too_large");
    let enough = Limits { max_files: 4, max_bytes: 25, ..Limits::default() };
    assert_at(&jobs, jobs.fetch_within(&jobs.bare_url(), None, &nobody(), enough), &jobs.third);
}

#[test]
fn a_tree_that_unfolds_without_end_is_refused_in_time() {
    let jobs = Jobs::new();
    let mut inner = jobs.repository.git(["rev-parse", "main^{tree}"]);
    for _ in 0..30 {
        craft(&jobs, &[("40000", "a", &inner), ("40000", "b", &inner), ("40000", "c", &inner)]);
        inner = jobs.repository.git(["rev-parse", "crafted^{tree}"]);
    }
    assert_refused(jobs.fetch(&jobs.repository.url(), Some("crafted"), &nobody()), "checkout::too_large");
}

#[test]
fn a_scratch_directory_that_is_in_use_is_refused() {
    let jobs = Jobs::new();
    let target = jobs.scratch.path().join("used");
    fs::create_dir(&target).expect("the scratch directory can be written");
    fs::write(target.join("file"), "mine").expect("the scratch directory can be written");
    let source = errand_engine::checkout::Source::parse(&jobs.bare_url(), None).expect("an address");
    let cancelled = tokio_util::sync::CancellationToken::new();
    let failure = errand_engine::checkout::fetch(&source, &target, Limits::default(), &nobody(), &cancelled).expect_err("refused");
    assert_eq!(failure.code, "checkout::scratch");
}
