//! The stack that runs an environment's jobs.

use std::collections::BTreeMap;

use super::network::{self, Checked};
use super::project::Reader;
use crate::decode::Spanned;
use crate::document::project::{AwsDocument, LocationDocument};
use crate::job::{Aws, Connection};

/// The folder of run reports in a bucket: where the alerting function looks for them.
const REPORTS: &str = "runs";
/// What a stack is called that is called nothing else.
const NAME: &str = "errand";

impl Reader<'_> {
    pub(super) fn aws(
        &mut self,
        environment: &str,
        document: &Spanned<AwsDocument>,
        reports: Option<&Spanned<LocationDocument>>,
        connections: &BTreeMap<String, Connection>,
    ) -> Option<Aws> {
        self.reports_of_stack(document, reports, connections);
        let mut arn = |written: Option<&Spanned<String>>, service: &'static str, resource: &'static str, example: &'static str| {
            self.arn(written?, |text| network::arn(text, service, resource, example))
        };
        let machine = "arn:aws:states:<region>:<account>:stateMachine:<name>";
        let state_machine = arn(document.state_machine.as_ref(), "states", "stateMachine:", machine);
        let backfill_state_machine = arn(document.backfill_state_machine.as_ref(), "states", "stateMachine:", machine);
        let scheduler_role = arn(document.scheduler_role.as_ref(), "iam", "role/", "arn:aws:iam::<account>:role/<name>");
        let dead_letter_queue = arn(document.dead_letter_queue.as_ref(), "sqs", "", "arn:aws:sqs:<region>:<account>:<name>");
        let repository = document.repository.as_ref().and_then(|repository| self.arn(repository, network::repository));
        let name = document.name.as_ref().map_or(NAME, |name| name.as_str());
        Some(Aws {
            prefix: format!("{name}-{environment}"),
            repository: repository?,
            state_machine: state_machine?,
            backfill_state_machine,
            scheduler_role: scheduler_role?,
            dead_letter_queue: dead_letter_queue?,
        })
    }

    fn arn(&mut self, written: &Spanned<String>, check: impl FnOnce(&str) -> Checked) -> Option<String> {
        check(written).map_err(|(message, help)| self.error("definition::bad_value", message, help, &written.span)).ok()
    }

    /// Reports, claims and the deployment are what the stack's parts know each other by.
    fn reports_of_stack(
        &mut self,
        document: &Spanned<AwsDocument>,
        reports: Option<&Spanned<LocationDocument>>,
        connections: &BTreeMap<String, Connection>,
    ) {
        let Some(reports) = reports else {
            let message = "the environment has `aws` and no `reports`";
            let help = "add `reports: { connection: <one of s3>, path: runs }`: the bucket of the stack";
            self.error("project::aws_reports", message, help, &document.span);
            return;
        };
        if let Some(connection) = reports.connection.as_ref()
            && let Some(kind) = connections.get(connection.as_str())
            && !matches!(kind, Connection::S3(_))
        {
            let message = format!("connection `{}` is a `{}`: tasks share nothing but a bucket", connection.value, kind.word());
            self.error("project::aws_reports", message, "name a connection of `s3`", &connection.span);
        }
        let path = reports.path.as_ref();
        let last = path.map_or("", |path| path.trim_matches('/').rsplit('/').next().unwrap_or_default());
        if last != REPORTS {
            let message = format!("the reports of an environment with `aws` lie in a folder `{REPORTS}`");
            let span = path.map_or(&reports.span, |path| &path.span);
            self.error("project::aws_reports", message, "write `path: runs`: the alerting function looks for them there", span);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::job::Aws;
    use crate::problem::Problem;

    const RIGHT: &str = "repository: \"https://git.example.com/acme/jobs.git\"
        state_machine: \"arn:aws:states:eu-west-1:123456789012:stateMachine:errand-prod-run\"
        scheduler_role: \"arn:aws:iam::123456789012:role/errand-prod-scheduler\"
        dead_letter_queue: \"arn:aws:sqs:eu-west-1:123456789012:errand-prod-schedules\"";

    fn read(reports: &str, aws: &str) -> (Option<Aws>, Vec<Problem>) {
        let text = format!(
            "version: 1\ndefault_environment: prod\nenvironments:\n  prod:\n    connections:\n      state: {{ s3: {{ bucket: acme-state }} }}\n      \
             out: {{ directory: {{ path: out }} }}\n    {reports}\n    aws:\n        {aws}\n"
        );
        let mut problems = Vec::new();
        let project = crate::validate::project(&text, "errand.yaml", &mut problems);
        (project.and_then(|mut project| project.environments.remove("prod")?.aws), problems)
    }

    #[test]
    fn a_stack_is_named_by_its_environment_and_tells_region_and_executions() {
        let (aws, problems) = read("reports: { connection: state, path: runs }", RIGHT);
        let aws = aws.unwrap_or_else(|| panic!("{problems:?}"));
        assert_eq!((aws.prefix.as_str(), aws.region()), ("errand-prod", "eu-west-1"));
        let expected = "arn:aws:states:eu-west-1:123456789012:execution:errand-prod-run:orders-1";
        assert_eq!(Aws::execution(&aws.state_machine, "orders-1"), expected);
        let (named, _) = read("reports: { connection: state, path: x/runs }", &format!("name: data\n        {RIGHT}"));
        assert_eq!(named.expect("valid").prefix, "data-prod");
    }

    #[test]
    fn what_a_stack_cannot_be_is_told_at_its_place() {
        for (reports, aws, code) in [
            ("", RIGHT.to_owned(), "project::aws_reports"),
            ("reports: { connection: out, path: runs }", RIGHT.to_owned(), "project::aws_reports"),
            ("reports: { connection: state, path: reports }", RIGHT.to_owned(), "project::aws_reports"),
            ("reports: { connection: state, path: runs }", RIGHT.replace("states:", "lambda:"), "definition::bad_value"),
            ("reports: { connection: state, path: runs }", RIGHT.replace("123456789012:role", "12345:role"), "definition::bad_value"),
            ("reports: { connection: state, path: runs }", RIGHT.replace("https://git", "https://me:token@git"), "definition::bad_value"),
            (
                "reports: { connection: state, path: runs }",
                RIGHT.replace("https://git.example.com/acme/jobs.git", "../jobs"),
                "definition::bad_value",
            ),
        ] {
            let (aws, problems) = read(reports, &aws);
            assert!(aws.is_none(), "{code}");
            assert!(problems.iter().any(|problem| problem.code == code && problem.span.is_some()), "{problems:?}");
        }
    }
}
