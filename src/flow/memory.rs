use super::{Gate, Permit, Priority};

/// Memory is counted in units of this many bytes.
const UNIT: usize = 1024;

/// Where there is live input beside backfill, backfill leaves one part in so many free for it.
const KEPT: usize = 4;

/// The worker's memory budget, split into pools that are drawn on in this order: bodies, then decoding, then results. Since no holder of a later
/// pool ever waits for an earlier one, the split cannot deadlock, which one common pool would.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    /// Bodies fetched and not yet decoded: a quarter.
    pub bodies: Pool,
    /// Decoding and the tensors that wait for the model: five eighths.
    pub decode: Pool,
    /// Bytes for finished results that wait for an earlier one: an eighth, divided among the partitions by their windows.
    pub results: usize,
}

impl MemoryBudget {
    /// Splits `bytes`; with both live input and backfill, backfill leaves a part of each pool free.
    pub fn new(bytes: usize, both: bool) -> Self {
        let (bodies, results) = (bytes / 4, bytes / 8);
        let pool = |bytes: usize| Pool::keeping(bytes, if both { bytes / KEPT } else { 0 });
        Self { bodies: pool(bodies), decode: pool(bytes - bodies - results), results }
    }
}

/// A bounded amount of memory, in bytes.
#[derive(Debug, Clone)]
pub struct Pool(Gate);

impl Pool {
    /// A pool of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self::keeping(bytes, 0)
    }

    /// A pool of `bytes`, of which backfill leaves `kept` free.
    pub fn keeping(bytes: usize, kept: usize) -> Self {
        Self(Gate::new((bytes / UNIT).max(1), kept / UNIT))
    }

    /// The pool's size in bytes.
    pub fn capacity(&self) -> usize {
        self.0.all() * UNIT
    }

    /// Bytes in use now.
    pub fn in_use(&self) -> usize {
        (self.0.all() - self.0.free()) * UNIT
    }

    /// Waits until `bytes` are free, live items before backfill. `None` if the pool could never give that much.
    pub async fn reserve(&self, priority: Priority, bytes: usize) -> Option<Reservation> {
        Some(Reservation(Some(self.0.acquire(priority, units(bytes)).await?)))
    }

    /// Takes `bytes` if they are free at once.
    pub fn try_reserve(&self, priority: Priority, bytes: usize) -> Option<Reservation> {
        Some(Reservation(Some(self.0.try_acquire(priority, units(bytes))?)))
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

/// Memory taken from a [`Pool`]; given back when dropped.
#[derive(Debug, Default)]
pub struct Reservation(Option<Permit>);

impl Reservation {
    /// A reservation of nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, Permit::count) * UNIT
    }

    /// Gives back all but `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            permit.shrink(units(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shrunk_reservation_gives_back_the_rest() {
        let pool = Pool::new(100 * UNIT);
        let mut all = pool.reserve(Priority::Live, 100 * UNIT).await.expect("fits");
        assert!(pool.try_reserve(Priority::Live, 1).is_none());
        all.shrink(40 * UNIT);
        assert_eq!(pool.in_use(), 40 * UNIT);
        assert!(pool.try_reserve(Priority::Live, 60 * UNIT).is_some());
        drop(all);
        assert_eq!(pool.in_use(), 0);
    }

    #[tokio::test]
    async fn more_than_the_pool_is_refused_and_not_waited_for() {
        assert!(Pool::new(10 * UNIT).reserve(Priority::Live, 11 * UNIT).await.is_none());
    }

    #[tokio::test]
    async fn backfill_that_fills_its_part_of_a_budget_leaves_live_items_theirs() {
        for (both, free) in [(true, true), (false, false)] {
            let budget = MemoryBudget::new(1 << 20, both);
            for pool in [budget.bodies, budget.decode] {
                let mut held = Vec::new();
                while let Some(more) = pool.try_reserve(Priority::Backfill, UNIT) {
                    held.push(more);
                }
                assert_eq!(pool.try_reserve(Priority::Live, pool.capacity() / KEPT).is_some(), free);
            }
        }
    }
}
