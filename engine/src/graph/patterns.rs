//! Layers that tract has as several nodes: they are looked for before any node is lowered, so that none of them is taken for something of its own.

use std::any::TypeId;
use std::collections::BTreeSet;

use tract_core::internal::*;
use tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Div, Erf, Mul, Rsqrt, Square, Sub};
use tract_core::ops::nn::{Reduce, Reducer};

use super::{Lowering, Made, Refusal};
use crate::ir::Kind;
use crate::kernels::Activation;

/// A layer of several nodes, and what it is computed from.
#[derive(Debug)]
pub(super) enum Pattern {
    /// What differs from the mean along an axis, over the root of its variance plus a small number.
    LayerNorm { x: OutletId, axis: usize, epsilon: f32 },
    /// What is divided by its mean along an axis, to which a number was added.
    OverMean { x: OutletId, axis: usize, epsilon: f32 },
    /// `x * (1 + erf(x / sqrt(2))) / 2`.
    Gelu { x: OutletId },
}

/// The nodes that a pattern was found in, but for the last.
pub(super) type Nodes = BTreeSet<usize>;

impl Lowering<'_> {
    /// Finds those whose inner nodes nobody else reads. Constants are known by then.
    pub(super) fn find_patterns(&mut self, order: &[usize]) {
        let outputs: BTreeSet<usize> = self.model.output_outlets().into_iter().flatten().map(|o| o.node).collect();
        for node in order.iter().map(|&id| self.model.node(id)) {
            let mut nodes = Nodes::new();
            let Some(pattern) =
                self.layer_norm(node, &mut nodes).or_else(|| self.gelu(node, &mut nodes)).or_else(|| self.over_mean(node, &mut nodes))
            else {
                continue;
            };
            let inner = |id: &usize| nodes.contains(id) || *id == node.id;
            let read_elsewhere = |id: &usize| self.model.node(*id).outputs.iter().flat_map(|o| &o.successors).any(|s| !inner(&s.node));
            if nodes.iter().any(|id| outputs.contains(id) || self.within.contains_key(id) || read_elsewhere(id)) {
                continue;
            }
            self.within.extend(nodes.iter().map(|&id| (id, node.id)));
            self.patterns.insert(node.id, (pattern, nodes));
        }
    }

    /// A pattern in the engine's terms.
    pub(super) fn pattern(&mut self, pattern: &Pattern) -> Result<Made, Refusal> {
        let (Pattern::LayerNorm { x, .. } | Pattern::OverMean { x, .. } | Pattern::Gelu { x }) = *pattern;
        let operand = self.operand(x)?;
        let shape @ [_, _, c] = self.out.graph.values[operand.value].shape;
        let made = match *pattern {
            Pattern::Gelu { .. } => Made::activation(Activation::Gelu, operand.value, shape),
            Pattern::LayerNorm { axis, epsilon, .. } if operand.channel_axis(&self.out.graph) == Some(axis) => {
                Made::layer(Kind::LayerNorm { epsilon, scale: vec![1.0; c], shift: vec![0.0; c] }, vec![operand.value], shape)
            }
            Pattern::OverMean { axis, epsilon, .. } if operand.channel_axis(&self.out.graph) == Some(axis) => {
                Made::layer(Kind::OverMean(epsilon), vec![operand.value], shape)
            }
            Pattern::LayerNorm { axis, .. } | Pattern::OverMean { axis, .. } => {
                return Err(format!("normalises axis {axis} of {:?}", operand.tail).into());
            }
        };
        Ok(made.ordered_as(&operand))
    }

    fn layer_norm(&mut self, node: &TypedNode, nodes: &mut Nodes) -> Option<Pattern> {
        let [a, b] = two::<Mul>(node)?;
        [(a, b), (b, a)].into_iter().find_map(|(off, factor)| {
            nodes.clear();
            let root = self.one::<Rsqrt>(factor, nodes)?;
            let (variance, epsilon) = self.with_scalar::<Add>(root, nodes)?;
            let (squares, axis) = self.mean(variance, nodes)?;
            if self.one::<Square>(squares, nodes)? != off {
                return None;
            }
            let [x, mean] = two::<Sub>(self.inner(off, nodes))?;
            (self.mean(mean, nodes)? == (x, axis)).then_some(Pattern::LayerNorm { x, axis, epsilon })
        })
    }

    fn over_mean(&mut self, node: &TypedNode, nodes: &mut Nodes) -> Option<Pattern> {
        nodes.clear();
        let [x, below] = two::<Div>(node)?;
        let (mean, epsilon) = self.with_scalar::<Add>(below, nodes)?;
        let (from, axis) = self.mean(mean, nodes)?;
        (from == x).then_some(Pattern::OverMean { x, axis, epsilon })
    }

    /// A sum along one axis, over the length of that axis.
    fn mean(&mut self, outlet: OutletId, nodes: &mut Nodes) -> Option<(OutletId, usize)> {
        let (sum, length) = self.with_scalar::<Div>(outlet, nodes)?;
        let node = self.inner(sum, nodes);
        let (Reduce { axes, reducer: Reducer::Sum }, &[x]) = (node.op_as::<Reduce>()?, &node.inputs[..]) else { return None };
        let &[axis] = &axes[..] else { return None };
        let all = self.model.outlet_fact(x).ok()?.shape.get(axis)?.to_usize().ok()?;
        (all as f32 == length).then_some((x, axis))
    }

    fn gelu(&mut self, node: &TypedNode, nodes: &mut Nodes) -> Option<Pattern> {
        nodes.clear();
        // Half of a product of two, or a product of one and the half of the other.
        let mut factors = Vec::new();
        let mut half = false;
        let mut rest = vec![OutletId::from(node.id)];
        while let Some(outlet) = rest.pop() {
            let product = self.model.node(outlet.node);
            // `x` itself may be a product; it is read twice.
            let inside = outlet.node == node.id || product.outputs[0].successors.len() == 1;
            match two::<Mul>(product).filter(|_| inside && factors.len() + rest.len() < 3) {
                Some([a, b]) => {
                    if outlet.node != node.id {
                        nodes.insert(outlet.node);
                    }
                    rest.extend([a, b]);
                }
                None if self.scalar(outlet) == Some(0.5) && !half => half = true,
                None => factors.push(outlet),
            }
        }
        let &[a, b] = &factors[..] else { return None };
        let found = [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
            let mut own = Nodes::new();
            let (erf, one) = self.with_scalar::<Add>(gate, &mut own)?;
            let scaled = self.one::<Erf>(erf, &mut own)?;
            let (from, by) = self
                .with_scalar::<Div>(scaled, &mut own)
                .or_else(|| self.with_scalar::<Mul>(scaled, &mut own).map(|(from, by)| (from, 1.0 / by)))?;
            (from == x && one == 1.0 && (by - std::f32::consts::SQRT_2).abs() < 1e-5).then_some((x, own))
        });
        let (x, own) = found.filter(|_| half)?;
        nodes.extend(own);
        Some(Pattern::Gelu { x })
    }

    /// The node that makes `outlet`, counted as one of the pattern.
    fn inner(&self, outlet: OutletId, nodes: &mut Nodes) -> &TypedNode {
        nodes.insert(outlet.node);
        self.model.node(outlet.node)
    }

    /// The input of a function of one value.
    fn one<Op: ElementWiseMiniOp>(&self, outlet: OutletId, nodes: &mut Nodes) -> Option<OutletId> {
        let node = self.inner(outlet, nodes);
        node.op_as::<ElementWiseOp>()?.0.is::<Op>().then_some(())?;
        node.inputs.first().copied()
    }

    /// The other input of an operation with a constant, and the constant. The second input where the order matters.
    fn with_scalar<Op: BinMiniOp>(&mut self, outlet: OutletId, nodes: &mut Nodes) -> Option<(OutletId, f32)> {
        let [a, b] = two::<Op>(self.model.node(outlet.node))?;
        let found = match self.scalar(b) {
            Some(value) => (a, value),
            None if TypeId::of::<Op>() != TypeId::of::<Div>() => (b, self.scalar(a)?),
            None => return None,
        };
        nodes.insert(outlet.node);
        Some(found)
    }

    /// The value of a constant that is one number.
    fn scalar(&mut self, outlet: OutletId) -> Option<f32> {
        let one = self.constant(outlet).is_some_and(|constant| constant.len() == 1);
        one.then(|| self.floats(outlet, "factors").ok()?.0.first().copied()).flatten()
    }
}

/// The inputs of an operation on two tensors.
fn two<Op: BinMiniOp>(node: &TypedNode) -> Option<[OutletId; 2]> {
    node.op_as::<TypedBinOp>()?.0.is::<Op>().then_some(())?;
    node.inputs[..].try_into().ok()
}
