//! The layers of ConvNeXt and its second version, as tract's importer makes them: with the channels last, norms and GELUs as many nodes.

use tract_core::internal::*;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::{add, div, erf, mul, rsqrt, sqrt, square, sub};
use tract_core::ops::nn::{Reduce, Reducer};

use super::{Builder, Layer};

impl Builder {
    pub(super) fn conv_next(&mut self, division: bool) -> TractResult<()> {
        let [c, ..] = self.shape;
        let before = self.at;
        self.conv(c, 3, 1, 1, [1; 4], c)?;
        let x = self.wire("last", AxisOp::Move(1, 3), &[self.at])?;
        let x = self.layer_norm(x, 3, c)?;
        let x = self.linear(x, c, 3 * c)?;
        let x = self.gelu(x, division)?;
        let x = self.linear(x, 3 * c, c)?;
        self.at = self.wire("first", AxisOp::Move(3, 1), &[x])?;
        self.layer(&Layer::BatchNorm)?;
        self.at = self.wire("residual", add(), &[self.at, before])?;
        Ok(())
    }

    pub(super) fn response_norm(&mut self) -> TractResult<()> {
        let [c, ..] = self.shape;
        // After a convolution: an input of tract's keeps its order.
        self.conv(c, 1, 1, 1, [0; 4], 1)?;
        let x = self.wire("last", AxisOp::Move(1, 3), &[self.at])?;
        let squares = self.wire("squares", square(), &[x])?;
        let sum = self.wire("sum", Reduce::new(tvec!(1, 2), Reducer::Sum), &[squares])?;
        let length = self.wire("length", sqrt(), &[sum])?;
        let all = self.wire("sum", Reduce::new(tvec!(3), Reducer::Sum), &[length])?;
        let (channels, epsilon) = (self.scalar(c as f32)?, self.scalar(1e-6)?);
        let mean = self.wire("mean", div(), &[all, channels])?;
        let mean = self.wire("more", add(), &[mean, epsilon])?;
        let factors = self.wire("factors", div(), &[length, mean])?;
        let scaled = self.wire("scaled", mul(), &[x, factors])?;
        let sum = self.wire("sum", add(), &[scaled, x])?;
        self.at = self.wire("first", AxisOp::Move(3, 1), &[sum])?;
        Ok(())
    }

    /// As the importer writes it.
    pub fn layer_norm(&mut self, x: OutletId, axis: usize, length: usize) -> TractResult<OutletId> {
        let (length, epsilon) = (self.scalar(length as f32)?, self.scalar(1e-5)?);
        let sum = self.wire("norm.sum", Reduce::new(tvec!(axis), Reducer::Sum), &[x])?;
        let mean = self.wire("norm.mean", div(), &[sum, length])?;
        let off = self.wire("norm.off", sub(), &[x, mean])?;
        let squares = self.wire("norm.squares", square(), &[off])?;
        let sum = self.wire("norm.sum", Reduce::new(tvec!(axis), Reducer::Sum), &[squares])?;
        let variance = self.wire("norm.variance", div(), &[sum, length])?;
        let variance = self.wire("norm.epsilon", add(), &[variance, epsilon])?;
        let factor = self.wire("norm.root", rsqrt(), &[variance])?;
        let normalized = self.wire("norm", mul(), &[off, factor])?;
        let mut shape = [1; 4];
        shape[axis] = self.model.outlet_fact(x)?.shape[axis].to_usize()?;
        let (scale, shift) = (self.constant(&shape)?, self.constant(&shape)?);
        let scaled = self.wire("norm.scaled", mul(), &[normalized, scale])?;
        self.wire("norm.shifted", add(), &[scaled, shift])
    }

    /// Over the last axis.
    fn linear(&mut self, x: OutletId, from: usize, to: usize) -> TractResult<OutletId> {
        let weights = self.constant(&[from, to])?;
        let product = self.wire("linear", EinSum::new("abmk,kn->abmn".parse()?, f32::datum_type()), &[x, weights])?;
        let bias = self.constant(&[1, 1, 1, to])?;
        self.wire("linear.bias", add(), &[bias, product])
    }

    /// In either of the ways in which exporters write it.
    fn gelu(&mut self, x: OutletId, division: bool) -> TractResult<OutletId> {
        let (one, half) = (self.scalar(1.0)?, self.scalar(0.5)?);
        let scaled = if division {
            let root = self.scalar(std::f32::consts::SQRT_2)?;
            self.wire("gelu.scaled", div(), &[x, root])?
        } else {
            let root = self.scalar(std::f32::consts::FRAC_1_SQRT_2)?;
            self.wire("gelu.scaled", mul(), &[root, x])?
        };
        let erf = self.wire("gelu.erf", erf(), &[scaled])?;
        let below = self.wire("gelu.plus", add(), &[erf, one])?;
        if division {
            let twice = self.wire("gelu.twice", mul(), &[x, below])?;
            return self.wire("gelu", mul(), &[twice, half]);
        }
        let half = self.wire("gelu.half", mul(), &[half, x])?;
        self.wire("gelu", mul(), &[half, below])
    }
}
