//! Files of this machine: regular ones only, and a stranger's only beneath the folders that are allowed.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::body::whole;
use super::{Ask, Body, Fetch, FetchError};
use crate::flow::{Location, Reason};
use crate::telemetry::AttemptEnd;

/// Never blocks on a FIFO and never makes a terminal ours.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Fetches files.
pub struct FileFetch {
    /// A thread that hangs on a dead network mount cannot be cancelled; this bounds how many may.
    threads: Arc<Semaphore>,
}

impl FileFetch {
    /// Reads at most `concurrency` files at the same time, those given up but still hanging counted.
    pub fn new(concurrency: usize) -> Self {
        Self { threads: Arc::new(Semaphore::new(concurrency)) }
    }

    /// Runs `work` on a thread of its own, which keeps its place among the threads for as long as it really takes.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T, FetchError> + Send + 'static) -> Result<T, FetchError> {
        let permit = self.threads.clone().acquire_owned().await.ok();
        let work = move || {
            let _permit = permit;
            work()
        };
        spawn_blocking(work).await.unwrap_or_else(|e| Err(FetchError::retry(AttemptEnd::Other, format!("reading was cut short: {e}"))))
    }
}

#[async_trait]
impl Fetch for FileFetch {
    async fn fetch(&self, ask: &Ask<'_>) -> Result<Body, FetchError> {
        let Location::File(path) = ask.location else {
            return Err(FetchError::rejected(Reason::FetchFailed, "not a file"));
        };
        let (path, root) = (path.clone(), ask.grant.root.clone());
        let open = self.blocking(move || open(&path, root.as_deref()));
        let (file, size) = ask.intake.in_time("opening the file", open).await??;
        let mut memory = ask.intake.reserve(Some(size)).await?;
        let max = ask.intake.max_bytes();
        let read = self.blocking(move || {
            let mut bytes = Vec::with_capacity(size as usize);
            // One byte more than there ought to be shows a file that grows; it is read again.
            (&file).take(size + 1).read_to_end(&mut bytes).map_err(|e| FetchError::retry(AttemptEnd::Other, format!("reading: {e}")))?;
            if bytes.len() as u64 != size {
                return Err(FetchError::retry(AttemptEnd::Other, format!("the file's size changed from {size} bytes while it was read")));
            }
            memory.shrink(bytes.len());
            Ok((bytes, memory))
        });
        debug_assert!(size <= max);
        let overall = ask.intake.overall();
        let (bytes, memory) = tokio::time::timeout(overall, read)
            .await
            .map_err(|_| FetchError::retry(AttemptEnd::Timeout, format!("not read within {overall:?}")))??;
        Ok(Body { bytes: whole(bytes.into())?, location: ask.location.clone(), etag: None, version: None, memory })
    }
}

/// Opens a regular file and tells its size. With a `root`, `path` begins with it, and no symbolic link leads out of it.
pub(crate) fn open(path: &Path, root: Option<&Path>) -> Result<(File, u64), FetchError> {
    let file = match root {
        None => rustix::fs::open(path, OPEN, Mode::empty()).map_err(classify)?,
        Some(root) => {
            let folder = rustix::fs::openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let folder = folder.map_err(|e| match e {
                Errno::NOENT | Errno::NOTDIR | Errno::ACCESS => {
                    FetchError::Fatal(format!("the folder {} of fetch.allow.file cannot be opened: {e}; is it mounted?", root.display()))
                }
                e => classify(e),
            })?;
            let inside =
                path.strip_prefix(root).map_err(|_| FetchError::rejected(Reason::ForbiddenLocation, "not beneath the allowed folder"))?;
            beneath(folder, inside).map_err(classify)?
        }
    };
    let file = File::from(file);
    let meta = file.metadata().map_err(|e| FetchError::retry(AttemptEnd::Other, format!("looking at the file: {e}")))?;
    if !meta.is_file() {
        return Err(FetchError::rejected(Reason::ForbiddenLocation, "not a regular file"));
    }
    Ok((file, meta.len()))
}

/// Opens `inside` without ever leaving `folder`: the kernel itself follows symbolic links only while they stay inside.
fn beneath(folder: rustix::fd::OwnedFd, inside: &Path) -> Result<rustix::fd::OwnedFd, Errno> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::ResolveFlags;
        match rustix::fs::openat2(&folder, inside, OPEN, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
            // An old kernel, or a sandbox that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => {}
            done => return done,
        }
    }
    step_by_step(folder, inside)
}

/// Opens `inside` component by component, refusing every symbolic link.
fn step_by_step(mut folder: rustix::fd::OwnedFd, inside: &Path) -> Result<rustix::fd::OwnedFd, Errno> {
    let mut parts = inside.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(Errno::XDEV) };
        let last = parts.peek().is_none();
        let flags = if last { OPEN } else { OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC };
        let opened = rustix::fs::openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty());
        // A link where a folder is wanted answers "not a folder".
        folder = opened.map_err(|e| match e {
            Errno::NOTDIR if rustix::fs::readlinkat(&folder, name, Vec::new()).is_ok() => Errno::LOOP,
            e => e,
        })?;
    }
    Ok(folder)
}

fn classify(e: Errno) -> FetchError {
    let detail = e.to_string();
    match e {
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::INVAL => FetchError::Missing(detail),
        Errno::ACCESS | Errno::PERM => FetchError::rejected(Reason::AccessDenied, detail),
        Errno::XDEV | Errno::LOOP => FetchError::rejected(Reason::ForbiddenLocation, "a symbolic link leads out of the allowed folder"),
        Errno::NXIO | Errno::NODEV => FetchError::rejected(Reason::ForbiddenLocation, "not a regular file"),
        _ => FetchError::retry(AttemptEnd::Other, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn refused(result: Result<(File, u64), FetchError>) -> Reason {
        match result {
            Err(FetchError::Rejected(r)) => r.reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_regular_files_beneath_the_folder_are_opened() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("deep")).unwrap();
        std::fs::write(outer.path().join("secret"), b"secret").unwrap();
        std::fs::write(root.join("deep/é a+b.jpg"), b"1234").unwrap();
        symlink(outer.path().join("secret"), root.join("out")).unwrap();
        symlink("../secret", root.join("out2")).unwrap();
        symlink(outer.path(), root.join("up")).unwrap();
        symlink("/dev/zero", root.join("zero")).unwrap();
        symlink("deep", root.join("alias")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
        assert!(fifo.success());
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let at = |name: &str| open(&root.join(name), Some(&root));

        assert_eq!(at("deep/é a+b.jpg").unwrap().1, 4);
        assert_eq!(at("alias/é a+b.jpg").unwrap().1, 4);
        for name in ["out", "out2", "up/secret", "zero", "loop", "fifo", "socket", "deep", "../secret", "deep/../../secret"] {
            assert_eq!(refused(at(name)), Reason::ForbiddenLocation, "{name}");
        }
        for name in ["none", "deep/none", "deep/é a+b.jpg/x", "none/x", &"x".repeat(300)] {
            assert!(matches!(at(name), Err(FetchError::Missing(_))), "{name}");
        }
        assert!(matches!(open(&outer.path().join("gone/x"), Some(&outer.path().join("gone"))), Err(FetchError::Fatal(_))));
        // The user's own word: links are followed, but still nothing that is no file.
        assert_eq!(open(&root.join("out"), None).unwrap().1, 6);
        for name in ["fifo", "zero", "deep"] {
            assert_eq!(refused(open(&root.join(name), None)), Reason::ForbiddenLocation);
        }
    }

    #[test]
    fn without_the_kernels_help_every_link_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(outer.path().join("deep/er")).unwrap();
        std::fs::write(outer.path().join("deep/er/a"), b"1").unwrap();
        symlink("deep", outer.path().join("alias")).unwrap();
        symlink("a", outer.path().join("deep/er/b")).unwrap();
        let folder = || rustix::fs::open(outer.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert!(step_by_step(folder(), Path::new("deep/er/a")).is_ok());
        for (name, errno) in
            [("alias/er/a", Errno::LOOP), ("deep/er/b", Errno::LOOP), ("deep/../deep/er/a", Errno::XDEV), ("no/a", Errno::NOENT)]
        {
            assert_eq!(step_by_step(folder(), Path::new(name)).unwrap_err(), errno, "{name}");
        }
    }
}
