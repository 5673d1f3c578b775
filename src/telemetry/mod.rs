//! What a person or a monitor sees of a running worker.

mod log;
mod progress;
mod stats;

pub use log::{escape, init as init_log};
pub use progress::Progress;
pub use stats::{Batches, Stats, Timer};
