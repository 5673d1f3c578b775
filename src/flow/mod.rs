//! What travels between the stages. Imports nothing of ours, so that every stage can import it.

mod envelope;
mod gate;
mod memory;
mod message;
mod outcome;
pub mod priority;
mod record;
mod reference;
mod scrub;
mod trace;

pub use envelope::{AckToken, Delivery, Envelope, Item, LostToken};
pub use gate::{Gate, Permit};
pub use memory::{MemoryBudget, Pool, Reservation};
pub use message::{CommitPoint, Header, Message, Partition, Position};
pub use outcome::{Outcome, Reason, Rejection, Skip, Stage};
pub use priority::{ByPriority, Priority};
pub use record::{Label, Record, SourceRef};
pub use reference::{ImageRef, Location, ParsedItem};
pub use scrub::scrubbed;
pub use trace::{TRACEPARENT, Trace, Tracing};
