//! A file of records that is written whole.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{Ending, ending};
use crate::config::Encoding;
use crate::flow::Record;
use crate::format::json::{self, JsonForm};
use crate::format::parquet::{FileKind, RecordFile};
use crate::{Context, Error, Result};

/// A file of records under a temporary name, until it is whole.
pub struct NewFile {
    out: PathBuf,
    temporary: NamedTempFile,
    form: Form,
}

enum Form {
    Lines(BufWriter<File>),
    Parquet(Option<Box<(FileKind, RecordFile<File>)>>),
}

impl NewFile {
    /// Begins a file that will be `out`, in the format that its name ends in: .jsonl or .parquet.
    ///
    /// # Errors
    /// [`Error::Config`] for another name; [`Error::Failed`] if nothing can be written there.
    pub fn create(out: &Path) -> Result<Self> {
        let kind = ending(out).ok_or_else(|| Error::config(format_args!("--out {}: end it in .jsonl or .parquet", out.display())))?;
        let doing = || format!("cannot write {}", out.display());
        let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = crate::temporary::temporary_in(folder).context(doing())?;
        let form = match kind {
            Ending::Lines => Form::Lines(BufWriter::new(temporary.as_file().try_clone().context(doing())?)),
            Ending::Parquet => Form::Parquet(None),
        };
        Ok(Self { out: out.to_owned(), temporary, form })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`Error::Config`] if a Parquet file would hold a second space; [`Error::Failed`] if it cannot be written.
    pub fn push(&mut self, record: Record) -> Result<()> {
        let doing = format_args!("cannot write {}", self.out.display()).to_string();
        match &mut self.form {
            Form::Lines(file) => file.write_all(&line(&record)).context(doing),
            Form::Parquet(file) => {
                let kind = FileKind::of(&record);
                let (known, file) = &mut **match file {
                    Some(begun) => begun,
                    none => {
                        let handle = self.temporary.as_file().try_clone().context(doing)?;
                        none.insert(Box::new((kind.clone(), RecordFile::new(handle, &kind, &[])?)))
                    }
                };
                if *known != kind {
                    return Err(Error::config(format_args!(
                        "the records are of the spaces {} and {}, and a Parquet file holds one; write them to a .jsonl file, or one space at a time",
                        known.space, kind.space
                    )));
                }
                file.push(record)
            }
        }
    }

    /// Ends it, and gives it its name.
    ///
    /// # Errors
    /// [`Error::Failed`] if it cannot be written, or if it would be a Parquet file without records.
    pub fn finish(self) -> Result<()> {
        let doing = || format!("cannot write {}", self.out.display());
        match self.form {
            Form::Lines(mut file) => file.flush().context(doing())?,
            Form::Parquet(Some(begun)) => begun.1.finish().map(drop)?,
            Form::Parquet(None) => return Err(Error::failed(format_args!("{}: there is no record to write", self.out.display()))),
        }
        self.temporary.as_file().sync_all().context(doing())?;
        self.temporary.persist(&self.out).map(drop).context(doing())
    }
}

/// A record as a line of JSONL.
pub fn line(record: &Record) -> Vec<u8> {
    let mut line = Vec::new();
    json::record(record, &JsonForm::whole(Encoding::Array), &mut line);
    line.push(b'\n');
    line
}
