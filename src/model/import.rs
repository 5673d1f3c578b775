//! A model folder from a state dictionary: no graph is needed where the architecture is known.

use std::path::Path;

use super::load::{LoadOptions, Loaded, load};
use super::new_folder::NewFolder;
use super::onnx::Source;
use super::resnet::ResNet;
use super::state::StateDict;
use super::{digest, labels};
use crate::config::{ModelFile, Outputs, Preprocess};
use crate::{Error, Result};

/// Name of the weights in the folder.
const WEIGHTS: &str = "model.safetensors";

/// What the user says of the weights.
#[derive(Debug, Clone)]
pub struct Import<'a> {
    /// A safetensors file with torchvision's or timm's names.
    pub weights: &'a Path,
    /// The network that they are of.
    pub arch: ResNet,
    /// Names of the classes, one a line; their numbers where not given.
    pub labels: Option<&'a Path>,
    /// The model's name.
    pub name: &'a str,
    /// What it was trained with.
    pub preprocess: &'a Preprocess,
}

/// Writes a model folder to `out`, if the network can be built of the weights and a picture goes through it. The weights are copied as they are.
///
/// # Errors
/// [`Error::Config`] if the weights are of another network or damaged, if the labels are of another number, or if `out` is there and not to be written
/// over.
pub fn import(from: &Import<'_>, out: &Path, force: bool) -> Result<Loaded> {
    let folder = NewFolder::new(out, force, from.weights)?;
    folder.copy(from.weights, Path::new(WEIGHTS))?;
    if let Some(labels) = from.labels {
        // Read before it is copied, so that the error names the user's file.
        labels::read(labels)?;
        folder.copy(labels, Path::new("labels.txt"))?;
    }
    let file = ModelFile {
        version: 1,
        name: from.name.to_owned(),
        graph: None,
        weights: Some(WEIGHTS.into()),
        arch: Some(from.arch.name().to_owned()),
        labels: from.labels.map(|_| "labels.txt".into()),
        preprocess: from.preprocess.clone(),
        outputs: Outputs::default(),
    };
    folder.write(Path::new("model.yaml"), &yaml(&file)?)?;
    let loaded = load(folder.path(), &LoadOptions::default())?;
    folder.keep(from.weights)?;
    Ok(Loaded { folder: out.to_owned(), ..loaded })
}

/// The description as a person would write it: a line a field, JSON (which is YAML) within.
pub(super) fn yaml(file: &ModelFile) -> Result<Vec<u8>> {
    let fields = serde_json::to_value(file).map_err(Error::failed)?;
    let mut text = String::new();
    for name in ["version", "name", "graph", "weights", "arch", "labels", "preprocess"] {
        if let Some(value) = fields.get(name).filter(|value| !value.is_null()) {
            text.push_str(&format!("{name}: {value}\n"));
        }
    }
    Ok(text.into_bytes())
}

/// The graph of the network `arch` with the weights at `path`, for pictures of `side` pixels.
///
/// # Errors
/// [`Error::Config`] naming the file and the parameter that does not fit.
pub(super) fn from_weights(path: &Path, arch: &str, side: usize) -> Result<Source> {
    let known = || <ResNet as clap::ValueEnum>::value_variants().iter().map(|arch| arch.name()).collect::<Vec<_>>().join(", ");
    let arch = ResNet::named(arch).ok_or_else(|| {
        Error::config(format_args!("arch {arch:?} is not built in: {} are; any other network goes in as an ONNX graph", known()))
    })?;
    let wrong = |e: String| Error::config(format_args!("the weights {} are not those of a {}: {e}", path.display(), arch.name()));
    let (mut state, classes) = StateDict::read(path)?.into_resnet().map_err(wrong)?;
    let graph = arch.graph(side, classes, &mut state).and_then(|graph| state.all_used(arch).map(|()| graph)).map_err(wrong)?;
    let (digest, bytes) = digest::of_file(path)?;
    Ok(Source { proto: graph.model(arch.name()), path: path.to_path_buf(), digest, bytes })
}
