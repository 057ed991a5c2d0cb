//! `command`: its environment, outputs, exit code, output in the log, secrets, process group.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use e2e::condition::wait_for;
use e2e::errand::Errand;
use e2e::project::Project;

/// A command that runs a shell script, with more keys.
fn shell(script: &str, keys: &str) -> String {
    let script: String = script.lines().map(|line| format!("          {line}\n")).collect();
    format!("\n  - id: script\n    command:\n      run:\n        - /bin/sh\n        - -c\n        - |\n{script}{keys}")
}

/// Whether a process runs: one that ended and that nobody has waited for does not.
pub(crate) fn runs(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[test]
fn it_sees_only_the_environment_that_it_declares() {
    let project = Project::within(Errand::new().env("LEAK", "leaked").env("ERRAND_SECRET_OTHER", "not-for-it"));
    project.job(
        "inputs: { who: { type: string, default: ada } }",
        &shell(
            "env | cut -d= -f1 | sort > names\nprintf %s \"$GREETING $NUMBER\" > greeting",
            "      env: { GREETING: 'hello {{ inputs.who }}', NUMBER: 5 }\n",
        ),
    );
    let _ = project.run("2026-01-05").ok();
    let names = fs::read_to_string(project.path("jobs/load/names")).expect("it ran in the job's folder");
    let names: Vec<&str> = names.lines().filter(|name| !["_", "PWD", "SHLVL", "OLDPWD"].contains(name)).collect();
    assert_eq!(names, ["ERRAND_OUTPUT", "GREETING", "HOME", "NUMBER", "PATH"]);
    assert_eq!(fs::read_to_string(project.path("jobs/load/greeting")).expect("written"), "hello ada 5");
}

#[test]
fn programs_are_looked_for_where_errand_would_and_elsewhere_only_when_told() {
    let tools = tempfile::tempdir().expect("a directory for programs");
    let tool = tools.path().join("greet");
    fs::write(&tool, "#!/bin/sh\nexit 0\n").expect("a scratch directory can be written");
    fs::set_permissions(&tool, Permissions::from_mode(0o755)).expect("one's own file");
    let own = format!("{}:/usr/bin:/bin", tools.path().display());
    let step = |env: &str| format!("\n  - id: greet\n    command: {{ run: [greet]{env} }}\n");
    let project = Project::within(Errand::new().env("PATH", &own));
    let _ = project.steps(&step("")).run("2026-01-05").ok();
    let run = project.steps(&step(", env: { PATH: '/nowhere:/usr/bin' }")).run("2026-01-06").fails(10, "command::cannot_start");
    assert!(run.everything().contains("/nowhere:/usr/bin"), "{}", run.everything());
    let project = Project::new();
    let _ = project.steps(&step("")).run("2026-01-05").fails(10, "command::cannot_start");
    let _ = project.steps(&step(&format!(", env: {{ PATH: '{own}' }}"))).run("2026-01-06").ok();
}

#[test]
fn outputs_feed_later_steps() {
    let project = Project::new();
    project.steps(&format!(
        "{}
  - id: keep
    if: steps.script.outputs.found == 'yes'
    sql: {{ text: 'create table t as select {{{{ steps.script.outputs.count }}}} as n, {{{{ steps.script.outputs.note }}}} as note' }}
",
        shell("echo count=42 >> $ERRAND_OUTPUT\necho \"note=it's = fine\" >> $ERRAND_OUTPUT\necho found=yes >> $ERRAND_OUTPUT\necho other=x >> $ERRAND_OUTPUT", "      outputs: [count, note, found]\n")
    ));
    let run = project.run("2026-01-05").ok();
    assert_eq!(project.rows("from t"), ["42|it's = fine"]);
    assert_eq!(
        run.step("script")["outputs"],
        serde_json::json!({ "count": "42", "found": "yes", "note": "it's = fine" }),
        "only those it declares"
    );
}

#[test]
fn an_output_that_is_missing_or_no_output_fails() {
    let project = Project::new();
    project.steps(&shell("echo count=42 >> $ERRAND_OUTPUT", "      outputs: [count, total]\n"));
    let run = project.run("2026-01-05").fails(17, "command::outputs");
    assert!(run.message().contains("`total`"), "{}", run.message());
    project.steps(&shell("echo >> $ERRAND_OUTPUT\necho nonsense >> $ERRAND_OUTPUT", ""));
    let run = project.run("2026-01-06").fails(17, "command::outputs");
    assert!(run.message().contains("line 2"), "{}", run.message());
}

#[test]
fn an_exit_code_is_named_with_the_last_lines() {
    let project = Project::new();
    project.steps(&shell("echo first\nseq 1 100\necho the reason >&2\nexit 7", ""));
    let run = project.run("2026-01-05").fails(17, "command::failed");
    for part in ["exit code 7", "the reason"] {
        assert!(run.message().contains(part), "{}", run.message());
    }
    assert!(!run.message().contains("first"), "{}", run.message());
    assert!(run.outcome.stderr.contains("first"), "{}", run.outcome.stderr);
}

#[test]
fn a_program_that_is_not_there_is_a_fault_of_the_definition() {
    let project = Project::new();
    project.write("jobs/load/not-executable", "#!/bin/sh\n");
    for program in ["no-such-program", "./nowhere", "./not-executable"] {
        project.steps(&format!("\n  - id: script\n    command: {{ run: [{program}] }}\n"));
        let run = project.run("2026-01-05").expect_code(10);
        // What validation sees is told before the run, what only the machine knows in its report.
        assert!(run.everything().contains(program), "{}", run.everything());
    }
}

#[test]
fn output_is_logged_line_by_line_and_a_secret_is_nowhere() {
    let secret = "pa55 word/with+signs&more";
    let project = Project::within(Errand::new().env("ERRAND_SECRET_TOKEN", secret).env("RUST_LOG", "trace"));
    let script = "echo \"the token is $TOKEN.\"\nprintf %s \"$TOKEN\" | base64 >&2\necho \"value=$TOKEN\" >> $ERRAND_OUTPUT\nprintf 'no line end %s' \"$TOKEN\"\n[ \"$TOKEN\" = 'pa55 word/with+signs&more' ] || exit 4\nexit $CODE";
    for (code, exit) in [(0, 0), (3, 17)] {
        project.steps(&shell(script, &format!("      outputs: [value]\n      env: {{ TOKEN: {{ secret: token }}, CODE: {code} }}\n")));
        let run = project.run_with(&["--interval", "2026-01-05", "--format", "json"]).expect_code(exit);
        let said = run.everything();
        assert!(said.contains("the token is [secret].") && said.contains("no line end [secret]"), "{said}");
        for form in [secret, "cGE1NSB3b3JkL3dpdGgrc2lnbnMmbW9yZQ", "pa55%20word", "with+signs"] {
            assert!(!said.contains(form), "{form} in {said}");
        }
    }
}

#[test]
fn a_secret_that_is_not_set_is_named() {
    let project = Project::new();
    project.steps(&shell("true", "      env: { TOKEN: { secret: shop_token } }\n"));
    let run = project.run("2026-01-05").fails(10, "secret::missing");
    assert!(run.failure()["help"].as_str().is_some_and(|help| help.contains("ERRAND_SECRET_SHOP_TOKEN")), "{}", run.failure());
}

#[test]
fn its_whole_process_group_ends_with_its_timeout() {
    let project = Project::new();
    let step = shell("sleep 1000 &\necho $! > grandchild\nwait", "");
    project.steps(&step.replace("- id: script", "- id: script\n    timeout: 1s"));
    let run = project.run("2026-01-05").fails(15, "step::timeout");
    assert!(run.step("script")["duration_ms"].as_u64().is_some_and(|duration| (1000..3000).contains(&duration)), "{}", run.step("script"));
    let grandchild = fs::read_to_string(project.path("jobs/load/grandchild")).expect("it started");
    wait_for("the end of the grandchild", Duration::from_secs(2), || (!runs(&grandchild)).then_some(()));
}

#[test]
fn its_whole_process_group_ends_with_the_run() {
    let project = Project::new();
    project.steps(&shell("sleep 1000 &\necho $! > half\nmv half grandchild\nwait", ""));
    let (running, id) = project.spawn(&["--interval", "2026-01-05"]);
    let grandchild = wait_for("the grandchild", Duration::from_secs(10), || fs::read_to_string(project.path("jobs/load/grandchild")).ok());
    assert!(runs(&grandchild));
    running.terminate();
    let run = project.ended(running, &id).expect_code(16);
    assert_eq!((run.how("script"), run.report()["outcome"].as_str()), ("cancelled", Some("cancelled")));
    wait_for("the end of the grandchild", Duration::from_secs(2), || (!runs(&grandchild)).then_some(()));
}

#[test]
fn a_second_signal_ends_a_run_at_once_whose_program_will_not_end() {
    let project = Project::new();
    project.steps(&shell("trap '' TERM\nsleep 1000 &\necho $! > half\nmv half grandchild\nwhile true; do wait; done", ""));
    let (running, id) = project.spawn(&["--interval", "2026-01-05"]);
    let grandchild = wait_for("the grandchild", Duration::from_secs(10), || fs::read_to_string(project.path("jobs/load/grandchild")).ok());
    running.terminate();
    wait_for("the first signal", Duration::from_secs(10), || running.stderr().contains("cancelling the run").then_some(()));
    running.terminate();
    let run = project.ended(running, &id).fails(16, "run::stopped");
    assert_eq!(run.report()["outcome"], "cancelled");
    wait_for("the end of the grandchild", Duration::from_secs(2), || (!runs(&grandchild)).then_some(()));
}

#[test]
fn what_it_leaves_behind_ends_with_it() {
    let project = Project::new();
    project.steps(&shell("sleep 1000 &\necho $! > grandchild", ""));
    let _ = project.run("2026-01-05").ok();
    let grandchild = fs::read_to_string(project.path("jobs/load/grandchild")).expect("it started");
    wait_for("the end of the grandchild", Duration::from_secs(2), || (!runs(&grandchild)).then_some(()));
}

#[test]
fn a_process_that_leaves_the_group_does_not_hold_the_run() {
    let project = Project::new();
    project.steps(&shell("setsid sleep 1000 &\necho $! > left", ""));
    let run = project.run("2026-01-05").ok();
    assert!(run.step("script")["duration_ms"].as_u64().is_some_and(|duration| duration < 5000), "{}", run.step("script"));
    let left = fs::read_to_string(project.path("jobs/load/left")).expect("it started");
    let _ = std::process::Command::new("/bin/sh").args(["-c", &format!("kill {}", left.trim())]).status();
}

#[test]
fn a_command_runs_in_every_run_and_where_it_says() {
    let project = Project::new();
    project.write("tools/count.sh", "#!/bin/sh\necho \"$1\" >> counted\n");
    project.steps("\n  - id: script\n    command: { run: [/bin/sh, count.sh, '{{ run.date }}; x'], working_dir: tools }\n");
    let _ = project.run("2026-01-05").ok();
    let _ = project.run("2026-01-05").ok();
    assert_eq!(fs::read_to_string(project.path("tools/counted")).expect("it ran"), "2026-01-05; x\n2026-01-05; x\n");
}
