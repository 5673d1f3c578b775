//! Operators that move values about.

use tract_core::internal::*;
use tract_core::ops::array::{StridedSlice, TypedConcat};

use super::{Lowering, Made, Refusal};
use crate::ir::Kind;

impl Lowering<'_> {
    pub(super) fn axis(&mut self, node: &TypedNode, op: &AxisOp) -> Result<Made, Refusal> {
        let &AxisOp::Move(from, to) = op else { return self.reshape(node) };
        let operand = self.operand(node.inputs[0])?;
        match (from, to) {
            (1, 3) if operand.is_map(&self.out.graph) => Ok(Made { channels_last: true, ..self.same(node.inputs[0])? }),
            (3, 1) if operand.channels_last => Ok(Made { channels_last: false, ..self.same(node.inputs[0])? }),
            _ => self.shuffle(node, from, to),
        }
    }

    /// The order of the elements stays; what shape the result goes by is in its fact.
    fn reshape(&mut self, node: &TypedNode) -> Result<Made, Refusal> {
        let operand = self.operand(node.inputs[0])?;
        if operand.channels_last && self.out.graph.values[operand.value].pixels() > 1 {
            return Err("reshapes a map whose channels come last".into());
        }
        Ok(Made { channels_last: false, ..self.same(node.inputs[0])? })
    }

    /// Channels that were split in two axes, and these exchanged: ShuffleNet's shuffle.
    fn shuffle(&mut self, node: &TypedNode, from: usize, to: usize) -> Result<Made, Refusal> {
        let operand = self.operand(node.inputs[0])?;
        let [h, w, c] = self.out.graph.values[operand.value].shape;
        let &[groups, each, rows, columns] = &operand.tail[..] else {
            return Err(format!("moves axis {from} of {:?} to {to}", operand.tail).into());
        };
        if operand.channels_last || !matches!((from, to), (1, 2) | (2, 1)) || groups * each != c || [rows, columns] != [h, w] {
            return Err(format!("moves axis {from} of {:?} to {to}", operand.tail).into());
        }
        Ok(Made::layer(Kind::Shuffle(groups), vec![operand.value], [h, w, c]))
    }

    pub(super) fn concat(&mut self, node: &TypedNode, op: &TypedConcat) -> Result<Made, Refusal> {
        if op.axis != 1 {
            return Err(format!("puts together along axis {}", op.axis).into());
        }
        if let &[only] = &node.inputs[..] {
            return self.same(only);
        }
        let parts: Vec<(usize, [usize; 3])> = node.inputs.iter().map(|&i| self.map_or_vector(i)).collect::<Result<_, _>>()?;
        let Some(&(_, [h, w, _])) = parts.first() else { return Err("has no input".into()) };
        if parts.iter().any(|(_, s)| s[..2] != [h, w]) {
            return Err("puts together maps of several sizes".into());
        }
        let channels = parts.iter().map(|(_, s)| s[2]).sum();
        Ok(Made::layer(Kind::Concat, parts.into_iter().map(|(v, _)| v).collect(), [h, w, channels]))
    }

    pub(super) fn slice(&mut self, node: &TypedNode, axis: usize, start: i64) -> Result<Made, Refusal> {
        let (value, [h, w, c]) = self.map_or_vector(node.inputs[0])?;
        let tail = self.tail(&node.outputs[0].fact)?;
        let from = usize::try_from(if start < 0 { start + c as i64 } else { start }).unwrap_or(usize::MAX);
        let channels = tail.first().copied().unwrap_or(0);
        if axis != 1 || tail.iter().product::<usize>() != channels * h * w {
            return Err(format!("cuts axis {axis}").into());
        }
        if from.checked_add(channels).is_none_or(|end| end > c) {
            return Err(Refusal::Wrong(format!("cuts {channels} of {c} channels from {start} on")));
        }
        Ok(Made::layer(Kind::Slice(from), vec![value], [h, w, channels]))
    }

    pub(super) fn strided_slice(&mut self, node: &TypedNode, op: &StridedSlice) -> Result<Made, Refusal> {
        if op.begin_mask != 0 || op.shrink_axis_mask != 0 {
            return Err("cuts with a mask".into());
        }
        if let Some(slot) = op.optional_steps_input
            && self.integer(node.inputs[slot])? != 1
        {
            return Err("cuts in steps".into());
        }
        let Some(slot) = op.optional_axes_input else { return Err("cuts several axes".into()) };
        let axis = self.integer(node.inputs[slot])?;
        let start = self.integer(node.inputs[1])?;
        self.slice(node, usize::try_from(axis).unwrap_or(usize::MAX), start)
    }

    /// A map, or a vector that was never one.
    fn map_or_vector(&mut self, outlet: OutletId) -> Result<(usize, [usize; 3]), Refusal> {
        let operand = self.operand(outlet)?;
        let shape @ [h, w, c] = self.out.graph.values[operand.value].shape;
        if operand.is_map(&self.out.graph) || ([h, w] == [1, 1] && *operand.tail == [c]) {
            return Ok((operand.value, shape));
        }
        Err(format!("reads {:?}, which is not a map of channels", operand.tail).into())
    }
}
