//! The middle of the worker: from a message to its items, through the stages, to the sinks and back to a committed offset.

pub mod compute;
pub mod coordinator;
mod decoding;
pub mod deliver;
pub mod fetching;
pub mod intake;
mod lane;
pub mod ledger;
pub mod record;
mod reject_limit;
pub mod terms;
pub mod watchdog;
