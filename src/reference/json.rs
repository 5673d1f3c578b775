//! References as JSON: `{"uri"}`, `{"bucket", "key"}`, arrays of those, and events, told apart by their fields.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_json::error::Category;

use super::{MAX_ITEMS, MAX_TAGS, bad, events, image, location, uri};
use crate::flow::{ImageRef, ParsedItem, Skip};

/// Most significant digits that a number with a point or an exponent keeps whatever they are.
const DIGITS: usize = 15;

/// JSON as it stood: a name may stand twice, and an array has at most [`MAX_ITEMS`] entries.
#[derive(Debug)]
pub(super) enum Json {
    Null,
    Bool,
    Number(Number),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
                Ok(Json::Bool)
            }
            fn visit_u64<E>(self, n: u64) -> Result<Json, E> {
                Ok(Json::Number(n.into()))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Json, E> {
                Ok(Json::Number(n.into()))
            }
            fn visit_f64<E>(self, n: f64) -> Result<Json, E> {
                Ok(Number::from_f64(n).map_or(Json::Null, Json::Number))
            }
            fn visit_str<E>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Json, E> {
                Ok(Json::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    if entries.len() == MAX_ITEMS {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    entries.push(entry);
                }
                Ok(Json::Array(entries))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Json::Object(pairs))
            }
        }
        d.deserialize_any(Any)
    }
}

/// What an array of too many entries is refused with.
const TOO_MANY: &str = "too many entries";

impl Json {
    /// Reads a text; the error says what is wrong without repeating any of it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|e| {
            let what = match e.classify() {
                Category::Eof => "ends too early".to_owned(),
                Category::Data if e.to_string().starts_with(TOO_MANY) => {
                    format!("has an array of more than {MAX_ITEMS} entries (send several messages)")
                }
                _ if e.to_string().starts_with("number out of range") => "holds a number out of range".to_owned(),
                _ => "is malformed".to_owned(),
            };
            format!("the JSON {what} at line {}, column {}", e.line(), e.column())
        })
    }

    /// A field of an object; null is as good as absent.
    pub(super) fn field(&self, name: &'static str) -> Field<'_> {
        let Self::Object(pairs) = self else { return Field { name, value: None, doubled: false } };
        let mut all = pairs.iter().filter(|(n, _)| n == name).map(|(_, v)| v);
        Field { name, value: all.next().filter(|v| !matches!(v, Self::Null)), doubled: all.next().is_some() }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// A field of an object, or its absence. One that stands twice is refused by whoever reads it: the sender may have meant either.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    name: &'static str,
    value: Option<&'a Json>,
    doubled: bool,
}

impl<'a> Field<'a> {
    /// Whether it is there.
    pub(super) fn is_some(self) -> bool {
        self.value.is_some()
    }

    fn once(self) -> Result<Option<&'a Json>, String> {
        if self.doubled { Err(format!("duplicate field `{}`", self.name)) } else { Ok(self.value) }
    }

    fn must_be(self, what: &str, found: &Json) -> String {
        format!("`{}` must be {what}, not {}", self.name, found.kind())
    }

    /// Text.
    pub(super) fn text(self) -> Result<Option<&'a str>, String> {
        match self.once()? {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.must_be("text", other)),
        }
    }

    /// Text that goes into an HTTP header or query: short, and of visible ASCII characters. `None` for an empty one.
    pub(super) fn token(self) -> Result<Option<String>, String> {
        match self.text()? {
            Some(text) if text.len() > 1024 || !text.bytes().all(|b| b.is_ascii_graphic()) => {
                Err(format!("`{}` is longer than 1024 bytes or holds spaces, control characters or other than ASCII", self.name))
            }
            text => Ok(text.filter(|t| !t.is_empty()).map(str::to_owned)),
        }
    }

    /// An object version; `null`, also as text, is what stores without versions write.
    pub(super) fn version(self) -> Result<Option<String>, String> {
        Ok(self.token()?.filter(|v| v != "null"))
    }

    /// An array's entries.
    pub(super) fn list(self) -> Result<Option<&'a [Json]>, String> {
        match self.once()? {
            None => Ok(None),
            Some(Json::Array(entries)) => Ok(Some(entries)),
            Some(other) => Err(self.must_be("an array", other)),
        }
    }

    /// An object, to take fields of.
    pub(super) fn object(self) -> Result<Option<&'a Json>, String> {
        match self.once()? {
            Some(object @ Json::Object(_)) => Ok(Some(object)),
            None => Ok(None),
            Some(other) => Err(self.must_be("an object", other)),
        }
    }

    /// Text, or a number as text: whole ones with all their digits, others in their shortest form. What would lose digits is refused.
    fn id(self) -> Result<Option<String>, String> {
        let id = match self.once()? {
            None => return Ok(None),
            Some(Json::Text(text)) => text.clone(),
            Some(Json::Number(n)) => {
                let text = n.to_string();
                let short = text.bytes().filter(u8::is_ascii_digit).count() <= DIGITS && !text.contains(['e', 'E']);
                if n.is_f64() && !short {
                    return Err(format!("`{}` is a number of more digits than JSON readers keep; write it as text", self.name));
                }
                text
            }
            Some(other) => return Err(self.must_be("text or a number", other)),
        };
        match id.len() {
            n if n > MAX_TAGS => Err(format!("`{}` is {n} bytes long; {MAX_TAGS} are allowed", self.name)),
            _ => Ok(Some(id)),
        }
    }

    fn tags(self) -> Result<BTreeMap<String, String>, String> {
        let Some(Json::Object(pairs)) = self.object()? else { return Ok(BTreeMap::new()) };
        let mut tags = BTreeMap::new();
        let mut size = 0;
        for (name, value) in pairs {
            let Json::Text(value) = value else { return Err(format!("a value in `tags` must be text, and is {}", value.kind())) };
            size += name.len() + value.len();
            if size > MAX_TAGS {
                return Err(format!("`tags` are more than {MAX_TAGS} bytes"));
            }
            if tags.insert(name.clone(), value.clone()).is_some() {
                return Err("a name stands twice in `tags`".into());
            }
        }
        Ok(tags)
    }
}

/// Reads JSON text as items.
pub(super) fn items(text: &str) -> Vec<ParsedItem> {
    let json = match Json::read(text) {
        Ok(json) => json,
        Err(detail) => return vec![bad(detail)],
    };
    match &json {
        Json::Array(entries) if entries.is_empty() => vec![ParsedItem::Skip(Skip::Empty)],
        Json::Array(entries) => entries.iter().map(entry).collect(),
        Json::Object(_) => match events::notification(&json) {
            Ok(Some(items)) => items,
            Ok(None) => vec![entry(&json)],
            Err(detail) => vec![bad(detail)],
        },
        other => vec![entry(other)],
    }
}

/// One entry: a URI as text, an object, or one record of an event (some stores send an array of them, without `Records` around it).
fn entry(json: &Json) -> ParsedItem {
    match json {
        Json::Text(uri) => image(location(uri).map(ImageRef::new)),
        Json::Object(_) => match events::record(json, None) {
            Ok(Some(item)) => item,
            Ok(None) => image(object(json)),
            Err(detail) => bad(detail),
        },
        other => bad(format!("a reference is text or an object, not {}", other.kind())),
    }
}

fn object(json: &Json) -> Result<ImageRef, String> {
    let place = match (json.field("uri").text()?, json.field("bucket").text()?, json.field("key").text()?) {
        (Some(uri), None, None) => location(uri)?,
        (None, Some(bucket), Some(key)) => uri::s3(bucket, key)?,
        (Some(_), ..) => return Err("both `uri` and `bucket` or `key`; give one or the other".into()),
        (None, Some(_), None) => return Err("`bucket` without `key`".into()),
        (None, None, Some(_)) => return Err("`key` without `bucket`".into()),
        (None, None, None) => return Err("neither `uri` nor `bucket` and `key`, and not an event of an object store".into()),
    };
    Ok(ImageRef {
        etag: json.field("etag").token()?.as_deref().and_then(unquoted),
        version: json.field("version").version()?,
        id: json.field("id").id()?,
        tags: json.field("tags").tags()?,
        event_time: events::time(json.field("event_time")),
        ..ImageRef::new(place)
    })
}

/// An ETag without its quotes; `None` for an empty one.
pub(super) fn unquoted(etag: &str) -> Option<String> {
    let bare = etag.strip_prefix('"').and_then(|e| e.strip_suffix('"')).unwrap_or(etag);
    (!bare.is_empty()).then(|| bare.to_owned())
}
