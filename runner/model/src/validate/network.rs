//! Hosts, URLs, and names of things in clouds: what each must look like. The servers have the last word.

use std::net::{IpAddr, Ipv6Addr};

/// The value as it is kept, or message and help.
pub(super) type Checked = Result<String, (String, String)>;

fn refused(message: String, help: impl Into<String>) -> Checked {
    Err((message, help.into()))
}

/// Whether a host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Letters, digits, `-`, `_` between dots, as host names and IPv4 addresses are.
fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        })
}

/// A host name, an address, or the directory of a Unix socket.
pub(super) fn server_host(text: &str) -> Checked {
    let alone = "write the host alone: `port`, `database` and `user` are keys of their own";
    if text.starts_with('/') {
        let is_path = !text.chars().any(char::is_control);
        return if is_path { Ok(text.to_owned()) } else { refused(format!("`{}` is not a path", text.escape_debug()), alone) };
    }
    if is_host_name(text) || text.parse::<Ipv6Addr>().is_ok() {
        return Ok(text.to_owned());
    }
    refused(format!("`{}` is not a host", text.escape_debug()), alone)
}

/// A Snowflake account identifier.
pub(super) fn account(text: &str) -> Checked {
    let is_account = text.len() <= 200
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        && !text.contains("..")
        && !text.ends_with('.');
    if is_account && !text.to_lowercase().contains("snowflakecomputing") {
        return Ok(text.to_owned());
    }
    let help = "write what stands before `.snowflakecomputing.com`, such as `myorg-account` or `xy12345.eu-west-1`; another host is `host`";
    refused(format!("`{}` is not an account identifier", text.escape_debug()), help)
}

/// A host name, or a URL, of a Snowflake account.
pub(super) fn account_host(text: &str) -> Checked {
    if text.contains("://") {
        return url(text);
    }
    if is_host_name(text) {
        return Ok(text.to_owned());
    }
    refused(
        format!("`{}` is not a host", text.escape_debug()),
        "write a host name alone, or a URL where there is a port: `https://host:8443`",
    )
}

/// The URL of a server that speaks S3's protocol.
pub(super) fn endpoint(text: &str) -> Checked {
    url(text)
}

/// The URL that alerts are posted to: encrypted unless it is this machine, without user, with any path.
pub(super) fn webhook(text: &str) -> Checked {
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text[start..].find(['/', '?']).map_or(text.len(), |at| start + at);
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return refused(format!("`{}` is not a URL", text.escape_debug()), "write it without spaces and without `#`");
    }
    url(&text[..end]).map(|server| format!("{server}{}", &text[end..]))
}

/// The ARN of an SNS topic.
pub(super) fn topic(text: &str) -> Checked {
    let parts: Vec<&str> = text.split(':').collect();
    let is_name = |name: &str| {
        let name = name.strip_suffix(".fifo").unwrap_or(name);
        (1..=256).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let is_topic = if let ["arn", partition, "sns", region, account, name] = parts.as_slice() {
        matches!(*partition, "aws" | "aws-cn" | "aws-us-gov")
            && self::region(region).is_ok()
            && account.len() == 12
            && account.chars().all(|c| c.is_ascii_digit())
            && is_name(name)
    } else {
        false
    };
    if is_topic && !text.ends_with(".fifo") {
        return Ok(text.to_owned());
    }
    let help = if is_topic {
        "first-in-first-out topics reach no people; name a standard topic"
    } else {
        "write `arn:aws:sns:<region>:<account, 12 digits>:<name>`"
    };
    refused(format!("`{}` is not the ARN of a topic that alerts can go to", text.escape_debug()), help)
}

/// `https://host[:port]`; `http://` only on this machine.
fn url(text: &str) -> Checked {
    let shape = "write `https://host` or `https://host:port`";
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if matches!(scheme, "http" | "https") => (scheme, rest),
        _ => return refused(format!("`{}` is not an http or https URL", text.escape_debug()), shape),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return refused("a URL may not hold a user".to_owned(), "credentials have keys of their own");
    }
    if authority.contains(['/', '?', '#']) {
        return refused(format!("`{}` is more than a server", text.escape_debug()), "write the URL without a path");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = in_brackets.map_or_else(|| is_host_name(host), |address| address.parse::<Ipv6Addr>().is_ok());
    let is_port = port.is_none_or(|port| !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port > 0));
    if !is_host || !is_port {
        return refused(format!("`{}` names no server", text.escape_debug()), shape);
    }
    if scheme == "http" && !is_loopback(host) {
        return refused(format!("`{text}` is not encrypted"), "write `https://`; `http://` is for servers on this machine");
    }
    Ok(format!("{scheme}://{authority}"))
}

/// The ARN of an IAM role.
pub(super) fn iam_role(text: &str) -> Checked {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let is_role = if let ["arn", partition, "iam", "", account, resource] = parts.as_slice() {
        matches!(*partition, "aws" | "aws-cn" | "aws-us-gov")
            && account.len() == 12
            && account.chars().all(|c| c.is_ascii_digit())
            && resource.strip_prefix("role/").is_some_and(is_role_path)
    } else {
        false
    };
    if is_role {
        return Ok(text.to_owned());
    }
    refused(
        format!("`{}` is not the ARN of a role", text.escape_debug()),
        "write `arn:aws:iam::<account, 12 digits>:role/<name>`; the role must be attached to the cluster",
    )
}

fn is_role_path(path: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c));
    path.split('/').all(is_part)
}

/// `@[[database.]schema.]stage[/path]`.
pub(super) fn stage(text: &str) -> Checked {
    let message = || format!("`{}` is not a stage", text.escape_debug());
    let shape = "write `\"@database.schema.stage\"`, with a path behind it where there is one: `\"@db.raw.stage/errand\"`";
    let Some(rest) = text.strip_prefix('@') else { return refused(message(), shape) };
    if rest.starts_with(['~', '%']) {
        return refused(message(), "stages of users and tables cannot be used; name an external stage: `\"@database.schema.stage\"`");
    }
    let (names, path) = rest.split_at(end_of_names(rest));
    let names: Vec<&str> = parts(names);
    let is_path = path.is_empty()
        || path[1..].trim_end_matches('/').split('/').all(|part| {
            !matches!(part, "." | "..") && !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-.=".contains(c))
        })
        || path == "/";
    if (1..=3).contains(&names.len()) && names.iter().all(|name| is_identifier(name)) && is_path {
        Ok(text.to_owned())
    } else {
        refused(message(), shape)
    }
}

/// Where the first `/` stands that is in no quotes.
fn end_of_names(text: &str) -> usize {
    let mut quoted = false;
    text.char_indices()
        .find(|(_, c)| {
            quoted ^= *c == '"';
            *c == '/' && !quoted
        })
        .map_or(text.len(), |(at, _)| at)
}

/// Splits at the dots that stand in no quotes.
fn parts(names: &str) -> Vec<&str> {
    let mut quoted = false;
    names
        .split(|c: char| {
            quoted ^= c == '"';
            c == '.' && !quoted
        })
        .collect()
}

/// A Snowflake name: plain, or in double quotes.
fn is_identifier(name: &str) -> bool {
    if let Some(inner) = name.strip_prefix('"') {
        return inner
            .strip_suffix('"')
            .is_some_and(|inner| !inner.is_empty() && !inner.replace("\"\"", "").contains('"') && !inner.chars().any(char::is_control));
    }
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
}

/// The name of an S3 bucket.
pub(super) fn bucket(text: &str) -> Checked {
    let shape = "a bucket has 3 to 63 lower-case letters, digits, `-` and `.`, and begins and ends with a letter or digit";
    let message = format!("`{}` is not the name of a bucket", text.escape_debug());
    if text.starts_with("arn:") {
        return refused(message, "write the bucket's name; ARNs of buckets and access points are not taken");
    }
    if text.contains('/') {
        return refused(message, "write the bucket's name alone; what its keys begin with is the `prefix`");
    }
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_bucket = (3..=63).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'))
        && is_edge(text.chars().next())
        && is_edge(text.chars().next_back())
        && !text.contains("..")
        && text.parse::<IpAddr>().is_err()
        && !["xn--", "sthree-", "amzn-s3-demo-"].iter().any(|start| text.starts_with(start))
        && !["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"].iter().any(|end| text.ends_with(end));
    if is_bucket { Ok(text.to_owned()) } else { refused(message, shape) }
}

/// What keys begin with: empty, or ending in `/`.
pub(super) fn prefix(text: &str) -> Checked {
    let message = format!("`{}` is not a prefix", text.escape_debug());
    if text.starts_with('/') {
        return refused(message, "remove the `/` at its start: keys begin without one");
    }
    if text.contains("://") {
        return refused(message, "write what keys begin with; the bucket is `bucket`");
    }
    if text.split('/').any(|part| matches!(part, "." | "..")) || text.contains("//") || text.contains('\\') {
        return refused(message, "write folders with one `/` between them, such as `partners/2026/`");
    }
    if text.len() > 512 || text.contains(['*', '?']) || text.chars().any(char::is_control) {
        return refused(message, "write at most 512 bytes without `*` and `?`; patterns stand in `path` of an ingest");
    }
    let end = if text.is_empty() || text.ends_with('/') { "" } else { "/" };
    Ok(format!("{text}{end}"))
}

/// A region of AWS: `eu-west-1`.
pub(super) fn region(text: &str) -> Checked {
    let parts: Vec<&str> = text.split('-').collect();
    let is_word = |part: &&str| part.len() >= 2 && part.chars().all(|c| c.is_ascii_lowercase());
    let is_region = if let [words @ .., number] = parts.as_slice() {
        words.len() >= 2 && words.iter().all(is_word) && (1..=2).contains(&number.len()) && number.chars().all(|c| c.is_ascii_digit())
    } else {
        false
    };
    if is_region {
        return Ok(text.to_owned());
    }
    refused(format!("`{}` is not a region", text.escape_debug()), "write one such as `eu-west-1`")
}

/// A region of another server that speaks S3's protocol.
pub(super) fn region_elsewhere(text: &str) -> Checked {
    let is_region = (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if is_region {
        return Ok(text.to_owned());
    }
    refused(format!("`{}` is not a region", text.escape_debug()), "write the region's name, such as `us-east-1`")
}
/// An ARN of a service, whose resource begins so.
pub(super) fn arn(text: &str, service: &str, resource: &str, example: &str) -> Checked {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let is_right = if let ["arn", partition, found, region, account, rest] = parts.as_slice() {
        let name = rest.strip_prefix(resource).unwrap_or_default();
        let is_named = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_+=,.@/".contains(c));
        plain(partition)
            && *found == service
            && (plain(region) || (region.is_empty() && service == "iam"))
            && account.len() == 12
            && account.chars().all(|c| c.is_ascii_digit())
            && is_named
    } else {
        false
    };
    if is_right {
        Ok(text.to_owned())
    } else {
        refused(format!("`{}` is not such an ARN", text.escape_debug()), format!("write `{example}`"))
    }
}

/// The address of a git repository that a container can clone.
pub(super) fn repository(text: &str) -> Checked {
    let is_plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    let is_url = ["https://", "ssh://", "file://", "http://"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    let is_short = text
        .split_once(':')
        .is_some_and(|(user, path)| user.contains('@') && !user.contains('/') && !path.starts_with('/') && !path.is_empty());
    let has_password = text.split_once("://").is_some_and(|(_, rest)| {
        rest.split('/').next().and_then(|authority| authority.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'))
    });
    if is_plain && (is_url || is_short) && !has_password {
        return Ok(text.to_owned());
    }
    let help = "write the URL that tasks clone, such as `https://git.example.com/acme/jobs.git`; a token is the secret `git_token`";
    refused(format!("`{}` is no URL of a repository", text.escape_debug()), help)
}
