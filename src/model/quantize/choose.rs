//! Which layers stay in floats: none if that is good enough, else those that lose most for the work that they are.

use std::collections::HashSet;

use tract_onnx::pb::ModelProto;

use super::super::compare::{Bar, Comparison, cosine};
use super::super::tract::Raw;
use super::{FloatLayer, Work};
use crate::{Error, Result};

/// Pictures that each layer is tried on.
const TRIED_ON: usize = 8;

/// The graph that is best.
pub(super) struct Chosen {
    /// In integers.
    pub proto: ModelProto,
    /// What is not.
    pub float: Vec<FloatLayer>,
}

/// Quantises so many layers that the answers to the calibration pictures, which are `due`, still reach the bar.
///
/// # Errors
/// [`Error::Failed`] where not one layer can be quantised so.
pub(super) fn choose(work: &Work<'_>, due: &[Raw], calibration: &[usize], bar: &Bar) -> Result<Chosen> {
    let right = work.answers(due);
    let attempt = |float: &[FloatLayer]| -> Result<(ModelProto, bool)> {
        let proto = work.candidate(&float.iter().map(|f| f.index).collect());
        let compared = Comparison::of(&right, &work.answers(&work.run(&proto, calibration)?));
        tracing::info!(
            "with {} of {} layers in floats: of the calibration pictures that f32 is sure of, the same label on {} of {}{}",
            float.len(),
            work.layers.len(),
            compared.same_label,
            compared.sure,
            compared.cosine_mean.map_or_else(String::new, |cosine| format!(", mean cosine {cosine:.4}"))
        );
        Ok((proto, compared.reaches(bar)))
    };
    let (proto, reached) = attempt(&[])?;
    if reached {
        return Ok(Chosen { proto, float: vec![] });
    }
    let mut layers = losses(work, due, calibration)?;
    // The fewest operations for what is won.
    layers.sort_by(|a, b| (b.loss * a.flops.max(1) as f64).total_cmp(&(a.loss * b.flops.max(1) as f64)).then(a.index.cmp(&b.index)));
    // Twice as many each time until it is enough, then halving the distance to what was not.
    let (mut enough, mut short, mut best) = (1, 0, None);
    while best.is_none() {
        let (proto, reached) = attempt(&layers[..enough])?;
        if reached {
            best = Some(proto);
        } else if enough == layers.len() {
            return Err(Error::failed("not even one layer can be quantised without falling short of the bar; nothing was written"));
        } else {
            (short, enough) = (enough, (2 * enough).min(layers.len()));
        }
    }
    while enough - short > 1 {
        let middle = short.midpoint(enough);
        let (proto, reached) = attempt(&layers[..middle])?;
        if reached {
            (enough, best) = (middle, Some(proto));
        } else {
            short = middle;
        }
    }
    if enough == layers.len() {
        return Err(Error::failed("not even one layer can be quantised without falling short of the bar; nothing was written"));
    }
    layers.truncate(enough);
    Ok(Chosen { proto: best.unwrap_or_default(), float: layers })
}

/// What each layer loses when it alone is quantised.
fn losses(work: &Work<'_>, due: &[Raw], calibration: &[usize]) -> Result<Vec<FloatLayer>> {
    let some = &calibration[..calibration.len().min(TRIED_ON)];
    tracing::info!("trying each layer alone: layers {}, pictures {}", work.layers.len(), some.len());
    let all: HashSet<usize> = (0..work.layers.len()).collect();
    let loss = |(index, layer): (usize, &super::Layer)| {
        let mut float = all.clone();
        float.remove(&index);
        let got = work.run(&work.candidate(&float), some)?;
        let mean = |of: fn(&Raw) -> &[f32]| {
            let cosines = due.iter().zip(&got).filter_map(|(a, b)| cosine(of(a), of(b)));
            cosines.fold((0.0, 0.0), |(sum, count), c| (sum + c, count + 1.0))
        };
        // The classifier changes the logits only; a network without an embedding has nothing else.
        let lost =
            [mean(|raw| &raw.embedding), mean(|raw| &raw.logits)].map(|(sum, count)| if count > 0.0 { 1.0 - sum / count } else { 0.0 });
        Ok(FloatLayer { index, name: layer.name.clone(), flops: work.flops(layer), loss: lost[0].max(lost[1]) })
    };
    work.layers.iter().enumerate().map(loss).collect()
}
