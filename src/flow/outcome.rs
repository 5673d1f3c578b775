use std::borrow::Cow;
use std::fmt;

use super::{ImageRef, Record};

/// How an item ended.
#[derive(Debug)]
pub enum Outcome {
    /// It was labelled.
    Record(Box<Record>),
    /// Its object was deleted and the pipeline forwards that as a null value under the record's key.
    Tombstone(Box<ImageRef>),
    /// It cannot be labelled, for a reason that will not go away.
    Rejected(Rejection),
    /// It asked for nothing.
    Skipped(Skip),
}

/// Why an item is not an image, though nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// A null value (a tombstone of a compacted topic).
    Null,
    /// A deletion event.
    Deleted,
    /// S3's test event, or an event of a kind that creates nothing.
    OtherEvent,
    /// An array without entries.
    Empty,
    /// The object is newer than the event: a later event will speak of it (`on_changed: supersede`).
    Superseded,
    /// Not the item that a redriven dead letter asks for (`lakelens.only-item`).
    NotAsked,
}

impl Skip {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Null, Self::Deleted, Self::OtherEvent, Self::Empty, Self::Superseded, Self::NotAsked];

    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Deleted => "deleted",
            Self::OtherEvent => "other_event",
            Self::Empty => "empty",
            Self::Superseded => "superseded",
            Self::NotAsked => "not_asked",
        }
    }
}

/// The stage at which an item was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the reference.
    Parse,
    /// Fetching the bytes.
    Fetch,
    /// Decoding and resizing.
    Decode,
    /// Running the model.
    Infer,
    /// Writing the record.
    Deliver,
}

impl Stage {
    /// The name in dead letters, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Fetch => "fetch",
            Self::Decode => "decode",
            Self::Infer => "infer",
            Self::Deliver => "deliver",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why an item was rejected: the closed list of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The name in dead letters, logs and metrics.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// Cannot be read as a reference.
    BadReference = "bad_reference",
    /// Bucket, folder, host or address not allowed.
    ForbiddenLocation = "forbidden_location",
    /// This object does not exist.
    NotFound = "not_found",
    /// This object may not be read.
    AccessDenied = "access_denied",
    /// This object is in an archive tier.
    Archived = "archived",
    /// ETag or version differ from the reference's.
    Changed = "changed",
    /// Another answer that will not change.
    FetchFailed = "fetch_failed",
    /// Still failing while others from the same place succeed.
    Unavailable = "unavailable",
    /// No bytes.
    Empty = "empty",
    /// More than `max_bytes`.
    TooLarge = "too_large",
    /// More than `max_pixels`, or more than the memory budget could decode.
    TooManyPixels = "too_many_pixels",
    /// Not an image of a known format.
    UnsupportedFormat = "unsupported_format",
    /// An image of a known format that cannot be decoded.
    CorruptImage = "corrupt_image",
    /// Decoding took longer than allowed.
    DecodeTimeout = "decode_timeout",
    /// This image alone makes the model fail.
    ModelFailed = "model_failed",
    /// The process died on this image.
    Crashed = "crashed",
    /// The record would not fit the topic.
    RecordTooLarge = "record_too_large",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why one item has no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Where it happened.
    pub stage: Stage,
    /// What happened, from the closed list.
    pub reason: Reason,
    /// The particulars, for a person; never a secret.
    pub detail: Cow<'static, str>,
}

impl Rejection {
    /// A rejection at `stage`.
    pub fn new(stage: Stage, reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { stage, reason, detail: detail.into() }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.reason, self.stage.name(), self.detail)
    }
}
