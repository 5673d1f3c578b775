//! References as JSON: one, an array of several, or an event.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{bad, events, plain, uri};
use crate::flow::{ImageRef, ParsedItem, Skip};

/// Most bytes of all tags of a reference together.
const MAX_TAGS: usize = 16 << 10;
/// Most bytes of an id.
const MAX_ID: usize = 4096;

/// The items of a JSON text.
pub fn items(text: &str) -> Vec<ParsedItem> {
    match serde_json::from_str(text) {
        Ok(Value::Array(list)) if list.is_empty() => vec![ParsedItem::Skip(Skip::Empty)],
        Ok(Value::Array(list)) => list.into_iter().map(one).collect(),
        Ok(Value::Object(object)) if events::is_event(&object) => events::items(&object),
        Ok(value) => vec![one(value)],
        Err(error) => vec![bad(format!("the value is not JSON: {error}"))],
    }
}

fn one(value: Value) -> ParsedItem {
    match value {
        Value::String(uri) => plain(&uri),
        Value::Object(object) => match reference(&object) {
            Ok(reference) => ParsedItem::Image(reference),
            Err(detail) => bad(detail),
        },
        other => bad(format!("a reference is a URI or an object, not {}", kind(&other))),
    }
}

fn reference(object: &Map<String, Value>) -> Result<ImageRef, String> {
    let location = match (text(object, "uri")?, text(object, "bucket")?, text(object, "key")?) {
        (Some(uri), None, None) => uri::location(&uri)?,
        (None, Some(bucket), Some(key)) => uri::s3(&bucket, &key)?,
        (Some(_), _, _) => return Err("give `uri`, or `bucket` and `key`, and not both".into()),
        _ => return Err("a reference needs `uri`, or `bucket` and `key`".into()),
    };
    Ok(ImageRef {
        etag: text(object, "etag")?.map(unquoted).filter(|etag| !etag.is_empty()),
        version: text(object, "version")?.filter(|version| !version.is_empty() && version != "null"),
        id: id(object)?,
        tags: tags(object)?,
        event_time: text(object, "event_time")?,
        ..ImageRef::new(location)
    })
}

/// A field that is text, or absent, or null.
pub fn text(object: &Map<String, Value>, field: &str) -> Result<Option<String>, String> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("`{field}` is text, not {}", kind(other))),
    }
}

/// An ETag without the quotes that HTTP puts around it.
pub fn unquoted(etag: String) -> String {
    etag.trim_matches('"').to_owned()
}

fn id(object: &Map<String, Value>) -> Result<Option<String>, String> {
    let id = match object.get("id") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        Some(other) => return Err(format!("`id` is text or a number, not {}", kind(other))),
    };
    if id.len() > MAX_ID { Err(format!("`id` has {} bytes, {MAX_ID} are allowed", id.len())) } else { Ok(Some(id)) }
}

fn tags(object: &Map<String, Value>) -> Result<BTreeMap<String, String>, String> {
    let given = match object.get("tags") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(tags)) => tags,
        Some(other) => return Err(format!("`tags` is an object of texts, not {}", kind(other))),
    };
    let mut tags = BTreeMap::new();
    let mut size = 0;
    for (name, value) in given {
        let Value::String(value) = value else { return Err(format!("the tag `{name}` is {}, not text", kind(value))) };
        size += name.len() + value.len();
        tags.insert(name.clone(), value.clone());
    }
    if size > MAX_TAGS { Err(format!("the tags have {size} bytes, {MAX_TAGS} are allowed")) } else { Ok(tags) }
}

/// What a value is, for messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
