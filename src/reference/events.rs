//! Events of object stores: S3 notifications as AWS, versitygw and MinIO send them, EventBridge's form, and both wrapped by SNS.
//!
//! The stores disagree on the key in `Records`: AWS and MinIO encode it as a form field is (`+` for a space), versitygw leaves it raw. The event does
//! not say which, so the emitter is told by what else it writes; where that leaves it open, [`ImageRef::or_else`] carries the other reading.
//!
//! Sources: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>, versitygw's `s3event/event.go`, MinIO's `internal/event`.

use std::borrow::Cow;

use super::json::{Field, Json, unquoted};
use super::{bad, uri};
use crate::flow::{ImageRef, Location, ParsedItem, Skip};
use percent_encoding::percent_decode_str;

/// Reads a whole message as a notification; `None` if it is none.
pub(super) fn notification(outer: &Json) -> Result<Option<Vec<ParsedItem>>, String> {
    if is_reference(outer) {
        return Ok(None);
    }
    let message = outer.field("Message");
    if outer.field("Type").is_some() && message.is_some() {
        match outer.field("Type").text()? {
            Some("Notification") => return wrapped(message.text()?.unwrap_or_default()).map(Some),
            Some("SubscriptionConfirmation" | "UnsubscribeConfirmation") => return Ok(Some(vec![ParsedItem::Skip(Skip::OtherEvent)])),
            _ => {}
        }
    }
    if let Some(records) = outer.field("Records").list()? {
        if records.is_empty() {
            return Ok(Some(vec![ParsedItem::Skip(Skip::Empty)]));
        }
        // MinIO's `bucket/raw-key`.
        let key = if records.len() == 1 { outer.field("Key").text()? } else { None };
        let none = || bad("an entry of `Records` is not an event of an object store");
        let item = |r: &Json| record(r, key).unwrap_or_else(|e| Some(bad(e))).unwrap_or_else(none);
        return Ok(Some(records.iter().map(item).collect()));
    }
    // `s3:TestEvent`, which S3 sends when a notification is set up.
    let test = matches!(outer.field("Event").text(), Ok(Some(event)) if event.starts_with("s3:"));
    Ok(test.then(|| vec![ParsedItem::Skip(Skip::OtherEvent)]))
}

/// A reference may have fields that an event has.
fn is_reference(json: &Json) -> bool {
    json.field("uri").is_some() || json.field("bucket").is_some()
}

/// What SNS carried as text. Not unwrapped a second time, so hostile nesting costs nothing.
fn wrapped(message: &str) -> Result<Vec<ParsedItem>, String> {
    let wrong = || String::from("`Message` of an SNS notification is not an event of an object store");
    let outer = Json::read(message).map_err(|_| wrong())?;
    if outer.field("Type").is_some() && outer.field("Message").is_some() {
        return Err("an SNS notification within another".into());
    }
    match notification(&outer)? {
        Some(items) => Ok(items),
        None => record(&outer, None)?.map(|item| vec![item]).ok_or_else(wrong),
    }
}

/// Reads one object as one record of an event; `None` if it is none. `minio_key` is the raw key, where MinIO gives it beside.
pub(super) fn record(json: &Json, minio_key: Option<&str>) -> Result<Option<ParsedItem>, String> {
    if is_reference(json) {
        return Ok(None);
    }
    if let Some(s3) = json.field("s3").object()? {
        let name = json.field("eventName").text()?.ok_or("the event has no `eventName`")?;
        return notified(json, s3, name, minio_key).map(Some);
    }
    let (detail, kind) = (json.field("detail"), json.field("detail-type"));
    if detail.is_some() && kind.is_some() {
        return match kind.text()? {
            Some("Object Created") => bridged(json, detail, true).map(Some),
            Some("Object Deleted") => bridged(json, detail, false).map(Some),
            _ => Ok(Some(ParsedItem::Skip(Skip::OtherEvent))),
        };
    }
    // Events of other kinds may come without an object.
    let other = json.field("eventName").is_some() && json.field("eventSource").is_some();
    Ok(other.then_some(ParsedItem::Skip(Skip::OtherEvent)))
}

fn notified(record: &Json, s3: &Json, name: &str, minio_key: Option<&str>) -> Result<ParsedItem, String> {
    let name = name.strip_prefix("s3:").unwrap_or(name);
    let created = name.starts_with("ObjectCreated:");
    // A lifecycle rule that expires an object deletes it.
    if !created && !name.starts_with("ObjectRemoved:") && !name.starts_with("LifecycleExpiration:") {
        return Ok(ParsedItem::Skip(Skip::OtherEvent));
    }
    let bucket = bucket(s3)?;
    let object = s3.field("object").object()?.ok_or("`s3` has no `object`")?;
    let key = object.field("key").text()?.ok_or("`object` has no `key`")?;
    let etag = object.field("eTag").token()?;

    let raw_key = minio_key.and_then(|k| k.strip_prefix(bucket)).and_then(|k| k.strip_prefix('/'));
    let (key, other) = match raw_key {
        Some(raw) => (Cow::Borrowed(raw), None),
        None => match (encoding(record, s3, etag.as_deref(), key)?, form_decoded(key)) {
            (Encoding::Form, Some(decoded)) => (decoded, None),
            (Encoding::Unknown, Some(decoded)) if decoded != key => (decoded, Some(key.to_owned())),
            _ => (Cow::Borrowed(key), None),
        },
    };
    let reference = ImageRef {
        or_else: other.map(|key| Location::S3 { bucket: bucket.to_owned(), key }),
        etag: etag.as_deref().and_then(unquoted),
        version: object.field("versionId").version()?,
        event_time: time(record.field("eventTime")),
        ..ImageRef::new(uri::s3(bucket, &key)?)
    };
    Ok(if created { ParsedItem::Image(reference) } else { ParsedItem::Deleted(reference) })
}

/// EventBridge leaves the key raw.
fn bridged(event: &Json, detail: Field, created: bool) -> Result<ParsedItem, String> {
    let detail = detail.object()?.ok_or("the event has no `detail`")?;
    let object = detail.field("object").object()?.ok_or("`detail` has no `object`")?;
    let key = object.field("key").text()?.ok_or("`object` has no `key`")?;
    let reference = ImageRef {
        etag: object.field("etag").token()?.as_deref().and_then(unquoted),
        version: object.field("version-id").version()?,
        event_time: time(event.field("time")),
        ..ImageRef::new(uri::s3(bucket(detail)?, key)?)
    };
    Ok(if created { ParsedItem::Image(reference) } else { ParsedItem::Deleted(reference) })
}

fn bucket(entity: &Json) -> Result<&str, String> {
    let bucket = entity.field("bucket").object()?.ok_or("the event has no `bucket`")?;
    Ok(bucket.field("name").text()?.ok_or("`bucket` has no `name`")?)
}

/// A time that is none is no reason to refuse the image.
pub(super) fn time(field: Field) -> Option<String> {
    let text = field.text().ok()??;
    chrono::DateTime::parse_from_rfc3339(text).is_ok().then(|| text.to_owned())
}

/// How the key in `Records` is written.
enum Encoding {
    Raw,
    Form,
    Unknown,
}

fn encoding(record: &Json, s3: &Json, etag: Option<&str>, key: &str) -> Result<Encoding, String> {
    if !could_be_form(key) {
        return Ok(Encoding::Raw);
    }
    let configuration = s3.field("configurationId").text()?.unwrap_or_default();
    let host = match record.field("responseElements").object()? {
        Some(response) => response.field("x-amz-id-2").text()?.unwrap_or_default(),
        None => "",
    };
    Ok(match record.field("eventSource").text()? {
        Some("minio:s3") => Encoding::Form,
        // versitygw calls itself aws:s3 too, but has one fixed configuration for each kind of receiver, and leaves the ETag's quotes.
        Some("aws:s3") if is_versitygw(configuration) || etag.is_some_and(|e| e.starts_with('"')) => Encoding::Raw,
        // AWS never leaves this one empty, and gateways have none to give.
        Some("aws:s3") if !host.is_empty() => Encoding::Form,
        _ => Encoding::Unknown,
    })
}

fn is_versitygw(configuration: &str) -> bool {
    matches!(configuration, "kafka-global" | "nats-global" | "webhook-global" | "rabbitmq-global")
}

/// Whether a form's encoder could have written this: only visible ASCII, each `%` before two hex digits.
fn could_be_form(key: &str) -> bool {
    let hex = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
    let bytes = key.as_bytes();
    bytes.iter().enumerate().all(|(i, b)| match b {
        b'%' => hex(bytes.get(i + 1)) && hex(bytes.get(i + 2)),
        _ => b.is_ascii_graphic(),
    })
}

/// The key that a form's encoder was given: decoded once, `+` for a space. `None` where that is not text.
fn form_decoded(key: &str) -> Option<Cow<'_, str>> {
    if !key.contains(['+', '%']) {
        return Some(Cow::Borrowed(key));
    }
    let spaced = key.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|k| Cow::Owned(k.into_owned()))
}
