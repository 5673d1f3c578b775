//! Writing where there may be no room: a full disk is no image's fault, so it is waited for; nothing is acknowledged meanwhile, and intake stops by
//! itself once the memory budget is full of results.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::telemetry::{On, Wait};
use crate::{Error, Result};

/// First and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Whether an error goes away when somebody makes room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The error of writing to `path`, with what can be done about it.
pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Error {
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => "; let the user that lakelens runs as write there, or name another place",
        ErrorKind::ReadOnlyFilesystem => "; mount it for writing, or name another place",
        ErrorKind::NotFound => "; a folder above it is gone: was something unmounted?",
        _ if is_full(error) => "; make room there, or name another place",
        _ => "",
    };
    Error::failed(format!("cannot write to {}: {error}{advice}", path.display()))
}

/// Makes `attempt` until it succeeds, or fails for another reason than a full disk.
pub(super) async fn patiently<T>(path: &Path, attempt: impl FnMut() -> io::Result<T> + Send) -> Result<T> {
    wait_for_room(path, attempt).await.map_err(|error| cannot_write(path, &error))
}

async fn wait_for_room<T>(path: &Path, mut attempt: impl FnMut() -> io::Result<T> + Send) -> io::Result<T> {
    let begun = Instant::now();
    let mut pause = PAUSE.0;
    let mut waiting: Option<Wait> = None;
    loop {
        match attempt() {
            Err(error) if is_full(&error) => {
                waiting.get_or_insert_with(|| Wait::on(On::Disk, format!("room for {}", path.display())));
                tracing::warn!(
                    "no room for {} ({error}), for {} s now; make room on its disk or raise its quota. Waiting: nothing is lost, and nothing is \
                     acknowledged meanwhile",
                    path.display(),
                    begun.elapsed().as_secs()
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => {
                if pause > PAUSE.0 {
                    tracing::info!("there is room for {} again, going on", path.display());
                }
                return result;
            }
        }
    }
}

/// Bytes at the end of a file. Remembers how far it came, so that waiting neither doubles nor leaves out any.
pub(super) struct Appender<W = File> {
    path: PathBuf,
    out: W,
    /// A pipe or a device: what it has no room for it never has.
    stream: bool,
}

impl<W: Write + Send> Appender<W> {
    /// Appends to `out`, which stands at its end; `path` is what messages call it.
    pub(super) fn new(path: &Path, out: W) -> Self {
        Self { path: path.to_owned(), out, stream: false }
    }

    /// Writes into a pipe, a terminal or a device. Ends the process where nobody reads any more, as `lakelens label ... | head` expects.
    pub(super) fn stream(path: &Path, out: W) -> Self {
        Self { path: path.to_owned(), out, stream: true }
    }

    /// Writes all of `bytes`, waiting for room.
    pub(super) async fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let out = &mut self.out;
            let written = if self.stream { out.write(bytes) } else { wait_for_room(&self.path, || out.write(bytes)).await };
            match written {
                Ok(0) => return Err(cannot_write(&self.path, &ErrorKind::WriteZero.into())),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whoever shares the pipe or the terminal may have made it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) if self.stream && error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
                Err(error) => return Err(cannot_write(&self.path, &error)),
            }
        }
        Ok(())
    }
}

impl Appender {
    /// Makes durable what was appended. A failure here is final even where the disk is full: what the system then dropped nobody knows, and a second
    /// call would not say.
    pub(super) fn sync(&self) -> Result<()> {
        self.out.sync_data().map_err(|error| cannot_write(&self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    /// A disk that takes what there is room for, and some room after each refusal.
    struct Small {
        disk: Arc<Mutex<Vec<u8>>>,
        room: usize,
        grants: Vec<usize>,
    }

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 && !bytes.is_empty() {
                self.room = self.grants.pop().unwrap_or(1 << 20);
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.disk.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_full_disk_neither_doubles_nor_loses_a_byte(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
            grants in proptest::collection::vec(1usize..200, 0..2),
        ) {
            let disk = Arc::new(Mutex::new(Vec::new()));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let mut appender = Appender::new(Path::new("small"), Small { disk: disk.clone(), room: 50, grants });
                for piece in &pieces {
                    appender.append(piece).await.unwrap();
                }
            });
            prop_assert_eq!(&*disk.lock().unwrap(), &pieces.concat());
        }
    }

    #[tokio::test]
    async fn what_is_no_lack_of_room_is_not_waited_for() {
        for (kind, advice) in [
            (ErrorKind::PermissionDenied, "let the user"),
            (ErrorKind::ReadOnlyFilesystem, "mount it for writing"),
            (ErrorKind::NotFound, "unmounted"),
        ] {
            let error = patiently(Path::new("out/x.jsonl"), || io::Result::<()>::Err(kind.into())).await.unwrap_err();
            assert_eq!(error.exit_code(), 1);
            let text = error.to_string();
            assert!(text.starts_with("cannot write to out/x.jsonl: ") && text.contains(advice), "{text}");
        }
    }
}
