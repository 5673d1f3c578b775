//! Files on this machine.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::{Answer, Failure, Read as Bound, rejected};
use crate::flow::Reason;

/// Opens and reads a file, all of it. `root` is the folder that it must lie beneath; `None` for a file that the user named, which may lie anywhere and be
/// a symbolic link. Blocks.
pub async fn fetch(path: &Path, root: Option<&Path>, bound: &Bound<'_>) -> Result<Answer, Failure> {
    let (path, root) = (path.to_owned(), root.map(Path::to_owned));
    let failed = |e: std::io::Error| of(&e);
    let opened = tokio::task::spawn_blocking(move || -> std::io::Result<(File, u64)> {
        let file = match root {
            Some(root) => open_beneath(&root, &path)?,
            None => open(&path)?,
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok((file, meta.len()))
    });
    let (file, size) = opened.await.map_err(|_| Failure::retry("the reading thread ended"))?.map_err(failed)?;
    let memory = bound.reserve(Some(size)).await?;
    let max = bound.max_bytes;
    let read = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(max + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes = read.await.map_err(|_| Failure::retry("the reading thread ended"))?.map_err(failed)?;
    if bytes.len() as u64 != size {
        return Err(Failure::retry(format!("the file changed while it was read: {size} bytes, then {}", bytes.len())));
    }
    Ok(Answer { bytes: bytes.into(), etag: None, version: None, memory })
}

/// A pipe or a device must not make the open itself wait.
fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// Lets the kernel see to it that no `..` and no symbolic link leads out of `root`, whatever changes meanwhile (openat2, Linux 5.6).
#[cfg(target_os = "linux")]
fn open_beneath(root: &Path, path: &Path) -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    let below = path.strip_prefix(root).map_err(|_| std::io::Error::from(ErrorKind::PermissionDenied))?;
    let folder = File::open(root)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match openat2(&folder, below, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
        Ok(file) => Ok(file.into()),
        Err(rustix::io::Errno::XDEV) => Err(std::io::Error::new(ErrorKind::PermissionDenied, OUTSIDE)),
        Err(e) => Err(e.into()),
    }
}

/// Elsewhere the path is resolved first, and the last step may not be a link.
#[cfg(not(target_os = "linux"))]
fn open_beneath(root: &Path, path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let real = std::fs::canonicalize(path)?;
    if !real.starts_with(root) {
        return Err(std::io::Error::new(ErrorKind::PermissionDenied, OUTSIDE));
    }
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(real)
}

const OUTSIDE: &str = "a symbolic link leads out of the allowed folder";

fn of(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Failure::Missing("no such file".into()),
        ErrorKind::PermissionDenied if error.to_string() == OUTSIDE => rejected(Reason::ForbiddenLocation, OUTSIDE),
        ErrorKind::PermissionDenied => rejected(Reason::AccessDenied, "the file may not be read"),
        ErrorKind::InvalidInput | ErrorKind::IsADirectory | ErrorKind::InvalidFilename => {
            rejected(Reason::FetchFailed, format!("cannot be read as a file: {error}"))
        }
        // A socket, a loop of links.
        _ if matches!(error.raw_os_error(), Some(6 | 40)) => rejected(Reason::FetchFailed, format!("cannot be read as a file: {error}")),
        _ => Failure::retry(error.to_string()),
    }
}
