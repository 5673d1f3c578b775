//! What a dead letter says, and what it becomes when it goes back.

use bytes::Bytes;

use crate::flow::{Header, Reason};
use crate::reference::ONLY_ITEM;

/// The reason of letters that name one which this program does not know, or are another program's.
pub const UNKNOWN: &str = "unknown";

/// The reason of messages that are no letters: nothing in their headers tells of a failure.
pub const NONE: &str = "none";

/// Headers that tell of the failure, which is over; `lakelens.attempt` and `lakelens.origin.*` are the history, and stay.
const OF_THE_FAILURE: &[&str] = &["lakelens.error.", "lakelens.source.", "__connect.errors."];

/// A dead letter as its headers tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letter {
    /// A name of the closed list, [`UNKNOWN`] or [`NONE`].
    pub reason: &'static str,
    /// Which item of its message it is.
    pub item: Option<u32>,
    /// Part of the input was cut off, since it did not fit the topic: there is nothing whole to send back.
    pub cut: bool,
}

impl Letter {
    /// Reads the headers; of repeated ones the last counts.
    pub fn read(headers: &[Header]) -> Self {
        let find = |name: &str| {
            let last = headers.iter().rev().find(|(n, _)| n == name)?;
            std::str::from_utf8(last.1.as_deref()?).ok()
        };
        let reason = find("lakelens.error.reason").and_then(|name| Reason::ALL.iter().map(|r| r.name()).find(|known| *known == name));
        let is_letter = headers.iter().any(|(name, _)| OF_THE_FAILURE.iter().any(|prefix| name.starts_with(prefix)));
        Self {
            reason: reason.unwrap_or(if is_letter { UNKNOWN } else { NONE }),
            item: find("lakelens.source.item").and_then(|n| n.parse().ok()),
            cut: find("lakelens.error.truncated").is_some(),
        }
    }

    /// The headers of the message that goes back: the input's own, the history, and which item is asked for.
    pub fn headers(&self, headers: Vec<Header>) -> Vec<Header> {
        let stale = |name: &str| name == ONLY_ITEM || OF_THE_FAILURE.iter().any(|prefix| name.starts_with(prefix));
        let asked = self.item.map(|item| (ONLY_ITEM.to_owned(), Some(Bytes::from(item.to_string()))));
        headers.into_iter().filter(|(name, _)| !stale(name)).chain(asked).collect()
    }
}

/// Every reason that a letter can have.
pub fn reasons() -> impl Iterator<Item = &'static str> {
    Reason::ALL.iter().map(|r| r.name()).chain([UNKNOWN, NONE])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(name: &str, value: &str) -> Header {
        (name.to_owned(), Some(Bytes::copy_from_slice(value.as_bytes())))
    }

    #[test]
    fn the_input_and_its_history_go_back_and_the_failure_does_not() {
        let letter = vec![
            header("trace", "1"),
            header("lakelens.origin.reason", "unavailable"),
            header("lakelens.error.reason", "not_found"),
            header("lakelens.source.item", "3"),
            header("lakelens.attempt", "2"),
            header("__connect.errors.topic", "refs"),
        ];
        let read = Letter::read(&letter);
        assert_eq!(read, Letter { reason: "not_found", item: Some(3), cut: false });
        let back = [
            header("trace", "1"),
            header("lakelens.origin.reason", "unavailable"),
            header("lakelens.attempt", "2"),
            header(ONLY_ITEM, "3"),
        ];
        assert_eq!(read.headers(letter), back);
    }

    #[test]
    fn a_letter_without_a_known_reason_is_still_somebodys() {
        let other = "__connect.errors.topic";
        for (name, value) in [("lakelens.error.reason", Some("of_tomorrow")), ("lakelens.error.reason", None), (other, Some("refs"))] {
            let headers = [(name.to_owned(), value.map(|v| Bytes::from(v.to_owned())))];
            assert_eq!(Letter::read(&headers).reason, UNKNOWN);
        }
        for headers in [vec![], vec![header("trace", "1")]] {
            assert_eq!(Letter::read(&headers).reason, NONE);
        }
        assert!(Letter::read(&[header("lakelens.error.truncated", "value")]).cut);
    }

    proptest! {
        #[test]
        fn other_headers_stay_as_they_are_whatever_they_hold(
            headers in proptest::collection::vec(("(lakelens\\.[a-z.]{0,12}|[a-z.]{1,8})", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))), 0..12),
        ) {
            let headers: Vec<Header> = headers.into_iter().map(|(n, v)| (n, v.map(Bytes::from))).collect();
            let letter = Letter::read(&headers);
            prop_assert!(reasons().any(|r| r == letter.reason));
            let back = letter.headers(headers.clone());
            let others = |all: &[Header]| -> Vec<Header> {
                let ours = |n: &str| n == ONLY_ITEM || OF_THE_FAILURE.iter().any(|p| n.starts_with(p));
                all.iter().filter(|(n, _)| !ours(n)).cloned().collect()
            };
            prop_assert_eq!(others(&back), others(&headers));
            prop_assert_eq!(back.iter().filter(|(n, _)| n == ONLY_ITEM).count(), usize::from(letter.item.is_some()));
        }
    }
}
