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

/// A folder under a name of its own.
pub(super) struct Written {
    folder: TempDir,
    bytes: u64,
}

/// Refuses an `out` that is there already.
pub(super) fn free(out: &Path, force: bool) -> Result<()> {
    if force || std::fs::symlink_metadata(out).is_err() {
        return Ok(());
    }
    Err(Error::config(format_args!("{} exists; give another folder, or --force to write over it", out.display())))
}

impl Written {
    /// Writes `proto` with the description and the labels of the model at `path`.
    pub fn new(path: &Path, out: &Path, source: &Source, proto: &ModelProto) -> Result<Self> {
        let beside = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(beside).context(format_args!("creating {}", beside.display()))?;
        let folder = tempfile::Builder::new()
            .prefix(".lakelens-")
            .suffix(".tmp")
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(beside)
            .context(format_args!("creating a folder in {}", beside.display()))?;
        let proto = ModelProto { producer_name: "lakelens".into(), producer_version: env!("CARGO_PKG_VERSION").into(), ..proto.clone() };
        let bytes = proto.encode_to_vec();
        let at = |name: &Path| -> Result<PathBuf> {
            let file = folder.path().join(name);
            let parent = file.parent().unwrap_or(folder.path());
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
        Ok(Self { folder, bytes: bytes.len() as u64 })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Bytes of the graph.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the folder its name.
    pub fn keep(self, out: &Path, force: bool) -> Result<()> {
        free(out, force)?;
        let doing = || format!("writing {}", out.display());
        if out.is_dir() {
            // An old one goes out of the way first, and is deleted when the new one is in its place.
            let old = tempfile::Builder::new()
                .prefix(".lakelens-")
                .suffix(".old")
                .tempdir_in(out.parent().unwrap_or(Path::new(".")))
                .context(doing())?;
            std::fs::rename(out, old.path().join("old")).context(doing())?;
            std::fs::rename(self.folder.keep(), out).context(doing())?;
            return old.close().context(doing());
        }
        std::fs::rename(self.folder.keep(), out).context(doing())
    }
}
