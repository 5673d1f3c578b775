//! The whole way: a model in, a model with the engine's segments out.

use std::collections::HashMap;

use tract_core::internal::*;

use crate::Error;
use crate::graph::{Fate, lower};
use crate::ir::{Graph, Kind};
use crate::op::Segment;
use crate::partition::{Border, Part, partition};
use crate::plan::Plan;
use crate::precision::Precision;
use crate::report::{LayerReport, Left, Report, SegmentReport};
use crate::{choose, fuse, precision, selftest};

/// How to rewrite.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is computed with.
    pub precision: Precision,
    /// Whether a layer of each kind is compared with tract's own operators before anything runs.
    pub self_test: bool,
    /// Largest difference over largest value that the comparison forgives; what is kept in bf16 is forgiven its rounding, too.
    pub tolerance: f32,
    /// Bytes of packed weights, at most this many times those of the plain ones: Winograd's method trades memory for time.
    pub weights: f64,
    /// Images of a batch that go through the layers together; more of them share weights in the cache, and need as much more memory.
    pub together: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { precision: Precision::F32, self_test: true, tolerance: 1e-4, weights: 1.5, together: 1 }
    }
}

/// Replaces every convex part of `model` that the engine knows by a [`Segment`]. The model is one as it comes out of an importer: typed, neither
/// decluttered nor optimised. Its first axis is the batch, a number or a symbol. The result is optimised and run like any other.
///
/// # Errors
/// [`Error::Node`] names a node that contradicts itself; [`Error::Graph`] is for a graph that is wrong as a whole. A node that the engine merely
/// does not know is no error: it stays, and the report says why. [`Error::Processor`] where the processor lacks the precision, [`Error::NotQuantised`] where int8 has nothing to compute. Nor is a layer that fails the self-test: the model comes back as it was.
pub fn rewrite(model: TypedModel, options: &Options) -> Result<(TypedModel, Report), Error> {
    precision::check(options.precision)?;
    let mut lowered = lower(&model, options.precision)?;
    let partition = partition(&model, &mut lowered)?;
    let mut report = Report::default();
    for (node, fate) in model.nodes.iter().zip(&lowered.fates) {
        match fate {
            Fate::Taken(_) => report.taken.push(node.name.clone()),
            Fate::Constant => (),
            Fate::Left(why) => report.left.push(Left { node: node.name.clone(), op: node.op.name().to_string(), why: why.clone() }),
        }
    }
    let mut segments = Vec::new();
    let mut quantised = false;
    for (at, part) in partition.parts.into_iter().enumerate() {
        let Part { mut graph, inputs, outputs } = part;
        fuse::fuse(&mut graph);
        precision::apply(&mut graph, options.precision);
        quantised |= precision::multiplies_bytes(&graph);
        choose::choose(&mut graph, options);
        precision::round_weights(&mut graph);
        if options.self_test
            && let Err(what) = selftest::check(&graph, options.tolerance)
        {
            tracing::error!(%what, "the engine computes something else than tract on this machine; the model runs on tract alone, and slower");
            return Ok((model, Report { fallback: Some(what), ..Report::default() }));
        }
        let name = format!("engine.segment.{at}");
        let layers = graph.layers.iter().map(|l| layer_report(&graph, l)).collect();
        let plan = Plan::new(graph);
        report.segments.push(SegmentReport {
            name: name.clone(),
            layers,
            weight_bytes: plan.weight_bytes(),
            arena_bytes: plan.arena_bytes(),
        });
        let shapes = outputs.iter().map(|(_, place, tail)| (*place, tail.clone())).collect();
        let outlets = outputs.iter().map(|(border, ..)| *border).collect();
        segments.push(Cut { segment: Segment::new(name.clone(), plan, shapes, options.together), name, inputs, outputs: outlets });
    }
    if options.precision == Precision::Int8 && !quantised {
        return Err(Error::NotQuantised);
    }
    let model = assemble(&model, &partition.part_of, &segments).map_err(Error::graph)?;
    Ok((model, report))
}

fn layer_report(graph: &Graph, layer: &crate::ir::Layer) -> LayerReport {
    let kernel = match &layer.kind {
        Kind::Conv(conv) => Some(conv.shape.kernel),
        Kind::MaxPool(window) | Kind::AvgPool(window, _) => Some(window.kernel),
        _ => None,
    };
    LayerReport {
        name: layer.name.clone(),
        kind: layer.kind.name(),
        inputs: layer.inputs.iter().map(|&v| graph.values[v].shape).collect(),
        output: graph.values[layer.output].shape,
        kernel,
        algorithm: if let Kind::Conv(conv) = &layer.kind { Some(conv.algorithm) } else { None },
        flops: Graph::flops(layer),
    }
}

/// A segment and tract's tensors around it.
struct Cut {
    segment: Segment,
    name: String,
    inputs: Vec<Border>,
    outputs: Vec<Border>,
}

/// A model of the nodes that stay and the segments, each after what it reads. What nothing reads any more is not in it.
fn assemble(model: &TypedModel, part_of: &[Option<usize>], cuts: &[Cut]) -> TractResult<TypedModel> {
    let mut out = TypedModel { symbols: model.symbols.clone(), properties: model.properties.clone(), ..TypedModel::default() };
    let mut moved: HashMap<OutletId, OutletId> = HashMap::new();
    // Inputs come first and all of them, in their order.
    for &input in model.input_outlets()? {
        let id = out.add_node(model.node(input.node).name.clone(), model.node(input.node).op.clone(), facts(model, input.node))?;
        moved.insert(input, id.into());
    }
    let mut wanted: Vec<(OutletId, bool)> = model.output_outlets()?.iter().rev().map(|&o| (o, false)).collect();
    let limit = 4 * (model.nodes.iter().map(|n| n.inputs.len() + 1).sum::<usize>() + wanted.len()) + 16;
    let mut steps = 0;
    while let Some((outlet, inputs_are_there)) = wanted.pop() {
        if moved.contains_key(&outlet) {
            continue;
        }
        steps += 1;
        ensure!(steps <= limit, "node {:?} depends on itself", model.node(outlet.node).name);
        let cut = part_of[outlet.node].map(|at| &cuts[at]);
        let inputs: TVec<OutletId> = match cut {
            Some(cut) => cut.inputs.iter().map(|i| i.outlet).collect(),
            None => model.node(outlet.node).inputs.iter().copied().collect(),
        };
        if !inputs_are_there {
            wanted.push((outlet, true));
            wanted.extend(inputs.iter().filter(|i| !moved.contains_key(i)).map(|&i| (i, false)));
            continue;
        }
        let mut inputs: TVec<OutletId> =
            inputs.iter().map(|i| moved.get(i).copied().context("an input is missing")).collect::<TractResult<_>>()?;
        match cut {
            Some(cut) => {
                let name = out.unique_name(cut.name.as_str()).into_owned();
                for (at, input) in inputs.iter_mut().enumerate().filter(|(at, _)| cut.inputs[*at].channels_last) {
                    let named = out.unique_name(format!("{name}.first.{at}")).into_owned();
                    *input = out.wire_node(named, AxisOp::Move(3, 1), &[*input])?[0];
                }
                let made = out.wire_node(&name, cut.segment.clone(), &inputs)?;
                for (at, (border, mut made)) in cut.outputs.iter().zip(made).enumerate() {
                    if border.channels_last {
                        let named = out.unique_name(format!("{name}.last.{at}")).into_owned();
                        made = out.wire_node(named, AxisOp::Move(1, 3), &[made])?[0];
                    }
                    moved.insert(border.outlet, made);
                }
                ensure!(moved.contains_key(&outlet), "{} does not make {outlet:?}", cut.name);
            }
            None => {
                let node = model.node(outlet.node);
                let id = out.add_node(node.name.clone(), node.op.clone(), facts(model, node.id))?;
                for (slot, input) in inputs.into_iter().enumerate() {
                    out.add_edge(input, InletId::new(id, slot))?;
                }
                moved.extend((0..node.outputs.len()).map(|slot| (OutletId::new(node.id, slot), OutletId::new(id, slot))));
            }
        }
    }
    let places = |outlets: &[OutletId]| {
        outlets.iter().map(|o| moved.get(o).copied().context("an output is missing")).collect::<TractResult<Vec<_>>>()
    };
    let (inputs, outputs) = (places(model.input_outlets()?)?, places(model.output_outlets()?)?);
    for (outlet, label) in &model.outlet_labels {
        if let Some(&to) = moved.get(outlet) {
            out.set_outlet_label(to, label.clone())?;
        }
    }
    out.set_input_outlets(&inputs)?;
    out.select_output_outlets(&outputs)?;
    Ok(out)
}

fn facts(model: &TypedModel, node: usize) -> TVec<TypedFact> {
    model.node(node).outputs.iter().map(|o| o.fact.clone()).collect()
}
