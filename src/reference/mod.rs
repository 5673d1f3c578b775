//! From a message to the items that it asks for: every form of the contract, pure and without panics whatever comes.

mod events;
mod json;
mod uri;

use crate::flow::{Header, ImageRef, ParsedItem, Skip};

pub use uri::location;

/// Header of a redriven dead letter: only the item of this number is asked for.
pub const ONLY_ITEM: &str = "lakelens.only-item";
/// Largest message that is looked at; Kafka's own default limit is a sixteenth of it.
const MAX_MESSAGE: usize = 16 << 20;

/// The items of a message, numbered as they stand; never none.
pub fn parse(value: Option<&[u8]>, headers: &[Header]) -> Vec<ParsedItem> {
    let mut items = match value {
        None => vec![ParsedItem::Skip(Skip::Null)],
        Some(value) => items(value),
    };
    let only = headers.iter().rev().find(|(name, _)| name == ONLY_ITEM).and_then(|(_, value)| value.as_deref());
    if let Some(only) = only {
        match std::str::from_utf8(only).ok().and_then(|text| text.trim().parse::<usize>().ok()) {
            Some(number) if number < items.len() => {
                for (n, item) in items.iter_mut().enumerate() {
                    if n != number {
                        *item = ParsedItem::Skip(Skip::NotAsked);
                    }
                }
            }
            _ => return vec![bad(format!("the header {ONLY_ITEM} names no item of this message"))],
        }
    }
    items
}

fn items(value: &[u8]) -> Vec<ParsedItem> {
    if value.len() > MAX_MESSAGE {
        return vec![bad(format!("a message of {} bytes is no reference", value.len()))];
    }
    let Ok(text) = std::str::from_utf8(value) else { return vec![bad("the value is not UTF-8")] };
    // A byte order mark and surrounding white space come from files; a JSON value may have them anyway.
    let trimmed = text.trim_start_matches('\u{feff}').trim();
    match trimmed.as_bytes().first() {
        None => vec![bad("the value is empty")],
        Some(b'{' | b'[' | b'"') => json::items(trimmed),
        // Of a plain URI only line ends go: a key may end in a space.
        Some(_) => vec![plain(text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']))],
    }
}

/// An item from a plain URI.
fn plain(uri: &str) -> ParsedItem {
    match location(uri) {
        Ok(location) => ParsedItem::Image(ImageRef::new(location)),
        Err(detail) => bad(detail),
    }
}

/// An unreadable item; `detail` is cut and its control characters are made visible.
fn bad(detail: impl AsRef<str>) -> ParsedItem {
    let text: String = detail
        .as_ref()
        .chars()
        .take(400)
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    ParsedItem::Bad(text)
}

#[cfg(test)]
mod tests;
