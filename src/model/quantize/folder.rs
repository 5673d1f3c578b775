//! The quantised model's folder: written beside where it will be, and renamed when it is known to be good.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use prost::Message;
use tempfile::TempDir;
use tract_onnx::pb::ModelProto;

use super::super::builder::write_new;
use super::super::load::open;
use super::super::onnx::Source;
use crate::{Context, Error, Result};

/// A folder under a name of its own, which goes away unless it is kept.
pub(super) struct Beside {
    folder: TempDir,
}

/// Refuses an `out` that is there already, unless it is to be written over and holds nothing but another model than the one at `path`.
pub(super) fn free(path: &Path, out: &Path, force: bool) -> Result<()> {
    let Ok(there) = std::fs::symlink_metadata(out) else { return Ok(()) };
    let refuse = |why: &str| Err(Error::config(format_args!("{} {why}", out.display())));
    if !force {
        return refuse("exists; give another folder, or --force to write over it");
    }
    if !there.is_dir() {
        return refuse("is no folder, and is not written over; give another one");
    }
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if whole(path).starts_with(whole(out)) {
        return refuse("is, or holds, the model that is read; give another folder");
    }
    let entries = std::fs::read_dir(out).context(format_args!("reading {}", out.display()))?;
    for entry in entries {
        let entry = entry.context(format_args!("reading {}", out.display()))?;
        let name = PathBuf::from(entry.file_name());
        let of_a_model = name == Path::new("model.yaml") || name.extension().is_some_and(|e| e == "onnx" || e == "txt" || e == "csv");
        if !of_a_model || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            return refuse(&format!("holds more than a model ({}), and is not written over; give another folder", name.display()));
        }
    }
    Ok(())
}

impl Beside {
    /// Makes an empty one where `out` will be: what cannot be written is known before the work.
    pub fn new(out: &Path) -> Result<Self> {
        let beside = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(beside).context(format_args!("creating {}", beside.display()))?;
        let folder = tempfile::Builder::new()
            .prefix(".lakelens-")
            .suffix(".tmp")
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(beside)
            .context(format_args!("creating a folder in {}", beside.display()))?;
        Ok(Self { folder })
    }

    /// Writes `proto` with the description and the labels of the model at `path`, and gives the bytes of the graph.
    pub fn write(&self, path: &Path, source: &Source, proto: &ModelProto) -> Result<u64> {
        let proto = ModelProto { producer_name: "lakelens".into(), producer_version: env!("CARGO_PKG_VERSION").into(), ..proto.clone() };
        let bytes = proto.encode_to_vec();
        let at = |name: &Path| -> Result<PathBuf> {
            let file = self.path().join(name);
            let parent = file.parent().unwrap_or(self.path());
            std::fs::create_dir_all(parent).context(format_args!("creating {}", parent.display()))?;
            Ok(file)
        };
        let opened = open(path)?;
        let graph = opened.file.graph.clone().unwrap_or_else(|| source.path.file_name().unwrap_or_default().into());
        write_new(&at(&graph)?, &bytes)?;
        if let Some(labels) = &opened.file.labels {
            let from = opened.folder.join(labels);
            std::fs::copy(&from, at(labels)?).context(format_args!("copying {}", from.display()))?;
        }
        if path.is_dir() {
            // As it is, with its comments: everything that it says is still so.
            let from = path.join("model.yaml");
            std::fs::copy(&from, at(Path::new("model.yaml"))?).context(format_args!("copying {}", from.display()))?;
        } else {
            let described = serde_json::to_string_pretty(&opened.file).map_err(Error::failed)?;
            write_new(&at(Path::new("model.yaml"))?, described.as_bytes())?;
        }
        Ok(bytes.len() as u64)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Gives the folder its name.
    pub fn keep(self, path: &Path, out: &Path, force: bool) -> Result<()> {
        free(path, out, force)?;
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
