//! What does not change any more once the stages run.

use std::fmt;

use crate::fetch::Waiting;
use crate::flow::MemoryBudget;
use crate::model::ModelInfo;

/// Asks which places items wait for.
pub type Places = Box<dyn Fn() -> Vec<Waiting> + Send + Sync>;

/// The stages as they were started.
pub struct Facts {
    /// The network; `None` in a pipeline that only archives records.
    pub model: Option<ModelInfo>,
    /// Compute threads.
    pub threads: usize,
    /// The memory budget in bytes.
    pub memory: u64,
    /// Its pools.
    pub pools: MemoryBudget,
    /// Which places items wait for.
    pub places: Places,
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").field("model", &self.model).field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Facts {
    /// Bytes that are taken of the budget's pools.
    pub fn reserved(&self) -> u64 {
        (self.pools.bodies.in_use() + self.pools.decode.in_use()) as u64
    }
}
