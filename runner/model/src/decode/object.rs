//! The JSON Schema of one document, field by field.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Builds the JSON Schema of one document.
pub(crate) struct ObjectSchema {
    description: String,
    properties: serde_json::Map<String, serde_json::Value>,
    required: Vec<&'static str>,
    choices: Vec<&'static str>,
}

impl ObjectSchema {
    pub(crate) fn new(description: &str) -> Self {
        Self { description: tidy(description), properties: serde_json::Map::new(), required: Vec::new(), choices: Vec::new() }
    }

    pub(crate) fn field<T: JsonSchema>(&mut self, name: &'static str, description: &str, required: bool, generator: &mut SchemaGenerator) {
        let mut schema = generator.subschema_for::<T>();
        schema.insert("description".to_owned(), tidy(description).into());
        self.properties.insert(name.to_owned(), schema.to_value());
        if required {
            self.required.push(name);
        }
    }

    pub(crate) fn choice<T: JsonSchema>(&mut self, name: &'static str, description: &str, generator: &mut SchemaGenerator) {
        self.field::<T>(name, description, false, generator);
        self.choices.push(name);
    }

    pub(crate) fn finish(self) -> Schema {
        let mut schema = json_schema!({
            "type": "object",
            "description": self.description,
            "additionalProperties": false,
            "properties": self.properties,
        });
        if !self.required.is_empty() {
            schema.insert("required".to_owned(), self.required.into());
        }
        if !self.choices.is_empty() {
            let choices: Vec<_> = self.choices.iter().map(|choice| serde_json::json!({ "required": [choice] })).collect();
            schema.insert("oneOf".to_owned(), choices.into());
        }
        schema
    }
}

fn tidy(doc: &str) -> String {
    doc.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}
