//! Reading a model folder or a bare graph, and the check before the first image.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::engine::{self, WithEngine};
use super::heads::{self, Heads};
use super::onnx::{Source, inside};
use super::tract::{Finish, TractModel};
use super::{Model, ModelInfo, Tensor, bare, compile, digest, import, labels};
use crate::config::{Activation, Decode, ModelFile, Normalize, Output, Outputs, Precision, Preprocess};
use crate::error::panic_text;
use crate::{Error, Result};

/// What the user asks of the network.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Arithmetic.
    pub precision: Precision,
    /// Labels an image; 0 = none.
    pub top_k: usize,
    /// Labels below this score are left out.
    pub min_score: f32,
    /// Scaling of the embedding.
    pub normalize: Normalize,
    /// Whether predictions carry the embedding. If not, they carry an empty one, and a graph in which none is found loads all the same.
    pub want_embedding: bool,
    /// Whether pictures are turned as EXIF says, which makes another space of it.
    pub exif: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { precision: Precision::F32, top_k: 5, min_score: 0.0, normalize: Normalize::None, want_embedding: true, exif: false }
    }
}

/// A network that is ready to run.
#[derive(Clone)]
pub struct Loaded {
    /// The network.
    pub model: Arc<dyn Model>,
    /// Its description with everything filled in that was found in the graph: outputs, activation.
    pub file: ModelFile,
    /// What it came from: a folder, or a bare graph.
    pub path: PathBuf,
    /// `sha256` over graph, external data and weights, 64 hex digits.
    pub digest: String,
    /// The name of each class; its index as text where the model has no labels.
    pub labels: Arc<[Arc<str>]>,
}

impl LoadOptions {
    /// What `output` asks for, of pictures that `decode` has read.
    pub fn of(precision: Precision, output: &Output, decode: &Decode) -> Self {
        Self {
            precision,
            top_k: output.top_k,
            min_score: output.min_score,
            normalize: output.normalize,
            want_embedding: output.embeddings,
            exif: decode.exif,
        }
    }
}

impl Loaded {
    /// What it is.
    pub fn info(&self) -> &super::ModelInfo {
        self.model.info()
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("info", self.model.info()).field("file", &self.file).finish_non_exhaustive()
    }
}

/// Loads the model at `path`, a folder with `model.yaml` or an `.onnx` file, and runs one picture through it.
///
/// # Errors
/// [`Error::Config`] for everything that another choice of model, labels or settings would mend: an unreadable description, a path that leaves
/// the folder, a graph that tract cannot run, a labels file of another length than the logits, an output that is not finite, a precision
/// that this build, processor or model does not have. [`Error::Failed`] where reading a file failed.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded> {
    engine::options(options.precision)?;
    let mut found = open(path)?;
    let (file, digest, named) = (found.file.clone(), found.source.digest.clone(), found.labels.is_some());
    // A hostile or damaged graph can make tract panic; that is the model's fault and stops only the loading of it.
    let built = catch_unwind(AssertUnwindSafe(|| build(&mut found, options)));
    let model = built
        .unwrap_or_else(|p| Err(Error::config(format_args!("{}: tract panicked: {}", found.source.path.display(), panic_text(&*p)))))?;
    check(&model, &file.preprocess, &found.source.path)?;
    if path.is_file() {
        bare::tell(path, &file, named);
    }
    Ok(Loaded { labels: model.labels(), model: Arc::new(model), file, path: path.to_path_buf(), digest })
}

/// A model that was read but not compiled.
pub(super) struct Opened {
    /// The description, filled in.
    pub file: ModelFile,
    /// Where it lies.
    pub folder: PathBuf,
    /// Its graph.
    pub source: Source,
    /// Logits and embedding.
    pub heads: Heads,
    /// Names of the classes, if there are any, and what they came from.
    pub labels: Option<(String, Vec<String>)>,
}

impl Opened {
    /// The name that the embedding has in the digest of the space: the tensor and the way from it to one vector.
    pub fn embedding_name(&self) -> String {
        let Some(embedding) = &self.heads.embedding else { return "none".into() };
        let way = embedding.positions.iter().map(|n| n.op_type.as_str());
        std::iter::once(embedding.tensor.as_str()).chain(way).collect::<Vec<_>>().join(" > ")
    }

    /// What records say of it.
    pub fn info(&self, compiled: &compile::Compiled, options: &LoadOptions) -> ModelInfo {
        let &LoadOptions { precision, normalize, exif, .. } = options;
        let preprocess = digest::preprocess_digest(&self.file.preprocess, exif);
        let crop = self.file.preprocess.crop as usize;
        let weights = &self.source.digest;
        ModelInfo {
            id: format!("{}@sha256:{}", self.file.name, digest::short(weights)).into(),
            space: digest::space(weights, &preprocess, &self.embedding_name(), precision.name(), normalize.name()).into(),
            preprocess: preprocess.into(),
            precision: precision.name().into(),
            normalize: normalize.name().into(),
            classes: compiled.classes,
            embedding_dim: compiled.embedding_dim,
            input: [3, crop, crop],
        }
    }
}

/// Reads the description, the graph and the labels, and finds the heads.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let meta = std::fs::metadata(path)
        .map_err(|e| Error::config(format_args!("model {}: {e}; give a folder with model.yaml, or an .onnx file", path.display())))?;
    if !meta.is_dir() && !meta.is_file() {
        return Err(Error::config(format_args!("model {}: neither a folder nor a file", path.display())));
    }
    let (mut file, folder, source) = if meta.is_dir() { described(path)? } else { bare::read(path)? };
    let labels = match &file.labels {
        Some(name) => {
            let of = in_folder(&folder, name, "labels")?;
            Some((of.display().to_string(), labels::read(&of)?))
        }
        None => source.labels().map(|l| (format!("the metadata of {}", source.path.display()), l)),
    };
    let heads = heads::find(source.graph(), &file.outputs, labels.as_ref().map(|(_, l)| l.len()))
        .map_err(|e| Error::config(format_args!("{}: {e}", source.path.display())))?;
    let activation = match (file.outputs.activation, heads.ends_in) {
        // Probabilities are not put through a second activation.
        (None, Some(_)) => Activation::None,
        (Some(asked), Some(has)) if asked == has => Activation::None,
        (Some(asked), _) => asked,
        (None, None) => Activation::Softmax,
    };
    file.outputs = Outputs {
        logits: Some(heads.logits.clone()),
        embedding: heads.embedding.as_ref().map(|e| e.tensor.clone()),
        activation: Some(activation),
    };
    Ok(Opened { file, folder, source, heads, labels })
}

fn described(folder: &Path) -> Result<(ModelFile, PathBuf, Source)> {
    let path = folder.join("model.yaml");
    let file = super::model_file::read_model_file(&path)?;
    let source = match (&file.graph, &file.weights, &file.arch) {
        (Some(graph), None, None) => Source::read(&in_folder(folder, graph, "graph")?, folder)?,
        (None, Some(weights), Some(arch)) => {
            import::from_weights(&in_folder(folder, weights, "weights")?, arch, file.preprocess.crop as usize)?
        }
        _ => return Err(Error::config(format_args!("{}: name `graph`, or `weights` and `arch`", path.display()))),
    };
    Ok((file, folder.to_path_buf(), source))
}

fn in_folder(folder: &Path, name: &Path, field: &str) -> Result<PathBuf> {
    inside(folder, name)
        .map_err(|e| Error::config(format_args!("{}: {field}: {}: {e}", folder.join("model.yaml").display(), name.display())))
}

fn build(found: &mut Opened, options: &LoadOptions) -> Result<TractModel> {
    let crop = found.file.preprocess.crop as usize;
    let mut compiled = compile::compile(&mut found.source, &found.heads, options.want_embedding, crop)?;
    let id = format!("{}@sha256:{}", found.file.name, digest::short(&found.source.digest));
    let WithEngine { model, precision, .. } = engine::with_engine(compiled.model, &id, options.precision)?;
    compiled.model = model;
    let info = found.info(&compiled, &LoadOptions { precision, ..options.clone() });
    let (of, names) = found.labels.take().map_or((String::new(), None), |(of, names)| (of, Some(names)));
    let finish = Finish {
        activation: found.file.outputs.activation.unwrap_or(Activation::Softmax),
        normalize: options.normalize,
        top_k: options.top_k,
        min_score: options.min_score,
        labels: labels::for_classes(names, info.classes, &of, &found.source.path)?,
    };
    // tract has its own copy of the weights by now.
    found.source.proto = Default::default();
    let path = &found.source.path;
    TractModel::new(compiled, info, finish)
        .map_err(|e| Error::config(format_args!("{}: tract cannot optimise this graph: {e:#}", path.display())))
}

/// Runs one picture: better no start than a million rejections.
fn check(model: &TractModel, preprocess: &Preprocess, graph: &Path) -> Result<()> {
    model.predict_one(&check_picture(preprocess)).map(drop).map_err(|e| {
        Error::config(format_args!(
            "{} fails on an ordinary picture: {e}; the file is damaged or its preprocessing is wrong",
            graph.display()
        ))
    })
}

/// A colour gradient, preprocessed.
pub(super) fn check_picture(preprocess: &Preprocess) -> Tensor {
    let side = preprocess.crop as usize;
    Tensor::from_shape_fn((3, side, side), |(channel, y, x)| {
        let level = (64 + 61 * channel + (x + 2 * y) * 100 / side) as f32 % 256.0;
        (level / preprocess.scale - preprocess.mean[channel]) / preprocess.std[channel]
    })
}
