//! Measures `errand` beside the loaders of DuckDB and Postgres and beside others: whole processes, side by side in turn, as the kernel
//! accounts for them.
//!
//! Input is made once in the user's cache. What the sides loaded is compared before a figure is shown. Postgres and what stands in for
//! Snowflake are the services of the tests. Must not measure inside
//! of a process: what a user waits for is the process.

mod bulk;
mod container;
mod data;
mod load;
mod loader;
mod measure;
mod mixed;
mod postgres;
mod staged;
mod start;
mod table;
mod validate;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use self::measure::Meter;
use self::table::Table;

const USAGE: &str = "usage: bench [--only start|validate|load|growth|postgres|large|duckdb|staged|container]... [--write <page.md>]";

/// A benchmark that takes longer than this measures something else.
const LIMIT: Duration = Duration::from_secs(90 * 60);

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| bench(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            progress(&format!("bench: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Start,
    Validate,
    Load,
    Growth,
    Postgres,
    Large,
    DuckDb,
    Staged,
    Container,
}

const GROUPS: [(&str, Group); 9] = [
    ("start", Group::Start),
    ("validate", Group::Validate),
    ("load", Group::Load),
    ("growth", Group::Growth),
    ("postgres", Group::Postgres),
    ("large", Group::Large),
    ("duckdb", Group::DuckDb),
    ("staged", Group::Staged),
    ("container", Group::Container),
];

struct Arguments {
    groups: Vec<(&'static str, Group)>,
    page: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut groups, mut page) = (Vec::new(), None);
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("`{flag}` without a value\n{USAGE}"))?;
            match flag.as_str() {
                "--only" => {
                    let known = GROUPS.iter().find(|(name, _)| *name == value);
                    groups.push(*known.ok_or_else(|| format!("unknown group `{value}`\n{USAGE}"))?);
                }
                "--write" => page = Some(PathBuf::from(value)),
                _ => return Err(format!("unknown argument `{flag}`\n{USAGE}")),
            }
        }
        if groups.is_empty() {
            groups = GROUPS.to_vec();
        }
        Ok(Self { groups, page })
    }
}

fn bench(arguments: &Arguments) -> Result<(), String> {
    let peers = peers()?;
    let file = |name: &str| peers.with_file_name(name);
    let place = Place {
        errand: e2e::errand::binary(),
        python: peers.join("bin/python"),
        data: file("data"),
        scratch: file("scratch"),
        peers: peers.clone(),
    };
    remake(&place.scratch)?;
    let meter = Meter::new(&place, Instant::now() + LIMIT);
    for (name, group) in &arguments.groups {
        let began = machine();
        let table = match group {
            Group::Start => start::measure(&place, &meter),
            Group::Validate => validate::measure(&place, &meter),
            Group::Load => load::formats(&place, &meter),
            Group::Growth => load::growth(&place, &meter),
            Group::Postgres => bulk::postgres(&place, &meter),
            Group::Large => bulk::postgres_large(&place, &meter),
            Group::DuckDb => bulk::duckdb(&place, &meter),
            Group::Staged => staged::measure(&place, &meter),
            Group::Container => container::measure(&place),
        }?;
        print(&format!("\n{}\n{began}, after it {}\n", table.text(), load_average()));
        if let Some(page) = &arguments.page {
            write_page(page, name, &table, &format!("{began}, after it {}", load_average()))?;
        }
    }
    remove(&place.scratch)
}

/// The programs and directories of one benchmark.
struct Place {
    errand: PathBuf,
    python: PathBuf,
    /// The environment that holds them.
    peers: PathBuf,
    /// Input, kept from one benchmark to the next.
    data: PathBuf,
    /// On the same disk; empty at the start, gone at the end.
    scratch: PathBuf,
}

/// The peers' environment, installed when it is missing.
fn peers() -> Result<PathBuf, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bench-peers");
    let output = Command::new(script).stderr(Stdio::inherit()).output().map_err(said(script))?;
    if !output.status.success() {
        return Err(format!("`{script}` ended with {}", output.status));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// The machine and what else it does, in one line.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kib: f64 = file("/proc/meminfo").lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0);
    format!("{cores} cores, {:.0} GiB; load average before the table {}", kib / f64::from(1 << 20), load_average())
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

/// Replaces what stands between the markers of a group on the page.
fn write_page(page: &Path, group: &str, table: &Table, machine: &str) -> Result<(), String> {
    let marks = [format!("<!-- figures of {group}: written by `bench --write` -->"), format!("<!-- end of {group} -->")];
    let text = std::fs::read_to_string(page).map_err(said(page.display()))?;
    let parts = text.split_once(&marks[0]).and_then(|(before, rest)| Some((before, rest.split_once(&marks[1])?.1)));
    let (before, after) = parts.ok_or_else(|| format!("`{}` lacks the lines `{}` and `{}`", page.display(), marks[0], marks[1]))?;
    let text = format!("{before}{}\n\n{}\n{machine}.\n\n{}{after}", marks[0], table.markdown(), marks[1]);
    std::fs::write(page, text).map_err(said(page.display()))
}

fn remove(directory: &Path) -> Result<(), String> {
    if directory.exists() { std::fs::remove_dir_all(directory).map_err(said(directory.display())) } else { Ok(()) }
}

/// An empty directory.
fn remake(directory: &Path) -> Result<(), String> {
    remove(directory)?;
    std::fs::create_dir_all(directory).map_err(said(directory.display()))
}

/// Writes a file and the directories above it.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(said(parent.display()))?;
    std::fs::write(path, text).map_err(said(path.display()))
}

/// Turns an error into text that names what it is about.
fn said<E: Display>(what: impl Display) -> impl FnOnce(E) -> String {
    move |error| format!("`{what}`: {error}")
}

#[expect(clippy::print_stdout, reason = "a tool talks to the person who started it")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a tool talks to the person who started it")]
fn progress(text: &str) {
    eprintln!("{text}");
}
