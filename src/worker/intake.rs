//! From a message to its items: what each asks for, and whether it is already at its end.

use std::sync::Arc;

use crate::config::OnDelete;
use crate::flow::{ImageRef, Item, Message, Outcome, ParsedItem, Position, Reason, Rejection, Skip, Stage, Tracing};
use crate::{format, reference};

/// How messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As references to images.
    References(OnDelete),
    /// As records that are only archived.
    Records,
}

/// One item of a message, and its outcome if no stage has to work on it.
pub struct Entry {
    /// The item.
    pub item: Arc<Item>,
    /// Its end, if it has one already.
    pub outcome: Option<Outcome>,
}

impl Reading {
    /// The items of `message`, at least one; with traces for those that `tracing` samples.
    pub fn expand(self, message: Message, tracing: Option<&Tracing>) -> Vec<Entry> {
        let message = Arc::new(message);
        let parsed = match self {
            Self::References(_) => reference::parse(message.value.as_deref(), &message.headers),
            Self::Records => return vec![archive(message, tracing)],
        };
        let count = parsed.len();
        let of = |n: usize, parsed: ParsedItem| {
            let outcome = self.outcome(&parsed);
            Entry { item: item(&message, n, n + 1 == count, parsed, tracing), outcome }
        };
        parsed.into_iter().enumerate().map(|(n, parsed)| of(n, parsed)).collect()
    }

    fn outcome(self, parsed: &ParsedItem) -> Option<Outcome> {
        match parsed {
            ParsedItem::Image(_) => None,
            ParsedItem::Deleted(reference) if self == Self::References(OnDelete::Tombstone) => {
                Some(Outcome::Tombstone(Box::new(reference.clone())))
            }
            ParsedItem::Deleted(_) => Some(Outcome::Skipped(Skip::Deleted)),
            ParsedItem::Skip(skip) => Some(Outcome::Skipped(*skip)),
            ParsedItem::Bad(detail) => Some(Outcome::Rejected(Rejection::new(Stage::Parse, Reason::BadReference, detail.clone()))),
        }
    }
}

fn item(message: &Arc<Message>, number: usize, last: bool, parsed: ParsedItem, tracing: Option<&Tracing>) -> Arc<Item> {
    let position =
        Position { partition: message.partition.clone(), offset: message.offset, item: u32::try_from(number).unwrap_or(u32::MAX) };
    let trace = tracing.and_then(|tracing| tracing.begin(&message.headers));
    if let Some(trace) = &trace {
        trace.fact("messaging.destination.name", position.partition.topic.to_string());
        trace.fact("messaging.destination.partition.id", i64::from(position.partition.partition));
        trace.fact("messaging.kafka.offset", position.offset);
    }
    Arc::new(Item { message: message.clone(), position, parsed, last, trace })
}

/// A message that is a record already.
fn archive(message: Arc<Message>, tracing: Option<&Tracing>) -> Entry {
    let bad = |detail: String| {
        let outcome = Outcome::Rejected(Rejection::new(Stage::Parse, Reason::BadReference, detail.clone()));
        (ParsedItem::Bad(detail), outcome)
    };
    let (parsed, outcome) = match message.value.as_deref() {
        None => (ParsedItem::Skip(Skip::Null), Outcome::Skipped(Skip::Null)),
        Some(value) => match format::json::parse_record(value).and_then(|record| record.check().map(|()| record)) {
            Err(detail) => bad(format!("not a record: {detail}")),
            Ok(record) => match reference::location(&record.uri) {
                Err(detail) => bad(format!("not a record: uri: {detail}")),
                Ok(location) => {
                    let reference = ImageRef { id: record.id.clone(), tags: record.tags.clone(), ..ImageRef::new(location) };
                    (ParsedItem::Image(reference), Outcome::Record(Box::new(record)))
                }
            },
        },
    };
    Entry { item: item(&message, 0, true, parsed, tracing), outcome: Some(outcome) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Partition, Reservation};

    /// It was once read as an infinity and archived as null, which no reader took.
    #[test]
    fn a_record_with_a_value_that_no_f32_holds_is_not_archived() {
        let text = r#"{"schema":"lakelens.record.v1","uri":"s3://lake/a.jpg","bytes":1,"format":"jpeg","width":1,"height":1,"sha256":"9f",
            "embedding":[0.1,1e40],"space":"c0","model":"m@sha256:3f","preprocess":"sha256:90","precision":"f32","normalize":"none",
            "source":{"listing":"x","key":"a.jpg"},"processed_at":"2026-11-23T19:13:30.120Z"}"#;
        let outcome = |text: String| {
            let message = Message {
                partition: Partition::new("records", 0),
                offset: 7,
                key: None,
                value: Some(text.into()),
                headers: Vec::new(),
                timestamp_ms: None,
                trusted: false,
                listing: None,
                memory: Reservation::none(),
            };
            Reading::Records.expand(message, None).remove(0).outcome
        };
        assert!(matches!(outcome(text.replace("1e40", "1e30")), Some(Outcome::Record(_))));
        match outcome(text.into()) {
            Some(Outcome::Rejected(rejection)) => assert!(rejection.detail.contains("not finite"), "{}", rejection.detail),
            other => panic!("{other:?}"),
        }
    }
}
