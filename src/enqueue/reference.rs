//! Key and value of an enqueued message.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::listing::Entry;

#[derive(Serialize)]
struct Reference<'a> {
    uri: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

/// Key and value for an entry.
pub(super) fn of_entry(entry: &Entry, without_etags: bool) -> (Option<String>, Bytes) {
    let Some(uri) = &entry.uri else { return (key_of_line(&entry.value), entry.value.clone()) };
    let value = match (&entry.etag, &entry.version) {
        (None, None) => entry.value.clone(),
        _ if without_etags => entry.value.clone(),
        (etag, version) => {
            let reference = Reference { uri, etag: etag.as_deref(), version: version.as_deref() };
            // Writing text into memory cannot fail.
            serde_json::to_vec(&reference).map_or_else(|_| entry.value.clone(), Bytes::from)
        }
    };
    (Some(uri.clone()), value)
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    bucket: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
}

/// The URI that a line speaks of, without the query of a URL, which may carry a signature; `None` for several references at once and for what is none.
fn key_of_line(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?.trim_ascii();
    let uri: Cow<'_, str> = match line.as_bytes().first()? {
        b'[' => return None,
        b'{' => match serde_json::from_str(line).ok()? {
            Named { uri: Some(uri), .. } => uri,
            Named { bucket: Some(bucket), key: Some(key), .. } => format!("s3://{bucket}/{key}").into(),
            _ => return None,
        },
        _ => line.into(),
    };
    if !uri.starts_with("http://") && !uri.starts_with("https://") {
        return Some(uri.into_owned());
    }
    let mut url: url::Url = uri.parse().ok()?;
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for URLs that cannot have a user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::Mark;
    use proptest::prelude::*;

    #[test]
    fn the_key_is_the_uri_and_holds_no_secret() {
        for (line, key) in [
            ("s3://b/a b?c#d.jpg", Some("s3://b/a b?c#d.jpg")),
            (r#"{"id": 7, "uri": "s3://b/\u00e9", "tags": {"a": "b"}}"#, Some("s3://b/é")),
            (r#"{"bucket": "b", "key": "k/1"}"#, Some("s3://b/k/1")),
            ("https://user:pw@h/a.jpg?X-Amz-Signature=1#f", Some("https://h/a.jpg")),
            (r#"[{"uri": "s3://b/1"}]"#, None),
            (r#"{"Records": []}"#, None),
            ("{broken", None),
        ] {
            assert_eq!(key_of_line(line.as_bytes()).as_deref(), key, "{line}");
        }
    }

    #[test]
    fn known_etags_go_along_unless_they_shall_not() {
        let mut entry = Entry {
            key: "k".into(),
            value: Bytes::from_static(b"s3://b/k"),
            uri: Some("s3://b/k".into()),
            etag: Some("e1".into()),
            version: None,
            mark: Mark::Key("k".into()),
        };
        assert_eq!(of_entry(&entry, false).1, r#"{"uri":"s3://b/k","etag":"e1"}"#);
        assert_eq!(of_entry(&entry, true).1, "s3://b/k");
        entry.version = Some("v1".into());
        assert_eq!(of_entry(&entry, false).1, r#"{"uri":"s3://b/k","etag":"e1","version":"v1"}"#);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line: Vec<u8>) {
            key_of_line(&line);
        }
    }
}
