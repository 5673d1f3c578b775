//! What a person or a monitor sees of a running worker.

mod attempts;
mod endpoint;
pub mod eta;
mod exposition;
mod facts;
mod health;
mod histogram;
mod log;
mod otlp;
mod pace;
mod process;
mod progress;
mod snapshot;
mod stats;
mod waits;

pub use attempts::{AttemptEnd, Attempts, Scheme};
pub use endpoint::Endpoint;
pub use facts::{Facts, Places};
pub use health::About;
pub use log::{escape, init as init_log};
pub use otlp::Export;
pub use pace::Pace;
pub use progress::Progress;
pub use snapshot::{MOST_PARTITIONS, PartitionStatus, Snapshot, State};
pub use stats::{Batches, Presence, Stats, Timer};
pub use waits::{On, Wait};
