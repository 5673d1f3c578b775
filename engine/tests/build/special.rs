//! Networks made for one case each.

use tract_core::internal::*;
use tract_core::ops::cnn::Conv;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::{add, max, mul};
use tract_core::ops::nn::{Reduce, Reducer};

use super::{Builder, Layer};

impl Builder {
    /// Two convolutions whose sum needs both the first and what an unknown operator makes of it.
    pub fn around_unknown(seed: u64) -> TractResult<TypedModel> {
        let mut net = Self::new(3, [8, 8], seed)?;
        net.conv(4, 3, 1, 1, [1; 4], 1)?;
        let first = net.at;
        net.layer(&Layer::Unknown)?;
        net.conv(4, 3, 1, 1, [1; 4], 1)?;
        let sum = net.wire("sum", add(), &[first, net.at])?;
        net.model.select_output_outlets(&[sum])?;
        Ok(net.model)
    }

    /// A vector that one part makes under one name and another reads under a second, beside what an unknown operator makes of it.
    pub fn renamed_between_parts(seed: u64) -> TractResult<TypedModel> {
        let mut net = Self::new(3, [8, 8], seed)?;
        net.conv(4, 3, 1, 1, [1; 4], 1)?;
        let pooled = net.pooled(net.at)?;
        let squeezed = net.wire("squeeze", AxisOp::Rm(3), &[pooled])?;
        let squeezed = net.wire("squeeze", AxisOp::Rm(2), &[squeezed])?;
        let unknown = net.wire("unknown", max(), &[squeezed, squeezed])?;
        let sum = net.wire("sum", add(), &[squeezed, unknown])?;
        let weights = net.constant(&[5, 4])?;
        let logits = net.wire("gemm", EinSum::new("mk,nk->mn".parse()?, f32::datum_type()), &[sum, weights])?;
        net.model.select_output_outlets(&[logits])?;
        Ok(net.model)
    }

    /// A layer norm after a convolution: over one axis, by the length of another, or with a root that something else reads, too.
    pub fn normalized(seed: u64, axis: usize, length: usize, read_elsewhere: bool) -> TractResult<TypedModel> {
        let mut net = Self::new(3, [4, 4], seed)?;
        net.conv(4, 3, 1, 1, [1; 4], 1)?;
        let out = net.layer_norm(net.at, axis, length)?;
        let mut outputs = vec![out];
        if read_elsewhere {
            let root = net.model.nodes.iter().find(|n| n.name.starts_with("norm.root")).context("no root")?.id;
            outputs.push(root.into());
        }
        net.model.select_output_outlets(&outputs)?;
        Ok(net.model)
    }

    /// A map with its channels last, times factors of its channels that come from an unknown operator.
    pub fn times_imported(seed: u64) -> TractResult<TypedModel> {
        let mut net = Self::new(3, [6, 6], seed)?;
        net.conv(6, 3, 1, 1, [1; 4], 1)?;
        let x = net.wire("last", AxisOp::Move(1, 3), &[net.at])?;
        let sum = net.wire("sum", Reduce::new(tvec!(1, 2), Reducer::Sum), &[x])?;
        let unknown = net.wire("unknown", max(), &[sum, sum])?;
        let product = net.wire("product", mul(), &[x, unknown])?;
        net.at = net.wire("first", AxisOp::Move(3, 1), &[product])?;
        net.conv(4, 1, 1, 1, [0; 4], 1)?;
        net.model.select_output_outlets(&[net.at])?;
        Ok(net.model)
    }

    /// A map times another one of a single channel, whose pixels are taken for channels.
    pub fn times_reshaped(seed: u64) -> TractResult<TypedModel> {
        let mut net = Self::new(3, [4, 4], seed)?;
        let input = net.at;
        net.conv(16, 3, 1, 1, [1; 4], 1)?;
        let map = net.at;
        (net.at, net.shape) = (input, [3, 4, 4]);
        net.conv(1, 3, 1, 1, [1; 4], 1)?;
        let dims = |d: &[usize]| d.iter().map(|d| d.to_dim()).collect::<TVec<_>>();
        let flat = net.wire("flat", AxisOp::Reshape(1, dims(&[1, 4, 4]), dims(&[16, 1, 1])), &[net.at])?;
        let product = net.wire("product", mul(), &[map, flat])?;
        net.model.select_output_outlets(&[product])?;
        Ok(net.model)
    }

    /// A convolution whose kernel of 5 does not fit 3 rows.
    pub fn without_pixels(seed: u64) -> TractResult<TypedModel> {
        let mut net = Self::new(3, [3, 9], seed)?;
        net.conv(4, 5, 1, 1, [0; 4], 1)?;
        net.model.select_output_outlets(&[net.at])?;
        Ok(net.model)
    }

    /// The model up to its first convolution.
    pub fn without_head(mut model: TypedModel) -> TractResult<TypedModel> {
        let conv = model.nodes().iter().find(|n| n.op_is::<Conv>()).context("no convolution")?;
        let before = conv.inputs[0];
        model.select_output_outlets(&[before])?;
        model.into_compact()
    }
}
