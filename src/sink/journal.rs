//! The output of `lakelens label`: one JSONL file, one Parquet file, or JSONL on stdout or into a pipe.
//!
//! A Parquet file cannot be read before its footer is written, so records go to a JSONL journal beside it first (`FILE.parquet.journal`), which a
//! run that was interrupted goes on from with `--resume`; the last step turns the journal into the file.

mod earlier;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::room::{Appender, cannot_write};
use super::unflushed::Unflushed;
use super::{Flush, Sink};
use crate::config::Encoding;
use crate::flow::{Delivery, Outcome, Partition, Rejection};
use crate::format::json::{self, JsonForm};
use crate::format::parquet::jsonl_to_parquet;
use crate::model::ModelInfo;
use crate::{Context, Error, Result};
use earlier::Earlier;

/// Where `label` writes, and what an earlier run left there. Only one run at a time has it.
pub struct Journal {
    target: Target,
    /// Locked for as long as this run lasts; `None` before a new file is made, and for a stream.
    file: Option<File>,
    earlier: Earlier,
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
    /// Looks at `out` (`-`, `FILE.jsonl` or `FILE.parquet`), and keeps other runs away from it. Without `resume` or `overwrite` an existing output is
    /// an error, since hours of work may be in it. Nothing is changed before [`Journal::sink`].
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
        let file = target.journal().map(earlier::open).transpose()?.flatten();
        if let Target::Parquet { out, .. } = &target
            && out.exists()
            && !overwrite
        {
            return Err(Error::config(format!("{} is there already and complete; give another name, or --overwrite", out.display())));
        }
        let earlier = match (target.journal(), &file) {
            (Some(journal), Some(file)) if resume => Earlier::read(journal, file)?,
            (Some(journal), Some(_)) if !overwrite => {
                return Err(Error::config(format!(
                    "{} is there already; give another name, --resume to go on with it, or --overwrite",
                    journal.display()
                )));
            }
            _ => Earlier::default(),
        };
        Ok(Self { target, file, earlier })
    }

    /// Refuses to go on with the records of an earlier run that another model made, or that have embeddings where this run makes none or other ones.
    pub fn goes_with(&self, info: &ModelInfo, embeddings: bool) -> Result<()> {
        self.target.journal().map_or(Ok(()), |journal| self.earlier.goes_with(journal, info, embeddings))
    }

    /// Entries that need not be done again, by `source` of their records.
    pub fn done(&self) -> Arc<HashSet<(String, String)>> {
        Arc::new(self.earlier.done.clone())
    }

    /// The sink that writes it, behind what is whole of an earlier run. Rejections are tried again, so their file starts anew.
    pub fn sink(&mut self) -> Result<JournalSink> {
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
                let file = match self.file.take() {
                    Some(file) => file,
                    None => earlier::create(path)?,
                };
                let rejected = rejected(path);
                file.set_len(self.earlier.whole).map_err(|error| cannot_write(path, &error))?;
                match std::fs::remove_file(&rejected) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot_write(&rejected, &error)),
                    _ => {}
                }
                // The lock is both handles'.
                let handle = file.try_clone().map_err(|error| cannot_write(path, &error))?;
                self.file = Some(file);
                (Output::new(path, handle)?, Some(Lazy { path: rejected, output: None }))
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
        } else if to.exists() {
            // Of the file that this one was written over.
            std::fs::remove_file(&to).context(format!("cannot remove {}", to.display()))?;
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
