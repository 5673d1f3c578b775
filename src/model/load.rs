//! From a model folder, or a bare `.onnx` file, to a model that has shown that it runs.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use sha2::{Digest, Sha256};
use tract_onnx::pb::ModelProto;

use super::graph::Anatomy;
use super::tract::{self, TractModel};
use super::{Model, ModelInfo, Tensor};
use crate::config::{self, Activation, ModelFile, Normalize, Output, Outputs, Precision, Preprocess};
use crate::preprocess;
use crate::{Context, Error, Result};

/// What the user wants of a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Arithmetic.
    pub precision: Precision,
    /// Labels a prediction.
    pub top_k: usize,
    /// Least score of a label.
    pub min_score: f32,
    /// Scaling of the embedding.
    pub normalize: Normalize,
}

impl LoadOptions {
    /// What `output` asks for.
    pub fn new(precision: Precision, output: &Output) -> Self {
        Self { precision, top_k: output.top_k, min_score: output.min_score, normalize: output.normalize }
    }
}

/// A loaded model and what its folder says of it.
pub struct Loaded {
    /// The model.
    pub model: Arc<dyn Model>,
    /// Name, preprocessing, outputs.
    pub file: ModelFile,
    /// How its parts were found.
    pub anatomy: Anatomy,
}

impl Loaded {
    /// What it is.
    pub fn info(&self) -> &ModelInfo {
        self.model.info()
    }
}

/// A model's files, read and checked against each other, before anything is compiled.
pub struct Files {
    /// `model.yaml`, or what stands in for it.
    pub file: ModelFile,
    /// The folder that all paths are relative to.
    pub folder: PathBuf,
    /// The graph's own path.
    pub graph: PathBuf,
    /// The graph.
    pub proto: ModelProto,
    /// Label names; may be empty.
    pub names: Vec<Arc<str>>,
    /// SHA-256 over graph and external data, in hex.
    pub digest: String,
    /// Bytes of graph and external data.
    pub bytes: u64,
}

/// Loads and tries a model: one image runs, everything is finite and of the right size, and the labels fit the logits.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded> {
    if options.precision != Precision::F32 {
        return Err(Error::config(format!(
            "precision {} needs the engine, which is not in this build; use f32",
            options.precision.name()
        )));
    }
    let Files { file, folder, proto, names, digest, .. } = read(path)?;
    let graph = proto.graph.as_ref().ok_or_else(|| Error::config(format!("{} has no graph", path.display())))?;
    let anatomy = Anatomy::find(graph, &file.outputs).map_err(|e| Error::config(format!("{}: {e}", path.display())))?;
    let side = file.preprocess.crop as usize;
    for (what, wanted) in [("height", anatomy.shape[1]), ("width", anatomy.shape[2])] {
        if wanted != 0 && wanted != side {
            return Err(Error::config(format!(
                "{}: the graph takes images of {what} {wanted}, preprocess.crop gives {side}; set `crop: {wanted}` (and `resize`) in model.yaml",
                path.display()
            )));
        }
    }
    let input = [3, side, side];
    let plan = tract::plan(proto, &folder, &anatomy, input).map_err(|e| Error::config(format!("{}: {e}", path.display())))?;

    // A picture that is neither flat nor symmetric, in the range that normalised pixels have.
    let count = input.iter().product::<usize>();
    let values = (0..count).map(|i| ((i as f32) * 0.37).sin() * 1.5).collect();
    let (logits, embedding) = tract::run(&plan, &Tensor { values, shape: input })
        .map_err(|e| Error::config(format!("{}: the model does not run: {e}", path.display())))?;
    if logits.iter().chain(&embedding).any(|v| !v.is_finite()) {
        return Err(Error::config(format!("{}: the model's outputs are not finite for an ordinary picture", path.display())));
    }
    if logits.is_empty() || embedding.is_empty() {
        return Err(Error::config(format!("{}: the model has an empty output", path.display())));
    }
    if !names.is_empty() && names.len() != logits.len() {
        let labels = file.labels.as_deref().unwrap_or(Path::new("the graph's metadata")).display();
        return Err(Error::config(format!(
            "{}: {labels} has {} labels, the graph has {} logits; give the list that the network was trained with",
            path.display(),
            names.len(),
            logits.len()
        )));
    }

    let preprocess = preprocess::digest(&file.preprocess);
    let mut space = Sha256::new();
    for part in [&digest, &preprocess, &anatomy.embedding, options.precision.name(), options.normalize.name()] {
        space.update(part);
        space.update([0]);
    }
    let info = ModelInfo {
        id: format!("{}@sha256:{}", file.name, short(&digest)).into(),
        space: short(&hex(&space.finalize())).into(),
        preprocess: format!("sha256:{}", short(&preprocess)).into(),
        precision: options.precision.name().into(),
        normalize: options.normalize.name().into(),
        classes: logits.len(),
        embedding_dim: embedding.len(),
        input,
    };
    let activation = match (file.outputs.activation, anatomy.own_activation) {
        (_, Some(_)) => Activation::None,
        (wanted, None) => wanted.unwrap_or(Activation::Softmax),
    };
    let model = Arc::new(TractModel::new(plan, info, names, activation, options.clone()));
    Ok(Loaded { model, file, anatomy })
}

/// Reads a model folder or a bare `.onnx` file.
pub fn read(path: &Path) -> Result<Files> {
    let meta = fs::metadata(path).map_err(|e| Error::config(format!("model {}: {e}", path.display())))?;
    let (folder, file) = if meta.is_dir() {
        let yaml = path.join("model.yaml");
        (path.to_owned(), config::load_model(&yaml).map_err(Error::config)?)
    } else {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let stem = path.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
        (folder.to_owned(), bare(stem, path))
    };
    let Some(graph) = file.graph.as_deref() else {
        return Err(Error::config(format!(
            "{}: only models with a `graph:` can be loaded by this build",
            path.display()
        )));
    };
    let graph = inside(&folder, graph)?;
    let bytes = fs::read(&graph).map_err(|e| Error::config(format!("model {}: {e}", graph.display())))?;
    let proto = ModelProto::decode(bytes.as_slice())
        .map_err(|e| Error::config(format!("{} is not an ONNX file: {e}", graph.display())))?;
    let mut hash = Sha256::new();
    hash.update(&bytes);
    let mut size = bytes.len() as u64;
    drop(bytes);
    for location in external_data(&proto) {
        size += hash_file(&inside(&folder, Path::new(&location))?, &mut hash)?;
    }
    let names = match &file.labels {
        Some(labels) => {
            let labels = inside(&folder, labels)?;
            let text = fs::read_to_string(&labels).map_err(|e| Error::config(format!("labels {}: {e}", labels.display())))?;
            text.lines().map(|line| Arc::from(line.trim_end())).collect()
        }
        None => names_in_metadata(&proto),
    };
    Ok(Files { file, folder, graph, proto, names, digest: hex(&hash.finalize()), bytes: size })
}

/// What stands in for `model.yaml` where there is none: ResNet-50's preprocessing.
fn bare(name: String, path: &Path) -> ModelFile {
    ModelFile {
        version: 1,
        name,
        graph: path.file_name().map(PathBuf::from),
        weights: None,
        arch: None,
        labels: None,
        preprocess: Preprocess::default(),
        outputs: Outputs::default(),
    }
}

/// `path` below `folder`, and nowhere else, symbolic links included: a model folder may come from a stranger.
fn inside(folder: &Path, path: &Path) -> Result<PathBuf> {
    let outside = || Error::config(format!("model: the path {} leads out of {}", path.display(), folder.display()));
    if path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(outside());
    }
    let full = folder.join(path);
    let real = fs::canonicalize(&full).map_err(|e| Error::config(format!("model: {}: {e}", full.display())))?;
    let root = fs::canonicalize(folder).map_err(|e| Error::config(format!("model: {}: {e}", folder.display())))?;
    if real.starts_with(&root) { Ok(full) } else { Err(outside()) }
}

/// Files besides the graph that hold weights, in a fixed order.
fn external_data(proto: &ModelProto) -> BTreeSet<String> {
    let tensors = proto.graph.iter().flat_map(|g| &g.initializer);
    tensors.flat_map(|t| &t.external_data).filter(|e| e.key == "location").map(|e| e.value.clone()).collect()
}

fn hash_file(path: &Path, hash: &mut Sha256) -> Result<u64> {
    let what = || format!("model: cannot read {}", path.display());
    let mut file = fs::File::open(path).context(what())?;
    let (mut buffer, mut total) = (vec![0; 1 << 16], 0);
    loop {
        match file.read(&mut buffer).context(what())? {
            0 => return Ok(total),
            n => {
                hash.update(&buffer[..n]);
                total += n as u64;
            }
        }
    }
}

/// Label names that exporters leave in the metadata: a JSON array, or a map from index to name, under `labels`, `classes`, `names` or `id2label`.
fn names_in_metadata(proto: &ModelProto) -> Vec<Arc<str>> {
    let known = ["labels", "classes", "names", "id2label"];
    let value = proto.metadata_props.iter().find(|p| known.contains(&p.key.as_str())).map(|p| p.value.as_str());
    let Some(value) = value else { return Vec::new() };
    if let Ok(list) = serde_json::from_str::<Vec<String>>(value) {
        return list.into_iter().map(Arc::from).collect();
    }
    let Ok(map) = serde_json::from_str::<std::collections::BTreeMap<usize, String>>(value) else { return Vec::new() };
    let dense = map.keys().copied().eq(0..map.len());
    if dense { map.into_values().map(Arc::from).collect() } else { Vec::new() }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The first twelve digits of a digest, which is what records carry.
pub fn short(digest: &str) -> &str {
    &digest[..digest.len().min(12)]
}
