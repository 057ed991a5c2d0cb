//! Over http and https: lighttpd with git-http-backend.

use std::fs;

use e2e::git_server::HttpServer;
use errand_engine::checkout::{Credentials, Limits};
use errand_engine::secret::Secret;
use errand_model::failure::FailureKind;

use crate::{Jobs, assert_at, assert_failed, assert_refused, is_anywhere};

fn reader(server: &HttpServer) -> Credentials {
    Credentials { token: Some(Secret::new(HttpServer::PASSWORD)), username: Some(HttpServer::USER.to_owned()), ..trusting(server) }
}

fn trusting(server: &HttpServer) -> Credentials {
    Credentials { ca_file: Some(server.authority()), ..Credentials::default() }
}

#[test]
fn every_sort_of_reference_comes_over_https_with_a_token() {
    let jobs = Jobs::new();
    let server = HttpServer::https(&jobs.served());
    let url = server.private_url("jobs.git");
    for (reference, commit) in [
        (None, &jobs.third),
        (Some("release/1"), &jobs.second),
        (Some("v1.0"), &jobs.second),
        (Some(jobs.second.as_str()), &jobs.second),
        (Some(jobs.first.as_str()), &jobs.first),
        (Some(&jobs.first[..7]), &jobs.first),
    ] {
        let checkout = assert_at(&jobs, jobs.fetch(&url, reference, &reader(&server)), commit);
        assert_eq!(checkout.report.repository, url);
        assert!(!checkout.root.join(".git").exists());
    }
}

#[test]
fn the_token_stays_nowhere() {
    let jobs = Jobs::new();
    let server = HttpServer::http(&jobs.served());
    let credentials = Credentials { ca_file: None, ..reader(&server) };
    let assert_nowhere = || {
        for text in [HttpServer::PASSWORD, "p%40ss", "cmVhZGVy", HttpServer::USER] {
            assert!(!is_anywhere(&jobs.target(), text), "`{text}` is in the checkout");
        }
    };
    let checkout = assert_at(&jobs, jobs.fetch(&server.private_url("jobs.git"), None, &credentials), &jobs.third);
    assert_nowhere();
    // A failure after the transfer keeps the store it fetched into: that is looked through as well.
    let few = Limits { max_files: 1, ..Limits::default() };
    let failure = assert_refused(jobs.fetch_within(&server.private_url("jobs.git"), None, &credentials, few), "checkout::too_large");
    assert!(jobs.target().join("objects.git/config").is_file());
    assert_nowhere();
    assert!(!format!("{failure:?}{checkout:?}{credentials:?}").contains(HttpServer::PASSWORD));
}

#[test]
fn a_server_that_gives_no_commit_by_its_id_gives_its_history() {
    let jobs = Jobs::new();
    jobs.configure("uploadpack.allowAnySHA1InWant", "false");
    let server = HttpServer::https(&jobs.served());
    let url = server.public_url("jobs.git");
    assert_at(&jobs, jobs.fetch(&url, Some(&jobs.first), &trusting(&server)), &jobs.first);
    assert_at(&jobs, jobs.fetch(&url, Some(&jobs.first[..9]), &trusting(&server)), &jobs.first);
    let missing = "0123456789012345678901234567890123456789";
    assert_refused(jobs.fetch(&url, Some(missing), &trusting(&server)), "checkout::no_such_ref");
    assert_refused(jobs.fetch(&url, Some("0123456"), &trusting(&server)), "checkout::no_such_ref");
}

#[test]
fn a_commit_that_is_not_there_is_told_by_a_server_that_gives_any() {
    let jobs = Jobs::new();
    let server = HttpServer::https(&jobs.served());
    let url = server.public_url("jobs.git");
    let missing = "0123456789012345678901234567890123456789";
    assert_refused(jobs.fetch(&url, Some(missing), &trusting(&server)), "checkout::no_such_ref");
    let failure = assert_refused(jobs.fetch(&url, Some("mian"), &trusting(&server)), "checkout::no_such_ref");
    assert!(failure.help.expect("help").contains("`main`"));
}

#[test]
fn a_wrong_token_and_no_token_are_not_authorised() {
    let jobs = Jobs::new();
    let server = HttpServer::https(&jobs.served());
    let url = server.private_url("jobs.git");
    let wrong = Credentials { token: Some(Secret::new("wrong-token-0815")), ..reader(&server) };
    let failure = assert_refused(jobs.fetch(&url, None, &wrong), "checkout::not_authorised");
    assert!(!format!("{failure:?}").contains("wrong-token-0815"));
    assert_refused(jobs.fetch(&url, None, &trusting(&server)), "checkout::not_authorised");
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_before_the_token_is_sent() {
    let jobs = Jobs::new();
    let server = HttpServer::https(&jobs.served());
    let credentials = Credentials { ca_file: None, ..reader(&server) };
    assert_refused(jobs.fetch(&server.private_url("jobs.git"), None, &credentials), "checkout::untrusted_certificate");
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let jobs = Jobs::new();
    let server = HttpServer::https(&jobs.served());
    // Another way to write 127.0.0.1, which is not in the certificate.
    let url = server.private_url("jobs.git").replace("localhost", "127.1");
    assert_refused(jobs.fetch(&url, None, &reader(&server)), "checkout::untrusted_certificate");
}

#[test]
fn a_bad_authority_file_is_named() {
    let jobs = Jobs::new();
    let server = HttpServer::https(&jobs.served());
    let file = jobs.scratch.path().join("authority.pem");
    fs::write(&file, "nonsense").expect("the scratch directory can be written");
    let credentials = Credentials { ca_file: Some(file), ..Credentials::default() };
    assert_failed(jobs.fetch(&server.public_url("jobs.git"), None, &credentials), "checkout::bad_ca_file", FailureKind::Definition);
}

#[test]
fn a_repository_that_is_not_there_is_not_found() {
    let jobs = Jobs::new();
    let server = HttpServer::https(&jobs.served());
    assert_refused(jobs.fetch(&server.public_url("other.git"), None, &trusting(&server)), "checkout::not_found");
}

#[test]
fn a_repository_that_sends_too_much_is_stopped() {
    let jobs = Jobs::new();
    // Noise that no compression makes smaller.
    let mut state = 1_u64;
    let noise: String = (0..300_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + u8::try_from((state >> 33) % 90).expect("below 90"))
        })
        .collect();
    jobs.repository.write("noise", &noise).commit("noise");
    jobs.publish();
    let server = HttpServer::https(&jobs.served());
    let small = Limits { max_bytes: 100_000, ..Limits::default() };
    let failure = assert_refused(jobs.fetch_within(&server.public_url("jobs.git"), None, &trusting(&server), small), "checkout::too_large");
    assert!(failure.message.contains("sends more than 100000 bytes"), "{}", failure.message);
    let old = jobs.fetch_within(
        &server.public_url("jobs.git"),
        Some("v1.0"),
        &trusting(&server),
        Limits { max_bytes: 100_000, ..Limits::default() },
    );
    assert_at(&jobs, old, &jobs.second);
}

#[test]
fn an_empty_repository_says_so() {
    let jobs = Jobs::new();
    let empty = jobs.served().join("empty.git");
    let mut git = e2e::program::hermetic("git", jobs.scratch.path());
    e2e::program::stdout_of(git.args(["init", "--quiet", "--bare"]).arg(&empty));
    let server = HttpServer::https(&jobs.served());
    let failure = assert_refused(jobs.fetch(&server.public_url("empty.git"), None, &trusting(&server)), "checkout::no_such_ref");
    assert_eq!(failure.message, "the job repository is empty");
}

#[test]
fn links_and_submodules_are_refused_over_https_too() {
    let jobs = Jobs::new();
    std::os::unix::fs::symlink("/etc", jobs.repository.path().join("etc")).expect("a link can be made");
    jobs.repository.commit("link");
    jobs.publish();
    let server = HttpServer::https(&jobs.served());
    assert_refused(jobs.fetch(&server.public_url("jobs.git"), None, &trusting(&server)), "checkout::symlink");
}
