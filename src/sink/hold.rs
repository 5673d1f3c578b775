//! Files that one process writes at a time.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use crate::telemetry::{On, Wait};

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the lock of an open file; false while another process has it. The lock is advisory and ends with the process, so that one that was killed leaves
/// none behind. It may end a moment later: a process that is just being started holds all open files until it has become its own program.
pub(super) fn try_hold(path: &Path, file: &File) -> bool {
    static WARNED: Once = Once::new();
    match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => false,
        // Some network file systems know no locks.
        Err(TryLockError::Error(error)) => {
            WARNED.call_once(|| tracing::warn!("{} cannot be locked ({error}): make sure that no other process writes it", path.display()));
            true
        }
    }
}

/// A file that this process holds until this is dropped.
pub(super) struct Held<'a>(&'a File);

impl<'a> Held<'a> {
    /// Waits until no other process holds the file.
    pub(super) async fn wait(path: &Path, file: &'a File) -> Self {
        let mut waiting: Option<Wait> = None;
        while !try_hold(path, file) {
            waiting.get_or_insert_with(|| Wait::on(On::Disk, format!("another process to let go of {}", path.display())));
            tokio::time::sleep(PAUSE).await;
        }
        Self(file)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // It could not be taken where it cannot be given back.
        let _ = self.0.unlock();
    }
}
