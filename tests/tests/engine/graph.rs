//! Steps as a graph: order, side by side, conditions, failures that stop or do not stop others, `--step`, inputs, intervals.

use e2e::project::Project;

/// A step that waits until another one of its kind has begun too.
fn meet(id: &str, other: &str, keys: &str) -> String {
    format!(
        "
  - id: {id}
    timeout: 20s
    {keys}
    command: {{ run: [/bin/sh, -c, 'touch here-{id}; until [ -e here-{other} ]; do sleep 0.01; done'] }}
"
    )
}

/// A step that builds a table of its name from a query.
fn build(id: &str, keys: &str, query: &str) -> String {
    format!("\n  - id: {id}\n    {keys}\n    sql: {{ text: \"{query}\", materialize: {{ table: {id} }} }}\n")
}

fn outcomes(run: &e2e::project::Run) -> Vec<String> {
    let steps = run.report()["steps"].as_array().expect("a list");
    steps
        .iter()
        .map(|step| format!("{} {}", step["id"].as_str().unwrap_or_default(), step["outcome"].as_str().unwrap_or_default()))
        .collect()
}

#[test]
fn steps_that_are_ready_run_side_by_side() {
    let project = Project::new();
    project.steps(&(meet("a", "b", "needs: []") + &meet("b", "a", "needs: []")));
    assert_eq!(outcomes(&project.run("2026-01-05").ok()), ["a succeeded", "b succeeded"]);
}

#[test]
fn steps_side_by_side_write_one_warehouse() {
    let project = Project::new();
    let steps: String = (0..12).map(|n| build(&format!("t{n}"), "needs: []", "select * from range(20000)")).collect();
    project.steps(&steps);
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.tables().len(), 12);
    assert_eq!(project.value("select count(*) from _errand.ledger"), "12");
}

#[test]
fn steps_side_by_side_make_one_schema() {
    let project = Project::new();
    let steps: String = (0..8)
        .map(|n| {
            build(&format!("t{n}"), "needs: []", "select * from range(50000)")
                .replace(&format!("table: t{n}"), &format!("table: mart.t{n}"))
        })
        .collect();
    project.steps(&steps);
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.tables().len(), 8);
}

#[test]
fn steps_side_by_side_write_one_table() {
    let project = Project::new();
    for mode in ["append", "merge, primary_key: [n]"] {
        let table = mode.chars().take(5).collect::<String>();
        let step = |n: u32| {
            format!(
                "
  - id: s{n}
    needs: []
    sql: {{ text: select {n} as n, materialize: {{ table: {table}, mode: {mode} }} }}
  - id: i{n}
    needs: []
    ingest: {{ source: {{ files: {{ connection: lake, path: {n}.csv, format: csv }} }}, target: {{ table: {table} }}, metadata: false, mode: {mode}, columns: [{{ name: n, type: integer }}] }}
"
            )
        };
        for n in 4..8 {
            project.write(&format!("data/{n}.csv"), format!("n\n{n}0\n"));
        }
        project.steps(&(4..8).map(step).collect::<String>());
        let _ = project.run("2026-01-05").ok();
        assert_eq!(project.rows(&format!("from {table}")), ["4", "40", "5", "50", "6", "60", "7", "70"]);
    }
}

#[test]
fn without_an_interval_and_a_schedule_every_run_is_new_work() {
    let project = Project::new();
    project.steps("\n  - id: one\n    sql: { text: select 1 as n, materialize: { table: t, mode: append } }\n");
    for _ in 0..2 {
        let run = project.run_with(&[]).ok();
        assert_eq!(run.report()["interval"]["start"], run.report()["interval"]["end"]);
    }
    assert_eq!(project.rows("from t"), ["1", "1"]);
}

#[test]
fn an_environment_has_connections_of_its_own() {
    let project = Project::new();
    let definition = std::fs::read_to_string(project.path("errand.yaml")).expect("it is there");
    let other = "\n  other:\n    connections:\n      warehouse: { duckdb: { path: elsewhere/w.duckdb } }\n    reports: { connection: kept, path: reports }\ncontacts:";
    let other = other.replace("\n    reports", "\n      kept: { directory: { path: kept } }\n    reports");
    project.write("errand.yaml", definition.replace("\ncontacts:", &other));
    project.steps(&build("t", "needs: []", "select 1 as n"));
    let run = project.run_with(&["--interval", "2026-01-05", "--env", "other"]);
    assert_eq!(run.outcome.code(), Some(0), "{}", run.everything());
    assert!(project.path("elsewhere/w.duckdb").is_file() && !project.database().exists());
    assert!(project.path("kept/reports/run-1.json").is_file(), "the report is where the environment says");
}

#[test]
fn a_step_follows_the_one_above_it() {
    let project = Project::new();
    project.steps(
        &(build("a", "name: first", "select 1 as n")
            + &build("b", "name: second", "select n + 1 as n from a")
            + &build("c", "name: third", "select n + 1 as n from b")),
    );
    let run = project.run("2026-01-05").ok();
    assert_eq!(project.value("from c"), "3");
    assert_eq!(outcomes(&run), ["a succeeded", "b succeeded", "c succeeded"]);
}

#[test]
fn needs_decide_the_order_not_the_place_in_the_file() {
    let project = Project::new();
    project.steps(
        &(build("last", "needs: [first, second]", "select * from first union all select * from second")
            + &build("first", "needs: []", "select 1 as n")
            + &build("second", "needs: [first]", "select n + 1 as n from first")),
    );
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.rows("from last"), ["1", "2"]);
}

#[test]
fn a_failed_step_stops_those_that_need_it_and_no_others() {
    let project = Project::new();
    project.steps(
        &[
            build("good", "needs: []", "select 1 as n"),
            build("bad", "needs: []", "select error('no')"),
            build("after_bad", "needs: [bad]", "select 1 as n"),
            build("after_both", "needs: [good, after_bad]", "select 1 as n"),
            build("after_good", "needs: [good]", "select 1 as n"),
        ]
        .concat(),
    );
    let run = project.run("2026-01-05").expect_code(17);
    assert_eq!(outcomes(&run), ["good succeeded", "bad failed", "after_bad skipped", "after_both skipped", "after_good succeeded"]);
    assert_eq!(run.step("after_bad")["reason"], "step `bad` did not succeed");
    assert_eq!(project.tables(), ["after_good", "good"]);
}

#[test]
fn a_step_whose_failure_only_warns_does_not_stop_the_run() {
    let project = Project::new();
    project.steps(&(build("bad", "on_failure: warn", "select error('no')") + &build("after", "needs: [bad]", "select 1 as n")));
    let run = project.run("2026-01-05").ok();
    assert_eq!(outcomes(&run), ["bad warned", "after succeeded"]);
    assert_eq!(run.report()["outcome"], "warned");
    assert_eq!(run.attempt("bad")["failure"]["kind"], "permanent");
}

#[test]
fn a_condition_that_is_false_skips_a_step_and_those_after_it_run() {
    let project = Project::new();
    project.job(
        "inputs: { full: { type: boolean, default: false } }",
        &(build("maybe", "if: inputs.full and run.attempt == 1", "select 1 as n") + &build("after", "needs: [maybe]", "select 1 as n")),
    );
    let run = project.run("2026-01-05").ok();
    assert_eq!(outcomes(&run), ["maybe skipped", "after succeeded"]);
    assert!(run.step("maybe")["reason"].as_str().is_some_and(|reason| reason.contains("inputs.full")), "{}", run.step("maybe"));
    let run = project.run_with(&["--interval", "2026-01-06", "--input", "full=true"]).ok();
    assert_eq!(outcomes(&run), ["maybe succeeded", "after succeeded"]);
}

#[test]
fn a_step_can_be_run_with_what_it_needs() {
    let project = Project::new();
    project.steps(
        &(build("a", "needs: []", "select 1 as n")
            + &build("orders", "needs: [a]", "select * from a")
            + &build("c", "needs: [orders]", "select * from orders")
            + &build("d", "needs: []", "select 1 as n")),
    );
    let run = project.run_with(&["--interval", "2026-01-05", "--step", "orders"]).ok();
    assert_eq!(outcomes(&run), ["a succeeded", "orders succeeded", "c skipped", "d skipped"]);
    let run = project.run("2026-01-05").ok();
    assert_eq!(outcomes(&run), ["a already_done", "orders already_done", "c succeeded", "d succeeded"]);
    let run = project.run_with(&["--interval", "2026-01-05", "--step", "order"]).expect_code(10);
    assert!(run.everything().contains("did you mean `orders`"), "{}", run.everything());
}

#[test]
fn inputs_are_typed() {
    let project = Project::new();
    let inputs = "inputs: { region: { type: string, enum: [br, mx], default: br }, n: { type: integer }, rate: { type: number, default: 0.5 }, \
                  on: { type: boolean, default: true }, day: { type: date, default: 2026-01-01 } }";
    let query = "select {{ inputs.region }} as region, {{ inputs.n }} as n, {{ inputs.rate }} as rate, {{ inputs.on }} as flag, {{ inputs.day }} as day";
    project.job(inputs, &build("t", "needs: []", query));
    let given = |inputs: &[&str]| {
        let inputs: Vec<&str> = inputs.iter().flat_map(|input| ["--input", input]).collect();
        project.run_with(&[&["--interval", "2026-01-05"], inputs.as_slice()].concat())
    };
    for (wrong, word) in [
        ("region=ar", "region"),
        ("n=many", "n"),
        ("n=1.5", "n"),
        ("rate=much", "rate"),
        ("on=maybe", "on"),
        ("day=2026-02-30", "day"),
        ("nothing=1", "nothing"),
    ] {
        let inputs: &[&str] = if wrong.starts_with("n=") { &[wrong] } else { &["n=1", wrong] };
        let run = given(inputs).expect_code(10);
        assert!(run.everything().contains(&format!("`{word}`")), "{wrong}: {}", run.everything());
    }
    let run = given(&[]).expect_code(10);
    assert!(run.everything().contains("`n`"), "one without a default must be given: {}", run.everything());
    assert!(!project.database().exists() || project.tables().is_empty());

    let run = given(&["n=-7", "region=mx", "rate=2", "on=false", "day=2026-02-28"]).ok();
    assert_eq!(project.rows("from t"), ["mx|-7|2|false|2026-02-28"]);
    assert_eq!(run.report()["inputs"]["n"], -7);
    assert_eq!(given(&["n=-7", "region=mx", "rate=2", "on=false", "day=2026-02-28"]).ok().how("t"), "already_done");
    assert_eq!(given(&["n=8"]).ok().how("t"), "succeeded", "other inputs are other work");
}

#[test]
fn an_interval_is_a_day_a_month_or_two_times() {
    let project = Project::new();
    project.job(
        "schedule: { cron: '0 6 * * *', timezone: Europe/Lisbon }",
        &build("t", "needs: []", "select {{ run.date }} as day, {{ run.start }}::varchar as first, {{ run.end }}::varchar as last"),
    );
    let interval = |spec: &str| {
        let run = project.run_with(&["--interval", spec]).ok();
        let interval = &run.report()["interval"];
        ["start", "end"].map(|end| interval[end].as_str().unwrap_or_default().to_owned())
    };
    // The day of a job that runs once a day is what its schedule would run for, so that both are the same work.
    assert_eq!(interval("2026-07-05"), ["2026-07-05T05:00:00Z", "2026-07-06T05:00:00Z"]);
    assert_eq!(project.rows("select day from t"), ["2026-07-05"]);
    assert_eq!(interval("2026-02"), ["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]);
    assert_eq!(interval("2026-01-05T06:00/2026-01-05T07:00"), ["2026-01-05T06:00:00Z", "2026-01-05T07:00:00Z"]);
    assert_eq!(interval("2026-01-05T06:00:00Z/2026-01-06T06:00:00Z"), ["2026-01-05T06:00:00Z", "2026-01-06T06:00:00Z"]);
    for wrong in ["yesterday", "2026-02-30", "2026-01-06T00:00/2026-01-05T00:00"] {
        let run = project.run_with(&["--interval", wrong]).expect_code(10);
        assert!(run.everything().contains(wrong), "{wrong}: {}", run.everything());
    }
    let run = project.run_with(&[]).ok();
    let length = project.value(
        "select date_diff('hour', first::timestamp, last::timestamp) from (select left(first, 19) as first, left(last, 19) as last from t)",
    );
    assert!(
        ["23", "24", "25"].contains(&length.as_str()),
        "the last complete interval of the schedule: {} {length}",
        run.report()["interval"]
    );
}
