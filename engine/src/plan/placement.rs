//! Which values live inside others: the parts of a concatenation are written where they end up, and a slice is read where it was cut.

use crate::ir::{Graph, Kind, ValueId};

/// For each value, the one it lies in and at which channel.
pub(super) struct Placement(Vec<Option<(ValueId, usize)>>);

impl Placement {
    /// The value that has a buffer of its own, and the first channel in it.
    pub fn of(&self, value: ValueId) -> (ValueId, usize) {
        let (mut at, mut channel) = (value, 0);
        while let Some((parent, offset)) = self.0[at] {
            at = parent;
            channel += offset;
        }
        (at, channel)
    }
}

/// Decides for every value.
pub(super) fn place(graph: &Graph) -> Placement {
    let mut placement = Placement(vec![None; graph.values.len()]);
    for layer in &graph.layers {
        if let Kind::Slice(from) = layer.kind {
            placement.0[layer.output] = Some((layer.inputs[0], from));
        }
    }
    for layer in graph.layers.iter().rev().filter(|l| l.kind == Kind::Concat) {
        let mut channel = 0;
        for &input in &layer.inputs {
            // A value lives in one place: in further concatenations it is copied.
            if placement.0[input].is_none() && placement.of(layer.output).0 != input {
                placement.0[input] = Some((layer.output, channel));
                if !apart(graph, &placement) {
                    placement.0[input] = None;
                }
            }
            channel += graph.values[input].channels();
        }
    }
    placement
}

/// Whether no layer reads from the buffer that it writes to.
fn apart(graph: &Graph, placement: &Placement) -> bool {
    graph.layers.iter().filter(|l| !matches!(l.kind, Kind::Slice(_))).all(|layer| {
        let (root, first) = placement.of(layer.output);
        let mut channel = first;
        layer.inputs.iter().all(|&input| {
            let here = channel;
            channel += graph.values[input].channels();
            let (of, at) = placement.of(input);
            // A part that stands where it belongs is not moved, and so may share the buffer.
            of != root || (layer.kind == Kind::Concat && at == here)
        })
    })
}
