//! Models from elsewhere: `lakelens model pull`.
//!
//! `source.rs` reads what the user typed, `known.rs` is the table of names, `client.rs` speaks to the hub and `cache.rs` keeps what it sent,
//! `download.rs` brings one file, and `describe.rs` reads what a repository says of its model. At the end a model folder is
//! built beside where it will be, loaded once, and only then takes the place of what was there.

mod cache;
mod client;
mod describe;
mod download;
mod known;
mod progress;
mod source;

pub use client::Settings;
pub use known::{IMAGENET, Known, LICENCE, TORCHVISION, all as known_models};
pub use source::{Source, is_loopback};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use url::Url;

use client::{Hub, Listed, Revision};
use describe::Description;
use download::Want;
use progress::Bar;

use crate::config::Preprocess;
use crate::model::{Adopt, Import, Loaded, ResNet, adopt, import, is_graph};
use crate::telemetry::escape;
use crate::{Context, Error, Result};

/// Files that are graphs, in the order in which they are looked for.
const GRAPHS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];
/// Files that are weights, in the same order. The last is a pickle, which is read as [`crate::model::torch`] does.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// What the user says beside the source. What is given here goes before what the source says.
pub struct Ask {
    /// The folder to write.
    pub out: PathBuf,
    /// Whether a model that is there is written over.
    pub force: bool,
    /// The network, for weights that come without a description.
    pub arch: Option<ResNet>,
    /// Names of the classes.
    pub labels: Option<Vec<String>>,
    /// How pictures are prepared.
    pub preprocess: Option<Preprocess>,
    /// Where torchvision's files are; [`TORCHVISION`], or a mirror of it.
    pub torchvision: Url,
    /// No progress.
    pub quiet: bool,
}

/// What was made.
pub struct Pulled {
    /// The model, as it was loaded.
    pub loaded: Loaded,
    /// What it was made of, for people: repository, commit and file, or address.
    pub from: String,
    /// Where the names of the classes are from.
    pub labels_from: String,
    /// Where the preprocessing is from.
    pub preprocess_from: String,
}

/// What was brought, and what is known of it.
struct Brought {
    file: PathBuf,
    /// Files that a graph needs beside it, by their names.
    beside: Vec<(String, PathBuf)>,
    /// What the user knows it by.
    name: String,
    arch: Result<ResNet, String>,
    labels: Option<(Vec<String>, String)>,
    preprocess: (Preprocess, String),
}

/// Brings the model at `source`, and writes it as a model folder.
///
/// # Errors
/// [`Error::Config`] for everything that typing something else would mend; [`Error::Failed`] if a server is away or refuses, or sends other bytes than
/// it should. The folder at `ask.out` stays as it was.
pub async fn pull(source: &Source, ask: &Ask, settings: Settings) -> Result<Pulled> {
    if !ask.force && ask.out.symlink_metadata().is_ok() {
        return Err(Error::config(format_args!(
            "{} exists; give another folder with --out, or --force to write over it",
            ask.out.display()
        )));
    }
    let parent = ask.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).context(format_args!("creating {}", parent.display()))?;
    let (brought, partial) = match source {
        Source::Hub(repo) => (from_hub(Hub::new(settings, repo.clone(), ask.quiet)?, repo.file.as_deref(), &repo.id(), ask).await?, None),
        Source::Known(known) => {
            let url = ask.torchvision.join(known.file).map_err(|e| Error::config(format_args!("{}: {e}", ask.torchvision)))?;
            let most = ((known.mebibytes + 1.0) * 1_048_576.0) as u64;
            let want = Want { sha256: Some(known.sha256_prefix().to_owned()), size: None, most };
            let file = from_url(&url, parent, known.file, &want, &settings, ask.quiet).await?;
            let labels = (IMAGENET.lines().map(str::to_owned).collect(), "torchvision's ImageNet-1k".to_owned());
            let brought = Brought {
                file: file.clone(),
                beside: Vec::new(),
                name: known.file.to_owned(),
                arch: named(known.arch),
                labels: Some(labels),
                preprocess: (known.preprocess(), format!("torchvision's {}", known.weights)),
            };
            (brought, Some(file))
        }
        Source::Url(at) => {
            let want = Want { sha256: Some(at.sha256.clone()), ..Want::default() };
            let name = escape(&at.name());
            let file = from_url(&at.url, parent, &name, &want, &settings, ask.quiet).await?;
            let brought = Brought {
                file: file.clone(),
                beside: Vec::new(),
                arch: Err("a single file does not say which network its weights are of".into()),
                name,
                labels: None,
                preprocess: (Preprocess::default(), "ResNet-50's, since a single file says nothing of it".into()),
            };
            (brought, Some(file))
        }
    };
    let from = brought.name.clone();
    let labels_from =
        if ask.labels.is_some() { "--labels".into() } else { brought.labels.as_ref().map_or("none".into(), |(_, from)| from.clone()) };
    let preprocess_from = if ask.preprocess.is_some() { "the command line".into() } else { brought.preprocess.1.clone() };
    let loaded = tokio::task::block_in_place(|| write(brought, &source.name(), parent, ask));
    if let Some(partial) = partial {
        let _ = std::fs::remove_file(partial);
    }
    Ok(Pulled { loaded: loaded?, from, labels_from, preprocess_from })
}

/// Brings one file to a hidden name beside the folder, where the next try finds what came of it.
async fn from_url(url: &Url, parent: &Path, name: &str, want: &Want, settings: &Settings, quiet: bool) -> Result<PathBuf> {
    if settings.offline {
        return Err(Error::failed(format_args!("{name} is to be downloaded, and HF_HUB_OFFLINE is set")));
    }
    let key: String = want.sha256.as_deref().unwrap_or_default().chars().take(16).collect();
    let partial = parent.join(format!(".lakelens-pull-{key}.part"));
    let bar = Bar::start(name, want.size, quiet);
    download::download(&download::client(true)?, url, None, &partial, want, name, &bar).await?;
    Ok(partial)
}

async fn from_hub(hub: Hub, file: Option<&str>, id: &str, ask: &Ask) -> Result<Brought> {
    let revision = hub.revision().await?;
    let described = async |path: &str| -> Result<Option<Vec<u8>>> {
        if !revision.files.contains_key(path) {
            return Ok(None);
        }
        let file = hub.file(&revision, path).await?;
        let length = std::fs::metadata(&file).context(format_args!("opening {path}"))?.len();
        if length > 16 << 20 {
            return Err(Error::failed(format_args!("{id}:{path} has {length} bytes, which no description has")));
        }
        std::fs::read(&file).map(Some).context(format_args!("reading {path}"))
    };
    let (config, preprocessor) = (described("config.json").await?, described("preprocessor_config.json").await?);
    let said = describe::describe(config.as_deref(), preprocessor.as_deref()).map_err(|e| Error::config(format_args!("{id}: {e}")))?;
    let path = match file {
        Some(path) if revision.files.contains_key(path) => path.to_owned(),
        Some(path) => return Err(Error::config(format_args!("{id} has no file {}; {}", escape(path), offer(id, &revision.files)))),
        None => choose(id, &revision, &said, ask)?,
    };
    // Before the large file comes, what would make it useless.
    let preprocess = match (&ask.preprocess, said.preprocess) {
        (Some(asked), _) => (asked.clone(), String::new()),
        (None, Some(Ok(preprocess))) => {
            (preprocess, if preprocessor.is_some() { "preprocessor_config.json" } else { "pretrained_cfg in config.json" }.to_owned())
        }
        (None, Some(Err(e))) => {
            return Err(Error::config(format_args!(
                "{id}: {e}: say with --resize, --crop, --interpolation, --mean and --std how its pictures are prepared"
            )));
        }
        (None, None) => {
            return Err(Error::config(format_args!(
                "{id} does not say how its pictures are prepared (no preprocessor_config.json, and no pretrained_cfg in config.json): say it with --resize, \
                 --crop, --interpolation, --mean and --std"
            )));
        }
    };
    let mut beside = Vec::new();
    for other in [format!("{path}_data"), format!("{path}.data")] {
        if path.ends_with(".onnx") && revision.files.contains_key(&other) {
            let name = other.rsplit('/').next().unwrap_or_default().to_owned();
            beside.push((name, hub.file(&revision, &other).await?));
        }
    }
    Ok(Brought {
        file: hub.file(&revision, &path).await?,
        beside,
        name: format!("hf:{id}@{}:{}", revision.commit, escape(&path)),
        arch: said.arch.and_then(named),
        labels: said.labels.map(|(names, from)| (names, from.to_owned())),
        preprocess,
    })
}

/// The file to take where the user names none.
fn choose(id: &str, revision: &Revision, said: &Description, ask: &Ask) -> Result<String> {
    let has = |name: &&&str| revision.files.contains_key(**name);
    let arch = if ask.arch.is_some() { &Ok("") } else { &said.arch };
    let weights = WEIGHTS.iter().find(has).filter(|_| arch.is_ok());
    let safe = weights.filter(|name| **name == WEIGHTS[0]);
    let mut graphs = revision.files.keys().filter(|path| path.ends_with(".onnx"));
    let single = match (graphs.next(), graphs.next()) {
        (Some(only), None) => Some(only.as_str()),
        _ => None,
    };
    let chosen = safe.copied().or_else(|| GRAPHS.iter().find(has).copied()).or(single).or(weights.copied());
    let Some(chosen) = chosen else {
        let why = match arch {
            Err(why) if WEIGHTS.iter().any(|name| revision.files.contains_key(*name)) => format!("its weights cannot be used: {why}; "),
            _ => String::new(),
        };
        return Err(Error::config(format_args!("{id}: {why}{}", offer(id, &revision.files))));
    };
    Ok(chosen.to_owned())
}

/// The files that may be models, as the user types them.
fn offer(id: &str, files: &BTreeMap<String, Listed>) -> String {
    let ends = [".onnx", ".safetensors", ".pth", ".pt", ".bin"];
    let models: Vec<&String> = files.keys().filter(|path| ends.iter().any(|end| path.ends_with(end))).take(10).collect();
    if models.is_empty() {
        return "it has no ONNX graph and no weights; export the model as ONNX, and name that file".into();
    }
    let list: Vec<String> = models.iter().map(|path| format!("hf:{id}:{}", escape(path))).collect();
    format!("it has {}", list.join(", "))
}

fn named(arch: &str) -> Result<ResNet, String> {
    ResNet::named(arch).ok_or_else(|| format!("{arch} is not built in"))
}

/// Writes the folder.
fn write(brought: Brought, name: &str, parent: &Path, ask: &Ask) -> Result<Loaded> {
    let folder = tempfile::Builder::new()
        .prefix(".lakelens-")
        .tempdir_in(parent)
        .context(format_args!("creating a folder in {}", parent.display()))?;
    let names = ask.labels.clone().or(brought.labels.map(|(names, _)| names));
    let labels = match names {
        Some(names) => {
            let path = folder.path().join("labels.txt");
            std::fs::write(&path, names.join("\n") + "\n").context(format_args!("writing {}", path.display()))?;
            Some(path)
        }
        None => None,
    };
    let preprocess = ask.preprocess.as_ref().unwrap_or(&brought.preprocess.0);
    let labels = labels.as_deref();
    if is_graph(&brought.file)? {
        let graph = &brought.file;
        return adopt(&Adopt { graph, beside: &brought.beside, labels, name, preprocess }, &ask.out, ask.force);
    }
    let arch = match (ask.arch, brought.arch) {
        (Some(asked), _) => asked,
        (None, Ok(arch)) => arch,
        (None, Err(why)) => return Err(Error::config(format_args!("{}: {why}: say it with --arch", brought.name))),
    };
    let known_as = Some(&*brought.name);
    import(&Import { weights: &brought.file, known_as, arch, labels, name, preprocess }, &ask.out, ask.force)
}
