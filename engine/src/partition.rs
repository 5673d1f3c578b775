//! Which layers run together: maximal convex parts of the graph. A part is convex if no way from one of its nodes to another leads outside, so that
//! it can run as one operator.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tract_core::internal::*;

use crate::Error;
use crate::graph::{Fate, Lowered};
use crate::ir::{Graph, Kind, ValueId};

/// A tensor of tract's that goes into a part or comes out of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Border {
    pub outlet: OutletId,
    /// Whether tract has the channels last; parts take and give them first.
    pub channels_last: bool,
}

/// One part: its own graph, and the tensors of tract's that go in and come out.
#[derive(Debug)]
pub(crate) struct Part {
    /// The layers, with `inputs` and `outputs`.
    pub graph: Graph,
    /// tract's tensor for each of the graph's inputs.
    pub inputs: Vec<Border>,
    /// Tensors that come out, each with its place in the graph's outputs and the shape in which it does, without the batch. Several may be one value.
    pub outputs: Vec<(Border, usize, TVec<usize>)>,
}

/// Parts of a model, and for each node the part that it belongs to.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    /// In an order in which they can run.
    pub parts: Vec<Part>,
    /// By node.
    pub part_of: Vec<Option<usize>>,
}

/// Cuts what was lowered into parts. Nodes of parts that are not worth their transpositions become [`Fate::Left`].
pub(crate) fn partition(model: &TypedModel, lowered: &mut Lowered) -> Result<Partition, Error> {
    let group_of = groups(model, lowered)?;
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (layer, &group) in group_of.iter().enumerate() {
        members.entry(group).or_default().push(layer);
    }
    let worth: BTreeSet<usize> = members
        .iter()
        .filter(|(_, layers)| layers.iter().any(|&l| matches!(lowered.graph.layers[l].kind, Kind::Conv(_))))
        .map(|(&group, _)| group)
        .collect();
    for fate in &mut lowered.fates {
        if let Fate::Taken(layer) = fate
            && !worth.contains(&group_of[*layer])
        {
            *fate = Fate::Left("stands apart from every convolution".into());
        }
    }
    let mut part_of = vec![None; model.nodes.len()];
    let mut parts = Vec::new();
    for (at, group) in worth.iter().enumerate() {
        let inside = |fate: &Fate| matches!(fate, Fate::Taken(l) if group_of[*l] == *group);
        for (node, fate) in lowered.fates.iter().enumerate() {
            if inside(fate) {
                part_of[node] = Some(at);
            }
        }
        parts.push(part(model, lowered, &members[group], &|node| part_of[node] == Some(at))?);
    }
    Ok(Partition { parts, part_of })
}

/// The number of the part that each layer would belong to. The depth of a layer is the number of tract's own nodes' borders that lie before it:
/// layers of one depth are convex together, since every way out and back in crosses a border; what hangs together within a depth is a part.
fn groups(model: &TypedModel, lowered: &Lowered) -> Result<Vec<usize>, Error> {
    let makers = lowered.graph.makers();
    let mut of_layer = vec![0; lowered.graph.layers.len()];
    let mut of_node = vec![0; model.nodes.len()];
    for id in model.eval_order().map_err(Error::graph)? {
        of_node[id] = match &lowered.fates[id] {
            Fate::Constant => 0,
            Fate::Left(_) => model.node(id).inputs.iter().map(|i| of_node[i.node]).max().unwrap_or(0),
            Fate::Taken(layer) => {
                let depth = |v: &ValueId| match (makers[*v], lowered.imports.get(v)) {
                    (Some(maker), _) => of_layer[maker],
                    (None, Some(outlet)) => of_node[outlet.node] + 1,
                    (None, None) => 0,
                };
                // A node that only renames has its layer's depth already.
                of_layer[*layer] = lowered.graph.layers[*layer].inputs.iter().map(depth).max().unwrap_or(0);
                of_layer[*layer]
            }
        };
    }
    let mut group: Vec<usize> = (0..of_layer.len()).collect();
    fn root(group: &mut [usize], mut at: usize) -> usize {
        while group[at] != at {
            group[at] = group[group[at]];
            at = group[at];
        }
        at
    }
    for (at, layer) in lowered.graph.layers.iter().enumerate() {
        for maker in layer.inputs.iter().filter_map(|&v| makers[v]).filter(|&m| of_layer[m] == of_layer[at]) {
            let (a, b) = (root(&mut group, at), root(&mut group, maker));
            group[a.max(b)] = a.min(b);
        }
    }
    Ok((0..group.len()).map(|at| root(&mut group, at)).collect())
}

fn part(model: &TypedModel, lowered: &mut Lowered, layers: &[usize], inside: &dyn Fn(usize) -> bool) -> Result<Part, Error> {
    let mut graph = Graph::default();
    let mut local: HashMap<ValueId, ValueId> = HashMap::new();
    let mut inputs = Vec::new();
    let made: BTreeSet<ValueId> = layers.iter().map(|&l| lowered.graph.layers[l].output).collect();
    let all = &mut lowered.graph;
    // Of the tensors that are a value, the one that is read here: it is the one that the other part gives out.
    let read_here = |o: &OutletId| !inside(o.node) && model.node(o.node).outputs[o.slot].successors.iter().any(|s| inside(s.node));
    let outlet_of = |value: ValueId| {
        let named = lowered.operands.iter().filter(|(outlet, o)| o.value == value && read_here(outlet)).map(|(outlet, _)| *outlet);
        lowered.imports.get(&value).copied().or_else(|| named.min_by_key(|o| (o.node, o.slot)))
    };
    for &at in layers {
        let mut layer = all.layers[at].clone_without_weights();
        for value in layer.inputs.iter_mut().chain([&mut layer.output]) {
            *value = *local.entry(*value).or_insert_with(|| {
                graph.values.push(all.values[*value].clone());
                if !made.contains(value) {
                    graph.inputs.push(graph.values.len() - 1);
                    inputs.push(outlet_of(*value));
                }
                graph.values.len() - 1
            });
        }
        // The weights move: a model's worth of them is not held twice.
        layer.kind = std::mem::replace(&mut all.layers[at].kind, Kind::Identity);
        graph.layers.push(layer);
    }
    let border = |outlet: OutletId| Border { outlet, channels_last: lowered.operands.get(&outlet).is_some_and(|o| o.channels_last) };
    let inputs: Option<Vec<Border>> = inputs.into_iter().map(|outlet| outlet.map(border)).collect();
    let inputs = inputs.ok_or_else(|| Error::Graph("a value has no tensor".into()))?;
    let model_outputs = model.output_outlets().map_err(Error::graph)?;
    let mut outputs = Vec::new();
    for node in model.nodes.iter().filter(|n| inside(n.id)) {
        let outlet = OutletId::new(node.id, 0);
        let wanted = model_outputs.contains(&outlet) || node.outputs[0].successors.iter().any(|s| !inside(s.node));
        let Some(operand) = lowered.operands.get(&outlet).filter(|_| wanted) else { continue };
        let Some(&value) = local.get(&operand.value) else { continue };
        let place = graph.outputs.iter().position(|&v| v == value).unwrap_or(graph.outputs.len());
        if place == graph.outputs.len() {
            graph.outputs.push(value);
        }
        let mut tail = operand.tail.clone();
        if operand.channels_last {
            tail.rotate_right(1);
        }
        outputs.push((border(outlet), place, tail));
    }
    Ok(Part { graph, inputs, outputs })
}
