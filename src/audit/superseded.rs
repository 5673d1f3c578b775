//! Items without any outcome since their object was newer than they: a worker passes over them (`on_changed: supersede`) and leaves no trace, but the newer
//! object's own reference stands on the input too, and has an outcome. Two more readings of the input find those, and only where something is missing.

use std::collections::{BTreeMap, HashMap};

use chrono::DateTime;
use rdkafka::message::{BorrowedMessage, Message};

use super::ledger::Ledger;
use super::{Parse, Topic, items_of};
use crate::Result;
use crate::flow::{ImageRef, ParsedItem};

/// More missing items than this are not looked into: that is no matter of a few overwritten objects.
const MOST: usize = 1_000_000;

struct Candidate {
    partition: i32,
    offset: i64,
    item: u32,
    etag: Option<String>,
    version: Option<String>,
    time: Option<i64>,
    newer: bool,
}

/// Milliseconds since 1970: of the event, or else of the message.
fn time(reference: &ImageRef, message: &BorrowedMessage<'_>) -> Option<i64> {
    let event = reference.event_time.as_deref().and_then(|t| DateTime::parse_from_rfc3339(t).ok());
    event.map(|t| t.timestamp_millis()).or_else(|| message.timestamp().to_millis())
}

/// Marks superseded items in the ledgers as asking for nothing; the answer is their number in each partition.
pub(super) fn mark(input: &Topic, ledgers: &mut BTreeMap<i32, Ledger>, parse: Parse<'_>) -> Result<HashMap<i32, u64>> {
    let mut marked = HashMap::new();
    if !ledgers.values().any(Ledger::has_bare) {
        return Ok(marked);
    }
    let mut candidates: HashMap<String, Vec<Candidate>> = HashMap::new();
    let mut count = 0;
    each_image(input, parse, |message, item, reference| {
        let bare = ledgers.get(&message.partition()).is_some_and(|l| l.is_bare(message.offset(), item));
        if bare && (reference.etag.is_some() || reference.version.is_some()) && count < MOST {
            count += 1;
            let time = time(&reference, message);
            let uri = reference.location.to_string();
            let (etag, version) = (reference.etag, reference.version);
            let (partition, offset) = (message.partition(), message.offset());
            candidates.entry(uri).or_default().push(Candidate { partition, offset, item, etag, version, time, newer: false });
        }
    })?;
    if candidates.is_empty() {
        return Ok(marked);
    }
    each_image(input, parse, |message, item, reference| {
        let Some(older) = candidates.get_mut(&reference.location.to_string()) else { return };
        if ledgers.get(&message.partition()).is_none_or(|l| l.is_bare(message.offset(), item)) {
            return;
        }
        let time = time(&reference, message);
        for candidate in older {
            let other = candidate.etag != reference.etag || candidate.version != reference.version;
            let later = match (candidate.time, time) {
                (Some(a), Some(b)) if a != b => a < b,
                _ => candidate.partition == message.partition() && candidate.offset < message.offset(),
            };
            candidate.newer |= other && later;
        }
    })?;
    for candidate in candidates.into_values().flatten().filter(|c| c.newer) {
        if let Some(ledger) = ledgers.get_mut(&candidate.partition) {
            ledger.release(candidate.offset, candidate.item);
            *marked.entry(candidate.partition).or_default() += 1;
        }
    }
    Ok(marked)
}

fn each_image(input: &Topic, parse: Parse<'_>, mut each: impl FnMut(&BorrowedMessage<'_>, u32, ImageRef)) -> Result<()> {
    input.read(|message| {
        for (item, parsed) in (0..).zip(items_of(message, parse)) {
            if let ParsedItem::Image(reference) = parsed {
                each(message, item, reference);
            }
        }
    })
}
