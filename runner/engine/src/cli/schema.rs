//! `errand schema`: the JSON Schemas of definitions, for editors.

use std::io::{self, Write};

use errand_model::schema;

/// Prints a JSON Schema (draft 2020-12).
#[derive(clap::Args, Clone, Debug)]
pub struct SchemaArgs {
    /// Which definition: `jobs/<name>/job.yaml` or `errand.yaml`.
    #[arg(value_enum, default_value_t = Definition::Job)]
    pub definition: Definition,
}

/// A kind of definition.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// `jobs/<name>/job.yaml`.
    Job,
    /// `errand.yaml`.
    Project,
}

/// Prints the schema to `out`. The exit code.
///
/// # Errors
///
/// `out` cannot be written.
pub fn run(args: &SchemaArgs, out: &mut dyn Write) -> io::Result<u8> {
    let schema = match args.definition {
        Definition::Job => schema::job(),
        Definition::Project => schema::project(),
    };
    writeln!(out, "{schema:#}")?;
    Ok(0)
}
