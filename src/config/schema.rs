//! JSON Schemas of everything that users write or read.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{ModelFile, Pipeline};
use crate::flow::{Label, Reason, SourceRef};

/// What `lakelens schema` can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaOf {
    /// A pipeline file.
    Pipeline,
    /// A `model.yaml`.
    Model,
    /// A record, as JSON.
    Record,
    /// A rejection, as JSON.
    Rejection,
    /// A reference, as JSON.
    Reference,
}

/// The JSON Schema (draft 2020-12). Of records and rejections it is open: readers ignore what they do not know.
pub fn schema(of: SchemaOf) -> Value {
    match of {
        SchemaOf::Pipeline => schemars::schema_for!(Pipeline).to_value(),
        SchemaOf::Model => schemars::schema_for!(ModelFile).to_value(),
        SchemaOf::Record => titled("lakelens.record.v1", record()),
        SchemaOf::Rejection => titled("lakelens.rejection.v1", rejection()),
        SchemaOf::Reference => titled("lakelens.reference", reference()),
    }
}

fn titled(title: &str, mut schema: Value) -> Value {
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = title.into();
    schema
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
    json!({
        "description": "What leaves for one item. A field that is absent was not asked for; null is unknown.",
        "type": "object",
        "properties": {
            "schema": {"const": "lakelens.record.v1"},
            "uri": {"description": "The image, without user information and signatures.", "type": "string"},
            "id": {"description": "The reference's own identifier.", "type": ["string", "null"]},
            "tags": {"description": "The reference's own tags.", "type": "object", "additionalProperties": {"type": "string"}},
            "etag": {"description": "Of the object that was read, without quotes.", "type": ["string", "null"]},
            "version": {"description": "Of the object that was read.", "type": ["string", "null"]},
            "bytes": {"description": "Size of the file.", "type": "integer", "minimum": 0},
            "format": {"enum": ["jpeg", "png", "webp", "gif", "bmp", "tiff"]},
            "width": {"description": "In pixels, as stored.", "type": "integer", "minimum": 1},
            "height": {"description": "In pixels, as stored.", "type": "integer", "minimum": 1},
            "sha256": {"description": "Of the file.", "type": "string", "pattern": "^[0-9a-f]{64}$"},
            "labels": {"description": "The best labels, best first.", "type": "array", "items": part::<Label>()},
            "heads": {
                "description": "Labels of further heads, by name.",
                "type": "object",
                "additionalProperties": {"type": "array", "items": part::<Label>()}
            },
            "embedding": {"description": "The classifier's input.", "type": "array", "items": {"type": "number"}},
            "embedding_b64": {"description": "In place of `embedding`: Base64 of little-endian numbers.", "type": "string", "contentEncoding": "base64"},
            "embedding_dtype": {"description": "The numbers of `embedding_b64`.", "enum": ["f32le", "f16le"]},
            "embedding_dim": {"description": "Length of the embedding.", "type": "integer", "minimum": 1},
            "space": {"description": "Embeddings may be compared where this is equal.", "type": "string"},
            "model": {"description": "`name@sha256:` and twelve hex digits.", "type": "string"},
            "preprocess": {"description": "`sha256:` and twelve hex digits.", "type": "string"},
            "precision": {"enum": ["f32", "bf16", "int8"]},
            "normalize": {"description": "Scaling of the embedding.", "enum": ["none", "l2"]},
            "event_time": {"description": "When the object's event happened, for references that came as events.", "type": ["string", "null"], "format": "date-time"},
            "source": part::<SourceRef>(),
            "processed_at": {"description": "When the model had run, UTC.", "type": "string", "format": "date-time"}
        },
        "required": ["schema", "uri", "id", "tags", "etag", "version", "bytes", "format", "width", "height", "sha256", "space", "model", "preprocess",
                     "precision", "normalize", "event_time", "source", "processed_at"],
        "dependentRequired": {"embedding_b64": ["embedding_dtype"]}
    })
}

fn rejection() -> Value {
    let reasons: Vec<&str> = Reason::ALL.iter().map(|r| r.name()).collect();
    json!({
        "description": "Why one item has no record.",
        "type": "object",
        "properties": {
            "schema": {"const": "lakelens.rejection.v1"},
            "uri": {"description": "The image; null where the reference could not be read.", "type": ["string", "null"]},
            "id": {"description": "The reference's own identifier.", "type": ["string", "null"]},
            "stage": {"enum": ["parse", "fetch", "decode", "infer", "deliver"]},
            "reason": {"description": "From a list that may grow.", "type": "string", "examples": reasons},
            "detail": {"description": "The particulars, for a person.", "type": "string"},
            "input": {"description": "The beginning of an input that could not be read as a reference, without user information and signatures.",
                      "type": "string"},
            "source": part::<SourceRef>()
        },
        "required": ["schema", "uri", "stage", "reason", "detail", "source"]
    })
}

fn reference() -> Value {
    let more = json!({
        "etag": {"description": "The object must still have it (see `fetch.on_changed`).", "type": ["string", "null"]},
        "version": {"description": "The object's version to read.", "type": ["string", "null"]},
        "id": {"description": "Your own identifier, which travels to the record as text.", "type": ["string", "number", "null"]},
        "tags": {"description": "Your own tags, which travel to the record; 16 KiB in all.", "type": ["object", "null"], "additionalProperties": {"type": "string"}}
    });
    let with = |fields: Value| {
        let mut all = more.clone();
        if let (Some(all), Value::Object(fields)) = (all.as_object_mut(), fields) {
            all.extend(fields);
        }
        all
    };
    let uri = json!({"description": "`s3://bucket/raw key`, `file:///encoded%20path`, `http://` or `https://`.", "type": "string", "pattern": "^[A-Za-z0-9]+://"});
    json!({
        "description": "What arrives: one reference, or several. A message may also be a bare URI without quotes, or an event of an object store (S3, versitygw, MinIO, EventBridge).",
        "anyOf": [
            {"$ref": "#/$defs/One"},
            {"type": "array", "items": {"$ref": "#/$defs/One"}},
            {"$ref": "#/$defs/Notification"}
        ],
        "$defs": {
            "One": {
                "anyOf": [
                    uri,
                    {
                        "type": "object",
                        "properties": with(json!({"uri": uri})),
                        "required": ["uri"],
                        "not": {"anyOf": [{"required": ["bucket"]}, {"required": ["key"]}]}
                    },
                    {
                        "type": "object",
                        "properties": with(json!({"bucket": {"type": "string", "minLength": 1}, "key": {"description": "The raw key.", "type": "string", "minLength": 1}})),
                        "required": ["bucket", "key"],
                        "not": {"required": ["uri"]}
                    }
                ]
            },
            "Notification": {
                "description": "An S3 event notification.",
                "type": "object",
                "properties": {"Records": {"type": "array", "items": {"type": "object"}}},
                "required": ["Records"]
            }
        }
    })
}
