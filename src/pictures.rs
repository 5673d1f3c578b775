//! Pictures of a folder for trying models on: a bounded number of them, drawn at random but the same ones each time.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::listing::is_image_name;
use crate::model::Tensor;
use crate::preprocess::{Limits, Preprocessor, decode, probe};
use crate::{Context, Error, Result, config};

/// Files that can be decoded, in an order that is drawn by a seed.
#[derive(Debug)]
pub struct Pictures {
    files: Vec<PathBuf>,
    stop: CancellationToken,
}

impl Pictures {
    /// Finds the pictures beneath `folder`, by their names as `lakelens label` does, and keeps at most `most` of them. Files that cannot be decoded are
    /// passed over with a warning. `stop` ends the search, and all later work on these pictures.
    ///
    /// # Errors
    /// [`Error::Config`] if the folder cannot be read, or if fewer than `least` pictures are in it; [`Error::Failed`] once it is stopped.
    pub fn find(folder: &Path, seed: u64, (least, most): (usize, usize), stop: &CancellationToken) -> Result<Self> {
        let wrong = |what: String| Error::config(format_args!("--images {}: {what}", folder.display()));
        let mut files = walk(folder).map_err(|e| wrong(format!("{e}; give a folder of pictures")))?;
        // By a digest of the name: the same on every file system, and one more picture does not move the others.
        files.sort_by_cached_key(|file| {
            let name = file.strip_prefix(folder).unwrap_or(file).as_os_str().as_encoded_bytes();
            Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize()
        });
        let limits = limits(&config::Preprocess::default());
        let mut kept = Vec::new();
        for file in files {
            if kept.len() == most {
                break;
            }
            goes_on(stop)?;
            match decoded(&file, &limits) {
                Ok(_) => kept.push(file),
                Err(error) => tracing::warn!("passed over: {error}"),
            }
        }
        if kept.len() < least {
            return Err(wrong(format!(
                "too few pictures that can be decoded: {}, at least {least} needed; give a folder with more",
                kept.len()
            )));
        }
        Ok(Self { files: kept, stop: stop.clone() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The tensors that a model takes: of picture `n` each time it is asked, so that none need be kept.
    pub fn tensors(&self, preprocess: &config::Preprocess) -> impl Fn(usize) -> Result<Tensor> + Sync {
        let limits = limits(preprocess);
        let preprocess = preprocess.clone();
        move |n| {
            goes_on(&self.stop)?;
            Ok(Preprocessor::new(preprocess.clone()).tensor(&decoded(&self.files[n], &limits)?))
        }
    }
}

/// Between two pictures is where a command heeds a signal.
fn goes_on(stop: &CancellationToken) -> Result<()> {
    if stop.is_cancelled() { Err(Error::failed("stopped by a signal; nothing was written")) } else { Ok(()) }
}

fn limits(preprocess: &config::Preprocess) -> Limits {
    Limits::new(&config::Fetch::default(), &config::Decode::default(), preprocess)
}

fn decoded(file: &Path, limits: &Limits) -> Result<crate::preprocess::Decoded> {
    let bytes = std::fs::read(file).context(format_args!("reading {}", file.display()))?;
    let picture = probe(&bytes, limits).and_then(|header| decode(&bytes, &header, limits));
    picture.map_err(|e| Error::failed(format_args!("{}: {e}", file.display())))
}

/// Files beneath `folder` with the name of a picture; links to folders are not followed.
fn walk(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut folders, mut files) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if is_image_name(&entry.path()) && entry.path().is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_pictures_are_counted_without_a_plural() {
        let folder = tempfile::tempdir().unwrap();
        let find = |least| Pictures::find(folder.path(), 0, (least, 10), &CancellationToken::new()).map(|pictures| pictures.len());
        std::fs::write(folder.path().join("broken.png"), "not a picture").unwrap();
        assert!(find(1).unwrap_err().to_string().contains("too few pictures that can be decoded: 0, at least 1 needed"));
        image::RgbImage::new(8, 8).save(folder.path().join("one.png")).unwrap();
        assert_eq!(find(1).unwrap(), 1);
        assert!(find(2).unwrap_err().to_string().contains("too few pictures that can be decoded: 1, at least 2 needed"));
    }
}
