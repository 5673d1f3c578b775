//! ResNets in torchvision's layout: version 1.5, that is, the stride of a bottleneck in its 3x3 convolution. The numbers come from a state dictionary, or
//! from a seed.

mod seeded;

use super::builder::{Attribute, Builder, Size};

pub(super) use seeded::{Seeded, filters};

/// Depths (He et al., "Deep residual learning for image recognition", 2015, table 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs)]
pub enum ResNet {
    Resnet18,
    Resnet34,
    Resnet50,
    Resnet101,
    Resnet152,
}

/// Batch normalisation's epsilon, torch's default.
const EPSILON: f32 = 1e-5;

/// What a parameter does in the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Part {
    /// A convolution over rectified activations, or over pictures.
    Filters { of_pictures: bool },
    /// A normalisation's factor; the last one of a block, and that of a shortcut, scale what is added up there.
    Factor(Place),
    /// A normalisation's or the classifier's summand.
    Summand,
    /// The mean that a normalisation takes away.
    Mean,
    /// The variance that it divides by.
    Variance,
    /// The classifier's matrix.
    Classifier,
}

/// Where a normalisation stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    Within,
    BranchEnd,
    Shortcut,
}

/// Where the numbers come from.
pub(super) trait Parameters {
    /// The values of the parameter that torchvision calls `name`, in C order; or why there are none.
    fn get(&mut self, name: &str, dims: &[usize], part: Part) -> Result<Vec<f32>, String>;
}

impl ResNet {
    /// torchvision's name, and timm's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resnet18 => "resnet18",
            Self::Resnet34 => "resnet34",
            Self::Resnet50 => "resnet50",
            Self::Resnet101 => "resnet101",
            Self::Resnet152 => "resnet152",
        }
    }

    /// Those whose name it is.
    pub fn named(name: &str) -> Option<Self> {
        <Self as clap::ValueEnum>::value_variants().iter().copied().find(|arch| arch.name() == name)
    }

    /// Blocks of each stage, and how much wider a block's end is than its inside.
    fn shape(self) -> ([usize; 4], usize) {
        match self {
            Self::Resnet18 => ([2, 2, 2, 2], 1),
            Self::Resnet34 => ([3, 4, 6, 3], 1),
            Self::Resnet50 => ([3, 4, 6, 3], 4),
            Self::Resnet101 => ([3, 4, 23, 3], 4),
            Self::Resnet152 => ([3, 8, 36, 3], 4),
        }
    }

    /// The graph: `input` [batch, 3, side, side] to `logits` [batch, classes] and `embedding` [batch, 512 or 2048]. Its weights bear torchvision's names.
    ///
    /// # Errors
    /// The first parameter that could not be had, and why.
    pub(super) fn graph(self, side: usize, classes: usize, parameters: &mut dyn Parameters) -> Result<Builder, String> {
        let (blocks, expansion) = self.shape();
        let mut net = Net { builder: Builder::default(), parameters };
        let picture = [Size::Symbol("batch"), Size::Fixed(3), Size::Fixed(side as i64), Size::Fixed(side as i64)];
        let mut x = net.builder.input("input", picture.into());
        x = net.conv_bn(&x, "conv1", "bn1", (3, 64, 7, 2), Place::Within)?;
        x = net.relu(&x, "relu");
        let pool = [("kernel_shape", ints([3, 3])), ("strides", ints([2, 2])), ("pads", ints([1, 1, 1, 1]))];
        x = net.builder.node("MaxPool", "maxpool", &[&x], &pool);
        let mut channels = 64;
        for (stage, count) in blocks.into_iter().enumerate() {
            let width = 64 << stage;
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let at = format!("layer{}.{block}", stage + 1);
                x = net.block(&x, &at, channels, width, expansion, stride)?;
                channels = width * expansion;
            }
        }
        x = net.builder.node("GlobalAveragePool", "avgpool", &[&x], &[]);
        x = net.builder.node("Flatten", "embedding", &[&x], &[("axis", Attribute::Int(1))]);
        net.classifier(&x, "fc", channels, classes)?;
        net.builder.output("logits", vec![Size::Symbol("batch"), Size::Fixed(classes as i64)]);
        net.builder.output("embedding", vec![Size::Symbol("batch"), Size::Fixed(channels as i64)]);
        Ok(net.builder)
    }
}

struct Net<'a> {
    builder: Builder,
    parameters: &'a mut dyn Parameters,
}

impl Net<'_> {
    fn block(&mut self, x: &str, at: &str, channels: usize, width: usize, expansion: usize, stride: usize) -> Result<String, String> {
        // (in, out, kernel, stride) of each convolution in turn.
        let layers = match expansion {
            1 => vec![(channels, width, 3, stride), (width, width, 3, 1)],
            _ => vec![(channels, width, 1, 1), (width, width, 3, stride), (width, width * expansion, 1, 1)],
        };
        let (last, mut y) = (layers.len(), x.to_owned());
        for (i, &shape) in layers.iter().enumerate() {
            let (conv, bn) = (format!("{at}.conv{}", i + 1), format!("{at}.bn{}", i + 1));
            let place = if i + 1 == last { Place::BranchEnd } else { Place::Within };
            y = self.conv_bn(&y, &conv, &bn, shape, place)?;
            if i + 1 < last {
                y = self.relu(&y, &format!("{at}.relu{}", i + 1));
            }
        }
        let shortcut = if stride != 1 || channels != width * expansion {
            let shape = (channels, width * expansion, 1, stride);
            self.conv_bn(x, &format!("{at}.downsample.0"), &format!("{at}.downsample.1"), shape, Place::Shortcut)?
        } else {
            x.to_owned()
        };
        let sum = self.builder.node("Add", &format!("{at}.add"), &[&y, &shortcut], &[]);
        Ok(self.relu(&sum, &format!("{at}.relu")))
    }

    fn conv_bn(&mut self, x: &str, conv: &str, bn: &str, shape: (usize, usize, usize, usize), place: Place) -> Result<String, String> {
        let (from, to, kernel, stride) = shape;
        let filters = Part::Filters { of_pictures: from == 3 };
        let weight = self.weight(&format!("{conv}.weight"), &[to, from, kernel, kernel], filters)?;
        let (k, s, p) = (kernel as i64, stride as i64, kernel as i64 / 2);
        let attributes = [("kernel_shape", ints([k, k])), ("strides", ints([s, s])), ("pads", ints([p, p, p, p]))];
        let y = self.builder.node("Conv", &format!("{conv}.out"), &[x, &weight], &attributes);
        let weight = self.weight(&format!("{bn}.weight"), &[to], Part::Factor(place))?;
        let bias = self.weight(&format!("{bn}.bias"), &[to], Part::Summand)?;
        let mean = self.weight(&format!("{bn}.running_mean"), &[to], Part::Mean)?;
        let var = self.weight(&format!("{bn}.running_var"), &[to], Part::Variance)?;
        let inputs = [y.as_str(), &weight, &bias, &mean, &var];
        Ok(self.builder.node("BatchNormalization", &format!("{bn}.out"), &inputs, &[("epsilon", Attribute::Float(EPSILON))]))
    }

    fn weight(&mut self, name: &str, dims: &[usize], part: Part) -> Result<String, String> {
        let values = self.parameters.get(name, dims, part)?;
        Ok(self.builder.weight(name, dims, &values))
    }

    fn relu(&mut self, x: &str, name: &str) -> String {
        self.builder.node("Relu", name, &[x], &[])
    }

    fn classifier(&mut self, x: &str, name: &str, from: usize, classes: usize) -> Result<(), String> {
        let weight = self.weight(&format!("{name}.weight"), &[classes, from], Part::Classifier)?;
        let bias = self.weight(&format!("{name}.bias"), &[classes], Part::Summand)?;
        self.builder.node("Gemm", "logits", &[x, &weight, &bias], &[("transB", Attribute::Int(1))]);
        Ok(())
    }
}

pub(super) fn ints<const N: usize>(values: [i64; N]) -> Attribute {
    Attribute::Ints(values.into())
}
