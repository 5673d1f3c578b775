//! Networks with seeded weights, for benches, parity tests and fixtures: their labels mean nothing.
//!
//! ResNet-50 is written in torchvision's layout (version 1.5: the stride is in the 3x3 convolution), under the names of torchvision's state
//! dictionary and with batch norms unfolded, so that torch can load the very same weights.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use prost::Message;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType, tensor_shape_proto::Dimension, type_proto,
};

use crate::{Context, Result};

/// Which network to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// torchvision's ResNet-50: 224 x 224, 1000 classes, an embedding of 2048.
    Resnet50,
    /// A few kilobytes: 32 x 32, 10 classes, an embedding of 16.
    Tiny,
    /// Like `tiny`, but the logits of a black picture are not finite.
    TinyNan,
}

impl Kind {
    /// The name of the folder, and of the model where it says no more.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resnet50 => "resnet50",
            Self::Tiny => "tiny",
            Self::TinyNan => "tiny-nan",
        }
    }
}

/// Writes a model folder: graph, labels, model.yaml. The same seed gives the same bytes.
pub fn init(kind: Kind, seed: u64, out: &Path) -> Result<()> {
    let mut net = Net::new(seed);
    let (classes, yaml) = match kind {
        Kind::Resnet50 => {
            resnet50(&mut net);
            (1000, "preprocess: { resize: 256, crop: 224 }\n")
        }
        Kind::Tiny | Kind::TinyNan => {
            tiny(&mut net, kind == Kind::TinyNan);
            (10, "preprocess: { resize: 36, crop: 32 }\n")
        }
    };
    let name = kind.name();
    fs::create_dir_all(out).context(format!("cannot make {}", out.display()))?;
    let write = |file: &str, bytes: &[u8]| fs::write(out.join(file), bytes).context(format!("cannot write {}", out.join(file).display()));
    write("model.onnx", &net.finish(classes).encode_to_vec())?;
    let labels = (0..classes).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "class {n}");
        text
    });
    write("labels.txt", labels.as_bytes())?;
    let yaml = format!(
        "# Seeded random weights (seed {seed}): the labels mean nothing.\nversion: 1\nname: {name}\ngraph: model.onnx\nlabels: labels.txt\n{yaml}\
         outputs: {{ logits: logits, embedding: embedding }}\n"
    );
    write("model.yaml", yaml.as_bytes())
}

fn resnet50(net: &mut Net) {
    let mut x = net.conv("input", "conv1", [64, 3, 7, 7], 2, 3);
    x = net.batch_norm(&x, "bn1", 64, 1.0);
    x = net.op("Relu", &[&x], &[]);
    x = net.op("MaxPool", &[&x], &[ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1; 4])]);
    let mut channels = 64;
    for (stage, (blocks, width)) in [(3, 64), (4, 128), (6, 256), (3, 512)].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let at = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
            let mut y = net.conv(&x, &at("conv1"), [width, channels, 1, 1], 1, 0);
            y = net.batch_norm(&y, &at("bn1"), width, 1.0);
            y = net.op("Relu", &[&y], &[]);
            y = net.conv(&y, &at("conv2"), [width, width, 3, 3], stride, 1);
            y = net.batch_norm(&y, &at("bn2"), width, 1.0);
            y = net.op("Relu", &[&y], &[]);
            y = net.conv(&y, &at("conv3"), [4 * width, width, 1, 1], 1, 0);
            // A small last gain keeps the sum over many residual blocks of order one, as zero-gamma initialisation does (Goyal et al., 2017).
            y = net.batch_norm(&y, &at("bn3"), 4 * width, 0.3);
            if block == 0 {
                x = net.conv(&x, &at("downsample.0"), [4 * width, channels, 1, 1], stride, 0);
                x = net.batch_norm(&x, &at("downsample.1"), 4 * width, 1.0);
            }
            x = net.op("Add", &[&y, &x], &[]);
            x = net.op("Relu", &[&x], &[]);
            channels = 4 * width;
        }
    }
    net.classifier(&x, channels, 1000);
}

fn tiny(net: &mut Net, nan: bool) {
    let mut x = net.conv("input", "conv1", [16, 3, 5, 5], 4, 2);
    x = net.op("Relu", &[&x], &[]);
    x = net.conv(&x, "conv2", [16, 16, 3, 3], 2, 1);
    x = net.op("Relu", &[&x], &[]);
    net.classifier(&x, 16, 10);
    if nan {
        // The logarithm of (mean + 1.5) is not a number where the normalised pixels' mean lies below -1.5, as only an almost black picture's does.
        let mean = net.op("GlobalAveragePool", &["input"], &[]);
        net.tensor("nan.weight", &[1, 3, 1, 1], vec![1.0 / 3.0; 3]);
        net.tensor("nan.bias", &[1], vec![1.5]);
        let sum = net.op("Conv", &[&mean, "nan.weight", "nan.bias"], &[]);
        let log = net.op("Log", &[&sum], &[]);
        let flat = net.op("Flatten", &[&log], &[]);
        net.rename_output("logits", "plain_logits");
        net.push("Add", &["plain_logits", &flat], "logits", &[]);
    }
}

/// A graph in the making.
struct Net {
    seed: u64,
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
}

impl Net {
    fn new(seed: u64) -> Self {
        Self { seed, nodes: Vec::new(), tensors: Vec::new() }
    }

    fn tensor(&mut self, name: &str, dims: &[usize], values: Vec<f32>) {
        self.tensors.push(TensorProto {
            name: name.into(),
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type: 1,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..TensorProto::default()
        });
    }

    /// A tensor of normally distributed values around `mean`. Each tensor has a stream of its own, so that a layer's weights do not hang on the others'.
    fn random(&mut self, name: &str, dims: &[usize], mean: f32, deviation: f32) {
        let mut rng = Normal::new(self.seed, name);
        let values = (0..dims.iter().product()).map(|_| mean + deviation * rng.next()).collect();
        self.tensor(name, dims, values);
    }

    fn push(&mut self, op: &str, inputs: &[&str], output: &str, attributes: &[AttributeProto]) {
        self.nodes.push(NodeProto {
            op_type: op.into(),
            name: output.into(),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: vec![output.into()],
            attribute: attributes.to_vec(),
            ..NodeProto::default()
        });
    }

    fn op(&mut self, op: &str, inputs: &[&str], attributes: &[AttributeProto]) -> String {
        let output = format!("{}_{}", op.to_lowercase(), self.nodes.len());
        self.push(op, inputs, &output, attributes);
        output
    }

    /// A convolution without bias; weights after He et al. (2015), so that a ReLU network keeps its variance.
    fn conv(&mut self, x: &str, name: &str, dims: [usize; 4], stride: i64, pad: i64) -> String {
        let weight = format!("{name}.weight");
        self.random(&weight, &dims, 0.0, (2.0 / (dims[1] * dims[2] * dims[3]) as f32).sqrt());
        let kernel = [dims[2] as i64, dims[3] as i64];
        self.op("Conv", &[x, &weight], &[ints("kernel_shape", &kernel), ints("strides", &[stride; 2]), ints("pads", &[pad; 4])])
    }

    fn batch_norm(&mut self, x: &str, name: &str, channels: usize, gain: f32) -> String {
        let part = |p: &str| format!("{name}.{p}");
        self.random(&part("weight"), &[channels], gain, 0.1 * gain);
        self.random(&part("bias"), &[channels], 0.0, 0.1);
        self.random(&part("running_mean"), &[channels], 0.0, 0.1);
        let mut rng = Normal::new(self.seed, &part("running_var"));
        let variance = (0..channels).map(|_| (1.0 + 0.2 * rng.next()).max(0.3)).collect();
        self.tensor(&part("running_var"), &[channels], variance);
        let names = ["weight", "bias", "running_mean", "running_var"].map(part);
        self.op("BatchNormalization", &[x, &names[0], &names[1], &names[2], &names[3]], &[])
    }

    fn classifier(&mut self, x: &str, channels: usize, classes: usize) {
        let pooled = self.op("GlobalAveragePool", &[x], &[]);
        self.push("Flatten", &[&pooled], "embedding", &[]);
        self.random("fc.weight", &[classes, channels], 0.0, (1.0 / channels as f32).sqrt());
        self.random("fc.bias", &[classes], 0.0, 0.1);
        let transposed = AttributeProto { name: "transB".into(), r#type: AttributeType::Int as i32, i: 1, ..AttributeProto::default() };
        self.push("Gemm", &["embedding", "fc.weight", "fc.bias"], "logits", &[transposed]);
    }

    fn rename_output(&mut self, from: &str, to: &str) {
        for node in &mut self.nodes {
            node.output.iter_mut().filter(|o| *o == from).for_each(|o| *o = to.to_owned());
        }
    }

    fn finish(self, classes: i64) -> ModelProto {
        let side = if self.tensors.iter().any(|t| t.name.starts_with("layer4")) { 224 } else { 32 };
        let embedding = self.tensors.iter().find(|t| t.name == "fc.weight").map_or(0, |t| t.dims[1]);
        let open = || DimValue::DimParam("N".into());
        let fixed = DimValue::DimValue;
        ModelProto {
            ir_version: 8,
            producer_name: "lakelens".into(),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(GraphProto {
                name: "classifier".into(),
                node: self.nodes,
                initializer: self.tensors,
                input: vec![value("input", vec![open(), fixed(3), fixed(side), fixed(side)])],
                output: vec![
                    value("logits", vec![open(), fixed(classes)]),
                    value("embedding", vec![open(), fixed(embedding)]),
                ],
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        }
    }
}

fn value(name: &str, dims: Vec<DimValue>) -> ValueInfoProto {
    let dim = dims.into_iter().map(|v| Dimension { value: Some(v), ..Dimension::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints: values.to_vec(), ..AttributeProto::default() }
}

/// Normally distributed numbers that are the same on every machine and in every version: SplitMix64 (Steele, Lea, Flood, 2014) seeded by seed
/// and name, and the sum of twelve uniforms less six for the normal distribution, which needs no logarithm whose last bit differs.
struct Normal(u64);

impl Normal {
    fn new(seed: u64, name: &str) -> Self {
        // FNV-1a, to spread the names.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }

    fn next(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}
