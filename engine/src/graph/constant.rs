//! Constants, and what follows from constants alone.

use tract_core::internal::*;

use super::{Lowering, Refusal};

impl Lowering<'_> {
    /// The tensor at `outlet`, if it depends on no input.
    pub(super) fn constant(&mut self, outlet: OutletId) -> Option<Arc<Tensor>> {
        if let Some(known) = self.constants.get(&outlet) {
            return known.clone();
        }
        let node = self.model.node(outlet.node);
        let found = node.outputs.get(outlet.slot).and_then(|o| o.fact.konst.clone()).or_else(|| {
            let inputs: Option<TVec<TValue>> = node.inputs.iter().map(|&i| Some(self.constant(i)?.into_tvalue())).collect();
            let inputs = inputs.filter(|i| !i.is_empty())?;
            let outputs = node.op.eval_out_of_plan(inputs).ok()??;
            Some(outputs.into_iter().nth(outlet.slot)?.into_arc_tensor())
        });
        self.constants.insert(outlet, found.clone());
        found
    }

    /// A constant of 32-bit floats and its shape.
    pub(super) fn floats(&mut self, outlet: OutletId, what: &str) -> Result<(Vec<f32>, TVec<usize>), Refusal> {
        let tensor = self.constant(outlet).ok_or_else(|| Refusal::Left(format!("{what} are computed from the input")))?;
        if tensor.datum_type() != f32::datum_type() || tensor.as_plain_ram().is_none() {
            return Err(format!("{what} are {:?}", tensor.datum_type()).into());
        }
        Ok((tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec(), tensor.shape().into()))
    }

    /// One whole number.
    pub(super) fn integer(&mut self, outlet: OutletId) -> Result<i64, Refusal> {
        let tensor = self.constant(outlet).ok_or("an index is computed from the input")?;
        if tensor.len() != 1 {
            return Err("indexes several axes".into());
        }
        let tensor = tensor.cast_to::<i64>().map_err(|_| Refusal::from("an index depends on the batch"))?;
        Ok(tensor.try_as_plain_ram()?.as_slice::<i64>()?[0])
    }
}
