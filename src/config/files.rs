//! What a pipeline or model file names on this machine must be there. Relative paths are relative to the working directory, a model's to its folder.

use std::path::Path;

use super::diagnose::Report;
use super::{ModelFile, Pipeline, Sources};

/// Checks the paths that a pipeline reads from.
pub(super) fn check(pipeline: &Pipeline, report: &mut Report) {
    if let Some(model) = &pipeline.model
        && !model.path.as_os_str().is_empty()
    {
        let path = &model.path;
        let message = match path.metadata() {
            Err(e) => Some(format!("cannot be opened: {e}; make one with `lakelens model`")),
            Ok(m) if m.is_dir() && !path.join("model.yaml").is_file() => Some("is a folder without model.yaml".into()),
            Ok(m) if m.is_file() && path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("onnx")) => {
                Some("is neither a model folder nor an .onnx file".into())
            }
            Ok(_) => None,
        };
        if let Some(message) = message {
            report.error_at(report.mark("model.path"), "model.path", message);
        }
    }
    for (i, source) in pipeline.source.all().iter().enumerate() {
        let source_path = if matches!(pipeline.source, Sources::One(_)) { "source".to_owned() } else { format!("source[{i}]") };
        for (kind, listing) in [("listing", &source.listing), ("lines", &source.lines)] {
            let Some(listing) = listing else { continue };
            let outside = listing.path == "-" || listing.path.is_empty() || listing.path.contains("://");
            // A glob that matches nothing yet is found out when it is listed.
            let glob = kind == "listing" && listing.path.contains(['*', '?', '[', '{']);
            if !outside
                && !glob
                && let Err(e) = Path::new(&listing.path).metadata()
            {
                let at = format!("{source_path}.{kind}.path");
                report.error_at(report.mark(&at), &at, format!("cannot be opened: {e}"));
            }
        }
    }
}

/// Checks the files of a model folder. They must lie in it: a model is one thing to copy and to trust.
pub(super) fn check_model(model: &ModelFile, folder: &Path, report: &mut Report) {
    for (field, file) in [("graph", &model.graph), ("weights", &model.weights), ("labels", &model.labels)] {
        let Some(file) = file else { continue };
        let inside = !file.as_os_str().is_empty()
            && file.components().all(|c| matches!(c, std::path::Component::Normal(_) | std::path::Component::CurDir));
        let message = match folder.join(file).metadata() {
            _ if !inside => "must be a path inside the model's folder".into(),
            Err(e) => format!("cannot be opened: {e}"),
            Ok(m) if !m.is_file() => "is not a file".into(),
            Ok(_) => continue,
        };
        report.error_at(report.mark(field), field, message);
    }
}
