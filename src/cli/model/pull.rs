//! `lakelens model pull`.

use std::fmt::Write as _;
use std::path::PathBuf;

use url::Url;

use super::channels;
use crate::cli::{Common, finite, print};
use crate::config::{Interpolation, Preprocess, ResizeMode};
use crate::hub::{self, Ask, IMAGENET, LICENCE, Pulled, Settings, Source, TORCHVISION};
use crate::model::ResNet;
use crate::telemetry::escape;
use crate::{Context, Error, Result};

/// What `--labels` calls the classes that torchvision's and many other models have.
const IMAGENET_1K: &str = "imagenet1k";

/// Fetch a model: one that is known by name, a repository of the Hugging Face hub, or a file at a URL.
///
/// The files are checked against the SHA-256 that their publisher states, the network is built and a picture goes through it; only then is the folder
/// written. A download that was cut off is resumed by the same command. Weights in a pickle (.pth, .bin) are read by a reader that runs nothing.
///
/// Of the hub's own settings these are heeded: HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE. The cache is the one that its
/// Python client has. LAKELENS_TORCHVISION_URL is where a mirror of torchvision's files is.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens model pull --list\n  \
    lakelens model pull resnet50 --out models/resnet50\n  \
    lakelens model pull hf:microsoft/resnet-50\n  \
    lakelens model pull hf:timm/resnet50.a1_in1k@main:model.safetensors --out models/a1\n  \
    lakelens model pull https://models.example.com/net.onnx#sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --labels classes.txt")]
pub struct Args {
    /// A name of --list, hf:OWNER/REPO[@REVISION][:FILE], or https://HOST/FILE#sha256=HEX.
    #[arg(required_unless_present = "list")]
    source: Option<String>,
    /// Show the models that are known by name.
    #[arg(long, conflicts_with = "source")]
    list: bool,
    /// The model folder to write; the name of the model, the repository or the file where not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The network, where nothing else says which one the weights are of.
    #[arg(long)]
    arch: Option<ResNet>,
    /// Names of the classes, one a line, in the order of the logits; `imagenet1k` for torchvision's of ImageNet-1k.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Pixels that the short side is resized to.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    resize: Option<u32>,
    /// Resize both sides, without regard to the shape of a picture.
    #[arg(long, requires = "resize")]
    exact: bool,
    /// Side of the square that is cut from the middle.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    crop: Option<u32>,
    /// Filter of the resizing.
    #[arg(long, value_enum)]
    interpolation: Option<Interpolation>,
    /// Mean of each channel, of pixels from 0 to 1: R,G,B.
    #[arg(long, value_delimiter = ',', value_name = "R,G,B", value_parser = finite)]
    mean: Option<Vec<f32>>,
    /// Standard deviation of each channel.
    #[arg(long, value_delimiter = ',', value_name = "R,G,B", value_parser = finite)]
    std: Option<Vec<f32>>,
    /// Write over a model that is there.
    #[arg(long, alias = "overwrite")]
    force: bool,
}

pub async fn run(args: &Args, common: &Common) -> Result<()> {
    let torchvision = torchvision()?;
    let Some(text) = args.source.as_deref() else { return list(&torchvision, common.json) };
    let source = Source::parse(text)?;
    let ask = Ask {
        out: args.out.clone().unwrap_or_else(|| PathBuf::from(source.name())),
        force: args.force,
        arch: args.arch,
        labels: labels(args)?,
        preprocess: preprocess(args)?,
        torchvision,
        quiet: common.quiet,
    };
    let settings = Settings::of(|name| std::env::var(name).ok())?;
    let pulled = tokio::select! {
        pulled = hub::pull(&source, &ask, settings) => pulled?,
        () = common.stop.cancelled() => return Err(Error::failed("stopped; what came is kept, and the same command goes on from there")),
    };
    show(&pulled, &ask, common.json)
}

fn show(pulled: &Pulled, ask: &Ask, json: bool) -> Result<()> {
    let info = pulled.loaded.info();
    let preprocess = &pulled.loaded.file.preprocess;
    if json {
        let json = serde_json::json!({
            "model": info.id, "folder": ask.out, "from": pulled.from, "classes": info.classes, "embedding_dim": info.embedding_dim,
            "sha256": pulled.loaded.digest, "labels_from": pulled.labels_from, "preprocess": preprocess, "preprocess_from": pulled.preprocess_from,
        });
        return print(&format!("{json:#}\n"));
    }
    let mode = if preprocess.resize_mode == ResizeMode::Exact { "both sides" } else { "the short side" };
    let mut text = format!(
        "wrote {}: {}, {} classes, an embedding of {}\nfrom        {}\nlabels      {}\n",
        ask.out.display(),
        escape(&info.id),
        info.classes,
        info.embedding_dim,
        escape(&pulled.from),
        if pulled.labels_from == "none" {
            "none, so classes are numbers; give them with --labels FILE, or --labels imagenet1k"
        } else {
            &pulled.labels_from
        },
    );
    let _ = writeln!(
        text,
        "pictures    {mode} to {}, the middle {} of it, mean {:?}, deviation {:?} ({})\nnext        lakelens label PHOTOS/ --model {}",
        preprocess.resize,
        preprocess.crop,
        preprocess.mean,
        preprocess.std,
        pulled.preprocess_from,
        ask.out.display()
    );
    print(&text)
}

fn torchvision() -> Result<Url> {
    let text = std::env::var("LAKELENS_TORCHVISION_URL").ok().filter(|text| !text.is_empty()).unwrap_or_else(|| TORCHVISION.to_owned());
    let url = Url::parse(&format!("{}/", text.trim_end_matches('/'))).ok();
    // Eight digits of a hash are a check against mistakes, not against forgers: the way has to be safe by itself.
    let url = url.filter(|url| url.scheme() == "https" || url.scheme() == "http" && hub::is_loopback(url));
    url.ok_or_else(|| Error::config("LAKELENS_TORCHVISION_URL is no https URL; write https://HOST/FOLDER/"))
}

fn labels(args: &Args) -> Result<Option<Vec<String>>> {
    let Some(path) = &args.labels else { return Ok(None) };
    let text = match path.to_str() {
        Some(IMAGENET_1K) if !path.exists() => IMAGENET.to_owned(),
        _ => std::fs::read_to_string(path).context(format_args!("reading the labels {}", path.display()))?,
    };
    Ok(Some(text.trim_end().lines().map(|line| line.trim().to_owned()).collect()))
}

/// What the options say, the rest as of ResNet-50; nothing if none is given.
fn preprocess(args: &Args) -> Result<Option<Preprocess>> {
    let given = args.resize.is_some() || args.crop.is_some() || args.interpolation.is_some() || args.mean.is_some() || args.std.is_some();
    if !given {
        return Ok(None);
    }
    let default = Preprocess::default();
    Ok(Some(Preprocess {
        resize: args.resize.unwrap_or(default.resize),
        resize_mode: if args.exact { ResizeMode::Exact } else { ResizeMode::Short },
        crop: args.crop.unwrap_or(default.crop),
        interpolation: args.interpolation.unwrap_or(default.interpolation),
        mean: channels("--mean", args.mean.as_deref(), default.mean)?,
        std: channels("--std", args.std.as_deref(), default.std)?,
        ..default
    }))
}

fn list(torchvision: &Url, json: bool) -> Result<()> {
    let known = hub::known_models();
    if json {
        let all: Vec<_> = known
            .iter()
            .map(|k| {
                let p = k.preprocess();
                serde_json::json!({
                    "name": k.name, "arch": k.arch, "weights": k.weights, "url": format!("{torchvision}{}", k.file), "sha256_prefix": k.sha256_prefix(),
                    "mebibytes": k.mebibytes, "accuracy_1": k.accuracy.0, "accuracy_5": k.accuracy.1, "licence": LICENCE,
                    "resize": p.resize, "crop": p.crop, "interpolation": p.interpolation, "mean": p.mean, "std": p.std,
                })
            })
            .collect();
        return print(&format!("{}\n", serde_json::to_string_pretty(&all).map_err(Error::failed)?));
    }
    let mut text = format!("{:<14} {:>7}  {:>6} {:>6}  weights\n", "name", "MiB", "top 1", "top 5");
    for k in known {
        let _ = writeln!(
            text,
            "{:<14} {:>7.1}  {:>5.1}% {:>5.1}%  torchvision's {}, {}",
            k.name, k.mebibytes, k.accuracy.0, k.accuracy.1, k.weights, k.file
        );
    }
    let _ = writeln!(
        text,
        "\nAccuracy on ImageNet-1k's validation pictures, as torchvision states it. {LICENCE}.\nOthers: hf:OWNER/REPO, https://...#sha256=..."
    );
    print(&text)
}
