//! `jobs/<name>/job.yaml`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::graph::Graph;
use super::project::{retry_over, version};
use super::{Cx, Files, MAX_STEPS, input, step, stray};
use crate::decode::{Context, Decode, Spanned};
use crate::document::job::{AlertDocument, AlertEvent, Catchup, Image, JobDocument, OnOverlap};
use crate::document::step::StepDocument;
use crate::interval::{Schedule, SchedulePart};
use crate::job::{Alert, Concurrency, Job, Project, Resources, Retry, Sla, Step};
use crate::problem::{Problem, Severity, line_and_column};
use crate::template::{Scope, ScopeStep};
use crate::value::Label;
use crate::yaml::{self, Node, NodeKind};

/// Longest time for a run when there is no project to say.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// Reads `jobs/<folder>/job.yaml`. `None` when it has an error. Without a project, what the project decides is not checked.
pub fn job(folder: &str, text: &str, files: &dyn Files, project: Option<&Project>, problems: &mut Vec<Problem>) -> Option<Job> {
    let before = problems.len();
    let file = format!("jobs/{folder}/job.yaml");
    let root = match yaml::parse(text, &file) {
        Ok(root) => root,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    stray::check(&root, &file, true, problems);
    let document = JobDocument::decode(&root, &mut Context::new(&file, problems))?;
    let mut cx = Cx { folder, file, text, files, project, problems, scope: Scope::default(), read: Vec::new() };
    let job = read(&document, &root, &mut cx);
    if problems[before..].iter().any(|problem| problem.severity == Severity::Error) { None } else { job }
}

fn read(document: &JobDocument, root: &Node, cx: &mut Cx<'_>) -> Option<Job> {
    version(document.version.as_ref(), &cx.file, cx.problems);
    name(document, cx);
    let contacts = [&document.owner, &document.product_owner].into_iter().flatten();
    contacts.for_each(|label| cx.contact(label));
    let schedule = schedule(document, cx);
    let inputs = input::declarations(document.inputs.as_ref(), cx);
    let vars = vars(document, cx);
    let alerts = alerts(document, cx);
    let timeout = document.timeout.as_ref().map_or_else(|| cx.project.map_or(TIMEOUT, |project| project.timeout), |timeout| timeout.0);
    let sla = sla(document, cx);
    let steps = steps(document, root, timeout, cx)?;
    let name = document.name.as_ref()?.value.clone();
    Some(Job {
        concurrency: concurrency(document, cx)?,
        name,
        description: text_of(document.description.as_ref()),
        owner: document.owner.as_ref()?.value.clone(),
        product_owner: document.product_owner.as_ref().map(|label| label.value.clone()),
        runbook: text_of(document.runbook.as_ref()),
        tags: document.tags.iter().flat_map(|tags| &tags.value).map(|tag| tag.value.clone()).collect(),
        schedule,
        catchup: document.catchup.as_ref().map_or(Catchup::None, |catchup| catchup.value),
        sla,
        timeout,
        resources: resources(document),
        inputs,
        vars,
        alerts: alerts?,
        steps,
    })
}

fn text_of(text: Option<&Spanned<String>>) -> Option<String> {
    text.map(|text| text.value.clone())
}

fn name(document: &JobDocument, cx: &mut Cx<'_>) {
    if let Some(name) = document.name.as_ref().filter(|name| name.as_str() != cx.folder) {
        let message = format!("job `{}` lies in the folder `{}`", name.value, cx.folder);
        cx.error("definition::name_mismatch", message, "give the folder and the job the same name", &name.span);
    }
}

fn schedule(document: &JobDocument, cx: &mut Cx<'_>) -> Option<Schedule> {
    let schedule = document.schedule.as_ref()?;
    let cron = schedule.cron.as_ref()?;
    let timezone = schedule.timezone.as_ref().map_or("UTC", |timezone| timezone.as_str());
    match Schedule::parse(cron, timezone) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            let (code, span) = match (error.part, &schedule.timezone) {
                (SchedulePart::Timezone, Some(timezone)) => ("definition::bad_timezone", timezone.span.clone()),
                _ => ("definition::bad_cron", cron.span.clone()),
            };
            cx.error(code, error.message, error.help, &span);
            // Both halves may be wrong; the zone is told apart from the first.
            if let (SchedulePart::Cron, Some(zone)) = (error.part, &schedule.timezone)
                && let Err(error) = Schedule::parse("0 0 * * *", zone)
            {
                cx.error("definition::bad_timezone", error.message, error.help, &zone.span);
            }
            None
        }
    }
}

fn vars(document: &JobDocument, cx: &mut Cx<'_>) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    for (key, value) in document.vars.iter().flat_map(|vars| &vars.0) {
        input::name_is_plain(&key.text, &key.span, cx);
        out.insert(key.text.clone(), value.0.clone());
    }
    out
}

fn concurrency(document: &JobDocument, cx: &mut Cx<'_>) -> Option<Concurrency> {
    let written = document.concurrency.as_ref();
    let limit = written.and_then(|concurrency| concurrency.limit.as_ref());
    if let Some(limit) = limit.filter(|limit| limit.value == 0) {
        cx.error("definition::bad_value", "a limit of 0 would never run", "write 1 or more", &limit.span);
    }
    Some(Concurrency {
        group: match written.and_then(|concurrency| concurrency.group.as_ref()) {
            Some(group) => group.value.clone(),
            None => document.name.as_ref()?.value.clone(),
        },
        limit: limit.map_or(1, |limit| limit.value),
        on_overlap: written.and_then(|concurrency| concurrency.on_overlap.as_ref()).map_or(OnOverlap::Skip, |overlap| overlap.value),
    })
}

fn sla(document: &JobDocument, cx: &mut Cx<'_>) -> Sla {
    let Some(sla) = &document.sla else { return Sla::default() };
    let time = |span: Option<&Spanned<crate::value::TimeSpan>>| span.map(|span| span.0);
    if document.schedule.is_none()
        && let Some(within) = sla.start_within.as_ref().or(sla.finish_within.as_ref())
    {
        let help = "add a schedule, or use `max_time_since_success`";
        cx.error("definition::no_schedule", "the job has no schedule to be late for", help, &within.span);
    }
    Sla {
        start_within: time(sla.start_within.as_ref()),
        finish_within: time(sla.finish_within.as_ref()),
        max_time_since_success: time(sla.max_time_since_success.as_ref()),
    }
}

fn resources(document: &JobDocument) -> Resources {
    let written = document.resources.as_ref();
    Resources {
        cpu_millis: written.and_then(|resources| resources.cpu.as_ref()).map_or(250, |cpu| cpu.value.0),
        memory_bytes: written.and_then(|resources| resources.memory.as_ref()).map_or(512 << 20, |memory| memory.value.0),
        spot: written.and_then(|resources| resources.spot.as_ref()).is_some_and(|spot| spot.value),
        image: written.and_then(|resources| resources.image.as_ref()).map_or(Image::Slim, |image| image.value),
    }
}

fn alerts(document: &JobDocument, cx: &mut Cx<'_>) -> Option<Vec<Alert>> {
    let owner = document.owner.as_ref().map(|owner| owner.value.clone());
    let Some(alerts) = &document.alerts else {
        return Some(vec![Alert { on: vec![AlertEvent::Failure, AlertEvent::Late, AlertEvent::Recovered], to: vec![owner?] }]);
    };
    Some(alerts.value.iter().filter_map(|alert| self::alert(alert, document, cx)).collect())
}

fn alert(alert: &AlertDocument, document: &JobDocument, cx: &mut Cx<'_>) -> Option<Alert> {
    let (on, to) = (alert.on.as_ref()?, alert.to.as_ref()?);
    for (is_empty, span) in [(cx.is_empty(on), &on.span), (cx.is_empty(to), &to.span)] {
        if is_empty {
            cx.error(
                "definition::empty_value",
                "this list is empty: the alert tells nobody of anything",
                "name at least one, or remove the alert",
                span,
            );
        }
    }
    let mut labels: Vec<Label> = Vec::new();
    for label in &to.value {
        let resolved = match label.as_str() {
            "owner" => document.owner.as_ref().map(|owner| owner.value.clone()),
            "product_owner" => {
                if document.product_owner.is_none() {
                    cx.error("definition::unknown_contact", "the job has no `product_owner`", "add the key `product_owner`", &label.span);
                }
                document.product_owner.as_ref().map(|owner| owner.value.clone())
            }
            _ => {
                cx.contact(label);
                Some(label.value.clone())
            }
        };
        labels.extend(resolved.filter(|label| !labels.contains(label)));
    }
    Some(Alert { on: on.iter().map(|event| event.value).collect(), to: labels })
}

fn steps(document: &JobDocument, root: &Node, timeout: Duration, cx: &mut Cx<'_>) -> Option<Vec<Step>> {
    let steps = document.steps.as_ref()?;
    if cx.is_empty(steps) || steps.len() > MAX_STEPS {
        let message = format!("a job has 1 to {MAX_STEPS} steps, not {}", steps.len());
        let span = cx.head(&steps.span);
        cx.error("definition::step_count", message, "split the work into several jobs", &span);
        return None;
    }
    let graph = Graph::build(steps, cx);
    cx.scope = scope(document);
    let above = cx.project.map_or_else(Retry::default, |project| project.retry.clone());
    let retry = retry_over(&above, document.retry.as_ref(), &cx.file, cx.problems);
    let job = step::JobContext { has_schedule: document.schedule.is_some(), timeout, retry, vars: child(root, "vars") };
    let mut out = Vec::new();
    for (position, step) in steps.value.iter().enumerate() {
        for (known, before) in cx.scope.steps.iter_mut().zip(graph.before(position)) {
            known.is_needed = before;
        }
        cx.scope.dialects = step::dialects(step, cx.project);
        let needs = graph.needs[position].iter().filter_map(|need| steps[*need].id.as_ref()).map(|id| id.value.clone()).collect();
        let node = nodes(root).and_then(|nodes| nodes.iter().find(|node| node.span == step.span));
        out.extend(step::step(step, node, needs, &job, cx));
    }
    written_twice(steps, &graph, cx);
    Some(out)
}

/// Reports exports of one file that run in one run: the later one replaces what the other wrote. Of steps with a condition, on them or on what
/// they need, one may be meant to run instead of the other.
fn written_twice(steps: &[Spanned<StepDocument>], graph: &Graph, cx: &mut Cx<'_>) {
    let mut written: Vec<(&Spanned<Label>, &Spanned<String>)> = Vec::new();
    for (position, step) in steps.iter().enumerate() {
        let to = step.export.as_ref().and_then(|export| export.to.as_ref());
        let Some((connection, path)) = to.and_then(|to| to.connection.as_ref().zip(to.path.as_ref())) else { continue };
        let has_condition = |step: &StepDocument| step.r#if.is_some();
        if has_condition(step) || graph.before(position).into_iter().zip(steps).any(|(before, step)| before && has_condition(step)) {
            continue;
        }
        match written.iter().find(|(other, same)| other.value == connection.value && same.value == path.value) {
            Some((_, first)) => {
                let line = line_and_column(cx.text, first.span.start).0;
                let message = format!("the export on line {line} writes `{}` too", path.value);
                cx.error("definition::conflict", message, "give one of them another path", &path.span);
            }
            None => written.push((connection, path)),
        }
    }
}

fn scope(document: &JobDocument) -> Scope {
    let steps = document.steps.iter().flat_map(|steps| &steps.value);
    Scope {
        inputs: document.inputs.iter().flat_map(|inputs| inputs.names()).map(str::to_owned).collect(),
        vars: document.vars.iter().flat_map(|vars| vars.names()).map(str::to_owned).collect(),
        steps: steps
            .map(|step| ScopeStep {
                id: step.id.as_ref().map_or_else(String::new, |id| id.to_string()),
                is_needed: false,
                outputs: outputs(step),
            })
            .collect(),
        dialects: Vec::new(),
    }
}

/// What later steps may read of a step: what a command declares, what every step that moves rows counts.
fn outputs(step: &StepDocument) -> Vec<String> {
    const COUNTS: [&str; 3] = ["rows_read", "rows_written", "rows_rejected"];
    let declared =
        step.command.iter().filter_map(|command| command.outputs.as_ref()).flat_map(|names| names.iter().map(|name| name.to_string()));
    let moves_rows = step.sql.is_some() || step.ingest.is_some() || step.export.is_some();
    let counts = COUNTS.into_iter().filter(|_| moves_rows).chain(step.export.iter().map(|_| "path"));
    declared.chain(counts.map(str::to_owned)).collect()
}

/// The value under a key of a mapping.
pub(super) fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.kind {
        NodeKind::Mapping(entries) => entries.iter().find(|(name, _)| name.text == key).map(|(_, value)| value),
        _ => None,
    }
}

fn nodes(root: &Node) -> Option<&Vec<Node>> {
    match &child(root, "steps")?.kind {
        NodeKind::Sequence(items) => Some(items),
        _ => None,
    }
}
