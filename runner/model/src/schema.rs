//! JSON Schemas of definitions, for editors: generated from the document types.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::document::job::JobDocument;
use crate::document::project::ProjectDocument;

/// The schema (draft 2020-12) of `jobs/<name>/job.yaml`.
#[must_use]
pub fn job() -> Value {
    root::<JobDocument>("Errand job")
}

/// The schema (draft 2020-12) of `errand.yaml`.
#[must_use]
pub fn project() -> Value {
    root::<ProjectDocument>("Errand project")
}

fn root<T: JsonSchema>(title: &str) -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schema.to_value()
}
