//! The program `errand`: arguments, settings, log, command, exit code.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use errand_engine::cli::{self, Arguments, Surroundings};
use errand_engine::clock::Clock;
use errand_engine::log;
use errand_engine::progress::Progress;
use errand_engine::settings::Settings;
use errand_model::failure::FailureKind;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => {
            // Help and version also come this way. That nobody reads them is no failure.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let settings = match Settings::read() {
        Ok(settings) => settings,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "error: {failure}\nhelp: {}", failure.help.as_deref().unwrap_or_default());
            return ExitCode::from(failure.kind.exit_code());
        }
    };
    let surroundings = Surroundings { clock: Clock::system(), progress: Progress::new(settings.stderr.terminal), settings };
    log::start(&surroundings.settings, &surroundings.clock, &surroundings.progress);
    log::panics();
    let code = catch_unwind(AssertUnwindSafe(|| cli::execute(&arguments, &surroundings)));
    ExitCode::from(code.unwrap_or(FailureKind::Internal.exit_code()))
}
