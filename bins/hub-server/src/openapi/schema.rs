use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};

/// Where the document keeps the schemas of types.
const DEFINITIONS: &str = "/components/schemas";

/// Returns the schema of a type that is read, whole.
pub(crate) fn inline<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().subschema_for::<T>()
}

/// Makes the schemas of types that are written, which refer to each other by name.
pub(super) fn written() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.with(|settings| settings.definitions_path = DEFINITIONS.into()).into_generator()
}
