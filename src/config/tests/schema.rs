//! The schemas against the contract's examples and against the parser.

use serde_json::{Value, json};

use super::super::*;
use super::{CONTRACT, good};

const RECORD: &str = include_str!("../../../tests/data/contract-record.json");

/// The part of JSON Schema that ours use.
fn fits(value: &Value, schema: &Value, root: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        return root.pointer(&name[1..]).is_some_and(|s| fits(value, s, root));
    }
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let kinds = if schema["type"].is_string() { vec![schema["type"].clone()] } else { list(&schema["type"]) };
    let kind = |k: &Value| match k.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        _ => false,
    };
    let field = |n: &Value| n.as_str().is_some_and(|n| value.get(n).is_some());
    let members = |(name, v): (&String, &Value)| match (schema["properties"].get(name), schema.get("additionalProperties")) {
        (Some(s), _) => fits(v, s, root),
        (None, Some(Value::Bool(free))) => *free,
        (None, Some(s)) => fits(v, s, root),
        (None, None) => true,
    };
    (kinds.is_empty() || kinds.iter().any(kind))
        && schema.get("const").is_none_or(|c| c == value)
        && schema.get("enum").is_none_or(|e| list(e).contains(value))
        && ["anyOf", "oneOf"].iter().all(|k| schema.get(*k).is_none_or(|s| list(s).iter().any(|s| fits(value, s, root))))
        && schema.get("not").is_none_or(|s| !fits(value, s, root))
        && schema["minimum"].as_f64().is_none_or(|m| value.as_f64().is_none_or(|v| v >= m))
        && schema["minLength"].as_u64().is_none_or(|m| value.as_str().is_none_or(|v| v.len() as u64 >= m))
        && schema["pattern"].as_str().is_none_or(|p| value.as_str().is_none_or(|v| !p.contains("://") || v.contains("://")))
        && (!value.is_object() || list(&schema["required"]).iter().all(field))
        && value.as_object().is_none_or(|o| o.iter().all(members))
        && value.as_array().is_none_or(|a| schema.get("items").is_none_or(|s| a.iter().all(|v| fits(v, s, root))))
}

fn is(of: SchemaOf, value: &Value) -> bool {
    let schema = schema(of);
    fits(value, &schema, &schema)
}

#[test]
fn the_schemas_hold_what_the_contract_shows() {
    let pipeline = serde_json::to_value(good(CONTRACT)).expect("JSON");
    assert!(is(SchemaOf::Pipeline, &pipeline));
    assert!(!is(SchemaOf::Pipeline, &json!({"version": 1})));

    let record: Value = serde_json::from_str(RECORD).expect("JSON");
    assert!(is(SchemaOf::Record, &record));
    let known = schema(SchemaOf::Record);
    for name in record.as_object().expect("an object").keys() {
        assert!(known["properties"].get(name).is_some(), "{name}");
    }
    for name in ["schema", "uri", "sha256", "source"] {
        let mut less = record.clone();
        less.as_object_mut().expect("an object").remove(name);
        assert!(!is(SchemaOf::Record, &less), "{name}");
    }
    let mut listed = record.clone();
    listed["source"] = json!({"listing": "s3://lake/2026/", "key": "a.jpg"});
    listed["new_field"] = 1.into();
    assert!(is(SchemaOf::Record, &listed));
    listed["format"] = "pdf".into();
    assert!(!is(SchemaOf::Record, &listed));

    let rejection = json!({"schema": "lakelens.rejection.v1", "uri": null, "stage": "parse", "reason": "bad_reference", "detail": "x", "source": record["source"]});
    assert!(is(SchemaOf::Rejection, &rejection));
    assert!(!is(SchemaOf::Rejection, &record));
}

#[test]
fn the_schema_of_references_and_the_parser_agree() {
    let forms = [
        json!({"uri": "s3://bucket/key", "etag": "d5", "version": "v", "id": "sku-1", "tags": {"a": "b"}}),
        json!({"uri": "s3://bucket/key", "id": 5}),
        json!({"bucket": "lake", "key": "k"}),
        json!(["s3://bucket/key", {"bucket": "lake", "key": "k"}]),
        json!([]),
        json!("s3://bucket/key"),
        json!({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "l"}, "object": {"key": "k"}}}]}),
        json!({"uri": 1}),
        json!({"uri": "s3://b/k", "tags": {"a": 1}}),
        json!({"uri": "s3://b/k", "id": true}),
        json!({"uri": "s3://b/k", "key": "k"}),
        json!({"bucket": "lake"}),
        json!({"bucket": "lake", "key": ""}),
        json!({}),
        json!(7),
        json!([[]]),
    ];
    for form in forms {
        let items = crate::reference::parse(Some(form.to_string().as_bytes()), &[]);
        let good = !items.iter().any(|i| matches!(i, crate::flow::ParsedItem::Bad(_)));
        assert_eq!(is(SchemaOf::Reference, &form), good, "{form}");
    }
}
