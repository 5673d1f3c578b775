//! `lakelens model import`.

use std::path::PathBuf;

use super::channels;
use crate::Result;
use crate::cli::{Common, print};
use crate::config::{Interpolation, Preprocess};
use crate::model::{Import, ResNet, import};
use crate::telemetry::escape;

/// Make a model of the weights of a ResNet that was trained in PyTorch.
///
/// WEIGHTS is a state dictionary with the names of torchvision, timm or transformers, as `safetensors.torch.save_file(network.state_dict(), PATH)` or
/// `torch.save(network.state_dict(), PATH)` writes it; no ONNX is needed. Of torch's own files only the tensors are read, and nothing in them is run. A fine-tuned classifier may have any number of classes, and may stand in a Sequential. What surrounds the names of a wrapped network (`module.`,
/// `model.`) is seen through.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens model import finetuned.safetensors --arch resnet50 --labels classes.txt --out models/mine\n  \
    lakelens model import checkpoint.pth --arch resnet18 --labels classes.txt --resize 236 --interpolation bicubic --out models/mine")]
pub struct Args {
    /// The weights: a safetensors file, or one of torch.save (.pth, .pt).
    weights: PathBuf,
    /// The network that they are of.
    #[arg(long)]
    arch: ResNet,
    /// Names of the classes, one a line, in the order of the logits; their numbers where not given.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The model folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The model's name in records; that of the folder where not given.
    #[arg(long)]
    name: Option<String>,
    /// Pixels that the short side is resized to.
    #[arg(long, default_value_t = Preprocess::default().resize, value_parser = clap::value_parser!(u32).range(1..=4096))]
    resize: u32,
    /// Side of the square that is cut from the middle.
    #[arg(long, default_value_t = Preprocess::default().crop, value_parser = clap::value_parser!(u32).range(1..=4096))]
    crop: u32,
    /// Filter of the resizing.
    #[arg(long, value_enum, default_value = "bilinear")]
    interpolation: Interpolation,
    /// Mean of each channel, of pixels from 0 to 1: R,G,B.
    #[arg(long, value_delimiter = ',', value_name = "R,G,B", value_parser = crate::cli::finite)]
    mean: Option<Vec<f32>>,
    /// Standard deviation of each channel.
    #[arg(long, value_delimiter = ',', value_name = "R,G,B", value_parser = crate::cli::finite)]
    std: Option<Vec<f32>>,
    /// Write over an existing folder.
    #[arg(long)]
    force: bool,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => args.out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| args.arch.name().to_owned()),
    };
    let default = Preprocess::default();
    let preprocess = Preprocess {
        resize: args.resize,
        crop: args.crop,
        interpolation: args.interpolation,
        mean: channels("--mean", args.mean.as_deref(), default.mean)?,
        std: channels("--std", args.std.as_deref(), default.std)?,
        ..default
    };
    let from = Import {
        weights: &args.weights,
        known_as: None,
        arch: args.arch,
        labels: args.labels.as_deref(),
        name: &name,
        preprocess: &preprocess,
    };
    let loaded = import(&from, &args.out, args.force)?;
    let info = loaded.info();
    if common.json {
        let json = serde_json::json!({"model": info.id, "folder": args.out, "classes": info.classes, "embedding_dim": info.embedding_dim, "sha256": loaded.digest});
        return print(&format!("{json:#}\n"));
    }
    print(&format!(
        "wrote {}: {}, {} classes, an embedding of {}\nnext  lakelens label PHOTOS/ --model {}\n",
        args.out.display(),
        escape(&info.id),
        info.classes,
        info.embedding_dim,
        args.out.display()
    ))
}
