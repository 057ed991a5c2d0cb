//! Where to look: addresses of the AWS console and of what changed in the job repository.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::message::Link;
use crate::settings::Settings;

/// What addresses are made of.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    region: String,
    log_group: String,
    bucket: String,
    prefix: String,
}

impl Links {
    pub(crate) fn new(settings: &Settings) -> Self {
        let Settings { region, log_group, bucket, prefix, .. } = settings;
        Self { region: region.clone(), log_group: log_group.clone(), bucket: bucket.clone(), prefix: prefix.clone() }
    }

    /// The execution, in the region that its ARN names.
    pub(crate) fn execution(&self, arn: &str) -> Link {
        let region = arn.split(':').nth(3).filter(|region| !region.is_empty()).unwrap_or(&self.region);
        Link::new("Execution", format!("https://{region}.console.aws.amazon.com/states/home?region={region}#/v2/executions/details/{arn}"))
    }

    /// The log lines of a run.
    pub(crate) fn logs(&self, run_id: &str) -> Link {
        let region = &self.region;
        // The console's own escaping: percent-encoded twice, with `$` for `%`.
        let twice = |text: &str| encoded(&encoded(text)).replace('%', "$");
        let filter = encoded(&format!("?filterPattern={}", encoded(&format!("\"{run_id}\"")))).replace('%', "$");
        let group = twice(&self.log_group);
        Link::new(
            "Logs",
            format!(
                "https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{group}/log-events{filter}"
            ),
        )
    }

    /// The run report: where its URL says, else where reports lie.
    pub(crate) fn report(&self, url: Option<&str>, file: &str) -> Link {
        let default = || (self.bucket.clone(), format!("{}runs/{file}", self.prefix));
        let (bucket, key) = url
            .and_then(|url| url.strip_prefix("s3://")?.split_once('/'))
            .map_or_else(default, |(bucket, key)| (bucket.to_owned(), key.to_owned()));
        let region = &self.region;
        let key = key.split('/').map(encoded).collect::<Vec<_>>().join("/");
        Link::new("Report", format!("https://{region}.console.aws.amazon.com/s3/object/{bucket}?region={region}&prefix={key}"))
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// What changed between two commits: a page of the repository's host where it has one.
pub(crate) fn comparison(repository: &str, from: &str, to: &str) -> Option<String> {
    let rest = repository.strip_prefix("https://")?;
    let path = rest.trim_end_matches('/').trim_end_matches(".git");
    if path.contains('@') || !is_commit(from) || !is_commit(to) {
        return None;
    }
    let host = path.split('/').next()?;
    match host {
        "github.com" => Some(format!("https://{path}/compare/{from}...{to}")),
        "bitbucket.org" => Some(format!("https://{path}/branches/compare/{to}..{from}")),
        _ if host.starts_with("gitlab.") => Some(format!("https://{path}/-/compare/{from}...{to}")),
        _ => None,
    }
}

/// The first characters of a commit id.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

pub(crate) fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{Links, comparison};

    #[test]
    fn the_console_opens_the_log_of_the_run() {
        let links =
            Links { region: "eu-west-1".to_owned(), log_group: "/errand/prod".to_owned(), bucket: "b".to_owned(), prefix: "p/".to_owned() };
        assert_eq!(
            links.logs("orders-1").url,
            "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logsV2:log-groups/log-group/$252Ferrand$252Fprod/log-events$3FfilterPattern$3D$2522orders$252D1$2522"
        );
        assert_eq!(
            links.report(None, "orders-1.json").url,
            "https://eu-west-1.console.aws.amazon.com/s3/object/b?region=eu-west-1&prefix=p/runs/orders%2D1%2Ejson"
        );
        let arn = "arn:aws:states:us-east-2:123456789012:execution:errand-run:orders-1";
        assert!(links.execution(arn).url.starts_with("https://us-east-2.console.aws.amazon.com/states/home?region=us-east-2#/v2/"));
    }

    #[test]
    fn commits_are_compared_where_their_host_can() {
        let (a, b) = ("1111111111", "2222222222");
        assert_eq!(
            comparison("https://github.com/acme/jobs.git", a, b).as_deref(),
            Some("https://github.com/acme/jobs/compare/1111111111...2222222222")
        );
        assert_eq!(
            comparison("https://gitlab.acme.example/a/b", a, b).as_deref(),
            Some("https://gitlab.acme.example/a/b/-/compare/1111111111...2222222222")
        );
        assert_eq!(comparison("https://git.example.com/a/b", a, b), None);
        assert_eq!(comparison("https://github.com/acme/jobs", a, "main; rm"), None);
    }
}
