//! The quantised model's files.

use std::path::Path;

use prost::Message;
use tract_onnx::pb::ModelProto;

use super::super::load::open;
use super::super::new_folder::NewFolder;
use super::super::onnx::Source;
use crate::{Error, Result};

/// Writes `proto` with the description and the labels of the model at `path`, and gives the bytes of the graph.
pub(super) fn write(folder: &NewFolder, path: &Path, source: &Source, proto: &ModelProto) -> Result<u64> {
    let proto = ModelProto { producer_name: "lakelens".into(), producer_version: env!("CARGO_PKG_VERSION").into(), ..proto.clone() };
    let bytes = proto.encode_to_vec();
    let mut opened = open(path)?;
    if let Some(labels) = &opened.file.labels {
        folder.copy(&opened.folder.join(labels), labels)?;
    }
    let name = source.path.with_extension("onnx");
    let graph = opened.file.graph.take().unwrap_or_else(|| name.file_name().unwrap_or_default().into());
    folder.write(&graph, &bytes)?;
    if path.is_dir() && opened.file.weights.is_none() {
        // As it is, with its comments: everything that it says is still so.
        folder.copy(&path.join("model.yaml"), Path::new("model.yaml"))?;
    } else {
        (opened.file.weights, opened.file.arch, opened.file.graph) = (None, None, Some(graph));
        let described = serde_json::to_string_pretty(&opened.file).map_err(Error::failed)?;
        folder.write(Path::new("model.yaml"), described.as_bytes())?;
    }
    Ok(bytes.len() as u64)
}
