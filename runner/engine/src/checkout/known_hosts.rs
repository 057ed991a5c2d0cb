//! Whether the key that an ssh server shows is the one that is known for it: the format of OpenSSH's `known_hosts`.
//!
//! Pure: text and key come in as arguments. Nothing here can accept a host that no line names.
//! Format: sshd(8), section "SSH_KNOWN_HOSTS FILE FORMAT". Lines of certificate authorities are passed over.

mod sha1;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

/// What a `known_hosts` text says of a key that a host shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A line names this host with this key.
    Known,
    /// No line names this host with a key of this type; `other_types` are those it is known with.
    Unknown {
        /// Such as `ssh-rsa`.
        other_types: Vec<String>,
    },
    /// A line names this host with another key of this type.
    Changed {
        /// Its number, from 1.
        line: usize,
    },
    /// A line revokes this key.
    Revoked {
        /// Its number, from 1.
        line: usize,
    },
}

/// Judges the `key` (as in the ssh protocol, RFC 4253, section 6.6) that `host` shows at `port`.
pub(super) fn judge(text: &str, host: &str, port: u16, key: &[u8]) -> Verdict {
    let name = name(host, port);
    let shown_type = key_type(key);
    let (mut known, mut changed, mut other_types) = (false, None, Vec::new());
    for (index, line) in text.lines().enumerate() {
        let Some(entry) = Entry::parse(line) else { continue };
        if !entry.names(&name) {
            continue;
        }
        let same = entry.key == key;
        match entry.marker {
            Some("@revoked") if same => return Verdict::Revoked { line: index + 1 },
            Some(_) => {}
            None if same => known = true,
            None if Some(entry.key_type) == shown_type => changed = changed.or(Some(index + 1)),
            None if !other_types.iter().any(|other| other == entry.key_type) => other_types.push(entry.key_type.to_owned()),
            None => {}
        }
    }
    match changed {
        _ if known => Verdict::Known,
        Some(line) => Verdict::Changed { line },
        None => Verdict::Unknown { other_types },
    }
}

/// The line to add for a host that is to be known with this key.
pub(super) fn line(host: &str, port: u16, key: &[u8]) -> String {
    format!("{} {} {}", name(host, port), key_type(key).unwrap_or("unknown"), STANDARD.encode(key))
}

/// The fingerprint as `ssh-keygen -l` prints it.
pub(super) fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

/// The type that a key names at its beginning.
pub(super) fn key_type(key: &[u8]) -> Option<&str> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    std::str::from_utf8(rest.get(..length)?).ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// A host as `known_hosts` names it: with its port only when that is not 22.
fn name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

struct Entry<'a> {
    marker: Option<&'a str>,
    hosts: &'a str,
    key_type: &'a str,
    key: Vec<u8>,
}

impl<'a> Entry<'a> {
    /// A line, unless it is empty, a comment, or no entry.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let first = fields.next().filter(|first| !first.starts_with('#'))?;
        let (marker, hosts) = if first.starts_with('@') { (Some(first), fields.next()?) } else { (None, first) };
        let key_type = fields.next()?;
        let key = STANDARD.decode(fields.next()?).ok()?;
        Some(Self { marker, hosts, key_type, key })
    }

    fn names(&self, name: &str) -> bool {
        if let Some(hashed) = self.hosts.strip_prefix("|1|") {
            return is_hash_of(hashed, name);
        }
        let mut named = false;
        for pattern in self.hosts.split(',') {
            match pattern.strip_prefix('!') {
                Some(excluded) if matches(excluded, name) => return false,
                Some(_) => {}
                None => named |= matches(pattern, name),
            }
        }
        named
    }
}

/// `salt|hash`, both base64: `HashKnownHosts` of ssh_config(5) keeps host names as HMAC-SHA1.
fn is_hash_of(hashed: &str, name: &str) -> bool {
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    match (STANDARD.decode(salt), STANDARD.decode(hash)) {
        (Ok(salt), Ok(hash)) => sha1::hmac(&salt, name.as_bytes()).as_slice() == hash,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// `*` stands for any characters, `?` for one; letter case does not matter. Linear but for one remembered `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase().into_bytes(), name.as_bytes());
    let (mut at, mut in_name, mut star) = (0, 0, None);
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, in_name));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            Some(_) | None => {
                let Some((after_star, matched_to)) = star else { return false };
                star = Some((after_star, matched_to + 1));
                at = after_star;
                in_name = matched_to + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key_type: &str, content: &[u8]) -> Vec<u8> {
        let mut key = (u32::try_from(key_type.len()).expect("short")).to_be_bytes().to_vec();
        key.extend_from_slice(key_type.as_bytes());
        key.extend_from_slice(content);
        key
    }

    fn entry(hosts: &str, key: &[u8]) -> String {
        format!("{hosts} {} {} a comment\n", key_type(key).expect("typed"), STANDARD.encode(key))
    }

    fn ed25519() -> Vec<u8> {
        key("ssh-ed25519", b"right")
    }

    #[test]
    fn a_host_is_known_with_its_key_alone() {
        let text = format!("# comment\n\nnonsense\n{}", entry("example.com", &ed25519()));
        assert_eq!(judge(&text, "Example.COM", 22, &ed25519()), Verdict::Known);
        assert_eq!(judge(&text, "example.com", 2222, &ed25519()), Verdict::Unknown { other_types: vec![] });
        assert_eq!(judge(&text, "example.org", 22, &ed25519()), Verdict::Unknown { other_types: vec![] });
        assert_eq!(judge(&text, "example.com", 22, &key("ssh-ed25519", b"wrong")), Verdict::Changed { line: 4 });
        assert_eq!(judge("", "example.com", 22, &ed25519()), Verdict::Unknown { other_types: vec![] });
    }

    #[test]
    fn a_key_of_another_type_is_unknown_not_changed() {
        let text = entry("example.com", &key("ssh-rsa", b"rsa"));
        assert_eq!(judge(&text, "example.com", 22, &ed25519()), Verdict::Unknown { other_types: vec!["ssh-rsa".to_owned()] });
    }

    #[test]
    fn one_right_line_among_several_is_enough_but_a_revoked_key_never_is() {
        let old = entry("example.com", &key("ssh-ed25519", b"old"));
        let right = entry("example.com", &ed25519());
        assert_eq!(judge(&format!("{old}{right}"), "example.com", 22, &ed25519()), Verdict::Known);
        let revoked = format!("{right}@revoked {}", entry("*", &ed25519()));
        assert_eq!(judge(&revoked, "example.com", 22, &ed25519()), Verdict::Revoked { line: 2 });
        let authority = format!("@cert-authority {}", entry("*", &ed25519()));
        assert_eq!(judge(&authority, "example.com", 22, &ed25519()), Verdict::Unknown { other_types: vec![] });
    }

    #[test]
    fn patterns_ports_and_exclusions() {
        let text = entry("!bad.example.com,*.example.com,[git.?.test]:22??", &ed25519());
        for (host, port, known) in [
            ("a.example.com", 22, true),
            ("bad.example.com", 22, false),
            ("example.com", 22, false),
            ("git.x.test", 2222, true),
            ("git.xx.test", 2222, false),
            ("git.x.test", 22, false),
        ] {
            assert_eq!(judge(&text, host, port, &ed25519()) == Verdict::Known, known, "{host}:{port}");
        }
    }

    #[test]
    fn hashed_names_are_understood() {
        // Made by `ssh-keygen -H` from `git.example.com`.
        let hosts = "|1|ioeWRl4U91MUULW+oFE4XQCbihQ=|fJnMtgyJ6NTnmrmwrGe3IYqtUxE=";
        assert_eq!(judge(&entry(hosts, &ed25519()), "git.example.com", 22, &ed25519()), Verdict::Known);
        assert_ne!(judge(&entry(hosts, &ed25519()), "git.example.org", 22, &ed25519()), Verdict::Known);
        assert_ne!(judge(&entry("|1|broken", &ed25519()), "git.example.com", 22, &ed25519()), Verdict::Known);
    }

    #[test]
    fn the_line_to_add_makes_the_host_known() {
        let line = line("git.example.com", 2222, &ed25519());
        assert!(line.starts_with("[git.example.com]:2222 ssh-ed25519 AAAA"), "{line}");
        assert_eq!(judge(&line, "git.example.com", 2222, &ed25519()), Verdict::Known);
    }

    #[test]
    fn a_key_that_is_no_key_has_no_type() {
        assert_eq!(key_type(b""), None);
        assert_eq!(key_type(&[0, 0, 0, 9, b'x']), None);
        assert_eq!(key_type(&[255, 255, 255, 255, b'x']), None);
    }
}
