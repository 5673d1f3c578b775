//! Outputs that one process writes at a time.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long another process may take to let go.
const LETTING_GO: Duration = Duration::from_secs(2);

/// Takes the lock of an open file; false if another process has it. The lock is advisory and ends with the process, so that one that was killed leaves none
/// behind. It may end a moment later: a process that is just being started holds all open files until it has become its own program.
pub(super) fn hold(path: &Path, file: &File) -> bool {
    let until = Instant::now() + LETTING_GO;
    loop {
        match file.try_lock() {
            Ok(()) => return true,
            Err(TryLockError::Error(error)) if error.kind() != ErrorKind::Interrupted => {
                tracing::warn!("{} cannot be locked ({error}): make sure that no other process writes there", path.display());
                return true;
            }
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => return false,
        }
    }
}
