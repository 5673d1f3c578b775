//! JSONL files, one for each source partition, that are cut back to the committed length on restart.
//!
//! Beside `T-P.jsonl` lies `T-P.jsonl.pos`: for each message the offset, and where its lines begin and end, 24 bytes of little-endian integers. It is
//! written and synchronised before the lines themselves, so that whatever a crash leaves, the lines from any offset on can be cut off exactly.
//!
//! A folder is one worker's. Where several could write one, a worker that was frozen would go on in a file that another has cut back meanwhile, or cut it
//! back once more, and nothing that a file system offers tells it that the group has moved on.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::hold::hold;
use super::room::{Appender, cannot_write, patiently};
use super::unflushed::Unflushed;
use super::{Flush, Sink, file_name};
use crate::config::Encoding;
use crate::flow::{Delivery, Outcome, Partition, Rejection};
use crate::format::json::{self, JsonForm};
use crate::{Context, Error, Result};

/// Which lines a sink writes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Records(Encoding),
    Rejections,
}

/// Records, or rejections, as lines of JSON in a folder.
pub struct JsonlSink {
    name: String,
    folder: PathBuf,
    kind: Kind,
    files: HashMap<Partition, Lines>,
    unflushed: Unflushed,
    line: Vec<u8>,
    /// Held as long as this is here.
    _lock: File,
}

impl JsonlSink {
    /// A sink of records.
    pub fn records(folder: &Path, encoding: Encoding) -> Result<Self> {
        Self::new(folder, Kind::Records(encoding))
    }

    /// A sink of rejections, in `T-P.rejected.jsonl`.
    pub fn rejections(folder: &Path) -> Result<Self> {
        Self::new(folder, Kind::Rejections)
    }

    /// [`Error::Failed`] if another worker has the folder, or it cannot be written.
    fn new(folder: &Path, kind: Kind) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        // Dead letters may go where the records go.
        let path = folder.join(match kind {
            Kind::Records(_) => ".records.lock",
            Kind::Rejections => ".rejections.lock",
        });
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(|error| cannot_write(&path, &error))?;
        if !hold(&path, &lock) {
            return Err(Error::failed(format!(
                "{} is being written by another worker, which holds {}; wait for its end, or give each worker a folder of its own \
                 (\"{}/${{HOSTNAME}}\", say)",
                folder.display(),
                path.display(),
                folder.display()
            )));
        }
        let name = format!("jsonl:{}", folder.display());
        let (files, unflushed, line) = (HashMap::new(), Unflushed::default(), Vec::new());
        Ok(Self { name, folder: folder.to_owned(), kind, files, unflushed, line, _lock: lock })
    }

    fn path(&self, partition: &Partition) -> PathBuf {
        let suffix = match self.kind {
            Kind::Records(_) => "jsonl",
            Kind::Rejections => "rejected.jsonl",
        };
        self.folder.join(format!("{}-{}.{suffix}", file_name(&partition.topic), partition.partition))
    }
}

#[async_trait]
impl Sink for JsonlSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&mut self, _: &Delivery) -> Result<(), Rejection> {
        Ok(())
    }

    async fn write(&mut self, deliveries: &[Delivery]) -> Result<()> {
        for delivery in deliveries {
            self.line.clear();
            match (&delivery.outcome, self.kind) {
                (Outcome::Record(record), Kind::Records(encoding)) => json::record(record, &JsonForm::whole(encoding), &mut self.line),
                (Outcome::Rejected(rejection), Kind::Rejections) => json::rejection(&delivery.item, rejection, &mut self.line),
                _ => continue,
            }
            self.line.push(b'\n');
            let position = &delivery.item.position;
            let lines = self.files.get_mut(&position.partition);
            let lines =
                lines.ok_or_else(|| Error::failed(format!("{} was written before its partition began; this is a bug", position)))?;
            self.unflushed.note(&position.partition, position.offset);
            lines.push(position.offset, &self.line).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, _: Flush) -> Result<()> {
        for lines in self.files.values_mut() {
            lines.flush().await?;
        }
        self.unflushed.clear();
        Ok(())
    }

    fn held(&self, partition: &Partition) -> Option<i64> {
        self.unflushed.lowest(partition)
    }

    async fn begin(&mut self, partition: &Partition, next_offset: i64) -> Result<()> {
        self.unflushed.forget(partition);
        // What an assignment that is over had not written yet goes with it.
        self.files.remove(partition);
        let lines = Lines::open(&self.path(partition), next_offset).await?;
        self.files.insert(partition.clone(), lines);
        Ok(())
    }

    async fn release(&mut self, partition: &Partition) -> Result<()> {
        if let Some(mut lines) = self.files.remove(partition) {
            lines.flush().await?;
        }
        self.unflushed.forget(partition);
        Ok(())
    }
}

/// Bytes of an entry of the index.
const ENTRY: u64 = 24;
/// Lines that are gathered before they are written.
const BUFFER: usize = 1 << 20;

/// One file of lines and its index.
struct Lines {
    data: Appender,
    index: Appender,
    length: u64,
    pending: Vec<u8>,
    entries: Vec<(i64, u64, u64)>,
    dirty: bool,
}

impl Lines {
    /// Opens a file and cuts off what belongs to `next_offset` and later offsets.
    async fn open(path: &Path, next_offset: i64) -> Result<Self> {
        let open = |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut name = path.as_os_str().to_owned();
        name.push(".pos");
        let index_path = Path::new(&name);
        let mut index = patiently(index_path, || open(index_path)).await?;
        let mut data = patiently(path, || open(path)).await?;
        let what = || format!("cannot cut back {}", path.display());
        let there = data.metadata().context(what())?.len();
        // Offsets ascend, so that the first entry to cut is found by halving.
        let (mut low, mut high) = (0, index.metadata().context(what())?.len() / ENTRY);
        // A crash may leave entries of nothing but zeros; no line ends at 0.
        while high > 0 && entry(&mut index, high - 1).context(what())?.2 == 0 {
            high -= 1;
        }
        if high == 0 && there > 0 {
            return Err(Error::failed(format!(
                "{} has lines, but its index {}.pos is missing or empty; move the file away, so that nothing is lost by cutting it back",
                path.display(),
                path.display()
            )));
        }
        while low < high {
            let middle = low.midpoint(high);
            match entry(&mut index, middle).context(what())?.0 < next_offset {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let length = match low.checked_sub(1) {
            Some(last) => entry(&mut index, last).context(what())?.2,
            None => 0,
        };
        if there < length {
            return Err(Error::failed(format!(
                "{} has {there} bytes where {length} were committed: it was cut from outside. Begin anew with another folder and consumer group",
                path.display()
            )));
        }
        data.set_len(length).context(what())?;
        index.set_len(low * ENTRY).context(what())?;
        data.seek(SeekFrom::End(0)).context(what())?;
        index.seek(SeekFrom::End(0)).context(what())?;
        // The names themselves must survive a power failure too.
        let folder = path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|f| f.sync_all()).map_err(|error| cannot_write(folder, &error))?;
        let (data, index) = (Appender::new(path, data), Appender::new(index_path, index));
        Ok(Self { data, index, length, pending: Vec::new(), entries: Vec::new(), dirty: false })
    }

    async fn push(&mut self, offset: i64, line: &[u8]) -> Result<()> {
        let start = self.length + self.pending.len() as u64;
        self.pending.extend_from_slice(line);
        let end = start + line.len() as u64;
        match self.entries.last_mut() {
            // A further item of the same message. If its first was written before, a second entry with the same offset does no harm.
            Some(last) if last.0 == offset => last.2 = end,
            _ => self.entries.push((offset, start, end)),
        }
        if self.pending.len() >= BUFFER { self.write().await } else { Ok(()) }
    }

    /// The index is durable before any of the lines that it speaks of exists, so that what a crash leaves can always be cut back.
    async fn write(&mut self) -> Result<()> {
        let index: Vec<u8> = self
            .entries
            .drain(..)
            .flat_map(|(offset, start, end)| [offset.to_le_bytes(), start.to_le_bytes(), end.to_le_bytes()].concat())
            .collect();
        self.index.append(&index).await?;
        self.index.sync()?;
        self.data.append(&self.pending).await?;
        self.length += self.pending.len() as u64;
        self.pending.clear();
        self.dirty = true;
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if !self.pending.is_empty() {
            self.write().await?;
        }
        if std::mem::take(&mut self.dirty) {
            self.data.sync()?;
        }
        Ok(())
    }
}

fn entry(index: &mut File, number: u64) -> std::io::Result<(i64, u64, u64)> {
    let mut bytes = [0u8; ENTRY as usize];
    index.seek(SeekFrom::Start(number * ENTRY))?;
    index.read_exact(&mut bytes)?;
    let part = |n: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[8 * n..8 * n + 8]);
        u64::from_le_bytes(eight)
    };
    Ok((part(0).cast_signed(), part(1), part(2)))
}

#[cfg(test)]
#[path = "jsonl_tests.rs"]
mod tests;
