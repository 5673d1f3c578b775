//! What the engine is asked for, and what came of it.

use lakelens_engine::kernels::has_bf16;
use lakelens_engine::{Options, Report};
use tract_onnx::prelude::TypedModel;

use crate::config::Precision;
use crate::{Error, Result};

/// A model with the engine's operators, where they carry it.
pub(super) struct WithEngine {
    pub model: TypedModel,
    /// What the engine did; `None` where the network runs on tract alone.
    pub report: Option<Report>,
    /// What it computes with: not what was asked for, where the engine had to fall back.
    pub precision: Precision,
}

/// What the engine is asked for at a precision. The one place to say so.
///
/// # Errors
/// [`Error::Config`] where the build or the processor lacks the precision.
pub(super) fn options(precision: Precision) -> Result<Options> {
    match precision {
        Precision::F32 => Ok(Options::default()),
        Precision::Bf16 if has_bf16() => Ok(Options { precision: lakelens_engine::Precision::Bf16, ..Options::default() }),
        Precision::Bf16 => Err(Error::config("precision bf16: this processor does not multiply bf16 (no avx512_bf16); use f32")),
        Precision::Int8 => Err(Error::config("precision int8: int8 is not in this build; use f32 or bf16")),
    }
}

/// Gives the engine what it knows of a graph. Records must not say bf16 of what was computed in f32, so a fall back is loud and changes the precision.
///
/// # Errors
/// As [`options`].
pub(super) fn with_engine(model: TypedModel, id: &str, precision: Precision) -> Result<WithEngine> {
    let options = options(precision)?;
    let instead = |what: &str| {
        if precision != Precision::F32 {
            tracing::error!("{id}: {what}; it runs in f32, and its records say so");
        }
    };
    match lakelens_engine::rewrite(model.clone(), &options) {
        Ok((_, Report { fallback: Some(why), .. })) if precision != Precision::F32 => {
            instead(&why);
            with_engine(model, id, Precision::F32)
        }
        // Transposing at the edges of many small parts costs more than they save.
        Ok((_, report)) if report.taken.len() < report.left.len() => {
            let (taken, left) = (report.taken.len(), report.left.len());
            tracing::info!("{id}: the engine knows {taken} of its nodes and leaves {left}; it runs on tract alone");
            instead("tract has no other precision");
            Ok(WithEngine { model, report: None, precision: Precision::F32 })
        }
        Ok((rewritten, report)) => {
            tracing::debug!("{id}: the engine runs {} nodes and leaves {} to tract", report.taken.len(), report.left.len());
            Ok(WithEngine { model: rewritten, report: Some(report), precision })
        }
        Err(error) => {
            tracing::warn!("{id}: the engine cannot take this graph, which runs on tract alone, and slower: {error}");
            instead("tract has no other precision");
            Ok(WithEngine { model, report: None, precision: Precision::F32 })
        }
    }
}
