//! Weights as signed 8-bit integers, with a scale for each output channel.

use super::layers::Layer;
use super::range::Grid;

/// Integers from -127 to 127, so that the range is symmetric.
const LARGEST: f32 = 127.0;
/// The largest integer that a bias becomes, which leaves sums of products as much room again.
const LARGEST_BIAS: f64 = (1u32 << 29) as f64;
/// A channel of zeros needs a scale, too; its product with that of the input is still a normal number.
const SMALLEST: f32 = 1e-20;
/// A layer in integers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Integers {
    /// The weights, in the order of the layer.
    pub weights: Vec<i8>,
    /// For each output channel.
    pub scales: Vec<f32>,
    /// In units of the input's scale times the weights', for each output channel.
    pub bias: Option<Vec<i32>>,
}

/// Rounds a layer that reads `input`. `shift`, what that moves each channel by, is taken off the bias.
pub(super) fn round(layer: &Layer, input: Grid, shift: Option<&[f32]>) -> Integers {
    let mut scales = scales(layer);
    let bias = match (&layer.bias, shift) {
        (None, None) => None,
        (bias, shift) => {
            let of = |values: Option<&[f32]>, c: usize| values.map_or(0.0, |v| f64::from(v[c]));
            Some((0..layer.channels()).map(|c| of(bias.as_deref(), c) - of(shift, c)).collect::<Vec<f64>>())
        }
    };
    let step = f64::from(input.scale);
    if let Some(bias) = &bias {
        // Where weights are tiny beside the bias they must get coarser, or the bias would not fit its integer.
        for (scale, bias) in scales.iter_mut().zip(bias) {
            *scale = scale.max((bias.abs() / (LARGEST_BIAS * step)) as f32);
        }
    }
    scales.iter_mut().for_each(|scale| *scale = scale.max(SMALLEST));
    let channel = layer.channel_of();
    let weights =
        layer.values.iter().enumerate().map(|(at, &w)| (w / scales[channel(at)]).round_ties_even().clamp(-LARGEST, LARGEST) as i8);
    let weights = weights.collect();
    let bias =
        bias.map(|bias| bias.iter().zip(&scales).map(|(b, &scale)| (b / (step * f64::from(scale))).round_ties_even() as i32).collect());
    Integers { weights, scales, bias }
}

/// For each output channel the scale that its largest weight becomes the largest integer with. Cutting that weight off does not pay: with the share of least
/// square error, tried from 0.8 to 1, EfficientNet-Lite0's embeddings came out the same to four digits.
fn scales(layer: &Layer) -> Vec<f32> {
    let channel = layer.channel_of();
    let mut largest = vec![0f32; layer.channels()];
    layer.values.iter().enumerate().for_each(|(at, w)| largest[channel(at)] = largest[channel(at)].max(w.abs()));
    largest.into_iter().map(|w| w / LARGEST).collect()
}

/// What rounding the weights moves each output channel by on average, if the input channels have these means: to be taken off the bias.
///
/// Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, with means that were measured. (Means of the quantised
/// network's own outputs, in all layers at once and in rounds, do not settle: each layer then answers for all before it.)
pub(super) fn mean_shift(layer: &Layer, integers: &Integers, means: &[f32]) -> Vec<f32> {
    let (channel, input) = (layer.channel_of(), layer.input_of());
    let mut shift = vec![0f64; layer.channels()];
    for (at, (&w, &q)) in layer.values.iter().zip(&integers.weights).enumerate() {
        let c = channel(at);
        let error = f64::from(q) * f64::from(integers.scales[c]) - f64::from(w);
        shift[c] += error * means.get(input(at)).map_or(0.0, |&m| f64::from(m));
    }
    shift.into_iter().map(|s| s as f32).collect()
}
