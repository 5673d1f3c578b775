//! A model folder for an ONNX graph that lies somewhere else.

use std::path::{Path, PathBuf};

use super::import::yaml;
use super::load::{LoadOptions, Loaded, load};
use super::new_folder::NewFolder;
use crate::Result;
use crate::config::{ModelFile, Outputs, Preprocess};

/// Name of the graph in the folder. External data is found by the names that the graph has for it.
const GRAPH: &str = "model.onnx";

/// A graph, and what is known of it.
#[derive(Debug, Clone)]
pub struct Adopt<'a> {
    /// The ONNX file.
    pub graph: &'a Path,
    /// Its external data: names beside the graph, and where they are now.
    pub beside: &'a [(String, PathBuf)],
    /// Names of the classes, one a line; those in the graph where not given.
    pub labels: Option<&'a Path>,
    /// The model's name.
    pub name: &'a str,
    /// How pictures are prepared.
    pub preprocess: &'a Preprocess,
}

/// Writes a model folder to `out`, if the graph can be run and a picture goes through it.
///
/// # Errors
/// As of [`load`], and [`crate::Error::Config`] if `out` is there and not to be written over.
pub fn adopt(from: &Adopt<'_>, out: &Path, force: bool) -> Result<Loaded> {
    let folder = NewFolder::new(out, force, from.graph)?;
    folder.copy(from.graph, Path::new(GRAPH))?;
    for (name, path) in from.beside {
        folder.copy(path, Path::new(name))?;
    }
    if let Some(labels) = from.labels {
        folder.copy(labels, Path::new("labels.txt"))?;
    }
    let file = ModelFile {
        version: 1,
        name: from.name.to_owned(),
        graph: Some(GRAPH.into()),
        weights: None,
        arch: None,
        labels: from.labels.map(|_| "labels.txt".into()),
        preprocess: from.preprocess.clone(),
        outputs: Outputs::default(),
    };
    folder.write(Path::new("model.yaml"), &yaml(&file)?)?;
    let loaded = load(folder.path(), &LoadOptions::default())?;
    folder.keep(from.graph)?;
    Ok(Loaded { path: out.to_owned(), ..loaded })
}
