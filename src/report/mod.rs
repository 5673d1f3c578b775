//! The report on records: one page of HTML that works by itself, made in one pass over any number of records.
//!
//! [`gather`] counts and chooses a sample, [`space`] makes a map and small vectors of the sample's embeddings, [`thumbnails`] small pictures (of
//! files, or of what [`store`] fetches), and [`page`] puts it all into a file.

pub mod gather;
pub mod overview;
mod page;
mod pca;
mod sample;
mod space;
mod store;
mod tally;
mod thumbnails;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use tokio_util::sync::CancellationToken;

use crate::records::Entry;
use crate::temporary::temporary_in;
use crate::{Context, Error, Result};
use overview::Overview;
use page::{Data, Shown};
use sample::Item;
pub use store::place;
pub use thumbnails::Images;

/// Largest report in bytes. Thumbnails are left out before it is exceeded, then records of the sample.
const MAX_BYTES: usize = 25_000_000;
/// Of which so much is always left for thumbnails' frames.
const SPARE: usize = 100_000;

/// What is asked for.
#[derive(Debug)]
pub struct Options {
    /// What the records are of, as it is named on the page.
    pub inputs: Vec<String>,
    /// The file.
    pub out: PathBuf,
    /// Write over a file that is no report.
    pub overwrite: bool,
    /// Where thumbnails come from.
    pub images: Images,
    /// Records that are shown one by one.
    pub sample: usize,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// Of all entries.
    pub overview: Overview,
    /// Records that are shown one by one.
    pub shown: usize,
    /// Of those with a thumbnail.
    pub thumbnails: usize,
    /// Why most of the others have none, and how many they are.
    pub missing: Option<(usize, &'static str)>,
    /// Size of the file.
    pub bytes: usize,
}

/// Writes the report on `entries`. `step` is told how many have been read, every now and then.
///
/// # Errors
/// The first of `entries`; [`Error::Config`] where the file may not be written over; that `stop` was cancelled.
pub fn write(
    entries: impl Iterator<Item = Result<Entry>>,
    options: &Options,
    stop: &CancellationToken,
    mut step: impl FnMut(u64),
) -> Result<Written> {
    let folder = may_write(options)?;
    let mut gathered = gather::gather(entries, options.sample, |count| {
        step(count);
        if stop.is_cancelled() { Err(Error::failed("stopped by a signal; nothing was written")) } else { Ok(()) }
    })?;
    let mut items = std::mem::take(&mut gathered.sample);
    let overview = Overview::of(gathered);
    let made = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let program = concat!("lakelens ", env!("CARGO_PKG_VERSION"));
    let html = |items: &[Item], space: Option<&space::Space>, thumbnails: &[thumbnails::Thumbnail]| {
        let items = items.iter().enumerate().map(|(n, item)| Shown::of(item, thumbnails.get(n))).collect();
        page::page(&Data { program, made: made.clone(), inputs: &options.inputs, overview: &overview, items, space })
    };
    let mut space = space::space(&items);
    let mut bare = html(&items, space.as_ref(), &[])?.len();
    while bare + SPARE > MAX_BYTES && !items.is_empty() {
        let half = items.len() / 2;
        items.sort_by_key(|item| item.priority);
        items.truncate(half);
        items.sort_by_key(|item| item.number);
        space = space::space(&items);
        bare = html(&items, space.as_ref(), &[])?.len();
    }
    // A thumbnail's name in the data and the reason for a missing one are under 100 bytes.
    let room = MAX_BYTES.saturating_sub(bare + SPARE + 100 * items.len());
    let thumbnails = thumbnails::thumbnails(&items, &options.images, room, stop)?;
    let text = html(&items, space.as_ref(), &thumbnails)?;
    let cannot = || format!("cannot write {}", options.out.display());
    let mut file = temporary_in(&folder).context(cannot())?;
    file.write_all(text.as_bytes()).context(cannot())?;
    file.persist(&options.out).map_err(|e| e.error).context(cannot())?;
    let mut reasons: BTreeMap<&'static str, usize> = BTreeMap::new();
    thumbnails.iter().filter_map(|thumbnail| thumbnail.as_ref().err()).for_each(|why| *reasons.entry(why).or_default() += 1);
    let missing = reasons.into_iter().map(|(why, count)| (count, why)).max();
    let thumbnails = thumbnails.iter().filter(|thumbnail| thumbnail.is_ok()).count();
    Ok(Written { overview, shown: items.len(), thumbnails, missing, bytes: text.len() })
}

/// The folder to write into, if nothing is lost by it: a report can be made again, another file perhaps not.
fn may_write(options: &Options) -> Result<PathBuf> {
    let out = &options.out;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).context(format_args!("cannot make the folder {}", folder.display()))?;
    let cannot_read = |error: std::io::Error| Error::config(format_args!("--out {}: {error}", out.display()));
    match std::fs::metadata(out) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(folder.to_owned()),
        Err(error) => return Err(cannot_read(error)),
        Ok(meta) if !meta.is_file() => {
            return Err(Error::config(format_args!("--out {} is no file; give the name of the report's file", out.display())));
        }
        Ok(_) if options.overwrite => return Ok(folder.to_owned()),
        Ok(_) => {}
    }
    let mut beginning = Vec::new();
    let file = std::fs::File::open(out).map_err(cannot_read)?;
    file.take(page::BEGINNING.len() as u64).read_to_end(&mut beginning).map_err(cannot_read)?;
    if !beginning.is_empty() && beginning != page::BEGINNING.as_bytes() {
        return Err(Error::config(format_args!("{} is there already and is no report; give another name, or --overwrite", out.display())));
    }
    Ok(folder.to_owned())
}
