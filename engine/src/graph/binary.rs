//! Sums and products of two tensors, and of a tensor and a constant: batch norms, residuals, clamps, squeeze-and-excite.

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::math::{Add, Div, Max, Min, Mul, Sub};

use super::{Lowering, Made, Refusal};
use crate::ir::Kind;
use crate::kernels::Activation;

impl Lowering<'_> {
    pub(super) fn binary(&mut self, node: &TypedNode, op: &TypedBinOp) -> Result<Made, Refusal> {
        let &[a, b] = &node.inputs[..] else { return Err(Refusal::Wrong(format!("{} inputs", node.inputs.len()))) };
        match (self.constant(a).is_some(), self.constant(b).is_some()) {
            (false, true) => self.with_constant(op, a, b, false),
            (true, false) => self.with_constant(op, b, a, true),
            _ => self.of_two(op, a, b),
        }
    }

    fn with_constant(&mut self, op: &TypedBinOp, x: OutletId, constant: OutletId, constant_first: bool) -> Result<Made, Refusal> {
        let operand = self.operand(x)?;
        let shape @ [_, _, c] = self.out.graph.values[operand.value].shape;
        let (values, dims) = self.floats(constant, "operands")?;
        let channels = operand.channel_axis(&self.out.graph);
        let by_channel = channels.is_some() && values.len() == c;
        let only_channels =
            dims.len() == operand.tail.len() + 1 && dims.iter().enumerate().all(|(axis, &d)| d == 1 || Some(axis) == channels);
        if !(only_channels && (values.len() == 1 || by_channel)) {
            return Err(format!("computes with a constant of shape {dims:?}").into());
        }
        let uniform = values.iter().all(|v| v.to_bits() == values[0].to_bits()).then_some(values[0]);
        let all = |of: &dyn Fn(f32) -> f32| -> Vec<f32> { (0..c).map(|i| of(values[if values.len() == 1 { 0 } else { i }])).collect() };
        let layer = |activation| Made::activation(activation, operand.value, shape).ordered_as(&operand);
        let (scale, shift) = if op.0.is::<Mul>() {
            (all(&|v| v), vec![0.0; c])
        } else if op.0.is::<Add>() {
            (vec![1.0; c], all(&|v| v))
        } else if op.0.is::<Sub>() && constant_first {
            (vec![-1.0; c], all(&|v| v))
        } else if op.0.is::<Sub>() {
            (vec![1.0; c], all(&|v| -v))
        } else if op.0.is::<Div>() && !constant_first {
            (all(&|v| 1.0 / v), vec![0.0; c])
        } else {
            return match uniform {
                Some(v) if v.is_nan() => Err("clamps to NaN".into()),
                Some(0.0) if op.0.is::<Max>() => Ok(layer(Activation::Relu)),
                Some(v) if op.0.is::<Max>() => Ok(layer(Activation::Clamp(v, f32::INFINITY))),
                Some(v) if op.0.is::<Min>() => Ok(layer(Activation::Clamp(f32::NEG_INFINITY, v))),
                _ => Err(format!("the engine has no {} with this constant", op.0.name()).into()),
            };
        };
        Ok(Made::layer(Kind::ScaleShift { scale, shift }, vec![operand.value], shape).ordered_as(&operand))
    }

    fn of_two(&mut self, op: &TypedBinOp, a: OutletId, b: OutletId) -> Result<Made, Refusal> {
        let (x, y) = (self.operand(a)?, self.operand(b)?);
        let (of_x, of_y) = (self.out.graph.values[x.value].shape, self.out.graph.values[y.value].shape);
        let (mul, kind) = if op.0.is::<Add>() {
            (false, Kind::Add)
        } else if op.0.is::<Sub>() {
            (false, Kind::Sub)
        } else if op.0.is::<Mul>() {
            (true, Kind::Mul)
        } else {
            return Err(format!("the engine has no {} of two maps", op.0.name()).into());
        };
        if of_x == of_y && x.tail == y.tail && x.channels_last == y.channels_last {
            return Ok(Made::layer(kind, vec![x.value, y.value], of_x).ordered_as(&x));
        }
        for (map, vector) in [(&x, &y), (&y, &x)].into_iter().filter(|_| mul) {
            let shape @ [_, _, c] = self.out.graph.values[map.value].shape;
            let beside: &[usize] = if map.channels_last { &[1, 1, c] } else { &[c, 1, 1] };
            let is_map = map.channels_last || map.is_map(&self.out.graph);
            // Its shape says little: a map may have been reshaped to it, or be taken for one when it comes from tract.
            if is_map && *vector.tail == *beside && self.out.graph.values[vector.value].shape == [1, 1, c] {
                return Ok(Made::layer(Kind::MulChannels, vec![map.value, vector.value], shape).ordered_as(map));
            }
        }
        Err(format!("computes with {:?} and {:?}", x.tail, y.tail).into())
    }
}
