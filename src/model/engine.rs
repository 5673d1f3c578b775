//! What the engine is asked for, and what came of it.

use lakelens_engine::kernels::{has_bf16, has_int8};
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
        Precision::Int8 if has_int8() => Ok(Options { precision: lakelens_engine::Precision::Int8, ..Options::default() }),
        Precision::Int8 => Err(Error::config(
            "precision int8: this processor does not multiply bytes (no avx512_vnni); use the model before it was quantised",
        )),
    }
}

/// Gives the engine what it knows of a graph. Records must not say bf16 or int8 of what was computed in f32, so a fall back is loud and changes the precision.
///
/// # Errors
/// As [`options`], and where int8 is asked of a model that is not quantised, or bf16 of one that is.
pub(super) fn with_engine(model: TypedModel, id: &str, precision: Precision) -> Result<WithEngine> {
    let options = options(precision)?;
    let instead = |what: &str| {
        if precision != Precision::F32 {
            tracing::error!("{id}: {what}; it runs in f32, and its records say so");
        }
    };
    let rewritten = lakelens_engine::rewrite(model.clone(), &options);
    if let Ok((_, report)) = &rewritten
        && report.only_int8()
    {
        if precision != Precision::F32 {
            return Err(Error::config(format_args!(
                "precision {}: {id} is quantised; use --precision int8 or f32 (precision: int8 or f32 in the pipeline file), or the model before it was quantised",
                precision.name()
            )));
        }
        tracing::warn!(
            "{id}: the model is quantised, and is many times faster in int8 (--precision int8, or precision: int8 in the pipeline file)"
        );
    }
    match rewritten {
        Ok((_, Report { fallback: Some(why), .. })) if precision != Precision::F32 => {
            instead(&why);
            with_engine(model, id, Precision::F32)
        }
        Ok((_, Report { fallback: Some(_), .. })) => Ok(WithEngine { model, report: None, precision }),
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
        Err(lakelens_engine::Error::NotQuantised) => Err(Error::config(format_args!(
            "precision int8: {id} is not quantised; make a quantised copy with `lakelens model quantize MODEL --images DIR --out DIR`, or use f32 or bf16"
        ))),
        Err(error) => {
            tracing::warn!("{id}: the engine cannot take this graph, which runs on tract alone, and slower: {error}");
            instead("tract has no other precision");
            Ok(WithEngine { model, report: None, precision: Precision::F32 })
        }
    }
}
