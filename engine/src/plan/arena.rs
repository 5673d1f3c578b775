//! How buffers share memory: two that are never needed at once may lie in the same place.

use super::placement::Placement;
use crate::ir::{Graph, ValueId};

/// Buffers start on cache lines, counted in 32-bit elements.
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

/// Offset of each buffer in elements of one image, and the size of all. Large ones first, each at the lowest place where no buffer of its time lies:
/// see Pisarchyk and Lee, "Efficient memory management for deep neural net inference" (2020), "greedy by size".
pub(super) fn offsets(graph: &Graph, placement: &Placement, lives: &[Option<(usize, usize)>]) -> (Vec<usize>, usize) {
    let size = |value: ValueId| graph.values[value].len().next_multiple_of(ALIGN);
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
