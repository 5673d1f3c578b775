//! S3 event notifications: AWS's, and those of servers that imitate them.
//!
//! AWS form-encodes the key in `Records` (decode once, `+` is a space), versitygw leaves it raw. Nothing in the event says so outright, so it is
//! told by what only one of them does (quotes around the ETag, a `versionId` that is null, characters that an encoder would not leave), and where a
//! key could still be read either way the other reading is kept as a second place to look.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::json::{text, unquoted};
use super::{bad, uri};
use crate::flow::{ImageRef, ParsedItem, Skip};

/// Most records that one event may hold.
const MAX_RECORDS: usize = 10_000;

/// Whether an object is an event and not a reference.
pub fn is_event(object: &Map<String, Value>) -> bool {
    object.contains_key("Records")
        || object.get("Event").and_then(Value::as_str).is_some_and(|event| event.starts_with("s3:"))
        || object.contains_key("detail-type") && object.contains_key("detail")
}

/// The items of an event.
pub fn items(event: &Map<String, Value>) -> Vec<ParsedItem> {
    if event.contains_key("detail-type") {
        return vec![event_bridge(event).unwrap_or_else(bad)];
    }
    match event.get("Records") {
        // `s3:TestEvent`, which S3 sends when a notification is set up.
        None => vec![ParsedItem::Skip(Skip::OtherEvent)],
        Some(Value::Array(records)) if records.is_empty() => vec![ParsedItem::Skip(Skip::Empty)],
        Some(Value::Array(records)) if records.len() > MAX_RECORDS => {
            vec![bad(format!("an event of {} records, {MAX_RECORDS} are allowed", records.len()))]
        }
        Some(Value::Array(records)) => records.iter().map(|record| one(record).unwrap_or_else(bad)).collect(),
        Some(_) => vec![bad("`Records` is an array")],
    }
}

fn one(record: &Value) -> Result<ParsedItem, String> {
    let name = record.get("eventName").and_then(Value::as_str).ok_or("an event record has no `eventName`")?;
    let what = name.strip_prefix("s3:").unwrap_or(name);
    let created = what.starts_with("ObjectCreated");
    let removed = what.starts_with("ObjectRemoved") || what.starts_with("LifecycleExpiration");
    if !created && !removed {
        return Ok(ParsedItem::Skip(Skip::OtherEvent));
    }
    let bucket = record.pointer("/s3/bucket/name").and_then(Value::as_str).ok_or("an event record has no `s3.bucket.name`")?;
    let object = record.pointer("/s3/object").and_then(Value::as_object).ok_or("an event record has no `s3.object`")?;
    let key = text(object, "key")?.ok_or("an event record has no `s3.object.key`")?;
    let etag = text(object, "eTag")?;
    let raw = etag.as_deref().is_some_and(|etag| etag.starts_with('"')) || matches!(object.get("versionId"), Some(Value::Null));
    let (location, or_else) = readings(bucket, &key, raw)?;
    let reference = ImageRef {
        or_else,
        etag: etag.map(unquoted).filter(|etag| !etag.is_empty()),
        version: text(object, "versionId")?.filter(|version| !version.is_empty() && version != "null"),
        event_time: record.get("eventTime").and_then(Value::as_str).map(str::to_owned),
        ..ImageRef::new(location)
    };
    Ok(if created { ParsedItem::Image(reference) } else { ParsedItem::Deleted(reference) })
}

/// The likelier reading of a key, and the other one if there is one.
fn readings(bucket: &str, key: &str, raw: bool) -> Result<(crate::flow::Location, Option<crate::flow::Location>), String> {
    let spaced = key.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok();
    let left_alone = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '%' | '+' | '/' | '-' | '_' | '.' | '*' | '~' | '!' | '(' | ')' | '\'' | '=' | ':' | '@' | ',' | '&' | '$' | ';')
    };
    match decoded {
        Some(decoded) if decoded != key => {
            let (first, second) = match raw || !key.chars().all(left_alone) {
                true => (key, decoded.as_ref()),
                false => (decoded.as_ref(), key),
            };
            Ok((uri::s3(bucket, first)?, uri::s3(bucket, second).ok()))
        }
        _ => Ok((uri::s3(bucket, key)?, None)),
    }
}

/// EventBridge's own form, whose keys are raw.
fn event_bridge(event: &Map<String, Value>) -> Result<ParsedItem, String> {
    let kind = event.get("detail-type").and_then(Value::as_str).unwrap_or_default();
    if !matches!(kind, "Object Created" | "Object Deleted") {
        return Ok(ParsedItem::Skip(Skip::OtherEvent));
    }
    let detail = event.get("detail").and_then(Value::as_object).ok_or("an event has no `detail`")?;
    let bucket = event.get("detail").and_then(|d| d.pointer("/bucket/name")).and_then(Value::as_str);
    let object = detail.get("object").and_then(Value::as_object).ok_or("an event has no `detail.object`")?;
    let key = text(object, "key")?.ok_or("an event has no `detail.object.key`")?;
    let reference = ImageRef {
        etag: text(object, "etag")?.map(unquoted),
        version: text(object, "version-id")?,
        event_time: text(event, "time")?,
        ..ImageRef::new(uri::s3(bucket.ok_or("an event has no `detail.bucket.name`")?, &key)?)
    };
    Ok(if kind == "Object Created" { ParsedItem::Image(reference) } else { ParsedItem::Deleted(reference) })
}
