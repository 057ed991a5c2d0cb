//! EventBridge Scheduler: the schedules of one group.

use aws_sdk_scheduler::Client;
use aws_sdk_scheduler::error::BuildError;
use aws_sdk_scheduler::operation::get_schedule::GetScheduleOutput;
use aws_sdk_scheduler::types::{
    ActionAfterCompletion, DeadLetterConfig, FlexibleTimeWindow, FlexibleTimeWindowMode, RetryPolicy, ScheduleState, Target,
};
use errand_model::failure::{Failure, FailureKind};
use futures_util::{StreamExt, TryStreamExt};

use super::service::{self, PATIENT};

/// Schedules that are looked at side by side.
const SIDE_BY_SIDE: usize = 8;

/// One schedule, as far as a deployment decides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) name: String,
    pub(crate) expression: String,
    pub(crate) timezone: String,
    pub(crate) enabled: bool,
    pub(crate) description: String,
    pub(crate) target: String,
    pub(crate) role: String,
    pub(crate) dead_letter_queue: String,
    pub(crate) max_age_seconds: i32,
    pub(crate) max_tries: i32,
    /// Whether it starts at its time, not within a window.
    pub(crate) exact: bool,
    /// JSON.
    pub(crate) input: String,
}

/// The schedules of one group.
pub(crate) struct Schedules {
    client: Client,
    group: String,
}

impl Schedules {
    /// For one region.
    ///
    /// Fails as `Definition` with `aws::ca_file`.
    pub(crate) async fn new(region: &str, group: &str) -> Result<Self, Failure> {
        Ok(Self { client: Client::new(&service::config(Some(region), PATIENT).await?), group: group.to_owned() })
    }

    /// All of them, whole.
    ///
    /// Fails as `Definition` with `deploy::no_group`, else with `aws::*`.
    pub(crate) async fn list(&self) -> Result<Vec<Schedule>, Failure> {
        let mut names = Vec::new();
        let mut next = None;
        let no_group = || {
            Failure::new(FailureKind::Definition, "deploy::no_group", format!("there is no schedule group `{}`", self.group))
                .help("deploy the stack of this environment first; `aws.name` and the environment decide the name of its group")
        };
        // Of a group that is not there, Scheduler lists nothing.
        match self.client.get_schedule_group().name(&self.group).send().await {
            Ok(_) => {}
            Err(error) if service::code(&error) == "ResourceNotFoundException" => return Err(no_group()),
            Err(error) => return Err(service::failure("look at the schedule group", &self.group, "scheduler:GetScheduleGroup", &error)),
        }
        loop {
            let page = self.client.list_schedules().group_name(&self.group).max_results(100).set_next_token(next).send().await;
            let page = page.map_err(|error| match service::code(&error) {
                "ResourceNotFoundException" => no_group(),
                _ => service::failure("list the schedules of", &self.group, "scheduler:ListSchedules", &error),
            })?;
            names.extend(page.schedules().iter().filter_map(|schedule| schedule.name().map(str::to_owned)));
            next = page.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        let looks = futures_util::stream::iter(names).map(|name| async move { self.get(&name).await }).buffered(SIDE_BY_SIDE);
        looks.try_filter_map(|found| async move { Ok(found) }).try_collect().await
    }

    async fn get(&self, name: &str) -> Result<Option<Schedule>, Failure> {
        match self.client.get_schedule().group_name(&self.group).name(name).send().await {
            Ok(found) => Ok(Some(read(name, &found))),
            // Removed since it was listed.
            Err(error) if service::code(&error) == "ResourceNotFoundException" => Ok(None),
            Err(error) => Err(service::failure("look at the schedule", name, "scheduler:GetSchedule", &error)),
        }
    }

    /// Makes a schedule.
    ///
    /// Fails with `aws::*`.
    pub(crate) async fn create(&self, schedule: &Schedule) -> Result<(), Failure> {
        let request = self.client.create_schedule().group_name(&self.group).name(&schedule.name).target(target(schedule)?);
        let request = request.schedule_expression(&schedule.expression).schedule_expression_timezone(&schedule.timezone);
        let request = request.description(&schedule.description).state(state(schedule)).flexible_time_window(window(schedule)?);
        let request = request.action_after_completion(ActionAfterCompletion::None);
        match request.send().await {
            Ok(_) => Ok(()),
            // A repeated request finds what the first one made, whose answer was lost.
            Err(error) if service::code(&error) == "ConflictException" => self.update(schedule).await,
            Err(error) => Err(service::failure("make the schedule", &schedule.name, "scheduler:CreateSchedule` and `iam:PassRole", &error)),
        }
    }

    /// Changes a schedule: all of it.
    ///
    /// Fails with `aws::*`.
    pub(crate) async fn update(&self, schedule: &Schedule) -> Result<(), Failure> {
        let request = self.client.update_schedule().group_name(&self.group).name(&schedule.name).target(target(schedule)?);
        let request = request.schedule_expression(&schedule.expression).schedule_expression_timezone(&schedule.timezone);
        let request = request.description(&schedule.description).state(state(schedule)).flexible_time_window(window(schedule)?);
        let request = request.action_after_completion(ActionAfterCompletion::None);
        let answer = request.send().await.map(|_| ());
        answer
            .map_err(|error| service::failure("change the schedule", &schedule.name, "scheduler:UpdateSchedule` and `iam:PassRole", &error))
    }

    /// Removes a schedule; one that is not there is passed over.
    ///
    /// Fails with `aws::*`.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), Failure> {
        match self.client.delete_schedule().group_name(&self.group).name(name).send().await {
            Ok(_) => Ok(()),
            Err(error) if service::code(&error) == "ResourceNotFoundException" => Ok(()),
            Err(error) => Err(service::failure("remove the schedule", name, "scheduler:DeleteSchedule", &error)),
        }
    }
}

fn read(name: &str, found: &GetScheduleOutput) -> Schedule {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let target = found.target();
    let retry = target.and_then(Target::retry_policy);
    Schedule {
        name: name.to_owned(),
        expression: text(found.schedule_expression()),
        timezone: found.schedule_expression_timezone().unwrap_or("UTC").to_owned(),
        enabled: found.state() == Some(&ScheduleState::Enabled),
        description: text(found.description()),
        target: text(target.map(Target::arn)),
        role: text(target.map(Target::role_arn)),
        dead_letter_queue: text(target.and_then(Target::dead_letter_config).and_then(DeadLetterConfig::arn)),
        max_age_seconds: retry.and_then(RetryPolicy::maximum_event_age_in_seconds).unwrap_or_default(),
        max_tries: retry.and_then(RetryPolicy::maximum_retry_attempts).unwrap_or_default(),
        exact: found.flexible_time_window().is_some_and(|window| *window.mode() == FlexibleTimeWindowMode::Off),
        input: text(target.and_then(Target::input)),
    }
}

fn target(schedule: &Schedule) -> Result<Target, Failure> {
    let retry = RetryPolicy::builder().maximum_event_age_in_seconds(schedule.max_age_seconds).maximum_retry_attempts(schedule.max_tries);
    let letters = DeadLetterConfig::builder().arn(&schedule.dead_letter_queue).build();
    let target = Target::builder().arn(&schedule.target).role_arn(&schedule.role).input(&schedule.input);
    target.dead_letter_config(letters).retry_policy(retry.build()).build().map_err(|error| defect(&error))
}

fn window(schedule: &Schedule) -> Result<FlexibleTimeWindow, Failure> {
    debug_assert!(schedule.exact, "schedules are made without a window");
    FlexibleTimeWindow::builder().mode(FlexibleTimeWindowMode::Off).build().map_err(|error| defect(&error))
}

const fn state(schedule: &Schedule) -> ScheduleState {
    if schedule.enabled { ScheduleState::Enabled } else { ScheduleState::Disabled }
}

fn defect(error: &BuildError) -> Failure {
    Failure::new(FailureKind::Internal, "aws::request", error.to_string())
}
