//! Files to staged Parquet: what the client spends when rows go into Snowflake. Behind it here stands what stands in for Snowflake, so
//! only the client's own CPU time says something.

use e2e::services::Snowflake;
use e2e::snowflake::Database;

use crate::data::Format;
use crate::loader::{job, project};
use crate::measure::{Meter, Program, median_of};
use crate::table::Table;
use crate::{Place, bulk, mixed, progress, remake, said, write};

/// Each with its number of runs.
const FORMATS: [(Format, &str, usize); 3] = [(Format::Csv, "CSV", 3), (Format::GzipCsv, "gzip CSV", 1), (Format::Jsonl, "JSON Lines", 1)];

/// Five million rows.
pub(crate) fn measure(place: &Place, meter: &Meter) -> Result<Table, String> {
    let mut table =
        Table::new(["files to staged Parquet, client", "CPU s", "MB of input per CPU s", "MB of CSV per CPU s", "peak MiB", "runs"]);
    let csv = megabytes(&mixed::file(place, bulk::LARGE, Format::Csv)?)?;
    for (format, name, runs) in FORMATS {
        let file = mixed::file(place, bulk::LARGE, format)?;
        let size = megabytes(&file)?;
        let title = format!("{name}, {} k rows, {size:.0} MB", bulk::LARGE / 1000);
        let rounds = meter.rounds(&title, runs, 1, |meter, _| load(place, meter, format, &file))?;
        let figures = median_of(&rounds[0]);
        let whole = |value: f64| format!("{value:.0}");
        table.row([
            title,
            format!("{:.2}", figures.cpu),
            whole(size / figures.cpu),
            whole(csv / figures.cpu),
            whole(figures.peak),
            runs.to_string(),
        ]);
    }
    Ok(table)
}

fn load(place: &Place, meter: &Meter, format: Format, file: &std::path::Path) -> Result<crate::measure::Figures, String> {
    let (repository, staging) = (place.scratch.join("repository"), place.scratch.join("staging"));
    remake(&staging)?;
    let database = Database::create();
    database.execute(&[&format!("CREATE STAGE ERRAND_STAGE URL = 'file://{}/'", staging.display())]);
    let lake = file.parent().unwrap_or(file);
    let text = project(&connection(database.settings()), lake, &place.scratch.join("reports"));
    let staged = format!("\n      staging: {{ directory: {{ path: {} }} }}\n      lake:", staging.display());
    write(&repository.join("errand.yaml"), &text.replacen("\n      lake:", &staged, 1))?;
    write(&repository.join("jobs/load/job.yaml"), &job(format, file))?;
    let program = Program::errand(place, ["run", "load", "--repo", &repository.to_string_lossy()]).allowed(240);
    let secret = database.settings().password.clone().unwrap_or_default();
    let figures = meter.run(&program.env("ERRAND_SECRET_WAREHOUSE", &secret))?;
    progress(&figures.told("errand"));
    // What stands in for Snowflake adds decimals up as floats: cents stay whole numbers in them.
    let loaded = database.rows("SELECT count(*), sum((amount * 100)::bigint)::bigint FROM mixed").concat();
    let expected = mixed::expected(place, bulk::LARGE)?.replace('.', "");
    if loaded == expected { Ok(figures) } else { Err(format!("loaded {loaded}, and not {expected}")) }
}

fn connection(settings: &Snowflake) -> String {
    let host = settings.host.as_ref().map_or(String::new(), |host| format!(", host: \"{host}\""));
    format!(
        "{{ snowflake: {{ account: {}, user: {}, password: {{ secret: warehouse }}, role: {}, compute_warehouse: {}, database: {}, \
         schema: PUBLIC, stage: \"@{}.PUBLIC.ERRAND_STAGE\", staging: staging{host} }} }}",
        settings.account, settings.user, settings.role, settings.warehouse, settings.database, settings.database
    )
}

#[expect(clippy::cast_precision_loss, reason = "sizes of files are far smaller than 2^52")]
fn megabytes(file: &std::path::Path) -> Result<f64, String> {
    Ok(std::fs::metadata(file).map_err(said(file.display()))?.len() as f64 / 1e6)
}
