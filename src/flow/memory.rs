use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory is counted in units of this many bytes, so that a semaphore's permits cover any budget.
const UNIT: usize = 1024;

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
    /// Splits `bytes`.
    pub fn new(bytes: usize) -> Self {
        let (bodies, results) = (bytes / 4, bytes / 8);
        Self { bodies: Pool::new(bodies), decode: Pool::new(bytes - bodies - results), results }
    }
}

/// A bounded amount of memory, in bytes.
#[derive(Debug, Clone)]
pub struct Pool {
    semaphore: Arc<Semaphore>,
    units: usize,
}

impl Pool {
    /// A pool of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).clamp(1, u32::MAX as usize >> 1);
        Self { semaphore: Arc::new(Semaphore::new(units)), units }
    }

    /// The pool's size in bytes.
    pub fn capacity(&self) -> usize {
        self.units * UNIT
    }

    /// Bytes in use now.
    pub fn in_use(&self) -> usize {
        (self.units - self.semaphore.available_permits().min(self.units)) * UNIT
    }

    /// Waits until `bytes` are free. `None` if the pool could never give that much.
    pub async fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let units = units(bytes);
        if units > self.units {
            return None;
        }
        let permit = self.semaphore.clone().acquire_many_owned(units as u32).await.ok()?;
        Some(Reservation(Some(permit)))
    }

    /// Takes `bytes` if they are free at once.
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let permit = self.semaphore.clone().try_acquire_many_owned(u32::try_from(units(bytes)).ok()?).ok()?;
        Some(Reservation(Some(permit)))
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

/// Memory taken from a [`Pool`]; given back when dropped.
#[derive(Debug, Default)]
pub struct Reservation(Option<OwnedSemaphorePermit>);

impl Reservation {
    /// A reservation of nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) * UNIT
    }

    /// Gives back all but `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let surplus = permit.num_permits().saturating_sub(units(bytes));
            drop(permit.split(surplus));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shrunk_reservation_gives_back_the_rest() {
        let pool = Pool::new(100 * UNIT);
        let mut all = pool.reserve(100 * UNIT).await.expect("fits");
        assert!(pool.try_reserve(1).is_none());
        all.shrink(40 * UNIT);
        assert_eq!(pool.in_use(), 40 * UNIT);
        assert!(pool.try_reserve(60 * UNIT).is_some());
        drop(all);
        assert_eq!(pool.in_use(), 0);
    }

    #[tokio::test]
    async fn more_than_the_pool_is_refused_and_not_waited_for() {
        assert!(Pool::new(10 * UNIT).reserve(11 * UNIT).await.is_none());
    }
}
