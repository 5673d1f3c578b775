//! What an earlier run left in the output of `lakelens label`, and the lock that keeps a second run away from it meanwhile.

use std::collections::HashSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::flow::SourceRef;
use crate::model::ModelInfo;
use crate::sink::hold::hold;
use crate::sink::room::cannot_write;
use crate::{Context, Error, Result};

/// The whole records of an output. Reading them changes nothing.
#[derive(Default)]
pub(super) struct Earlier {
    /// Entries that have records, by their `source`.
    pub done: HashSet<(String, String)>,
    /// Bytes of the lines that are whole; a line that was torn may follow.
    pub whole: u64,
    kinds: Vec<Kind>,
}

/// What must be alike in all records of one output.
#[derive(PartialEq)]
struct Kind {
    model: String,
    space: String,
    embedding: bool,
}

#[derive(Deserialize)]
struct Line {
    source: SourceRef,
    model: String,
    space: String,
    embedding: Option<IgnoredAny>,
}

impl Earlier {
    /// Reads `file`, which lies at `path`.
    pub fn read(path: &Path, file: &File) -> Result<Self> {
        let what = || format!("cannot read {}", path.display());
        let mut reader = BufReader::new(file);
        let (mut line, mut earlier) = (Vec::new(), Self::default());
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).context(what())?;
            if read == 0 || line.last() != Some(&b'\n') {
                return Ok(earlier);
            }
            let Ok(Line { source, model, space, embedding }) = serde_json::from_slice(&line) else {
                return Err(Error::config(format!(
                    "{} is not an output of lakelens: what begins at byte {} is no record; give another name",
                    path.display(),
                    earlier.whole
                )));
            };
            earlier.whole += read as u64;
            if let SourceRef::Listing { listing, key } = source {
                earlier.done.insert((listing.to_string(), key));
            }
            let kind = Kind { model, space, embedding: embedding.is_some() };
            if !earlier.kinds.contains(&kind) {
                earlier.kinds.push(kind);
            }
        }
    }

    /// Refuses to go on with records of another model, or of another kind of embedding.
    pub fn goes_with(&self, path: &Path, info: &ModelInfo, embeddings: bool) -> Result<()> {
        let now = Kind { model: info.id.to_string(), space: info.space.to_string(), embedding: embeddings };
        let Some(then) = self.kinds.iter().find(|kind| **kind != now) else { return Ok(()) };
        let advice = "Give what it was begun with, or another --out";
        let path = path.display();
        Err(Error::config(if then.model != now.model {
            format!("{path} holds records of {}, and --model is {}: one output holds one model. {advice}", then.model, now.model)
        } else if then.space != now.space {
            format!(
                "{path} holds embeddings of the space {}, and this run would add such of {}, which cannot be compared: preprocessing, --exif, \
                 --precision or --l2 differs. {advice}",
                then.space, now.space
            )
        } else {
            let (then, now) = if then.embedding { ("with", "without") } else { ("without", "with") };
            format!("{path} holds records {then} embeddings, and this run would add some {now}: --no-embeddings differs. {advice}")
        }))
    }
}

/// Opens the output at `path`, if it is there, for this run alone.
pub(super) fn open(path: &Path) -> Result<Option<File>> {
    match OpenOptions::new().read(true).append(true).open(path) {
        Ok(file) => lock(path, file).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_write(path, &error)),
    }
}

/// Makes the output at `path`, which was not there a moment ago, for this run alone.
pub(super) fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(|error| cannot_write(path, &error))?;
    let file = lock(path, file)?;
    match file.metadata().map_err(|error| cannot_write(path, &error))?.len() {
        0 => Ok(file),
        _ => Err(taken(path)),
    }
}

fn lock(path: &Path, file: File) -> Result<File> {
    if !hold(path, &file) {
        return Err(taken(path));
    }
    // A run that ended between the two calls may have removed it.
    let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    match (&file.metadata(), &path.metadata()) {
        (Ok(opened), Ok(named)) if same(opened, named) => Ok(file),
        _ => Err(taken(path)),
    }
}

fn taken(path: &Path) -> Error {
    Error::config(format!("{} is being written by another run of lakelens; wait for its end, or give another --out", path.display()))
}
