//! `lakelens model quantize` and `lakelens model verify`.

use std::path::{Path, PathBuf};

use crate::cli::{Common, print};
use crate::config::Precision;
use crate::model::{Bar, Comparison, Share, compare, load_to_compare, quantize};
use crate::pictures::Pictures;
use crate::{Error, Result};

/// Seed of the order of the pictures.
const SEED: u64 = 4;
/// The most pictures that are used to check.
const MOST_TO_CHECK: usize = 10_000;

/// Fewer to calibrate with than these, and the ranges depend on which ones they are.
const FEW: usize = 32;

/// What has to be reached.
#[derive(clap::Args)]
pub struct BarArgs {
    /// Least share, from 0 to 1, of the pictures with the same best label, among those of which the first model is sure (its two best scores differ by
    /// more than 0.02).
    #[arg(long, value_name = "SHARE", default_value_t = Bar::default().agreement, value_parser = share)]
    min_agreement: f64,
    /// Least mean cosine of the two embeddings.
    #[arg(long, value_name = "COSINE", default_value_t = Bar::default().cosine, value_parser = share)]
    min_cosine: f64,
}

impl BarArgs {
    fn bar(&self) -> Bar {
        Bar { agreement: self.min_agreement, cosine: self.min_cosine }
    }
}

fn share(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|s: &f64| (0.0..=1.0).contains(s)).ok_or_else(|| "not a number from 0 to 1".to_owned())
}

/// Quantise a model to 8-bit integers, and refuse to if its answers change.
///
/// Weights get a scale for each output channel, activations a range measured on pictures like those that the model will see: half of those in
/// --images. The other half has no part in it, and is what the quantised model is then compared on with the model in f32. Layers that lose too much stay in
/// floats. The file is ONNX with QuantizeLinear and DequantizeLinear, which other runtimes know too.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens model quantize models/resnet50 --images photos --out models/resnet50-int8\n  \
    lakelens model quantize net.onnx --images photos --out net-int8 --min-agreement 0.95 --min-cosine 0.98")]
pub struct QuantizeArgs {
    /// A model folder with model.yaml, or an .onnx file, in floats.
    model: PathBuf,
    /// A folder of pictures, subfolders included; a few hundred are plenty.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The model folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    bar: BarArgs,
    /// The most pictures to calibrate with; never more than half of those that there are.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    calibration: u32,
    /// Write over an existing folder.
    #[arg(long)]
    force: bool,
}

/// Compare two models, or one at two precisions, on pictures.
///
/// Ends with code 1 if they agree less than is asked for.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens model verify models/resnet50 models/resnet50-int8 --precision-b int8 --images photos\n  \
    lakelens model verify models/resnet50 models/resnet50 --precision-b bf16 --images photos")]
pub struct VerifyArgs {
    /// The model that is right.
    a: PathBuf,
    /// The model that is compared with it.
    b: PathBuf,
    /// A folder of pictures, subfolders included.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    #[command(flatten)]
    bar: BarArgs,
    /// Arithmetic of the first.
    #[arg(long, value_enum, default_value = "f32")]
    precision_a: Precision,
    /// Arithmetic of the second.
    #[arg(long, value_enum, default_value = "f32")]
    precision_b: Precision,
}

/// Quantises, prints what came of it, or fails with it.
pub fn run(args: &QuantizeArgs, common: &Common) -> Result<()> {
    let preprocess = crate::model::inspect(&args.model)?.preprocess;
    let pictures = Pictures::find(&args.images, SEED, (2, MOST_TO_CHECK.saturating_add(args.calibration as usize)), &common.stop)?;
    let half = (pictures.len() / 2).min(args.calibration as usize);
    if half < FEW {
        tracing::warn!("few pictures to calibrate with ({half}): ranges may be too narrow for others; a few hundred are plenty");
    }
    let share = Share { calibration: (0..half).collect(), check: (half..pictures.len()).collect() };
    let read = pictures.tensors(&preprocess);
    let done = quantize(&args.model, &args.out, (&read, &share), &args.bar.bar(), args.force)?;
    if common.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&done).map_err(Error::failed)?));
    }
    print(&format!("{done}wrote {}\n", args.out.display()))
}

/// Compares, prints the comparison, and fails if it stays below the bar.
pub fn verify(args: &VerifyArgs, common: &Common) -> Result<()> {
    let load = |path: &Path, precision: Precision| {
        let loaded = load_to_compare(path, precision)?;
        let runs_in = &loaded.info().precision;
        if **runs_in != *precision.name() {
            let (path, asked) = (path.display(), precision.name());
            return Err(Error::failed(format_args!(
                "{path}: it runs in {runs_in} and not in {asked} (see the log), so {asked} cannot be compared"
            )));
        }
        Ok(loaded)
    };
    let (a, b) = (load(&args.a, args.precision_a)?, load(&args.b, args.precision_b)?);
    let pictures = Pictures::find(&args.images, SEED, (1, MOST_TO_CHECK), &common.stop)?;
    let (read_a, read_b) = (pictures.tensors(&a.file.preprocess), pictures.tensors(&b.file.preprocess));
    let all: Vec<usize> = (0..pictures.len()).collect();
    let comparison = compare((&a, &read_a), (&b, &read_b), &all)?;
    if common.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&comparison).map_err(Error::failed)?))?;
    } else {
        print(&comparison.to_string())?;
    }
    judge(&comparison, &args.bar.bar())
}

fn judge(comparison: &Comparison, bar: &Bar) -> Result<()> {
    if comparison.reaches(bar) {
        return Ok(());
    }
    Err(Error::failed(format_args!("the models are further apart than asked for: {}", comparison.short_of(bar))))
}
