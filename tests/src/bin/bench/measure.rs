//! One process measured from outside, and the median of several.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::{Place, progress, said};

/// Starts a program and waits for it with `wait4`. A process of its own, because the standard library does not tell what `wait4` says,
/// and a small one: memory of the process that forks counts towards the peak of the new one.
const MEASURE: &str = include_str!("measure.py");

/// Seconds that one process may take.
const ALLOWED: u64 = 180;

/// What the kernel says of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// When it was started, in microseconds since 1970.
    pub(crate) started_at_us: u64,
    /// Seconds from its start to its end.
    pub(crate) wall: f64,
    /// Seconds of all its threads, in the program and in the kernel.
    pub(crate) cpu: f64,
    /// Highest resident memory in MiB.
    pub(crate) peak: f64,
}

impl Figures {
    /// In one line, for whoever waits.
    pub(crate) fn told(&self, who: &str) -> String {
        format!("{who}: {:.2} s, CPU {:.2} s, {:.0} MiB", self.wall, self.cpu, self.peak)
    }
}

/// A program with its arguments.
pub(crate) struct Program {
    words: Vec<String>,
    variables: Vec<(String, String)>,
    allowed: u64,
}

impl Program {
    pub(crate) fn errand<'a>(place: &Place, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(&place.errand, arguments)
    }

    /// Python code with its arguments.
    pub(crate) fn python<'a>(place: &Place, code: &'a str, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(&place.python, ["-c", code].into_iter().chain(arguments))
    }

    /// A line of shell: the processes it starts count with it.
    pub(crate) fn shell(line: &str) -> Self {
        Self::new(Path::new("/bin/sh"), ["-c", line])
    }

    pub(crate) fn new<'a>(program: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let program = program.to_string_lossy().into_owned();
        let words = std::iter::once(program).chain(arguments.into_iter().map(str::to_owned)).collect();
        Self { words, variables: Vec::new(), allowed: ALLOWED }
    }

    /// With one more environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another number of seconds until it is ended.
    pub(crate) fn allowed(self, allowed: u64) -> Self {
        Self { allowed, ..self }
    }
}

/// Measures processes, one at a time.
pub(crate) struct Meter {
    python: PathBuf,
    figures: PathBuf,
    log: PathBuf,
    home: PathBuf,
    deadline: Instant,
}

impl Meter {
    pub(crate) fn new(place: &Place, deadline: Instant) -> Self {
        let file = |name: &str| place.scratch.join(name);
        Self { python: place.python.clone(), figures: file("figures.json"), log: file("output.log"), home: place.scratch.clone(), deadline }
    }

    /// Runs a program to its end. It must succeed.
    pub(crate) fn run(&self, program: &Program) -> Result<Figures, String> {
        let left = self.deadline.saturating_duration_since(Instant::now()).as_secs().min(program.allowed);
        if left == 0 {
            return Err("the time for the whole benchmark is over".to_owned());
        }
        let mut command = Command::new(&self.python);
        command.args(["-I", "-S", "-c", MEASURE]).arg(&self.figures).arg(&self.log).arg(left.to_string()).args(&program.words);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.home).current_dir(&self.home);
        command.envs(program.variables.iter().map(|(name, value)| (name, value)));
        let status = command.status().map_err(said(self.python.display()))?;
        let log = || fs::read_to_string(&self.log).unwrap_or_default();
        if !status.success() {
            return Err(format!("cannot measure {:?}: {status}\n{}", program.words, log()));
        }
        let text = fs::read_to_string(&self.figures).map_err(said(self.figures.display()))?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(said(self.figures.display()))?;
        if json["exit"] == -9 {
            return Err(format!("no end within {left} s"));
        }
        if json["exit"] != 0 {
            return Err(format!("{:?} ended with {}\n{}", program.words, json["exit"], log()));
        }
        let number = |name: &str| json[name].as_f64().ok_or_else(|| format!("`{name}` is missing in {text}"));
        Ok(Figures {
            started_at_us: json["started_at_us"].as_u64().ok_or_else(|| format!("`started_at_us` is missing in {text}"))?,
            wall: number("wall_s")?,
            cpu: number("cpu_s")?,
            peak: number("peak_kib")? / 1024.0,
        })
    }

    /// Runs the sides in turn, `rounds` times, and returns what each round gave, by side.
    pub(crate) fn rounds<T>(
        &self,
        what: &str,
        rounds: usize,
        sides: usize,
        mut run: impl FnMut(&Self, usize) -> Result<T, String>,
    ) -> Result<Vec<Vec<T>>, String> {
        let mut all: Vec<Vec<T>> = (0..sides).map(|_| Vec::with_capacity(rounds)).collect();
        for round in 1..=rounds {
            progress(&format!("{what}: round {round} of {rounds}"));
            for (side, results) in all.iter_mut().enumerate() {
                results.push(run(self, side)?);
            }
        }
        Ok(all)
    }
}

/// The median of each figure by itself.
pub(crate) fn median_of(all: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| median(all.iter().map(figure));
    Figures { started_at_us: 0, wall: of(|one| one.wall), cpu: of(|one| one.cpu), peak: of(|one| one.peak) }
}

/// The middle one; of an even number, the upper of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
