//! JSON Schemas of all that users write and read.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{ModelFile, Pipeline};
use crate::flow::{Label, Reason, SourceRef};

/// The schema of a type of ours.
pub fn generated<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// The schema by the name that `lakelens schema` takes.
pub fn of(name: &str) -> Option<Value> {
    Some(match name {
        "pipeline" => generated::<Pipeline>(),
        "model" => generated::<ModelFile>(),
        "record" => record(),
        "rejection" => rejection(),
        "reference" => reference(),
        _ => return None,
    })
}

fn nullable(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

/// A definition for use inside another schema: without the parts that only a root has.
fn part<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
    }
    schema
}

fn record() -> Value {
    let labels = json!({"type": "array", "items": part::<Label>()});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lakelens.record.v1",
        "description": "One labelled image. Absent = not asked for, null = unknown; further fields may be added.",
        "type": "object",
        "required": ["schema", "uri", "id", "tags", "etag", "version", "bytes", "format", "width", "height", "sha256", "space", "model", "preprocess",
            "precision", "normalize", "event_time", "source", "processed_at"],
        "properties": {
            "schema": {"const": "lakelens.record.v1"},
            "uri": {"type": "string"},
            "id": nullable("string"),
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
            "etag": nullable("string"),
            "version": nullable("string"),
            "bytes": {"type": "integer", "minimum": 0},
            "format": {"type": "string", "enum": ["jpeg", "png", "webp", "gif", "bmp", "tiff"]},
            "width": {"type": "integer", "minimum": 1},
            "height": {"type": "integer", "minimum": 1},
            "sha256": {"type": "string"},
            "labels": labels,
            "heads": {"type": "object", "additionalProperties": labels},
            "embedding": {"type": "array", "items": {"type": "number"}},
            "embedding_b64": {"type": "string", "contentEncoding": "base64"},
            "embedding_dtype": {"enum": ["f32le", "f16le"]},
            "embedding_dim": {"type": "integer", "minimum": 1},
            "space": {"type": "string"},
            "model": {"type": "string"},
            "preprocess": {"type": "string"},
            "precision": {"enum": ["f32", "bf16", "int8"]},
            "normalize": {"enum": ["none", "l2"]},
            "event_time": nullable("string"),
            "source": part::<SourceRef>(),
            "processed_at": {"type": "string", "format": "date-time"}
        }
    })
}

fn rejection() -> Value {
    let reasons: Vec<&str> = Reason::ALL.iter().map(|r| r.name()).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lakelens.rejection.v1",
        "description": "Why one item has no record. Readers pass over reasons and fields that they do not know.",
        "type": "object",
        "required": ["schema", "uri", "stage", "reason", "detail", "source"],
        "properties": {
            "schema": {"const": "lakelens.rejection.v1"},
            "uri": nullable("string"),
            "id": nullable("string"),
            "stage": {"enum": ["parse", "fetch", "decode", "infer", "deliver"]},
            "reason": {"type": "string", "examples": reasons},
            "detail": {"type": "string"},
            "input": {"type": "string", "description": "The beginning of an input that could not be read as a reference."},
            "source": part::<SourceRef>()
        }
    })
}

fn reference() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lakelens.reference",
        "description": "The value of a message: a URI as plain text, or one of these as JSON. Unknown fields are passed over.",
        "anyOf": [
            {"$ref": "#/$defs/one"},
            {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/one"}]}},
            {"description": "An S3 event notification.", "type": "object", "required": ["Records"], "properties": {"Records": {"type": "array"}}}
        ],
        "$defs": {"one": {
            "type": "object",
            "oneOf": [{"required": ["uri"]}, {"required": ["bucket", "key"]}],
            "properties": {
                "uri": {"type": "string", "pattern": "^(s3|https?|file)://"},
                "bucket": {"type": "string"},
                "key": {"type": "string", "description": "The raw key."},
                "etag": nullable("string"),
                "version": nullable("string"),
                "id": {"type": ["string", "number", "null"]},
                "tags": {"type": "object", "additionalProperties": {"type": "string"}, "description": "16 KiB at most."}
            }
        }}
    })
}
