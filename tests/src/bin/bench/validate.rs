//! A repository of a thousand jobs, each of six steps with an SQL file of their own, validated whole.

use std::fmt::Write;
use std::path::Path;

use crate::measure::{Meter, Program, median_of};
use crate::table::Table;
use crate::{Place, write};

const JOBS: usize = 1000;
const ROUNDS: usize = 3;

const YAML_LOAD: &str = include_str!("yaml_load.py");

/// The steps of a job, each built on the one before.
const STEPS: [(&str, &str); 5] = [
    ("raw", "stg_orders"),
    ("clean", "orders_clean"),
    ("enrich", "orders_enriched"),
    ("daily", "orders_daily"),
    ("regional", "orders_regional"),
];

pub(crate) fn measure(place: &Place, meter: &Meter) -> Result<Table, String> {
    let repository = place.scratch.join("validate");
    write(&repository.join("errand.yaml"), &crate::data::project(&repository.join("state"), &repository))?;
    for number in 0..JOBS {
        write_job(&repository, number)?;
    }
    let (root, jobs) = (repository.to_string_lossy().into_owned(), repository.join("jobs").to_string_lossy().into_owned());
    let programs = [
        Program::errand(place, ["validate", "--repo", &root]),
        Program::python(place, YAML_LOAD, [jobs.as_str(), "CSafeLoader"]),
        Program::python(place, YAML_LOAD, [jobs.as_str(), "SafeLoader"]),
    ];
    let results = meter.rounds("validate", ROUNDS, programs.len(), |meter, side| meter.run(&programs[side]))?;
    let mut table = Table::new(["1,000 jobs of 6 steps, 6,000 SQL files", "wall s", "CPU s", "peak MiB", "target"]);
    let names = [
        ("errand validate: YAML, SQL files, all rules", "< 1 s"),
        ("PyYAML CSafeLoader: parse the YAML only", ""),
        ("PyYAML safe_load: parse the YAML only", ""),
    ];
    for ((name, target), figures) in names.into_iter().zip(results.iter().map(|figures| median_of(figures))) {
        let seconds = |value: f64| format!("{value:.2}");
        table.row([name.to_owned(), seconds(figures.wall), seconds(figures.cpu), format!("{:.0}", figures.peak), target.to_owned()]);
    }
    Ok(table)
}

fn write_job(repository: &Path, number: usize) -> Result<(), String> {
    let name = format!("orders_{number:04}");
    let folder = repository.join("jobs").join(&name);
    let mut job = format!(
        "version: 1
name: {name}
description: Orders of partner {number}, from the landing table to the figures of the day.
owner: team
runbook: https://runbooks.example.com/{name}
tags: [orders, partner_{number}]
schedule: {{ cron: \"{} {} * * *\", timezone: Europe/Lisbon }}
timeout: 45m
retry: {{ max_attempts: 3, backoff: exponential, interval: 30s, max_interval: 5m, on: transient }}
inputs:
  region: {{ type: string, enum: [br, mx, pt], default: pt }}
  full: {{ type: boolean, default: false }}
vars:
  partner: {number}
  source: landing_{number:04}

steps:
",
        number % 60,
        number % 24
    );
    for (index, (id, table)) in STEPS.iter().enumerate() {
        let target = format!("{table}_{number:04}");
        let needs = if index == 0 { String::new() } else { format!("    needs: [{}]\n", STEPS[index - 1].0) };
        // Writing to a `String` cannot fail.
        let _ = write!(
            job,
            "  - id: {id}
    name: Build {target}
{needs}    timeout: 10m
    sql:
      file: {id}.sql
      materialize: {{ table: {target}, mode: merge, primary_key: [order_id] }}
      checks:
        - not_null: [order_id, ordered_at]
        - unique: [order_id]
        - accepted_values: {{ column: region, values: [br, mx, pt] }}
        - expression: amount >= 0
          severity: warn
"
        );
        let from = if index == 0 { "{{ vars.source | ident }}".to_owned() } else { format!("{}_{number:04}", STEPS[index - 1].1) };
        write(&folder.join(format!("{id}.sql")), &statement(&from))?;
    }
    job.push_str(
        "  - id: sound
    needs: [daily, regional]
    check:
      table: orders_daily
      expect:
        - row_count: { min: 1, change: 50% }
        - freshness: { column: ordered_at, max_age: 26h }
        - name: totals_agree
          sql: { file: totals.sql }
          store_failures: true
",
    );
    write(&folder.join("totals.sql"), &statement(&format!("orders_regional_{number:04}")))?;
    write(&folder.join("job.yaml"), &job)
}

fn statement(from: &str) -> String {
    format!(
        "-- Orders of the interval, one row each.
with
    new_orders as (
        select order_id, customer_id, region, ordered_at, amount, discount
        from {from}
        where ordered_at >= {{{{ run.start }}}} and ordered_at < {{{{ run.end }}}}
            and ({{{{ inputs.full }}}} or region = {{{{ inputs.region }}}})
    ),
    totals as (
        select customer_id, count(*) as orders, sum(amount - coalesce(discount, 0)) as total
        from new_orders
        group by customer_id
    )
select o.order_id, o.customer_id, o.region, o.ordered_at, o.amount, t.orders, t.total
from new_orders as o
join totals as t on t.customer_id = o.customer_id
where o.amount >= 0
"
    )
}
