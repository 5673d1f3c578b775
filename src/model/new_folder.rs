//! A model's folder that is made anew: written beside where it will be, and renamed when it is known to be good.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::builder::write_new;
use crate::{Context, Error, Result};

/// A folder under a name of its own, which goes away unless it is kept.
pub(super) struct NewFolder {
    folder: TempDir,
    out: PathBuf,
    force: bool,
}

impl NewFolder {
    /// Makes an empty one where `out` will be: what cannot be written is known before the work.
    ///
    /// # Errors
    /// [`Error::Config`] if `out` is there already, unless it is to be written over and holds nothing but another model than the one at `read`.
    pub fn new(out: &Path, force: bool, read: &Path) -> Result<Self> {
        free(out, force, read)?;
        let beside = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(beside).context(format_args!("creating {}", beside.display()))?;
        let folder = tempfile::Builder::new()
            .prefix(".lakelens-")
            .suffix(".tmp")
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(beside)
            .context(format_args!("creating a folder in {}", beside.display()))?;
        Ok(Self { folder, out: out.to_owned(), force })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the file `name` goes, which may lie in a folder within this one.
    pub fn at(&self, name: &Path) -> Result<PathBuf> {
        let file = self.path().join(name);
        let parent = file.parent().unwrap_or(self.path());
        std::fs::create_dir_all(parent).context(format_args!("creating {}", parent.display()))?;
        Ok(file)
    }

    pub fn write(&self, name: &Path, bytes: &[u8]) -> Result<()> {
        write_new(&self.at(name)?, bytes)
    }

    pub fn copy(&self, from: &Path, name: &Path) -> Result<()> {
        std::fs::copy(from, self.at(name)?).map(drop).context(format_args!("copying {}", from.display()))
    }

    /// Gives the folder its name. The model at `read` was read until now.
    pub fn keep(self, read: &Path) -> Result<()> {
        let out = &self.out;
        free(out, self.force, read)?;
        let doing = || format!("writing {}", out.display());
        if out.is_dir() {
            // An old one goes out of the way first, and is deleted when the new one is in its place.
            let old = tempfile::Builder::new()
                .prefix(".lakelens-")
                .suffix(".old")
                .tempdir_in(out.parent().unwrap_or(Path::new(".")))
                .context(doing())?;
            let aside = old.path().join("old");
            std::fs::rename(out, &aside).context(doing())?;
            let done = std::fs::rename(self.path(), out).context(doing());
            if done.is_err() {
                std::fs::rename(&aside, out).context(doing())?;
            }
            return done.and_then(|()| old.close().context(doing()));
        }
        std::fs::rename(self.path(), out).context(doing())
    }
}

fn free(out: &Path, force: bool, read: &Path) -> Result<()> {
    let Ok(there) = std::fs::symlink_metadata(out) else { return Ok(()) };
    let refuse = |why: &str| Err(Error::config(format_args!("{} {why}", out.display())));
    if !force {
        return refuse("exists; give another folder, or --force to write over it");
    }
    if !there.is_dir() {
        return refuse("is no folder, and is not written over; give another one");
    }
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if whole(read).starts_with(whole(out)) {
        return refuse("is, or holds, the model that is read; give another folder");
    }
    let entries = std::fs::read_dir(out).context(format_args!("reading {}", out.display()))?;
    for entry in entries {
        let entry = entry.context(format_args!("reading {}", out.display()))?;
        let name = PathBuf::from(entry.file_name());
        let of_a_model = name == Path::new("model.yaml")
            || name.extension().is_some_and(|e| e == "onnx" || e == "safetensors" || e == "txt" || e == "csv");
        if !of_a_model || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            return refuse(&format!("holds more than a model ({}), and is not written over; give another folder", name.display()));
        }
    }
    Ok(())
}
