//! The pipeline file and the model file: read with every mistake at once, each with its line and column.
//!
//! YAML becomes a tree with positions ([`read`]), which is held against the JSON Schema of the data types ([`walk`]) and becomes data; then what no
//! worker could keep is refused ([`check`]), and what is not there ([`files`]).

mod check;
mod check_sinks;
mod delivery;
mod diagnose;
mod files;
mod model;
mod pipeline;
mod preprocess;
mod read;
mod redact;
mod schema;
mod sinks;
mod sources;
mod units;
mod walk;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use delivery::effective_delivery;
pub use diagnose::{Diagnostic, Diagnostics, Mark, Warning};
pub use model::*;
pub use pipeline::*;
pub use preprocess::*;
pub use read::Env;
pub use redact::redacted;
pub use schema::{SchemaOf, schema};
pub use sinks::*;
pub use sources::*;
pub use units::{ByteSize, Moment, Pixels, Span};

use diagnose::Report;

/// A pipeline file that was read and checked.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// What works and is perhaps not meant.
    pub warnings: Vec<Warning>,
    /// The file's text, for [`redacted`].
    pub text: String,
}

/// Reads and checks a pipeline file, with the process's environment and the files that it names. Warnings go to the log.
///
/// # Errors
/// Every mistake in it. As a [`crate::Error`] they are wrong configuration, exit code 2.
pub fn load(path: impl AsRef<Path>) -> Result<Pipeline, Diagnostics> {
    let path = path.as_ref();
    let loaded = load_whole(path)?;
    for warning in &loaded.warnings {
        tracing::warn!("{}:{warning}", path.display());
    }
    Ok(loaded.pipeline)
}

/// As [`load`], and gives the warnings and the text back.
///
/// # Errors
/// Every mistake in it.
pub fn load_whole(path: impl AsRef<Path>) -> Result<Loaded, Diagnostics> {
    load_with(path, |_| Ok(()))
}

/// As [`load_whole`], and tries the model that the pipeline names with `try_model`, unless it is known already that it cannot be opened.
///
/// # Errors
/// Every mistake in it, that of the model included.
pub fn load_with(path: impl AsRef<Path>, try_model: impl FnOnce(&Pipeline) -> crate::Result<()>) -> Result<Loaded, Diagnostics> {
    let path = path.as_ref();
    let text = text(path)?;
    let mut report = Report::default();
    let pipeline = pipeline_of(&text, &process_env, &mut report);
    if let Some(pipeline) = &pipeline {
        files::check(pipeline, &mut report);
        if !report.errors.iter().any(|e| e.path == "model" || e.path.starts_with("model."))
            && let Err(e) = try_model(pipeline)
        {
            report.error_at(report.mark("model.path"), "model.path", e.to_string());
        }
    }
    let (pipeline, warnings) = finish(pipeline, report, &path.display().to_string())?;
    Ok(Loaded { pipeline, warnings, text })
}

/// Reads and checks a pipeline from its text. Looks at nothing outside it but `env`.
///
/// # Errors
/// Every mistake in it.
pub fn parse(text: &str, file_name: &str, env: Env) -> Result<(Pipeline, Vec<Warning>), Diagnostics> {
    let mut report = Report::default();
    let pipeline = pipeline_of(text, env, &mut report);
    finish(pipeline, report, file_name)
}

/// Reads and checks a `model.yaml`, and that the files that it names lie beside it. Variables are not replaced: a model may come from a stranger.
///
/// # Errors
/// Every mistake in it.
pub fn load_model(path: impl AsRef<Path>) -> Result<ModelFile, Diagnostics> {
    let path = path.as_ref();
    let text = text(path)?;
    let mut report = Report::default();
    let model = model_of(&text, &|_| None, &mut report);
    if let Some(model) = &model {
        files::check_model(model, path.parent().unwrap_or(Path::new("")), &mut report);
    }
    finish(model, report, &path.display().to_string()).map(|(model, _)| model)
}

fn pipeline_of(text: &str, env: Env, report: &mut Report) -> Option<Pipeline> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| schema(SchemaOf::Pipeline));
    let pipeline = typed(text, &SCHEMA, env, report)?;
    check::check(&pipeline, report);
    Some(pipeline)
}

fn model_of(text: &str, env: Env, report: &mut Report) -> Option<ModelFile> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| schema(SchemaOf::Model));
    let model: ModelFile = typed(text, &SCHEMA, env, report)?;
    model::check(&model, report);
    Some(model)
}

/// Reads `text` as a `T`, whose schema is `schema`. Gives one also where optional fields were wrong, so that what is left can be checked, too.
fn typed<T: DeserializeOwned>(text: &str, schema: &Value, env: Env, report: &mut Report) -> Option<T> {
    let node = read::read(text, env, report)?;
    report.marks.insert(String::new(), node.mark);
    let value = walk::walk(&node, schema, report)?;
    match serde_json::from_value(value) {
        Ok(value) => Some(value),
        Err(_) if !report.errors.is_empty() => None,
        Err(e) => {
            // The schema let pass what the type refuses; the text may hold a value, so only its kind is told.
            report.error_at(Mark::START, "", format!("cannot be read ({:?} error)", e.classify()));
            None
        }
    }
}

fn finish<T>(value: Option<T>, report: Report, file: &str) -> Result<(T, Vec<Warning>), Diagnostics> {
    let warnings = report.finish(file)?;
    value.map(|v| (v, warnings)).ok_or_else(|| unreadable(file, "cannot be read".into()))
}

fn text(path: &Path) -> Result<String, Diagnostics> {
    use std::io::Read;
    let file = path.display().to_string();
    let mut bytes = Vec::new();
    // Opening a pipe that nobody writes into would wait for ever.
    if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        return Err(unreadable(&file, "is a pipe or a device; give a regular file".into()));
    }
    // A huge file given by mistake is not to be read to its end; the reader refuses what is too large.
    let read = std::fs::File::open(path).and_then(|f| f.take(read::MAX_FILE as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|e| unreadable(&file, format!("cannot be opened: {e}")))?;
    String::from_utf8(bytes).map_err(|e| {
        let good = String::from_utf8_lossy(&e.as_bytes()[..e.utf8_error().valid_up_to()]);
        let last = good.rsplit('\n').next().unwrap_or_default();
        let mark = Mark { line: 1 + good.matches('\n').count(), column: 1 + last.chars().count() };
        unreadable_at(mark, &file, "is not UTF-8 from here on; save the file as UTF-8".into())
    })
}

fn unreadable(file: &str, message: String) -> Diagnostics {
    unreadable_at(Mark::START, file, message)
}

fn unreadable_at(mark: Mark, file: &str, message: String) -> Diagnostics {
    let error = Diagnostic { mark, path: String::new(), message };
    Diagnostics { file: diagnose::shown(file), errors: vec![error], more: 0, warnings: Vec::new() }
}

fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
