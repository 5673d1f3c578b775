//! The page: one file that needs nothing else. What came from outside is in one block of JSON, which is no script to a browser, and which holds no
//! character that could end it; the page's script makes text nodes of it. A policy names the page's own style and script by their digests and allows
//! nothing else: no other script, no request, no form.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::overview::Overview;
use super::sample::Item;
use super::space::Space;
use super::thumbnails::Thumbnail;
use crate::flow::{Label, SourceRef};
use crate::{Context, Result};

const HTML: &str = include_str!("page/page.html");
const CSS: &str = include_str!("page/page.css");
/// The script's parts in order; each is one thing, and they share one scope.
const SCRIPTS: [&str; 6] = [
    include_str!("page/text.js"),
    include_str!("page/state.js"),
    include_str!("page/charts.js"),
    include_str!("page/gallery.js"),
    include_str!("page/picture.js"),
    include_str!("page/map.js"),
];
/// How every report begins, by which it is known as one.
pub const BEGINNING: &str =
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"generator\" content=\"lakelens report\">\n";

/// All that the page shows.
#[derive(Serialize)]
pub struct Data<'a> {
    /// The program.
    pub program: &'static str,
    /// When it was made.
    pub made: String,
    /// What was read.
    pub inputs: &'a [String],
    /// Of all entries.
    #[serde(flatten)]
    pub overview: &'a Overview,
    /// Of the sample.
    pub items: Vec<Shown<'a>>,
    /// The sample's embeddings.
    pub space: Option<&'a Space>,
}

/// One record of the sample.
#[derive(Serialize)]
pub struct Shown<'a> {
    number: u64,
    random: bool,
    uri: &'a str,
    id: Option<&'a str>,
    tags: &'a BTreeMap<String, String>,
    labels: Option<Vec<(&'a str, f32)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heads: Option<BTreeMap<&'a str, Vec<(&'a str, f32)>>>,
    width: u32,
    height: u32,
    bytes: u64,
    format: &'a str,
    sha256: &'a str,
    etag: Option<&'a str>,
    version: Option<&'a str>,
    model: &'a str,
    space: &'a str,
    event_time: Option<&'a str>,
    processed_at: &'a str,
    source: String,
    /// JPEG in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbnail: Option<&'a str>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'a str>,
}

impl<'a> Shown<'a> {
    /// An item and its thumbnail.
    pub fn of(item: &'a Item, thumbnail: Option<&'a Thumbnail>) -> Self {
        let record = &*item.record;
        let pairs = |labels: &'a Vec<Label>| labels.iter().map(|label| (&*label.label, label.score)).collect();
        Self {
            number: item.number,
            random: item.random,
            uri: &record.uri,
            id: record.id.as_deref(),
            tags: &record.tags,
            labels: record.labels.as_ref().map(pairs),
            heads: record.heads.as_ref().map(|heads| heads.iter().map(|(name, labels)| (&**name, pairs(labels))).collect()),
            width: record.width,
            height: record.height,
            bytes: record.bytes,
            format: &record.format,
            sha256: &record.sha256,
            etag: record.etag.as_deref(),
            version: record.version.as_deref(),
            model: &record.model,
            space: &record.space,
            event_time: record.event_time.as_deref(),
            processed_at: &record.processed_at,
            source: match &record.source {
                SourceRef::Kafka { topic, partition, offset, item, .. } => {
                    format!("topic {topic}, partition {partition}, offset {offset}, item {item}")
                }
                SourceRef::Listing { listing, key } => format!("listing {listing}, {key}"),
            },
            thumbnail: thumbnail.and_then(|thumbnail| thumbnail.as_deref().ok()),
            missing: thumbnail.and_then(|thumbnail| thumbnail.as_ref().err().copied()),
        }
    }
}

/// The page that shows `data`.
///
/// # Errors
/// None that can be made to happen: `data` is always JSON.
pub fn page(data: &Data) -> Result<String> {
    let script = SCRIPTS.concat();
    let script = format!("(() => {{\n\"use strict\";\n{script}}})();\n");
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        digest(&script),
        digest(CSS)
    );
    let json = serde_json::to_string(data).context("cannot write the data as JSON")?;
    let (head, body) = HTML.split_once("<!-- data and script -->\n").unwrap_or((HTML, ""));
    let (meta, head) = head.split_once("<!-- policy and style -->\n").unwrap_or(("", head));
    let mut page = String::with_capacity(json.len() + json.len() / 8 + HTML.len() + CSS.len() + script.len() + 1024);
    page.push_str(BEGINNING);
    for part in [meta, "<meta http-equiv=\"Content-Security-Policy\" content=\"", &policy, "\">\n<style>", CSS, "</style>\n", head] {
        page.push_str(part);
    }
    page.push_str("<script type=\"application/json\" id=\"data\">");
    escape_into(&json, &mut page);
    for part in ["</script>\n<script>", &script, "</script>\n", body] {
        page.push_str(part);
    }
    Ok(page)
}

/// JSON in which no character is left that HTML or older scripts read otherwise: they occur within strings only, where an escape means the same.
fn escape_into(json: &str, out: &mut String) {
    let mut rest = json;
    while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let mut chars = after.chars();
        if let Some(c) = chars.next() {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

/// As a policy names an inline style or script.
fn digest(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn escaped_json_says_the_same_and_nothing_to_html(text in proptest::collection::vec(prop_oneof![
            Just("</script>".to_owned()), Just("<!--".to_owned()), Just("&lt;".to_owned()), Just("\u{2028}\u{2029}".to_owned()), ".{0,6}"
        ], 0..8)) {
            let json = serde_json::to_string(&text).unwrap();
            let mut escaped = String::new();
            escape_into(&json, &mut escaped);
            let special = ['<', '>', '&', '\u{2028}', '\u{2029}'];
            prop_assert!(!escaped.contains(special));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&escaped).unwrap(), text);
        }
    }

    #[test]
    fn the_script_makes_text_and_no_markup() {
        let script = SCRIPTS.concat();
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "new Function",
            "</",
            "<!--",
            "setTimeout(\"",
            ".href",
            "fetch(",
        ] {
            assert!(!script.contains(word), "{word}");
        }
        assert!(!CSS.contains("url(") && !CSS.contains("@import") && !CSS.contains("</"));
        for word in ["http:", "https:", " onclick", " onload", " style=", "<script", "<style"] {
            assert!(!HTML.contains(word), "{word}");
        }
    }
}
