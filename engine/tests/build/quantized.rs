//! Quantised networks: constants on steps, and pairs of operators that round the maps between layers.

use tract_core::internal::*;
use tract_core::ops::quant::{DequantizeLinearF32, quantize_linear_u8};

use super::{Builder, Layer, picture, run_as_it_is, values};

impl Builder {
    /// As [`Builder::network`]; the input and what the layers of `rounded` make are rounded to bytes whose range is what `picture` needs.
    pub fn quantized(layers: &[(Layer, bool)], channels: usize, size: [usize; 2], seed: u64) -> TractResult<TypedModel> {
        let mut net = Self::new(channels, size, seed)?;
        net.quantized = true;
        let picture = picture(channels, size, 1, seed);
        net.round(&picture)?;
        for (layer, rounded) in layers {
            net.layer(layer)?;
            if *rounded {
                net.round(&picture)?;
            }
        }
        // At least one convolution over bytes, so that there is something to compute in them.
        if layers.last().is_some_and(|(_, rounded)| !rounded) {
            net.round(&picture)?;
        }
        net.conv(7, 1, 1, 1, [0; 4], 1)?;
        net.activation(0)?;
        net.round(&picture)?;
        net.classifier(true)
    }

    /// A pair that rounds what is there now.
    fn round(&mut self, picture: &Tensor) -> TractResult<()> {
        let mut so_far = self.model.clone();
        so_far.select_output_outlets(&[self.at])?;
        let range = values(&run_as_it_is(so_far.into_compact()?, picture)?[0]);
        let (low, high) = range.iter().fold((0.0f32, 0.0f32), |(low, high), &v| (low.min(v), high.max(v)));
        let scale = ((high - low) / 255.0).max(1e-3);
        let zero = (-low / scale).round().clamp(0.0, 255.0) as u8;
        let bytes = self.wire("round", quantize_linear_u8(scale.recip(), zero), &[self.at])?;
        self.at = self.wire("floats", DequantizeLinearF32::new(scale, zero.into()), &[bytes])?;
        Ok(())
    }
}
