//! A container with a quarter of a core and 512 MB: a gigabyte of CSV into Postgres, whose memory must stay flat.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::data::Format;
use crate::loader::{job, project};
use crate::postgres::Server;
use crate::table::Table;
use crate::{Place, bulk, mixed, progress, remake, said, write};

const IMAGE: &str = "errand-bench:local";

const SIZES: [usize; 2] = [200_000, bulk::LARGE];

const ALLOWED: Duration = Duration::from_secs(300);

/// Time between two looks at the container's memory.
const TICK: Duration = Duration::from_millis(50);

pub(crate) fn measure(place: &Place) -> Result<Table, String> {
    let mut table = Table::new(["docker run --cpus 0.25 --memory 512m", "wall s", "CPU s", "peak MiB", "peak with file cache"]);
    image(place)?;
    for rows in SIZES {
        let file = mixed::file(place, rows, Format::Csv)?;
        let size = fs::metadata(&file).map_err(said(file.display()))?.len() / 1_000_000;
        let title = format!("CSV into Postgres, {} k rows, {size} MB", rows / 1000);
        progress(&title);
        let server = Server::fresh()?;
        let seen = run(place, &server, &file)?;
        let loaded = server.value("SELECT count(*) || '|' || sum(amount) FROM mixed")?;
        let expected = mixed::expected(place, rows)?;
        if loaded != expected {
            return Err(format!("{title}: loaded {loaded}, and not {expected}"));
        }
        let mebibytes = |bytes: u64| (bytes >> 20).to_string();
        let cells = [format!("{:.1}", seen.wall), format!("{:.1}", seen.cpu), mebibytes(seen.memory), mebibytes(seen.with_cache)];
        table.row(std::iter::once(title).chain(cells));
    }
    Ok(table)
}

/// What the control group said.
#[derive(Default)]
struct Seen {
    wall: f64,
    cpu: f64,
    /// Highest memory of the processes, in bytes.
    memory: u64,
    /// The same with what the kernel keeps of files, which it gives back when asked to.
    with_cache: u64,
}

/// The program with the libraries it is linked to, and nothing else.
fn image(place: &Place) -> Result<(), String> {
    let root = place.scratch.join("image");
    remake(&root)?;
    for directory in ["tmp", "work", "data"] {
        fs::create_dir(root.join(directory)).map_err(said(directory))?;
    }
    let linked = succeeded(&Command::new("ldd").arg(&place.errand).output().map_err(said("ldd"))?, "ldd")?;
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    for library in libraries {
        copy(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
    }
    copy(&place.errand, &root.join("errand"))?;
    let archive = place.scratch.join("image.tar");
    succeeded(&Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".").output().map_err(said("tar"))?, "tar")?;
    docker(["import", &archive.to_string_lossy(), IMAGE]).map(|_| ())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(said(parent.display()))?;
    fs::copy(from, to).map(|_| ()).map_err(said(from.display()))
}

fn run(place: &Place, server: &Server, file: &Path) -> Result<Seen, String> {
    let work = place.scratch.join("container");
    remake(&work)?;
    write(&work.join("errand.yaml"), &project(&server.connection(), Path::new("/data"), Path::new("/repository/reports")))?;
    write(&work.join("jobs/load/job.yaml"), &job(Format::Csv, file))?;
    let mounts = [format!("{}:/repository", work.display()), format!("{}:/data:ro", place.data.display())];
    let secret = format!("ERRAND_SECRET_WAREHOUSE={}", server.password());
    let limits = ["--cpus", "0.25", "--memory", "512m", "--memory-swap", "512m", "--network", "host"];
    let words = ["run", "--detach"].into_iter().chain(limits).chain(["-v", &mounts[0], "-v", &mounts[1], "-e", &secret, "-e", "HOME=/tmp"]);
    let started = Instant::now();
    let container = docker(words.chain([IMAGE, "/errand", "run", "load", "--repo", "/repository"]))?;
    let seen = watch(&container, started);
    let log = docker(["logs", &container]);
    docker(["rm", "--force", &container])?;
    seen.map_err(|message| format!("{message}\n{}", log.unwrap_or_default()))
}

/// Looks at the control group until the program has ended; it must succeed.
#[expect(clippy::disallowed_methods, reason = "a sampler: its pause is the interval between two samples")]
fn watch(container: &str, started: Instant) -> Result<Seen, String> {
    let process = docker(["inspect", "--format", "{{.State.Pid}}", container])?;
    let group = Group::of(&process);
    let mut seen = Seen::default();
    while Path::new(&format!("/proc/{process}/stat")).exists() && started.elapsed() < ALLOWED {
        if let Some(group) = &group {
            group.look(&mut seen);
        }
        seen.wall = started.elapsed().as_secs_f64();
        std::thread::sleep(TICK);
    }
    let state = docker(["inspect", "--format", "{{.State.Running}} {{.State.ExitCode}} {{.State.OOMKilled}}", container])?;
    if group.is_none() || seen.memory == 0 {
        return Err(format!("the control group of the container could not be read; running, exit code, out of memory: {state}"));
    }
    if state == "false 0 false" { Ok(seen) } else { Err(format!("the container ended badly; running, exit code, out of memory: {state}")) }
}

/// The directories of one control group, in either of the kernel's two forms.
struct Group {
    memory: PathBuf,
    cpu: PathBuf,
    is_unified: bool,
}

impl Group {
    fn of(process: &str) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
        let path = |controller: &str| {
            let line =
                text.lines().find(|line| line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == controller)))?;
            Some(line.splitn(3, ':').nth(2)?.trim_start_matches('/').to_owned())
        };
        let root = Path::new("/sys/fs/cgroup");
        if let (Some(memory), Some(cpu)) = (path("memory"), path("cpuacct")) {
            return Some(Self { memory: root.join("memory").join(memory), cpu: root.join("cpuacct").join(cpu), is_unified: false });
        }
        let unified = root.join(path("")?);
        Some(Self { memory: unified.clone(), cpu: unified, is_unified: true })
    }

    #[expect(clippy::cast_precision_loss, reason = "times of processes are far smaller than 2^52")]
    fn look(&self, seen: &mut Seen) {
        let [own, peak, cpu, unit] = if self.is_unified {
            ["anon", "memory.peak", "cpu.stat", "usage_usec"]
        } else {
            ["total_rss", "memory.max_usage_in_bytes", "cpuacct.usage", ""]
        };
        let field = |path: PathBuf, name: &str| -> Option<u64> {
            let text = fs::read_to_string(path).ok()?;
            let value =
                if name.is_empty() { Some(text.trim()) } else { text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')) };
            value?.parse().ok()
        };
        seen.memory = seen.memory.max(field(self.memory.join("memory.stat"), own).unwrap_or(0));
        seen.with_cache = seen.with_cache.max(field(self.memory.join(peak), "").unwrap_or(0));
        if let Some(used) = field(self.cpu.join(cpu), unit) {
            seen.cpu = used as f64 / if self.is_unified { 1e6 } else { 1e9 };
        }
    }
}

fn docker<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<String, String> {
    let output = Command::new("docker").args(words).output();
    succeeded(&output.map_err(said("docker"))?, "docker")
}

fn succeeded(output: &Output, what: &str) -> Result<String, String> {
    if !output.status.success() {
        return Err(format!("`{what}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
