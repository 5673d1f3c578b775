//! Models with seeded weights: for benches, for parity tests, and as fixtures. Their labels mean nothing.

use std::fmt::Write as _;
use std::path::Path;

use super::builder::{Attribute, Builder, Size, write_new};
use super::resnet::{ResNet, Seeded, filters, ints};
use crate::{Context, Error, Result};

/// What `lakelens model init` builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// ResNet-50 v1.5 in torchvision's layout: 25.6 million parameters, embedding of 2048.
    Resnet50,
    /// ResNet-18 in torchvision's layout: 11.7 million parameters, embedding of 512.
    Resnet18,
    /// A few kilobytes, pictures of 32 x 32, 10 classes, embedding of 16: for tests.
    Tiny,
    /// As `tiny`, but nearly black pictures give NaN: for tests of what happens then.
    TinyNan,
}

/// Brightness, from 0 to 1 over a whole picture, below which [`Arch::TinyNan`] gives NaN.
pub const NAN_BELOW: f32 = 0.03;

/// Writes a model folder (`model.onnx`, `labels.txt`, `model.yaml`) to `out`, which is created. The same `seed` gives the same bytes on every machine.
/// `classes` is for the ResNets; 1000 where not given.
///
/// # Errors
/// [`Error::Config`] if `classes` is not between 1 and 100,000, or if `out` has such a file already; [`Error::Failed`] if it cannot be written.
pub fn init(arch: Arch, seed: u64, out: &Path, classes: Option<usize>) -> Result<()> {
    match arch {
        Arch::Resnet50 => init_resnet50(seed, out, classes.unwrap_or(1000)),
        Arch::Resnet18 => init_resnet18(seed, out, classes.unwrap_or(1000)),
        Arch::Tiny | Arch::TinyNan if classes.is_some_and(|c| c != TINY_CLASSES) => {
            Err(Error::config(format_args!("the tiny networks have {TINY_CLASSES} classes; leave the number out")))
        }
        Arch::Tiny => init_tiny(seed, out),
        Arch::TinyNan => init_tiny_nan(seed, out),
    }
}

/// Writes a ResNet-50 whose weights bear the names of torchvision's state dictionary. See [`init`].
pub fn init_resnet50(seed: u64, out: &Path, classes: usize) -> Result<()> {
    init_resnet(ResNet::Resnet50, seed, out, classes)
}

/// Writes a ResNet-18 whose weights bear the names of torchvision's state dictionary. See [`init`].
pub fn init_resnet18(seed: u64, out: &Path, classes: usize) -> Result<()> {
    init_resnet(ResNet::Resnet18, seed, out, classes)
}

fn init_resnet(arch: ResNet, seed: u64, out: &Path, classes: usize) -> Result<()> {
    check_classes(classes)?;
    let graph = arch.graph(224, classes, &mut Seeded(seed)).map_err(Error::failed)?;
    write(out, arch.name(), &graph.encode(arch.name()), classes, RESNET)
}

/// Writes a network of two convolutions, a pooling and a matrix product. See [`init`].
pub fn init_tiny(seed: u64, out: &Path) -> Result<()> {
    write(out, "tiny", &tiny(seed, "tiny", None), TINY_CLASSES, TINY)
}

/// Writes [`init_tiny`]'s network with a logarithm in it that has no value for pictures darker than [`NAN_BELOW`]. See [`init`].
pub fn init_tiny_nan(seed: u64, out: &Path) -> Result<()> {
    write(out, "tiny-nan", &tiny(seed, "tiny-nan", Some(NAN_BELOW)), TINY_CLASSES, TINY)
}

const RESNET: &str = "{ resize: 256, resize_mode: short, crop: 224, interpolation: bilinear, channels: rgb, scale: 255,\n              mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }";
/// No mean and no deviation, so that the input is the brightness from 0 to 1.
const TINY: &str = "{ resize: 32, resize_mode: short, crop: 32, interpolation: bilinear, channels: rgb, scale: 255,\n              mean: [0, 0, 0], std: [1, 1, 1] }";
const TINY_CLASSES: usize = 10;

fn check_classes(classes: usize) -> Result<()> {
    if (1..=100_000).contains(&classes) {
        return Ok(());
    }
    Err(Error::config(format_args!("{classes} classes: give a number from 1 to 100000")))
}

/// `input` [batch, 3, 32, 32] to `logits` [batch, 10] and `embedding` [batch, 16].
fn tiny(seed: u64, name: &str, nan_below: Option<f32>) -> Vec<u8> {
    let mut b = Builder::default();
    let picture = [Size::Symbol("batch"), Size::Fixed(3), Size::Fixed(32), Size::Fixed(32)];
    let mut x = b.input("input", picture.into());
    let input = x.clone();
    for (i, (from, to)) in [(3, 8), (8, 16)].into_iter().enumerate() {
        let weight = format!("conv{}.weight", i + 1);
        let weight = b.weight(&weight, &[to, from, 3, 3], &filters(seed, &weight, to, from * 9, 8.0, false));
        let attributes = [("kernel_shape", ints([3, 3])), ("strides", ints([2, 2])), ("pads", ints([1, 1, 1, 1]))];
        x = b.node("Conv", &format!("conv{}.out", i + 1), &[&x, &weight], &attributes);
        x = b.node("Relu", &format!("relu{}", i + 1), &[&x], &[]);
    }
    x = b.node("GlobalAveragePool", "avgpool", &[&x], &[]);
    let features = if nan_below.is_some() { "features" } else { "embedding" };
    x = b.node("Flatten", features, &[&x], &[("axis", Attribute::Int(1))]);
    if let Some(limit) = nan_below {
        let mean = b.node("ReduceMean", "brightness", &[&input], &[("axes", ints([1, 2, 3])), ("keepdims", Attribute::Int(1))]);
        let mean = b.node("Flatten", "brightness.flat", &[&mean], &[("axis", Attribute::Int(1))]);
        let limit = b.weight("limit", &[1], &[limit]);
        let above = b.node("Sub", "above", &[&mean, &limit], &[]);
        // The logarithm of a negative number is NaN.
        let log = b.node("Log", "log", &[&above], &[]);
        x = b.node("Add", "embedding", &[&x, &log], &[]);
    }
    let weight = b.weight("fc.weight", &[TINY_CLASSES, 16], &filters(seed, "fc.weight", TINY_CLASSES, 16, 16.0, true));
    let bias = b.weight("fc.bias", &[TINY_CLASSES], &[0.0; TINY_CLASSES]);
    b.node("Gemm", "logits", &[&x, &weight, &bias], &[("transB", Attribute::Int(1))]);
    b.output("logits", vec![Size::Symbol("batch"), Size::Fixed(TINY_CLASSES as i64)]);
    b.output("embedding", vec![Size::Symbol("batch"), Size::Fixed(16)]);
    b.encode(name)
}

fn write(out: &Path, name: &str, graph: &[u8], classes: usize, preprocess: &str) -> Result<()> {
    std::fs::create_dir_all(out).context(format_args!("creating {}", out.display()))?;
    for file in ["model.onnx", "labels.txt", "model.yaml"] {
        if out.join(file).exists() {
            return Err(Error::config(format_args!("{} has a {file} already; give another folder", out.display())));
        }
    }
    let labels = (0..classes).fold(String::new(), |mut text, i| {
        let _ = writeln!(text, "class {i}");
        text
    });
    let yaml = format!(
        "# Seeded weights: the labels mean nothing.\nversion: 1\nname: {name}\ngraph: model.onnx\nlabels: labels.txt\npreprocess: {preprocess}\n\
         outputs: {{ logits: logits, embedding: embedding, activation: softmax }}\n"
    );
    write_new(&out.join("model.onnx"), graph)?;
    write_new(&out.join("labels.txt"), labels.as_bytes())?;
    write_new(&out.join("model.yaml"), yaml.as_bytes())
}
