//! The output of `lakelens label`: one JSONL file, one Parquet file, or JSONL on stdout.
//!
//! A Parquet file cannot be read before its footer is written, so records go to a JSONL journal beside it first (`FILE.parquet.journal`), which a
//! run that was interrupted goes on from with `--resume`; the last step turns the journal into the file.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

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
    Jsonl(PathBuf),
    Parquet { out: PathBuf, journal: PathBuf },
}

impl Journal {
    /// Opens `out` (`-`, `FILE.jsonl` or `FILE.parquet`). Without `resume` or `overwrite` an existing output is an error, since hours of work may
    /// be in it.
    pub fn open(out: &str, resume: bool, overwrite: bool) -> Result<Self> {
        let path = PathBuf::from(out);
        let target = match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            _ if out == "-" => Target::Stdout,
            Some("jsonl" | "ndjson" | "json") => Target::Jsonl(path),
            Some("parquet") => Target::Parquet { journal: beside(&path, "journal"), out: path },
            _ => return Err(Error::config(format!("--out {out}: end it in .jsonl or .parquet, or give - for stdout"))),
        };
        if resume && matches!(target, Target::Stdout) {
            return Err(Error::config("--resume needs --out FILE: what went to stdout cannot be read back"));
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
        let append = |path: &Path| -> Result<BufWriter<File>> {
            if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder).context(format!("cannot make the folder {}", folder.display()))?;
            }
            let file = OpenOptions::new().create(true).append(true).open(path);
            Ok(BufWriter::new(file.context(format!("cannot write to {}", path.display()))?))
        };
        let (records, rejections): (Box<dyn Write + Send>, _) = match self.target.journal() {
            None => (Box::new(BufWriter::new(std::io::stdout())), None),
            Some(path) => (Box::new(append(path)?), Some(Lazy::new(rejected(path)))),
        };
        Ok(JournalSink { records, rejections, buffer: Vec::new() })
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
            Self::Stdout => None,
            Self::Jsonl(path) | Self::Parquet { journal: path, .. } => Some(path),
        }
    }
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

/// A file that appears with its first line.
struct Lazy {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Lazy {
    fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    fn get(&mut self) -> Result<&mut BufWriter<File>> {
        let file = match self.file.take() {
            Some(file) => file,
            None => BufWriter::new(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&self.path)
                    .context(format!("cannot write to {}", self.path.display()))?,
            ),
        };
        Ok(self.file.insert(file))
    }
}

/// Writes records as JSONL, rejections to a file beside; on stdout both, told apart by their `schema`.
pub struct JournalSink {
    records: Box<dyn Write + Send>,
    rejections: Option<Lazy>,
    buffer: Vec<u8>,
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
            self.buffer.clear();
            match &delivery.outcome {
                Outcome::Record(record) => {
                    json::record(record, &JsonForm::whole(Encoding::Array), &mut self.buffer);
                    self.buffer.push(b'\n');
                    written(self.records.write_all(&self.buffer))?;
                }
                Outcome::Rejected(rejection) => {
                    json::rejection(&delivery.item, rejection, &mut self.buffer);
                    self.buffer.push(b'\n');
                    match &mut self.rejections {
                        Some(file) => written(file.get()?.write_all(&self.buffer))?,
                        None => written(self.records.write_all(&self.buffer))?,
                    }
                }
                Outcome::Tombstone(_) | Outcome::Skipped(_) => {}
            }
        }
        Ok(())
    }

    async fn flush(&mut self, _: Flush) -> Result<()> {
        written(self.records.flush())?;
        match self.rejections.as_mut().and_then(|lazy| lazy.file.as_mut()) {
            Some(file) => written(file.flush()),
            None => Ok(()),
        }
    }

    fn held(&self, _: &Partition) -> Option<i64> {
        None
    }

    async fn begin(&mut self, _: &Partition, _: i64) -> Result<()> {
        Ok(())
    }

    async fn release(&mut self, _: &Partition) -> Result<()> {
        Ok(())
    }
}

fn written(result: std::io::Result<()>) -> Result<()> {
    match result {
        // `lakelens label ... | head` has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.context("cannot write the output"),
    }
}
