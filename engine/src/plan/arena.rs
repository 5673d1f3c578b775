//! How buffers share memory: two that are never needed at once may lie in the same place.

use super::placement::Placement;
use crate::ir::{Graph, ValueId};

/// Buffers start on cache lines, counted in words of 32 bits.
const ALIGN: usize = 16;

/// First and last layer that needs each buffer (only of values that have one of their own). Inputs come before layer 1.
pub(super) fn lifetimes(graph: &Graph, placement: &Placement) -> Vec<Option<(usize, usize)>> {
    let mut lives = vec![None; graph.values.len()];
    let mut live = |value: ValueId, at: usize| {
        let (root, _) = placement.of(value);
        let (first, last) = lives[root].unwrap_or((at, at));
        lives[root] = Some((at.min(first), at.max(last)));
    };
    graph.inputs.iter().for_each(|&v| live(v, 0));
    for (at, layer) in graph.layers.iter().enumerate() {
        layer.inputs.iter().chain([&layer.output]).for_each(|&v| live(v, at + 1));
    }
    lives
}

/// Offset of each buffer in words of one image, and the size of all. Large ones first, each at the lowest place where no buffer of its time lies:
/// see Pisarchyk and Lee, "Efficient memory management for deep neural net inference" (2020), "greedy by size".
pub(super) fn offsets(graph: &Graph, placement: &Placement, lives: &[Option<(usize, usize)>]) -> (Vec<usize>, usize) {
    let size = |value: ValueId| graph.values[value].words().next_multiple_of(ALIGN);
    let mut order: Vec<(ValueId, (usize, usize))> = lives.iter().enumerate().filter_map(|(v, l)| Some((v, (*l)?))).collect();
    order.retain(|(v, _)| placement.of(*v).0 == *v);
    order.sort_by_key(|&(v, (first, _))| (std::cmp::Reverse(size(v)), first));
    let mut placed: Vec<(usize, usize, (usize, usize))> = Vec::new();
    let mut offsets = vec![0; graph.values.len()];
    let mut total = 0;
    for (value, (first, last)) in order {
        let mut at = 0;
        // `placed` is kept by offset, so the first gap that is large enough is the lowest.
        for &(start, end, (from, to)) in &placed {
            if from <= last && first <= to {
                if at + size(value) <= start {
                    break;
                }
                at = at.max(end);
            }
        }
        let entry = (at, at + size(value), (first, last));
        placed.insert(placed.partition_point(|p| p.0 < at), entry);
        offsets[value] = at;
        total = total.max(entry.1);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::placement::place;
    use super::*;
    use crate::ir::{Kind, Layer};
    use crate::kernels::Activation;

    fn layer(kind: Kind, inputs: Vec<ValueId>, output: ValueId) -> Layer {
        Layer { name: format!("{output}"), kind, activation: Activation::None, inputs, output }
    }

    /// Chains, sums and concatenations over what was made before.
    fn graph() -> impl Strategy<Value = Graph> {
        prop::collection::vec((0u8..4, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1usize..40), 1..30).prop_map(|steps| {
            let mut graph = Graph::default();
            graph.inputs = vec![graph.value("in", [3, 5, 7])];
            for (kind, a, b, channels) in steps {
                let (a, b) = (a.index(graph.values.len()), b.index(graph.values.len()));
                let of = |v: ValueId| graph.values[v].channels();
                let (kind, inputs, channels) = match kind {
                    0 => (Kind::Concat, vec![a, b], of(a) + of(b)),
                    1 => (Kind::Slice(of(a) / 2), vec![a], of(a) - of(a) / 2),
                    2 => (Kind::GlobalSum(1.0), vec![a, b], channels),
                    _ => (Kind::Identity, vec![a], channels),
                };
                let output = graph.value("value", [3, 5, channels]);
                graph.layers.push(layer(kind, inputs, output));
            }
            graph.outputs = vec![graph.values.len() - 1];
            graph
        })
    }

    proptest! {
        #[test]
        fn what_is_needed_at_once_lies_apart(graph in graph()) {
            let placement = place(&graph);
            let lives = lifetimes(&graph, &placement);
            let (offsets, total) = offsets(&graph, &placement, &lives);
            let buffers: Vec<_> = (0..graph.values.len()).filter_map(|v| Some((v, lives[v]?))).filter(|(v, _)| placement.of(*v).0 == *v).collect();
            for (at, &(a, (first, last))) in buffers.iter().enumerate() {
                let end = offsets[a] + graph.values[a].words();
                prop_assert!(end <= total && offsets[a] % ALIGN == 0);
                for &(b, (from, to)) in &buffers[..at] {
                    let apart = end <= offsets[b] || offsets[b] + graph.values[b].words() <= offsets[a];
                    prop_assert!(apart || last < from || to < first, "{a} and {b}");
                }
            }
        }

        #[test]
        fn a_part_lies_within_its_whole(graph in graph()) {
            let placement = place(&graph);
            for value in 0..graph.values.len() {
                let (root, channel) = placement.of(value);
                prop_assert!(channel + graph.values[value].channels() <= graph.values[root].channels());
            }
            for layer in graph.layers.iter().filter(|l| !matches!(l.kind, Kind::Concat | Kind::Slice(_))) {
                let written = placement.of(layer.output).0;
                prop_assert!(layer.inputs.iter().all(|&i| placement.of(i).0 != written));
            }
        }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let mut graph = Graph::default();
        graph.inputs = vec![graph.value("in", [1, 1, 64])];
        for at in 0..10 {
            let output = graph.value("value", [1, 1, 64]);
            graph.layers.push(layer(Kind::Identity, vec![at], output));
        }
        graph.outputs = vec![10];
        let placement = place(&graph);
        let lives = lifetimes(&graph, &placement);
        assert_eq!(offsets(&graph, &placement, &lives).1, 128);
    }

    #[test]
    fn a_dense_block_grows_in_place() {
        // Two lists, of which the second begins with the first.
        let mut graph = Graph::default();
        let of = |graph: &mut Graph, channels| graph.value("value", [2, 2, channels]);
        let (input, a, b, c) = (of(&mut graph, 4), of(&mut graph, 4), of(&mut graph, 2), of(&mut graph, 2));
        let (ab, abc) = (of(&mut graph, 6), of(&mut graph, 8));
        graph.inputs = vec![input];
        graph.layers = vec![
            layer(Kind::Identity, vec![input], a),
            layer(Kind::Identity, vec![input], b),
            layer(Kind::Concat, vec![a, b], ab),
            layer(Kind::Identity, vec![input], c),
            layer(Kind::Concat, vec![ab, c], abc),
        ];
        graph.outputs = vec![abc];
        let placement = place(&graph);
        assert_eq!([a, b, c, ab].map(|v| placement.of(v)), [(abc, 0), (abc, 4), (abc, 6), (abc, 0)]);
    }
}
