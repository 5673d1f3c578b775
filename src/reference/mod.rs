//! Reading a message as image references: a plain URI, JSON, or an event of an object store.
//!
//! Whatever the bytes are, [`parse`] gives at least one item and never fails: what cannot be read is a [`ParsedItem::Bad`] that says why. Its text
//! never repeats what stood in the message, since a URL may carry a password or a signature.

mod events;
mod json;
mod uri;

#[cfg(test)]
mod tests;

use crate::flow::{Header, ImageRef, ParsedItem, Skip};

pub use uri::location;

/// Header of a redriven dead letter: the number of the one item of the message that is asked for.
pub const ONLY_ITEM: &str = "lakelens.only-item";

/// Most items in one message: bounds what a message of `[0,0,0,...]` takes once it is read.
pub const MAX_ITEMS: usize = 65_536;

/// Largest message that is read: what it takes as JSON is a small multiple of it.
const MAX_MESSAGE: usize = 16 << 20;

/// Most bytes of an `id`, and of all `tags` together.
pub const MAX_TAGS: usize = 16 * 1024;

/// Reads a message's value as its items, numbered as they stand. Never empty, never panics.
///
/// Null is [`Skip::Null`], an array without entries [`Skip::Empty`]. With the header [`ONLY_ITEM`] every other item is [`Skip::NotAsked`].
pub fn parse(value: Option<&[u8]>, headers: &[Header]) -> Vec<ParsedItem> {
    let mut items = match value {
        None => vec![ParsedItem::Skip(Skip::Null)],
        Some(bytes) => items(bytes),
    };
    // A header may stand there twice; the last is the one that was added last.
    if let Some((_, number)) = headers.iter().rev().find(|(name, _)| name == ONLY_ITEM) {
        let number = number.as_deref().and_then(|n| std::str::from_utf8(n).ok()).and_then(|n| n.trim().parse::<usize>().ok());
        match number {
            Some(n) if n < items.len() => {
                let others = items.iter_mut().enumerate().filter(|(i, _)| *i != n);
                others.for_each(|(_, item)| *item = ParsedItem::Skip(Skip::NotAsked));
            }
            // To skip them all would lose the item in silence.
            Some(n) => return vec![bad(format!("the header {ONLY_ITEM} asks for item {n} of a message of {}", items.len()))],
            None => return vec![bad(format!("the header {ONLY_ITEM} is not the number of an item"))],
        }
    }
    items
}

fn items(bytes: &[u8]) -> Vec<ParsedItem> {
    if bytes.len() > MAX_MESSAGE {
        return vec![bad(format!("the message has {} bytes; {MAX_MESSAGE} are read", bytes.len()))];
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(e) => return vec![bad(format!("neither a URI nor JSON: not UTF-8 from byte {}", e.valid_up_to()))],
    };
    match text.trim_ascii_start().as_bytes().first() {
        None => vec![bad("empty; a message without a reference has a null value")],
        Some(b'{' | b'[' | b'"') => json::items(text),
        Some(_) => vec![plain(text)],
    }
}

/// A bare URI. One line ending is taken off, as `echo` and text files leave it; all else may be part of a key.
fn plain(text: &str) -> ParsedItem {
    let line = text.strip_suffix('\n').unwrap_or(text);
    image(location(line.strip_suffix('\r').unwrap_or(line)).map(ImageRef::new))
}

fn image(reference: Result<ImageRef, String>) -> ParsedItem {
    reference.map_or_else(bad, ParsedItem::Image)
}

fn bad(detail: impl Into<String>) -> ParsedItem {
    ParsedItem::Bad(detail.into())
}
