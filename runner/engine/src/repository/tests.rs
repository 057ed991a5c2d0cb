use std::fs;
use std::path::Path;

use errand_model::problem::Problem;

use super::{JobError, Repository, Validation};

const PROJECT: &str = "\
version: 1
default_environment: local
environments: { local: { connections: { warehouse: { duckdb: { path: w.duckdb } } } } }
contacts: { team: { email: { to: [team@example.com] } } }
";

fn repository() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    write(root.path(), "errand.yaml", PROJECT);
    write(root.path(), "jobs/README.md", "not a job");
    add_job(root.path(), "orders");
    root
}

fn write(root: &Path, path: &str, text: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(path, text).expect("written");
}

fn add_job(root: &Path, name: &str) {
    let text = format!("version: 1\nname: {name}\nowner: team\nsteps:\n  - id: one\n    sql: {{ file: one.sql }}\n");
    write(root, &format!("jobs/{name}/job.yaml"), text);
    write(root, &format!("jobs/{name}/one.sql"), "select {{ run.id }}");
}

fn validate(root: &Path) -> Validation {
    Repository::open(root).expect("a repository").validate()
}

fn told(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|problem| format!("{}: {}", problem.file, problem.message)).collect()
}

#[test]
fn valid_jobs_are_read() {
    let root = repository();
    let validation = validate(root.path());
    assert_eq!(told(&validation.problems), [""; 0]);
    assert_eq!((validation.jobs.len(), validation.job_count, validation.project.is_some()), (1, 1, true));
    let (_, job, warnings) = Repository::open(root.path()).expect("a repository").job("orders").expect("valid");
    assert_eq!((job.name.as_str(), warnings.len()), ("orders", 0));
}

#[test]
fn what_is_not_there_is_told_with_what_is_near() {
    let root = repository();
    let open = Repository::open(root.path()).expect("a repository");
    let JobError::Failure(failure) = open.job("order").expect_err("no such job") else { panic!("a failure") };
    assert_eq!(failure.help.as_deref(), Some("did you mean `orders`?"));
    for name in ["..", "../orders", "", "README.md", "orders/"] {
        assert!(matches!(open.job(name), Err(JobError::Failure(_))), "{name}");
    }
    assert_eq!(Repository::open(&root.path().join("jobs")).expect_err("no project").code, "repository::no_project");
    assert_eq!(Repository::open(&root.path().join("nowhere")).expect_err("nothing").code, "repository::not_found");
    fs::remove_dir_all(root.path().join("jobs")).expect("removed");
    assert_eq!(told(&validate(root.path()).problems), ["jobs: there is no `jobs`"]);
}

#[test]
fn links_are_refused_wherever_they_stand() {
    use std::os::unix::fs::symlink;
    let root = repository();
    let elsewhere = tempfile::tempdir().expect("a directory");
    write(elsewhere.path(), "x.sql", "select 1");
    symlink(elsewhere.path(), root.path().join("jobs/linked")).expect("linked");
    for (job, link, target) in [("a", "one.sql", "x.sql"), ("b", "job.yaml", "x.sql"), ("c", "sub", "")] {
        add_job(root.path(), job);
        let _ = fs::remove_file(root.path().join(format!("jobs/{job}/{link}")));
        symlink(elsewhere.path().join(target), root.path().join(format!("jobs/{job}/{link}"))).expect("linked");
    }
    let job = fs::read_to_string(root.path().join("jobs/c/job.yaml")).expect("text").replace("one.sql", "sub/x.sql");
    write(root.path(), "jobs/c/job.yaml", job);
    let validation = validate(root.path());
    assert_eq!(validation.jobs.len(), 1);
    assert_eq!(
        told(&validation.problems),
        [
            "jobs/a/job.yaml: `jobs/a/one.sql` is a symbolic link",
            "jobs/b/job.yaml: `jobs/b/job.yaml` is a symbolic link",
            "jobs/c/job.yaml: `jobs/c/sub/x.sql` is a symbolic link",
            "jobs/linked: `jobs/linked` is a symbolic link",
        ]
    );
}

#[test]
fn files_that_are_no_text_of_a_person_are_refused() {
    let root = repository();
    for (job, sql) in
        [("big", vec![b' '; 1024 * 1024 + 1]), ("latin", b"select\n'\xE9'".to_vec()), ("mark", b"\xEF\xBB\xBFselect 1".to_vec())]
    {
        add_job(root.path(), job);
        write(root.path(), &format!("jobs/{job}/one.sql"), sql);
    }
    add_job(root.path(), "folder");
    fs::remove_file(root.path().join("jobs/folder/one.sql")).expect("removed");
    fs::create_dir(root.path().join("jobs/folder/one.sql")).expect("made");
    write(root.path(), "jobs/huge/job.yaml", vec![b' '; 256 * 1024 + 1]);
    write(root.path(), "jobs/yml/job.yml", "version: 1");
    fs::create_dir(root.path().join("jobs/shared")).expect("made");
    assert_eq!(
        told(&validate(root.path()).problems),
        [
            "jobs/big/job.yaml: `jobs/big/one.sql` is longer than 1048576 bytes",
            "jobs/folder/job.yaml: `jobs/folder/one.sql` is not a file",
            "jobs/huge/job.yaml: `jobs/huge/job.yaml` is longer than 262144 bytes",
            "jobs/latin/job.yaml: `jobs/latin/one.sql` is not UTF-8: byte 8, on line 2",
            "jobs/mark/job.yaml: `jobs/mark/one.sql` starts with a byte order mark",
            "jobs/yml/job.yml: `jobs/yml` has `job.yml` and no `job.yaml`",
        ]
    );
}

#[test]
fn a_broken_project_does_not_hide_the_problems_of_jobs() {
    let root = repository();
    write(root.path(), "errand.yaml", PROJECT.replace("version: 1", "version: 2"));
    write(root.path(), "jobs/orders/one.sql", "select {{ run.ident }}");
    let validation = validate(root.path());
    assert_eq!(told(&validation.problems), ["errand.yaml: version 2 is not known", "jobs/orders/one.sql: `run.ident` is not defined"]);
    let JobError::Invalid(invalid) = Repository::open(root.path()).expect("a repository").job("orders").expect_err("broken") else {
        panic!("problems")
    };
    assert_eq!(invalid.problems, validation.problems);
    assert_eq!(invalid.texts.keys().collect::<Vec<_>>(), ["errand.yaml", "jobs/orders/one.sql"]);
}

#[test]
fn many_jobs_are_read_in_parallel_and_told_in_order() {
    let root = repository();
    for number in 0..60 {
        add_job(root.path(), &format!("job_{number:02}"));
        write(root.path(), &format!("jobs/job_{number:02}/one.sql"), "select {{ nothing }}");
    }
    let validation = validate(root.path());
    assert_eq!((validation.problems.len(), validation.jobs.len(), validation.job_count), (60, 1, 61));
    assert!(validation.problems.is_sorted_by(|one, other| one.file <= other.file));
}

#[test]
fn the_example_jobs_of_this_repository_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    assert_eq!(told(&validate(&root).problems), [""; 0]);
}

#[test]
fn the_committed_schemas_are_what_the_types_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs");
    for (name, schema) in [("job", errand_model::schema::job()), ("project", errand_model::schema::project())] {
        let committed = fs::read_to_string(root.join(format!("{name}.schema.json"))).unwrap_or_default();
        assert!(
            committed == format!("{schema:#}\n"),
            "jobs/{name}.schema.json is stale: run `errand schema {name} > jobs/{name}.schema.json`"
        );
    }
}
