use errand_model::document::job::Image;
use errand_model::job::{Aws, Resources};

use super::*;

const PROJECT: &str = "version: 1\ndefault_environment: prod\nenvironments: { prod: { connections: { warehouse: { duckdb: { path: w } } } } }\n\
                       contacts: { team: { email: { to: [team@example.com] } } }\n";

struct NoFiles;

impl errand_model::validate::Files for NoFiles {
    fn text(&self, _: &str) -> Result<std::sync::Arc<str>, errand_model::validate::FileError> {
        Err(errand_model::validate::FileError::Missing)
    }

    fn list(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

fn job(name: &str, keys: &str) -> Job {
    let text = format!("version: 1\nname: {name}\nowner: team\n{keys}\nsteps:\n  - {{ id: a, sql: {{ text: SELECT 1 }} }}\n");
    let mut problems = Vec::new();
    let project = errand_model::validate::project(PROJECT, "errand.yaml", &mut problems).expect("valid");
    let job = errand_model::validate::job(name, &text, &NoFiles, Some(&project), &mut problems);
    job.unwrap_or_else(|| panic!("{problems:?}"))
}

fn aws() -> Aws {
    Aws {
        prefix: "errand-prod".to_owned(),
        repository: "https://git.example.com/acme/jobs.git".to_owned(),
        state_machine: "arn:aws:states:eu-west-1:123456789012:stateMachine:errand-prod-run".to_owned(),
        backfill_state_machine: None,
        scheduler_role: "arn:aws:iam::123456789012:role/errand-prod-scheduler".to_owned(),
        dead_letter_queue: "arn:aws:sqs:eu-west-1:123456789012:errand-prod-schedules".to_owned(),
    }
}

fn daily() -> Job {
    job("orders", "schedule: { cron: \"0 6 * * *\", timezone: Europe/Lisbon }\ntimeout: 20m\nresources: { spot: true, memory: 1GB }")
}

fn all(commit: &str, jobs: &[Job]) -> Vec<Schedule> {
    wanted(Origin { environment: "prod", aws: &aws(), commit }, jobs).expect("expressible")
}

fn actions(steps: &[Step]) -> Vec<(&str, Action)> {
    steps.iter().map(|step| (step.job.as_str(), step.action)).collect()
}

#[test]
fn a_schedule_starts_its_job_at_the_commit_with_every_key_of_the_input() {
    let schedules = all("57f8c19", &[daily(), job("by_hand", "")]);
    let [schedule] = schedules.as_slice() else { panic!("one of the two has a schedule") };
    assert_eq!((schedule.expression.as_str(), schedule.timezone.as_str()), ("cron(0 6 * * ? *)", "Europe/Lisbon"));
    let input: Value = serde_json::from_str(&schedule.input).expect("JSON");
    assert_eq!(
        input,
        serde_json::json!({
            "version": 1, "job": "orders", "environment": "prod", "repository": "https://git.example.com/acme/jobs.git", "ref": "57f8c19",
            "scheduled_at": "<aws.scheduler.scheduled-time>", "interval": "", "inputs": "", "trigger": "schedule",
            "task_definition": "errand-prod-256-1024", "capacity_provider": "FARGATE_SPOT", "timeout_seconds": 1200, "max_attempts": 1,
        })
    );
}

#[test]
fn a_plan_adds_changes_removes_and_keeps_and_is_empty_once_it_is_applied() {
    let hourly = |cron: &str| job("clicks", &format!("schedule: {{ cron: \"{cron}\" }}"));
    let found = all("one", &[daily(), hourly("0 * * * *"), job("old", "schedule: { cron: \"0 1 * * *\" }")]);
    let mut kept = found.clone();
    kept.push(Schedule { name: "somebody_else".to_owned(), description: "by hand".to_owned(), ..found[0].clone() });
    let new = all("one", &[daily(), hourly("30 * * * *"), job("fresh", "schedule: { cron: \"0 2 * * *\" }")]);
    let steps = plan(&new, &kept).expect("a plan");
    assert_eq!(actions(&steps), [("clicks", Action::Change), ("fresh", Action::Add), ("old", Action::Remove), ("orders", Action::Keep)]);
    let expected = Difference { what: "expression".to_owned(), from: "cron(0 * * * ? *)".to_owned(), to: "cron(30 * * * ? *)".to_owned() };
    assert_eq!(steps[0].differences, [expected]);
    assert!(plan(&new, &new).expect("a plan").iter().all(|step| step.action == Action::Keep));
}

#[test]
fn a_new_commit_alone_is_told_apart_from_other_changes() {
    let steps = plan(&all("two", &[daily()]), &all("one", &[daily()])).expect("a plan");
    assert!(steps[0].is_commit_only(), "{steps:?}");
    let paused = Schedule { enabled: false, ..all("one", &[daily()]).remove(0) };
    let steps = plan(&all("two", &[daily()]), &[paused]).expect("a plan");
    assert!(!steps[0].is_commit_only() && steps[0].differences.iter().any(|difference| difference.what == "state"), "{steps:?}");
}

#[test]
fn a_schedule_of_somebody_else_is_not_taken_over() {
    let found = Schedule { description: "made by hand".to_owned(), ..all("one", &[daily()]).remove(0) };
    let failure = plan(&all("one", &[daily()]), &[found]).expect_err("refused");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Definition, "deploy::not_ours"));
}

#[test]
fn what_cannot_be_deployed_names_its_job() {
    let aws = aws();
    let origin = Origin { environment: "prod", aws: &aws, commit: "one" };
    let both = job("both", "schedule: { cron: \"0 6 1 * 1\" }");
    let failure = wanted(origin, &[both]).expect_err("refused");
    assert!(failure.code == "deploy::cron" && failure.message.starts_with("job `both`"), "{failure}");
    for (cpu, memory, expected) in [
        (250, 512, Ok("errand-prod-python-256-512")),
        (250, 2_048, Ok("errand-prod-python-256-2048")),
        (250, 1_536, Err("deploy::size")),
        (250, 4_096, Err("deploy::size")),
        (1_000, 1_024, Err("deploy::size")),
        (1_000, 3_072, Ok("errand-prod-python-1024-3072")),
        (8_000, 20_480, Ok("errand-prod-python-8192-20480")),
        (8_000, 17_408, Err("deploy::size")),
    ] {
        let resources = Resources { cpu_millis: cpu, memory_bytes: memory << 20, spot: false, image: Image::Python };
        let job = Job { resources, ..job("sized", "") };
        let order = Order::scheduled(origin, &job);
        let found = order.as_ref().map(|order| order.task_definition.as_str()).map_err(|failure| failure.code.as_str());
        assert_eq!(found, expected, "{cpu} {memory}");
    }
}
