//! Small pictures for the sample. The files may come from strangers: they are read within the pipeline's limits and decoded in helper processes, as a
//! worker does it; and a file is shown only if it is the very one that was labelled, by its SHA-256.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::ImageEncoder;
use image::codecs::jpeg::JpegEncoder;
use tokio_util::sync::CancellationToken;

use super::sample::Item;
use super::store::Store;
use crate::config;
use crate::fetch::open_file;
use crate::flow::{Location, Record, SourceRef};
use crate::model::of_bytes;
use crate::parts::in_parts;
use crate::preprocess::Limits;
use crate::reference;
use crate::sandbox::{self, Decoder, Failure, Helper};
use crate::{Error, Result};

/// The short side of a thumbnail in pixels. Of the long side the middle is kept, at most one and a half times as long.
const SIDE: u32 = 128;
const LONG_SIDE: u32 = SIDE * 3 / 2;
/// Quality of the JPEG.
const QUALITY: u8 = 80;
/// Bytes that a helper may allocate.
const HELPER: usize = 1 << 30;

/// Where pictures are looked for.
#[derive(Debug, Clone)]
pub enum Images {
    /// Nowhere.
    None,
    /// Where a record's URI says, if that is a file.
    Uri,
    /// In this folder, by the name that they had in the listing, the bucket or the folder; never outside of it.
    Folder(PathBuf),
    /// In the bucket or on the host that `allow` names, where a record's URI says.
    Store {
        /// What may be fetched, as [`super::place`] reads it.
        allow: config::Allow,
        /// The store, if it is a bucket.
        s3: config::S3,
    },
}

/// A thumbnail, or why there is none.
pub type Thumbnail = std::result::Result<String, &'static str>;

/// Said of what is left out.
pub const NO_ROOM: &str = "left out to keep the report below 25 MB";

/// Said where the digest is not the record's.
pub const ANOTHER: &str = "the file is another one than was labelled";

/// The thumbnails of `items`: JPEG in base64, at most `room` bytes together.
///
/// # Errors
/// That no helper process can be started; that `stop` was cancelled; those of [`Store::new`].
pub fn thumbnails(items: &[Item], images: &Images, mut room: usize, stop: &CancellationToken) -> Result<Vec<Thumbnail>> {
    if let Images::None = images {
        return Ok(vec![Err("made without --images"); items.len()]);
    }
    // Those that stay longest when room is short come first, and no more are made than fit: at the least 1 kB each.
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|n| items[*n].priority);
    let (fetch, decode) = (config::Fetch::default(), config::Decode::default());
    let store = match images {
        Images::Store { allow, s3 } => Some(Store::new(allow.clone(), s3.clone(), stop)?),
        _ => None,
    };
    let shape = config::Preprocess { resize: SIDE, crop: LONG_SIDE, ..config::Preprocess::default() };
    let limits = Limits::new(&fetch, &decode, &shape);
    let made = in_parts(order.len(), |part| {
        let mut decoder = Decoder::new(Helper { program: sandbox::own_program(), memory: HELPER }, &limits);
        let one = |n: usize| match stop.is_cancelled() {
            true => Err(Error::failed("stopped by a signal; nothing was written")),
            false => match &store {
                Some(store) => fetched(&items[order[n]].record, store, &mut decoder),
                None => one(&items[order[n]].record, images, fetch.max_bytes.0, &mut decoder),
            },
        };
        part.map(one).collect::<Result<Vec<_>>>()
    })?;
    let mut thumbnails = vec![Err(NO_ROOM); items.len()];
    for (n, thumbnail) in order.into_iter().zip(made.into_iter().flatten()) {
        let size = thumbnail.as_ref().map_or(0, String::len);
        if size <= room {
            room -= size;
            thumbnails[n] = thumbnail;
        }
    }
    Ok(thumbnails)
}

fn fetched(record: &Record, store: &Store, decoder: &mut Decoder) -> Result<Thumbnail> {
    match store.read(record) {
        Ok(bytes) if of_bytes(&bytes) == record.sha256 => small(&bytes, decoder),
        Ok(_) => Ok(Err(ANOTHER)),
        Err(why) => Ok(Err(why)),
    }
}

fn one(record: &Record, images: &Images, max_bytes: u64, decoder: &mut Decoder) -> Result<Thumbnail> {
    let mut seen = None;
    for (path, root) in candidates(record, images) {
        match read(&path, root.as_deref(), max_bytes) {
            Ok(bytes) if of_bytes(&bytes) == record.sha256 => return small(&bytes, decoder),
            Ok(_) => seen = Some(ANOTHER),
            Err(why) => seen = seen.or(Some(why)),
        }
    }
    Ok(Err(seen.unwrap_or("not a file of this machine; --images=PLACE takes pictures from a folder, a bucket or a host")))
}

fn small(bytes: &[u8], decoder: &mut Decoder) -> Result<Thumbnail> {
    decoder.forget();
    let pixels = match decoder.probe(bytes).and_then(|_| decoder.pixels(bytes)) {
        Ok(pixels) => pixels,
        Err(Failure::Rejected(_)) => return Ok(Err("the file cannot be decoded")),
        Err(Failure::NoHelper(error)) => return Err(error),
    };
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, QUALITY);
    let done = encoder.write_image(&pixels.rgb, pixels.width as u32, pixels.height as u32, image::ExtendedColorType::Rgb8);
    Ok(done.map(|()| STANDARD.encode(jpeg)).map_err(|_| "the thumbnail cannot be written"))
}

/// Where the picture of `record` may be, and the folder that it must not be outside of.
fn candidates(record: &Record, images: &Images) -> Vec<(PathBuf, Option<PathBuf>)> {
    let location = reference::location(&record.uri).ok();
    let folder = match images {
        Images::None | Images::Store { .. } => return Vec::new(),
        Images::Uri => {
            return match location {
                Some(Location::File(path)) => vec![(path, None)],
                _ => Vec::new(),
            };
        }
        Images::Folder(folder) => folder,
    };
    let mut names: Vec<PathBuf> = Vec::new();
    match &location {
        Some(Location::S3 { key, .. }) => names.push(key.into()),
        // What comes after the folder's own path, if it lies there.
        Some(Location::File(path)) => {
            names.extend(folder.canonicalize().ok().and_then(|root| Some(path.strip_prefix(root).ok()?.to_path_buf())))
        }
        _ => {}
    }
    if let SourceRef::Listing { key, .. } = &record.source {
        names.push(key.into());
    }
    // Copied elsewhere: by its name alone. The digest tells whether it is the one.
    let last = match &location {
        Some(Location::File(path)) => path.file_name().map(OsStr::to_owned),
        Some(Location::S3 { key, .. }) => Path::new(key).file_name().map(OsStr::to_owned),
        Some(Location::Http(url)) => url.path_segments().and_then(|mut parts| parts.next_back()).map(|name| name.to_owned().into()),
        None => None,
    };
    names.extend(last.map(PathBuf::from));
    names.retain(|name| name.components().all(|part| matches!(part, std::path::Component::Normal(_))) && name.file_name().is_some());
    names.dedup();
    names.into_iter().map(|name| (folder.join(name), Some(folder.clone()))).collect()
}

fn read(path: &Path, root: Option<&Path>, max_bytes: u64) -> std::result::Result<Vec<u8>, &'static str> {
    let (file, size) = open_file(path, root).map_err(|_| "the file is not there, or may not be read")?;
    if size > max_bytes {
        return Err("the file is too large");
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(max_bytes).read_to_end(&mut bytes).map_err(|_| "the file cannot be read")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn a_name_never_leads_out_of_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.jpg"), b"secret").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.jpg"), root.path().join("direct.jpg")).unwrap();
        std::fs::create_dir(root.path().join("sub")).unwrap();
        std::fs::write(root.path().join("sub/a b.jpg"), b"inside").unwrap();
        let images = Images::Folder(root.path().to_path_buf());
        let up = format!("../{}/secret.jpg", outside.path().file_name().unwrap().to_str().unwrap());
        for key in ["link/secret.jpg", "direct.jpg", &up, "sub/../../x", "/etc/passwd", "", "/", ".", "..", "a\0b"] {
            let mut record = record(0, "a", 0.5);
            record.uri = format!("s3://lake/{key}");
            record.source = SourceRef::Listing { listing: "x".into(), key: key.into() };
            for (path, root) in candidates(&record, &images) {
                assert!(read(&path, root.as_deref(), 1000).is_err(), "{key}: {path:?}");
            }
        }
        let found = |uri: &str| {
            let mut record = record(0, "a", 0.5);
            record.uri = uri.into();
            candidates(&record, &images).into_iter().find_map(|(path, root)| read(&path, root.as_deref(), 1000).ok())
        };
        assert_eq!(found("s3://lake/sub/a b.jpg").unwrap(), b"inside");
        assert_eq!(found(&format!("file://{}/sub/a%20b.jpg", root.path().canonicalize().unwrap().display())).unwrap(), b"inside");
        assert!(found("https://host/sub/a b.jpg").is_none() && found("nonsense").is_none());
    }

    #[test]
    fn a_uri_is_followed_only_where_that_was_asked_for() {
        let mut record = record(0, "a", 0.5);
        record.uri = "file:///a.jpg".into();
        assert_eq!(candidates(&record, &Images::Uri), [(PathBuf::from("/a.jpg"), None)]);
        assert!(candidates(&record, &Images::None).is_empty());
        record.uri = "s3://lake/a.jpg".into();
        assert!(candidates(&record, &Images::Uri).is_empty());
    }
}
