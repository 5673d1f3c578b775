//! Quantised networks as the usual tools write them: weights are whole multiples of a step, and where a map is to be rounded stands a pair of operators, one
//! that quantises and one that makes floats of it again ("QDQ").

use tract_core::internal::*;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::quant::{DequantizeLinearF32, QuantizeLinearI8, QuantizeLinearU8};

use super::{Lowering, Made, Refusal};
use crate::Precision;
use crate::ir::Kind;
use crate::kernels::{Quantized, nearest};

/// Why a node that quantises is left in other precisions.
pub(crate) const ONLY_INT8: &str = "is quantised, which only int8 computes";

impl Lowering<'_> {
    /// Whether `node` makes bytes of floats.
    pub(super) fn quantizes(&self, node: &TypedNode) -> bool {
        quantizer(node).is_some()
    }

    /// The first of a pair. Whoever reads it must be the second one of its pair, for bytes never leave the engine.
    pub(super) fn quantize(&mut self, node: &TypedNode) -> Result<Made, Refusal> {
        if self.precision != Precision::Int8 {
            return Err(ONLY_INT8.into());
        }
        let readers = &node.outputs[0].successors;
        let model = self.model;
        let mut pairs = readers.iter().map(|reader| model.node(reader.node).op_as::<DequantizeLinearF32>());
        let Some(Some(first)) = pairs.next() else { return Err("is quantised without being made floats again".into()) };
        if !pairs.all(|other| other == Some(first)) || model.output_outlets()?.contains(&node.id.into()) {
            return Err("is read as bytes".into());
        }
        let Some((inverse, zero, more)) = quantizer(node) else { return Err("does not quantise".into()) };
        let beyond = |_| Refusal::from("has a zero point beyond its type");
        let quantized = Quantized { scale: first.scale, zero: u8::try_from(first.zero_point + more).map_err(beyond)? };
        if !(quantized.scale.is_normal() && quantized.scale > 0.0 && quantized.scale.recip().is_normal()) {
            return Err(format!("has a scale of {}", quantized.scale).into());
        }
        if zero != first.zero_point || (inverse * quantized.scale - 1.0).abs() >= 1e-6 {
            return Err("has another scale or zero point than what makes floats of it again".into());
        }
        let x = self.operand(node.inputs[0])?;
        let shape = self.out.graph.values[x.value].shape;
        Ok(Made::layer(Kind::Quantize(quantized), vec![x.value], shape).ordered_as(&x))
    }

    /// The second of a pair is another name for what the first one makes.
    pub(super) fn dequantize(&mut self, node: &TypedNode) -> Result<Made, Refusal> {
        match self.out.operands.get(&node.inputs[0]) {
            Some(first) => Ok(Made::same(first.value).ordered_as(first)),
            None => Err("makes floats of bytes that stay tract's".into()),
        }
    }

    /// For weights (`[channels, ...]`) that were made of bytes: the step of each channel. Empty where they were not. tract folds what made them into
    /// floats, so the steps are found again from those: the largest weight is some whole number of them, and all others are, too.
    pub(super) fn steps(&self, weights: &[f32], channels: usize) -> Vec<f32> {
        if self.precision != Precision::Int8 {
            return Vec::new();
        }
        let steps: Option<Vec<f32>> = weights.chunks_exact(weights.len() / channels).map(step).collect();
        steps.unwrap_or_default()
    }
}

/// What an operator that makes bytes of floats multiplies by, its zero point, and what its bytes lack to be unsigned: the same steps from the same least value on.
fn quantizer(node: &TypedNode) -> Option<(f32, i32, i32)> {
    let op = node.op_as::<ElementWiseOp>()?;
    let unsigned = op.0.downcast_ref::<QuantizeLinearU8>().map(|op| (op.scale, op.zero_point.into(), 0));
    unsigned.or_else(|| op.0.downcast_ref::<QuantizeLinearI8>().map(|op| (op.scale, op.zero_point.into(), 128)))
}

/// A step of which all weights are whole multiples, from -128 to 127; 0 where all weights are.
fn step(weights: &[f32]) -> Option<f32> {
    let largest = weights.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    if largest == 0.0 {
        return Some(0.0);
    }
    // In pieces, so that most of what is none is found early, and each piece is computed in vectors.
    let are_multiples = |step: &f32| {
        let steps = 1.0 / step;
        weights.chunks(256).all(|piece| {
            // What is lost by taking the nearest is less than an f32 loses in a sum of a few. What is no number is no multiple.
            piece.iter().fold(true, |all, w| all & ((w * steps - nearest(w * steps)).abs() < 1e-4))
        })
    };
    // Most often 127, for tools take the largest weight for the end of the scale; 128 only below 0.
    let most = if weights.iter().all(|&w| w < largest) { 128 } else { 127 };
    std::iter::once(127).chain((1..=most).rev()).map(|steps| largest / steps as f32).find(are_multiples)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_step_of_bytes_is_found(bytes in prop::collection::vec(-128i8..=127, 1..200), step_of in 1e-6f32..10.0) {
            let weights: Vec<f32> = bytes.iter().map(|&b| f32::from(b) * step_of).collect();
            let found = step(&weights).expect("made of bytes");
            for (byte, weight) in bytes.iter().zip(&weights) {
                let whole = if found == 0.0 { 0.0 } else { (weight / found).round() };
                prop_assert!((-128.0..=127.0).contains(&whole));
                prop_assert!((whole * found - f32::from(*byte) * step_of).abs() <= 1e-6 * 128.0 * step_of, "{byte}: {whole} of {found}");
            }
        }
    }

    #[test]
    fn floats_have_no_step() {
        let weights: Vec<f32> = (1..60).map(|i| (i as f32).sqrt()).collect();
        assert_eq!(step(&weights), None);
        assert_eq!((step(&[1.0, f32::NAN]), step(&[1.0, f32::INFINITY])), (None, None));
        assert_eq!(step(&[]), Some(0.0));
    }

    #[test]
    fn there_are_128_steps_below_zero_only() {
        assert_eq!((step(&[-1.28, 0.03]), step(&[0.64, 0.32])), (Some(0.01), Some(0.64 / 126.0)));
    }
}
