//! ResNet with seeded weights, in torchvision's layout: version 1.5, that is, the stride of a bottleneck in its 3x3 convolution.
//!
//! The weights are scaled so that activations stay of order one from the first layer to the last (He et al., "Delving deep into rectifiers",
//! 2015), filters sum to zero (Qiao et al., "Weight standardization", 2019), since otherwise the constant part of the rectified activations
//! outgrows what differs between two pictures, and the last normalisation of a block is scaled down, so that the sum over the blocks does not grow
//! with their number.

use super::builder::{Attribute, Builder, Size};
use super::random::SplitMix;

/// Depths that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    Eighteen,
    Fifty,
}

/// Batch normalisation's epsilon, torch's default.
const EPSILON: f32 = 1e-5;
/// Scale of the last normalisation in a block, and of the normalisation on a shortcut: their squares sum to one, so that a shortcut with a
/// convolution brings the activations back to order one.
const BRANCH: f64 = 0.45;
const SHORTCUT: f64 = 0.893;

struct Net {
    builder: Builder,
    seed: u64,
}

/// The graph as ONNX bytes: `input` [batch, 3, 224, 224] to `logits` [batch, classes] and `embedding` [batch, 512 or 2048].
pub(super) fn encode(depth: Depth, seed: u64, classes: usize) -> Vec<u8> {
    let (blocks, expansion, name) = match depth {
        Depth::Eighteen => ([2, 2, 2, 2], 1, "resnet18"),
        Depth::Fifty => ([3, 4, 6, 3], 4, "resnet50"),
    };
    let mut net = Net { builder: Builder::default(), seed };
    let picture = [Size::Symbol("batch"), Size::Fixed(3), Size::Fixed(224), Size::Fixed(224)];
    let mut x = net.builder.input("input", picture.into());
    x = net.conv_bn(&x, "conv1", "bn1", (3, 64, 7, 2), 1.0);
    x = net.relu(&x, "relu");
    let pool = [("kernel_shape", ints([3, 3])), ("strides", ints([2, 2])), ("pads", ints([1, 1, 1, 1]))];
    x = net.builder.node("MaxPool", "maxpool", &[&x], &pool);
    let mut channels = 64;
    for (stage, count) in blocks.into_iter().enumerate() {
        let width = 64 << stage;
        for block in 0..count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let at = format!("layer{}.{block}", stage + 1);
            x = net.block(&x, &at, channels, width, expansion, stride);
            channels = width * expansion;
        }
    }
    x = net.builder.node("GlobalAveragePool", "avgpool", &[&x], &[]);
    x = net.builder.node("Flatten", "embedding", &[&x], &[("axis", Attribute::Int(1))]);
    net.classifier(&x, "fc", channels, classes, 8.0);
    net.builder.output("logits", vec![Size::Symbol("batch"), Size::Fixed(classes as i64)]);
    net.builder.output("embedding", vec![Size::Symbol("batch"), Size::Fixed(channels as i64)]);
    net.builder.encode(name)
}

impl Net {
    fn block(&mut self, x: &str, at: &str, channels: usize, width: usize, expansion: usize, stride: usize) -> String {
        // (in, out, kernel, stride) of each convolution in turn.
        let layers = match expansion {
            1 => vec![(channels, width, 3, stride), (width, width, 3, 1)],
            _ => vec![(channels, width, 1, 1), (width, width, 3, stride), (width, width * expansion, 1, 1)],
        };
        let (last, mut y) = (layers.len(), x.to_owned());
        for (i, &shape) in layers.iter().enumerate() {
            let (conv, bn) = (format!("{at}.conv{}", i + 1), format!("{at}.bn{}", i + 1));
            let scale = if i + 1 == last { BRANCH } else { 1.0 };
            y = self.conv_bn(&y, &conv, &bn, shape, scale);
            if i + 1 < last {
                y = self.relu(&y, &format!("{at}.relu{}", i + 1));
            }
        }
        let shortcut = if stride != 1 || channels != width * expansion {
            let shape = (channels, width * expansion, 1, stride);
            self.conv_bn(x, &format!("{at}.downsample.0"), &format!("{at}.downsample.1"), shape, SHORTCUT)
        } else {
            x.to_owned()
        };
        let sum = self.builder.node("Add", &format!("{at}.add"), &[&y, &shortcut], &[]);
        self.relu(&sum, &format!("{at}.relu"))
    }

    fn conv_bn(&mut self, x: &str, conv: &str, bn: &str, shape: (usize, usize, usize, usize), scale: f64) -> String {
        let (from, to, kernel, stride) = shape;
        let name = format!("{conv}.weight");
        // The first layer sees pictures, whose constant part is information; all others see rectified activations.
        let values = filters(self.seed, &name, to, from * kernel * kernel, if from == 3 { 1.0 } else { 2.0 }, from != 3);
        let weight = self.builder.weight(&name, &[to, from, kernel, kernel], &values);
        let (k, s, p) = (kernel as i64, stride as i64, kernel as i64 / 2);
        let attributes = [("kernel_shape", ints([k, k])), ("strides", ints([s, s])), ("pads", ints([p, p, p, p]))];
        let y = self.builder.node("Conv", &format!("{conv}.out"), &[x, &weight], &attributes);
        let weight = self.per_channel(&format!("{bn}.weight"), to, |r| scale * r.uniform(0.8, 1.2));
        let bias = self.per_channel(&format!("{bn}.bias"), to, |r| 0.1 * r.normal());
        let mean = self.per_channel(&format!("{bn}.running_mean"), to, |r| 0.1 * r.normal());
        let var = self.per_channel(&format!("{bn}.running_var"), to, |r| r.uniform(0.7, 1.4));
        let inputs = [y.as_str(), &weight, &bias, &mean, &var];
        self.builder.node("BatchNormalization", &format!("{bn}.out"), &inputs, &[("epsilon", Attribute::Float(EPSILON))])
    }

    fn per_channel(&mut self, name: &str, channels: usize, mut draw: impl FnMut(&mut SplitMix) -> f64) -> String {
        let mut random = SplitMix::named(self.seed, name);
        let values: Vec<f32> = (0..channels).map(|_| draw(&mut random) as f32).collect();
        self.builder.weight(name, &[channels], &values)
    }

    fn relu(&mut self, x: &str, name: &str) -> String {
        self.builder.node("Relu", name, &[x], &[])
    }

    fn classifier(&mut self, x: &str, name: &str, from: usize, classes: usize, gain: f64) {
        let values = filters(self.seed, &format!("{name}.weight"), classes, from, gain * gain, true);
        let weight = self.builder.weight(&format!("{name}.weight"), &[classes, from], &values);
        let bias = self.per_channel(&format!("{name}.bias"), classes, |r| 0.1 * r.normal());
        self.builder.node("Gemm", "logits", &[x, &weight, &bias], &[("transB", Attribute::Int(1))]);
    }
}

/// `count` filters of `length` weights with variance `gain / length` each; if `centred`, each sums to zero.
pub(super) fn filters(seed: u64, name: &str, count: usize, length: usize, gain: f64, centred: bool) -> Vec<f32> {
    let mut random = SplitMix::named(seed, name);
    let scale = (gain / length as f64).sqrt();
    let mut values = Vec::with_capacity(count * length);
    let mut filter = vec![0.0; length];
    for _ in 0..count {
        filter.iter_mut().for_each(|v| *v = random.normal());
        let mean = if centred { filter.iter().sum::<f64>() / length as f64 } else { 0.0 };
        values.extend(filter.iter().map(|v| ((v - mean) * scale) as f32));
    }
    values
}

pub(super) fn ints<const N: usize>(values: [i64; N]) -> Attribute {
    Attribute::Ints(values.into())
}
