//! The output of `lakelens label`: one JSONL file, one Parquet file, or JSONL on stdout or into a pipe.
//!
//! A Parquet file cannot be read before its footer is written, so records go to a JSONL journal beside it first (`FILE.parquet.journal`), which a
//! run that was interrupted goes on from with `--resume`; the last step turns the journal into the file.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::room::{Appender, cannot_write};
use super::unflushed::Unflushed;
use super::{Flush, Sink};
use crate::config::Encoding;
use crate::flow::{Delivery, Outcome, Partition, Rejection, SourceRef};
use crate::format::json::{self, JsonForm};
use crate::format::parquet::jsonl_to_parquet;
use crate::{Context, Error, Result};

/// Where `label` writes, and what an earlier run left there.
pub struct Journal {
    target: Target,
    done: HashSet<(String, String)>,
}

enum Target {
    Stdout,
    /// A FIFO or a device: it is there before, and what goes into it cannot be read back.
    Stream(PathBuf),
    Jsonl(PathBuf),
    Parquet {
        out: PathBuf,
        journal: PathBuf,
    },
}

impl Journal {
    /// Opens `out` (`-`, `FILE.jsonl` or `FILE.parquet`). Without `resume` or `overwrite` an existing output is an error, since hours of work may
    /// be in it.
    pub fn open(out: &str, resume: bool, overwrite: bool) -> Result<Self> {
        let path = PathBuf::from(out);
        let target = match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            _ if out == "-" => Target::Stdout,
            Some("parquet") if is_stream(&path) => {
                return Err(Error::config(format!("--out {out}: a Parquet file cannot be written into a pipe or a device; give a file")));
            }
            _ if is_stream(&path) => Target::Stream(path),
            Some("jsonl" | "ndjson" | "json") => Target::Jsonl(path),
            Some("parquet") => Target::Parquet { journal: beside(&path, "journal"), out: path },
            _ => return Err(Error::config(format!("--out {out}: end it in .jsonl or .parquet, or give - for stdout"))),
        };
        if resume && target.journal().is_none() {
            return Err(Error::config("--resume needs --out FILE: what went to stdout or into a pipe cannot be read back"));
        }
        if let Target::Parquet { out, .. } = &target
            && out.exists()
            && !overwrite
        {
            return Err(Error::config(format!("{} is there already and complete; give another name, or --overwrite", out.display())));
        }
        let mut done = HashSet::new();
        if let Some(journal) = target.journal() {
            if resume {
                done = cut_back(journal)?;
            } else if overwrite {
                for path in [journal.to_owned(), rejected(journal)] {
                    if path.exists() {
                        std::fs::remove_file(&path).context(format!("cannot remove {}", path.display()))?;
                    }
                }
            } else if journal.exists() {
                return Err(Error::config(format!(
                    "{} is there already; give another name, --resume to go on with it, or --overwrite",
                    journal.display()
                )));
            }
        }
        Ok(Self { target, done })
    }

    /// Entries that need not be done again, by `source` of their records.
    pub fn done(&self) -> Arc<HashSet<(String, String)>> {
        Arc::new(self.done.clone())
    }

    /// The sink that writes it.
    pub fn sink(&self) -> Result<JournalSink> {
        let (records, rejections) = match &self.target {
            Target::Stdout => {
                let stdout = std::io::stdout().as_fd().try_clone_to_owned().context("cannot write to stdout")?;
                (Output::new(Path::new("stdout"), stdout.into())?, None)
            }
            Target::Stream(path) => {
                let file = OpenOptions::new().write(true).open(path).map_err(|error| cannot_write(path, &error))?;
                (Output::new(path, file)?, None)
            }
            Target::Jsonl(path) | Target::Parquet { journal: path, .. } => {
                if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                    std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
                }
                (Output::append(path)?, Some(Lazy { path: rejected(path), output: None }))
            }
        };
        Ok(JournalSink { records, rejections, unflushed: Unflushed::default() })
    }

    /// The run is complete: makes the Parquet file, if that is what was asked for.
    pub fn finish(self) -> Result<()> {
        let Target::Parquet { out, journal } = self.target else { return Ok(()) };
        jsonl_to_parquet(&journal, &out)?;
        std::fs::remove_file(&journal).context(format!("cannot remove {}", journal.display()))?;
        let (from, to) = (rejected(&journal), rejected(&out));
        if from.exists() {
            std::fs::rename(&from, &to).context(format!("cannot rename {}", from.display()))?;
        }
        Ok(())
    }
}

impl Target {
    fn journal(&self) -> Option<&Path> {
        match self {
            Self::Stdout | Self::Stream(_) => None,
            Self::Jsonl(path) | Self::Parquet { journal: path, .. } => Some(path),
        }
    }
}

fn is_stream(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir())
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// Rejections of `FILE` lie in `FILE.rejected.jsonl`.
fn rejected(path: &Path) -> PathBuf {
    beside(path, "rejected.jsonl")
}

/// Reads what an earlier run wrote, cuts off a line that it did not finish, and gives the entries that have records. Rejections are tried again, so
/// their file starts anew.
fn cut_back(path: &Path) -> Result<HashSet<(String, String)>> {
    #[derive(Deserialize)]
    struct Line {
        source: SourceRef,
    }
    let rejected = rejected(path);
    if rejected.exists() {
        std::fs::remove_file(&rejected).context(format!("cannot remove {}", rejected.display()))?;
    }
    let mut done = HashSet::new();
    if !path.exists() {
        return Ok(done);
    }
    let what = || format!("cannot read {}", path.display());
    let mut file = OpenOptions::new().read(true).write(true).open(path).context(what())?;
    let mut reader = BufReader::new(&mut file);
    let (mut line, mut good) = (Vec::new(), 0u64);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).context(what())?;
        if read == 0 || line.last() != Some(&b'\n') {
            break;
        }
        let Ok(parsed) = serde_json::from_slice::<Line>(&line) else {
            return Err(Error::config(format!(
                "{} is not an output of lakelens: what begins at byte {good} is no record; give another name",
                path.display()
            )));
        };
        good += read as u64;
        if let SourceRef::Listing { listing, key } = parsed.source {
            done.insert((listing.to_string(), key));
        }
    }
    file.set_len(good).context(what())?;
    file.seek(SeekFrom::End(0)).context(what())?;
    Ok(done)
}

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 16;

/// A file, or a stream.
struct Output {
    out: Appender,
    pending: Vec<u8>,
    /// A file on a disk; what goes into a stream is on its way when it is written.
    durable: bool,
}

impl Output {
    fn new(path: &Path, file: File) -> Result<Self> {
        let durable = file.metadata().map_err(|error| cannot_write(path, &error))?.is_file();
        let out = if durable { Appender::new(path, file) } else { Appender::stream(path, file) };
        Ok(Self { out, pending: Vec::new(), durable })
    }

    fn append(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self::new(path, file.map_err(|error| cannot_write(path, &error))?)
    }

    async fn line_ended(&mut self) -> Result<()> {
        self.pending.push(b'\n');
        if self.pending.len() >= BUFFER { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<()> {
        self.out.append(&self.pending).await?;
        self.pending.clear();
        Ok(())
    }

    async fn flush(&mut self, how: Flush) -> Result<()> {
        self.write().await?;
        if how == Flush::All && self.durable { self.out.sync() } else { Ok(()) }
    }
}

/// A file that appears with its first line.
struct Lazy {
    path: PathBuf,
    output: Option<Output>,
}

impl Lazy {
    fn get(&mut self) -> Result<&mut Output> {
        let output = match self.output.take() {
            Some(output) => output,
            None => Output::append(&self.path)?,
        };
        Ok(self.output.insert(output))
    }
}

/// Writes records as JSONL, rejections to a file beside; into a stream both, told apart by their `schema`.
pub struct JournalSink {
    records: Output,
    rejections: Option<Lazy>,
    unflushed: Unflushed,
}

#[async_trait]
impl Sink for JournalSink {
    fn name(&self) -> &str {
        "label"
    }

    fn check(&mut self, _: &Delivery) -> Result<(), Rejection> {
        Ok(())
    }

    async fn write(&mut self, deliveries: &[Delivery]) -> Result<()> {
        for delivery in deliveries {
            let output = match &delivery.outcome {
                Outcome::Record(record) => {
                    json::record(record, &JsonForm::whole(Encoding::Array), &mut self.records.pending);
                    &mut self.records
                }
                Outcome::Rejected(rejection) => {
                    let output = match &mut self.rejections {
                        Some(file) => file.get()?,
                        None => &mut self.records,
                    };
                    json::rejection(&delivery.item, rejection, &mut output.pending);
                    output
                }
                Outcome::Tombstone(_) | Outcome::Skipped(_) => continue,
            };
            let position = &delivery.item.position;
            self.unflushed.note(&position.partition, position.offset);
            output.line_ended().await?;
        }
        Ok(())
    }

    async fn flush(&mut self, how: Flush) -> Result<()> {
        self.records.flush(how).await?;
        if let Some(output) = self.rejections.as_mut().and_then(|lazy| lazy.output.as_mut()) {
            output.flush(how).await?;
        }
        self.unflushed.clear();
        Ok(())
    }

    fn held(&self, partition: &Partition) -> Option<i64> {
        self.unflushed.lowest(partition)
    }

    /// An output holds one run, or several that are told apart by `--resume`: nothing is cut back here.
    async fn begin(&mut self, partition: &Partition, _: i64) -> Result<()> {
        self.unflushed.forget(partition);
        Ok(())
    }

    async fn release(&mut self, _: &Partition) -> Result<()> {
        self.flush(Flush::All).await
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
