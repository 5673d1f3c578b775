//! Whole files in a folder of this machine.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use tempfile::NamedTempFile;

use super::{Cover, END, Meeting, foreign};
use crate::sink::room::{cannot_write, patiently};
use crate::{Error, Result};

/// The end of the last file in `folder` whose name is not before `from`. Only a folder that is not there is an empty one.
pub(super) fn last_in(folder: &Path, from: &str) -> Result<Option<i64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(|error| cannot_read(folder, &error))?,
    };
    let mut names: Vec<String> = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(|error| cannot_read(folder, &error))?.file_name().into_string().ok());
    }
    names.retain(|name| name.ends_with(".parquet") && name.as_str() >= from);
    names.sort_unstable();
    for path in names.iter().rev().map(|name| folder.join(name)) {
        if let Some(end) = end_of(&path).map_err(|error| cannot_read(&path, &error))? {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// See [`super::Place::put`].
pub(super) async fn put_locally(path: &Path, file: NamedTempFile, cover: Cover) -> Result<i64> {
    let folder = path.parent().unwrap_or(Path::new("."));
    patiently(folder, || fs::create_dir_all(folder)).await?;
    let mut file = Some(file);
    let met = patiently(path, || {
        let Some(whole) = file.take() else { return Ok(Ok(Meeting::Replaced)) };
        let persisted = match whole.persist_noclobber(path) {
            // Where it returns, the temporary file goes.
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => match end_of(path).map(|theirs| cover.meets(theirs)) {
                Ok(Meeting::Replaced) => error.file.persist(path),
                Ok(met) => return Ok(Ok(met)),
                // It may be one that others have built upon.
                Err(error) => return Ok(Err(cannot_read(path, &error))),
            },
            other => other,
        };
        persisted.map(|_| Ok(Meeting::Replaced)).map_err(|error| {
            file = Some(error.file);
            error.error
        })
    })
    .await??;
    let end = match met {
        Meeting::Replaced => cover.end,
        Meeting::Stays(theirs) => theirs,
        Meeting::Foreign(theirs) => return Err(foreign(&path.display().to_string(), theirs)),
    };
    // The new names themselves must survive a power failure too.
    for folder in path.ancestors().skip(1).take(3) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|error| cannot_write(folder, &error))?;
    }
    Ok(end)
}

/// The error of reading what stands at `path`, with what can be done about it.
fn cannot_read(path: &Path, error: &io::Error) -> Error {
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => "let the user that lakelens runs as read there, and start again",
        _ => "see to the disk, or to the limit of open files (ulimit -n), and start again",
    };
    let what = "so how far the rows there reach is unknown, and nothing is replaced";
    Error::failed(format!("cannot read {}: {error}, {what}; {advice}", path.display()))
}

/// The offset that an existing file ends before; `None` if none is there or it is no file of ours.
///
/// # Errors
/// What the system says where it cannot be read: then it may well be ours.
pub(super) fn end_of(path: &Path) -> io::Result<Option<i64>> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // Asked for here, since the reader takes a file for empty if its length cannot be had.
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let reader = match SerializedFileReader::new(file) {
        Ok(reader) => reader,
        Err(ParquetError::External(cause)) => match cause.downcast::<io::Error>() {
            Ok(error) if error.raw_os_error().is_some() => return Err(*error),
            // Of the bytes, not of the disk.
            _ => return Ok(None),
        },
        Err(_) => return Ok(None),
    };
    let facts = reader.metadata().file_metadata().key_value_metadata();
    Ok(facts.and_then(|facts| facts.iter().find(|fact| fact.key == END)?.value.as_ref()?.parse().ok()))
}
