//! Records read back from the files that sinks and `label` write: JSONL and Parquet, one entry at a time.

mod lines;
mod write;

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::flow::Record;
use crate::format::parquet::RecordReader;
use crate::{Context, Error, Result};

pub use write::{NewFile, line};

/// One line of what came out.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A labelled picture.
    Record(Box<Record>),
    /// A reference that was rejected.
    Rejection(Rejected),
}

/// A rejection, as far as it is of use to a reader.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct Rejected {
    /// The picture's URI, where the reference could be read.
    #[serde(default)]
    pub uri: Option<String>,
    /// The stage that rejected it.
    #[serde(default)]
    pub stage: String,
    /// The reason by its name.
    #[serde(default)]
    pub reason: String,
    /// What happened.
    #[serde(default)]
    pub detail: String,
}

/// What one file gives.
type Reading = Box<dyn Iterator<Item = Result<Entry>> + Send>;

/// All entries of some files, file after file. One row group or line is in memory at a time. After an error there are no more.
pub struct Entries {
    files: std::vec::IntoIter<PathBuf>,
    file: Option<Reading>,
}

/// Finds the files that `inputs` name: files that end in `.parquet`, `.jsonl`, `.ndjson` or `.json`, and folders of such. `FILE.rejected.jsonl` beside a file that is
/// named belongs to it. Of two files in a folder that differ only in their ending, the Parquet is read: they are the same records.
///
/// # Errors
/// [`Error::Config`] naming what is not there, or holds no such file.
pub fn open(inputs: &[String]) -> Result<Entries> {
    let mut files = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        let meta = std::fs::metadata(path)
            .map_err(|e| Error::config(format_args!("{input}: {e}; give files of records (.jsonl, .parquet) or a folder of them")))?;
        if meta.is_dir() {
            let before = files.len();
            folder(path, &mut files)?;
            if files.len() == before {
                return Err(Error::config(format_args!("{input}: no .jsonl or .parquet file is in this folder")));
            }
        } else if ending(path).is_some() {
            files.push(path.to_path_buf());
            let mut rejected = path.as_os_str().to_owned();
            rejected.push(".rejected.jsonl");
            files.extend(Some(PathBuf::from(rejected)).filter(|path| path.is_file()));
        } else {
            return Err(Error::config(format_args!("{input}: the name of a file of records ends in .jsonl or .parquet")));
        }
    }
    // A file that is named twice, as by a pattern of the shell, counts once.
    let mut seen = HashSet::new();
    files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    Ok(Entries { files: files.into_iter(), file: None })
}

impl Iterator for Entries {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.file.as_mut().and_then(Iterator::next) {
                if entry.is_err() {
                    (self.files, self.file) = (Vec::new().into_iter(), None);
                }
                return Some(entry);
            }
            match read(&self.files.next()?) {
                Ok(file) => self.file = Some(file),
                Err(error) => {
                    self.files = Vec::new().into_iter();
                    return Some(Err(error));
                }
            }
        }
    }
}

#[derive(PartialEq)]
enum Ending {
    Lines,
    Parquet,
}

fn ending(path: &Path) -> Option<Ending> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" | "json" => Some(Ending::Lines),
        "parquet" => Some(Ending::Parquet),
        _ => None,
    }
}

fn folder(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let visible = |name: &std::ffi::OsStr| !name.as_encoded_bytes().starts_with(b".");
    let walk = WalkDir::new(folder).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| entry.depth() == 0 || visible(entry.file_name())) {
        let entry = entry.context(format_args!("cannot read the folder {}", folder.display()))?;
        let path = entry.path();
        if !entry.file_type().is_file() {
            continue;
        }
        match ending(path) {
            Some(Ending::Lines) if path.with_extension("parquet").is_file() => {
                tracing::info!("{} is passed over for the Parquet file of that name", path.display());
            }
            Some(_) => files.push(entry.into_path()),
            None => {}
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Reading> {
    let file = File::open(path).context(format_args!("cannot read {}", path.display()))?;
    let name = path.display().to_string();
    if ending(path) != Some(Ending::Parquet) {
        return Ok(Box::new(lines::Lines::new(file, name)));
    }
    let records = RecordReader::new(file).map_err(|e| Error::failed(format_args!("{name}: {e}")))?;
    Ok(Box::new(records.enumerate().map(move |(row, record)| {
        record.map(|record| Entry::Record(Box::new(record))).map_err(|e| Error::failed(format_args!("{name}, about row {}: {e}", row + 1)))
    })))
}

#[cfg(test)]
mod tests;
