//! Over ssh: sshd with one host key and one authorised key.

use std::fs;

use e2e::git_server::SshServer;
use e2e::program;
use errand_engine::checkout::Credentials;
use errand_engine::secret::Secret;

use crate::{Jobs, assert_at, assert_refused, is_anywhere};

fn key(file: &std::path::Path) -> Option<Secret> {
    Some(Secret::new(&fs::read_to_string(file).expect("a key file")))
}

fn friend(server: &SshServer) -> Credentials {
    Credentials { ssh_key: key(&server.private_key()), known_hosts: Some(server.known_host()), ..Credentials::default() }
}

#[test]
fn every_sort_of_reference_comes_over_ssh_with_a_key() {
    let jobs = Jobs::new();
    let server = SshServer::start(&jobs.served());
    let url = server.url("jobs.git");
    for (reference, commit) in [
        (None, &jobs.third),
        (Some("release/1"), &jobs.second),
        (Some("v1.0"), &jobs.second),
        (Some(jobs.first.as_str()), &jobs.first),
        (Some(&jobs.first[..7]), &jobs.first),
    ] {
        let checkout = assert_at(&jobs, jobs.fetch(&url, reference, &friend(&server)), commit);
        assert_eq!(checkout.report.repository, url);
    }
    assert!(!is_anywhere(&jobs.target(), "PRIVATE KEY"));
}

#[test]
fn a_key_without_its_last_line_end_works_and_the_user_may_be_configured() {
    let jobs = Jobs::new();
    let server = SshServer::start(&jobs.served());
    let (user, rest) =
        server.url("jobs.git").trim_start_matches("ssh://").split_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a user");
    let text = fs::read_to_string(server.private_key()).expect("a key file");
    let credentials = Credentials { ssh_key: Some(Secret::new(text.trim_end())), username: Some(user), ..friend(&server) };
    assert_at(&jobs, jobs.fetch(&format!("ssh://{rest}"), None, &credentials), &jobs.third);
}

#[test]
fn an_unknown_host_is_refused_with_the_line_that_makes_it_known() {
    let jobs = Jobs::new();
    let server = SshServer::start(&jobs.served());
    let url = server.url("jobs.git");
    for known_hosts in [None, Some(String::new()), Some("github.com ssh-ed25519 AAAA\n".to_owned())] {
        let stranger = Credentials { known_hosts, ..friend(&server) };
        let failure = assert_refused(jobs.fetch(&url, None, &stranger), "checkout::unknown_host");
        let help = failure.help.expect("help");
        let line = help.split("known hosts: ").nth(1).expect("the line to add");
        assert_eq!(line, server.known_host().trim_end());
        let introduced = Credentials { known_hosts: Some(line.to_owned()), ..friend(&server) };
        assert_at(&jobs, jobs.fetch(&url, None, &introduced), &jobs.third);
    }
    assert!(!server.log().contains("Failed publickey"), "no key is shown to a host that is not known");
}

#[test]
fn a_host_with_another_key_is_refused() {
    let jobs = Jobs::new();
    let server = SshServer::start(&jobs.served());
    let deceived = Credentials { known_hosts: Some(server.false_known_host()), ..friend(&server) };
    let failure = assert_refused(jobs.fetch(&server.url("jobs.git"), None, &deceived), "checkout::host_key_changed");
    assert!(failure.message.contains("line 1"), "{}", failure.message);
    let revoked = Credentials { known_hosts: Some(format!("{}@revoked {}", server.known_host(), server.known_host())), ..friend(&server) };
    assert_refused(jobs.fetch(&server.url("jobs.git"), None, &revoked), "checkout::host_key_changed");
}

#[test]
fn a_host_is_known_by_its_hashed_name() {
    let jobs = Jobs::new();
    let server = SshServer::start(&jobs.served());
    let file = jobs.scratch.path().join("known_hosts");
    fs::write(&file, server.known_host()).expect("the scratch directory can be written");
    program::stdout_of(program::hermetic("ssh-keygen", jobs.scratch.path()).args(["-q", "-H", "-f"]).arg(&file));
    let text = fs::read_to_string(&file).expect("there");
    assert!(text.starts_with("|1|"), "{text}");
    let credentials = Credentials { known_hosts: Some(text), ..friend(&server) };
    assert_at(&jobs, jobs.fetch(&server.url("jobs.git"), None, &credentials), &jobs.third);
}

#[test]
fn a_strangers_key_no_key_and_no_key_at_all_are_not_authorised() {
    let jobs = Jobs::new();
    let server = SshServer::start(&jobs.served());
    let url = server.url("jobs.git");
    let protected = jobs.scratch.path().join("protected");
    let mut keygen = program::hermetic("ssh-keygen", jobs.scratch.path());
    program::stdout_of(keygen.args(["-q", "-t", "ed25519", "-N", "a passphrase", "-f"]).arg(&protected));
    for ssh_key in [key(&server.strangers_key()), None, Some(Secret::new("no key")), key(&protected)] {
        let credentials = Credentials { ssh_key, ..friend(&server) };
        assert_refused(jobs.fetch(&url, None, &credentials), "checkout::not_authorised");
    }
}

#[test]
fn a_repository_or_a_reference_that_is_not_there_is_told_apart() {
    let jobs = Jobs::new();
    let server = SshServer::start(&jobs.served());
    assert_refused(jobs.fetch(&server.url("other.git"), None, &friend(&server)), "checkout::not_found");
    assert_refused(jobs.fetch(&server.url("jobs.git"), Some("mian"), &friend(&server)), "checkout::no_such_ref");
}
