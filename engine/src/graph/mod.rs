//! From tract's nodes to [`Layer`]s, one node at a time but for the [`patterns`]. What is not recognised is no error: it stays tract's, and the reason goes into the report.

mod binary;
mod constant;
mod lower;
mod patterns;
mod quantized;
mod shape;

use std::collections::HashMap;

use tract_core::internal::*;

use crate::ir::{Graph, Kind, Layer, ValueId};
use crate::kernels::Activation;
use crate::{Error, Precision};
use patterns::{Nodes, Pattern};
pub(crate) use quantized::ONLY_INT8;

/// Values of one image in one tensor; what is larger is no feature map, and would overflow an offset sooner or later.
const LARGEST: usize = 1 << 30;

/// A tensor of tract's that the engine has as a value. tract's copy of it is the value in the order channels, rows, columns, whatever shape it goes
/// by: reshapes that keep this order cost nothing. Or it is a map with its channels last, as they are in the engine.
#[derive(Debug, Clone)]
pub(crate) struct Operand {
    /// The value.
    pub value: ValueId,
    /// tract's shape without the batch.
    pub tail: TVec<usize>,
    /// Whether tract's copy is in the order rows, columns, channels; `tail` is just these then.
    pub channels_last: bool,
}

impl Operand {
    /// Whether tract sees a map with channels, height and width.
    fn is_map(&self, graph: &Graph) -> bool {
        let [h, w, c] = graph.values[self.value].shape;
        !self.channels_last && *self.tail == [c, h, w]
    }

    /// The axis of the channels in tract's shape, the batch included; `None` where there is no such.
    fn channel_axis(&self, graph: &Graph) -> Option<usize> {
        let [h, w, c] = graph.values[self.value].shape;
        if self.channels_last {
            return Some(self.tail.len());
        }
        (self.is_map(graph) || ([h, w] == [1, 1] && *self.tail == [c])).then_some(1)
    }
}

/// What became of a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    /// It is this layer, or renames what this layer makes.
    Taken(usize),
    /// It depends on constants alone, or is an input.
    Constant,
    /// It stays tract's, and why.
    Left(String),
}

/// A whole model in terms of layers. Layers of one model, in the model's order; which of them run together is decided later.
#[derive(Debug, Default)]
pub(crate) struct Lowered {
    /// The layers; `inputs` and `outputs` are not filled in yet.
    pub graph: Graph,
    /// By node.
    pub fates: Vec<Fate>,
    /// Tensors known as values.
    pub operands: HashMap<OutletId, Operand>,
    /// Values that come from nodes that stay tract's.
    pub imports: HashMap<ValueId, OutletId>,
}

/// Why a node is not taken.
pub(crate) enum Refusal {
    /// It is not one of ours.
    Left(String),
    /// It is wrong.
    Wrong(String),
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        Refusal::Left(why.to_owned())
    }
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Refusal::Left(why)
    }
}

impl From<TractError> for Refusal {
    fn from(why: TractError) -> Self {
        Refusal::Wrong(format!("{why:#}"))
    }
}

/// What a node turns into.
pub(crate) struct Made {
    what: What,
    /// See [`Operand::channels_last`].
    channels_last: bool,
}

pub(crate) enum What {
    /// A new layer, with the shape of its output.
    Layer { kind: Box<Kind>, activation: Activation, inputs: Vec<ValueId>, shape: [usize; 3] },
    /// Another name for a value.
    Same(ValueId),
}

impl Made {
    fn layer(kind: Kind, inputs: Vec<ValueId>, shape: [usize; 3]) -> Self {
        let what = What::Layer { kind: Box::new(kind), activation: Activation::None, inputs, shape };
        Self { what, channels_last: false }
    }

    /// A layer that does nothing but activate.
    fn activation(activation: Activation, input: ValueId, shape: [usize; 3]) -> Self {
        Self { what: What::Layer { kind: Box::new(Kind::Identity), activation, inputs: vec![input], shape }, channels_last: false }
    }

    fn same(value: ValueId) -> Self {
        Self { what: What::Same(value), channels_last: false }
    }

    /// In the order of what it was made of.
    fn ordered_as(self, operand: &Operand) -> Self {
        Self { channels_last: operand.channels_last, ..self }
    }
}

pub(crate) struct Lowering<'a> {
    model: &'a TypedModel,
    precision: Precision,
    /// The first axis of every tensor that is not a constant.
    batch: TDim,
    constants: HashMap<OutletId, Option<Arc<Tensor>>>,
    out: Lowered,
    maker: HashMap<ValueId, usize>,
    /// By the last node of each, with the others.
    patterns: HashMap<usize, (Pattern, Nodes)>,
    /// The other nodes of patterns, each with its last.
    within: HashMap<usize, usize>,
}

/// Lowers what can be lowered; what is quantised only where it will be computed so.
///
/// # Errors
/// [`Error::Node`] where a node contradicts its own inputs, [`Error::Graph`] where nodes run in a circle.
pub(crate) fn lower(model: &TypedModel, precision: Precision) -> Result<Lowered, Error> {
    let order = model.eval_order().map_err(Error::graph)?;
    let input = model.input_outlets().map_err(Error::graph)?.first().copied();
    let batch = input.and_then(|i| model.outlet_fact(i).ok()).and_then(|f| f.shape.first().cloned());
    let out = Lowered { fates: vec![Fate::Constant; model.nodes.len()], ..Default::default() };
    let batch = batch.unwrap_or_else(|| 1.to_dim());
    let mut lowering = Lowering {
        model,
        precision,
        batch,
        constants: HashMap::new(),
        out,
        maker: HashMap::new(),
        patterns: HashMap::new(),
        within: HashMap::new(),
    };
    // In this order what a constant is made of is known before it is.
    for outlet in order.iter().flat_map(|&id| (0..model.node(id).outputs.len()).map(move |slot| OutletId::new(id, slot))) {
        lowering.constant(outlet);
    }
    lowering.find_patterns(&order);
    for id in order {
        lowering.node(id)?;
    }
    Ok(lowering.out)
}

impl Lowering<'_> {
    fn node(&mut self, id: usize) -> Result<(), Error> {
        let node = self.model.node(id);
        if TypedModel::is_source(&node.op) || (0..node.outputs.len()).all(|slot| self.constant(OutletId::new(id, slot)).is_some()) {
            return Ok(());
        }
        if let Some(&last) = self.within.get(&id) {
            // Until that is taken, and these with it.
            self.out.fates[id] = Fate::Left(format!("belongs to {:?}", self.model.node(last).name));
            return Ok(());
        }
        let pattern = self.patterns.remove(&id);
        let made = if let [output] = &node.outputs[..] {
            let made = match &pattern {
                Some((pattern, _)) => self.pattern(pattern),
                None => self.made(node),
            };
            made.and_then(|made| {
                // What it was quantised from has the same shape, and is a map of floats.
                let fact = if self.quantizes(node) { self.model.outlet_fact(node.inputs[0])? } else { &output.fact };
                let tail = self.tail(fact)?;
                let shape = match &made.what {
                    What::Layer { shape, .. } => *shape,
                    What::Same(value) => self.out.graph.values[*value].shape,
                };
                if shape.iter().product::<usize>() != tail.iter().product() {
                    return Err(Refusal::Wrong(format!("makes {shape:?} (height, width, channels) where {tail:?} is promised")));
                }
                Ok((made, tail))
            })
        } else {
            Err("has several outputs".into())
        };
        let (made, tail) = match made {
            Ok(done) => done,
            Err(Refusal::Left(why)) => {
                self.out.fates[id] = Fate::Left(why);
                return Ok(());
            }
            Err(Refusal::Wrong(what)) => return Err(Error::Node { node: node.name.clone(), op: node.op.name().to_string(), what }),
        };
        let graph = &mut self.out.graph;
        let value = match made.what {
            What::Same(value) => value,
            What::Layer { kind, activation, inputs, shape } => {
                let output = graph.value(&node.name, shape);
                self.maker.insert(output, graph.layers.len());
                graph.layers.push(Layer { name: node.name.clone(), kind: *kind, activation, inputs, output });
                output
            }
        };
        self.out.fates[id] = Fate::Taken(self.maker[&value]);
        for inner in pattern.into_iter().flat_map(|(_, inner)| inner) {
            self.out.fates[inner] = self.out.fates[id].clone();
        }
        self.out.operands.insert(id.into(), Operand { value, tail, channels_last: made.channels_last });
        Ok(())
    }

    /// tract's shape without the batch, if the batch is what it should be and the rest is known.
    fn tail(&self, fact: &TypedFact) -> Result<TVec<usize>, Refusal> {
        if fact.datum_type != f32::datum_type() || !fact.is_plain() {
            return Err(format!("makes {:?}", fact.datum_type).into());
        }
        if fact.shape.first() != Some(&self.batch) {
            return Err(format!("makes {:?}, which does not start with the batch", fact.shape).into());
        }
        let tail: Option<TVec<usize>> = fact.shape[1..].iter().map(|d| usize::try_from(d.to_i64().ok()?).ok()).collect();
        let tail = tail.ok_or_else(|| Refusal::Left(format!("makes {:?}, whose size is not known", fact.shape)))?;
        if tail.contains(&0) {
            return Err("makes an empty tensor".into());
        }
        if tail.iter().try_fold(1usize, |all, &d| all.checked_mul(d)).is_none_or(|all| all > LARGEST) {
            return Err(format!("makes {:?}, more than {LARGEST} values an image", fact.shape).into());
        }
        Ok(tail)
    }

    /// The value behind a tensor; one that tract computes becomes an import.
    fn operand(&mut self, outlet: OutletId) -> Result<Operand, Refusal> {
        if let Some(known) = self.out.operands.get(&outlet) {
            return Ok(known.clone());
        }
        if self.constant(outlet).is_some() {
            return Err("computes with a constant where a feature map is due".into());
        }
        let fact = self.model.outlet_fact(outlet)?;
        let shape = match *self.tail(fact)? {
            [c] => [1, 1, c],
            [c, h, w] => [h, w, c],
            _ => return Err(format!("reads {:?}, which is neither a map nor a vector", fact.shape).into()),
        };
        let value = self.out.graph.value(&self.model.node(outlet.node).name, shape);
        self.out.imports.insert(value, outlet);
        let operand = Operand { value, tail: self.tail(fact)?, channels_last: false };
        self.out.operands.insert(outlet, operand.clone());
        Ok(operand)
    }

    /// A map; `[h, w, c]` beside it.
    fn map(&mut self, outlet: OutletId) -> Result<(ValueId, [usize; 3]), Refusal> {
        let operand = self.operand(outlet)?;
        if !operand.is_map(&self.out.graph) {
            return Err(format!("reads {:?}, which is not a map of channels", operand.tail).into());
        }
        Ok((operand.value, self.out.graph.values[operand.value].shape))
    }

    /// Another name for a value that the engine makes; renaming tract's own is tract's business.
    fn same(&mut self, outlet: OutletId) -> Result<Made, Refusal> {
        let operand = self.operand(outlet)?;
        if self.out.imports.contains_key(&operand.value) {
            return Err("renames a tensor that stays tract's".into());
        }
        Ok(Made::same(operand.value).ordered_as(&operand))
    }
}
