//! Lines are held against the worker's own reader of references before they go onto the topic: there each would become a dead letter.

use crate::flow::{ParsedItem, Skip};
use crate::listing::{Entry, Input, MAX_LINE, Mark, entries};
use crate::{Error, Result, reference};

/// Most lines that an error names.
const NAMED: usize = 10;

/// Why a line is no reference; `None` for what the listing of a folder or bucket gave, and for what is left out as too long anyway.
pub(super) fn fault(entry: &Entry) -> Option<String> {
    if entry.uri.is_some() || entry.value.len() >= MAX_LINE {
        return None;
    }
    let items = reference::parse(Some(&entry.value), &[]);
    if items.iter().all(|item| matches!(item, ParsedItem::Skip(Skip::Empty | Skip::Null))) {
        return Some("names nothing".into());
    }
    let mut bad = items.into_iter().filter_map(|item| if let ParsedItem::Bad(detail) = item { Some(detail) } else { None });
    bad.next()
}

/// Reads the lines of a file behind `after` without sending any.
///
/// # Errors
/// [`Error::Config`] that names the lines that are no references.
pub(super) async fn check(input: &Input, name: &str, after: Option<Mark>) -> Result<()> {
    let (mut faults, mut more) = (Vec::new(), 0u64);
    let mut batches = entries(input, after, None)?;
    while let Some(batch) = batches.next().await? {
        for entry in batch {
            match fault(&entry) {
                Some(_) if faults.len() >= NAMED => more += 1,
                Some(detail) => faults.push(format!("{name}:{}: {detail}", entry.key)),
                None => {}
            }
        }
    }
    if more > 0 {
        faults.push(format!("{name}: and {more} more"));
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Error::config(format!("{}\nthese lines are no references; nothing was enqueued", faults.join("\n")))),
    }
}
