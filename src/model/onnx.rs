//! An ONNX file as a protobuf: reading it, the files that it leans on, and its digest.

use std::collections::{BTreeSet, HashSet};
use std::path::{Component, Path, PathBuf};

use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, ValueInfoProto, tensor_proto, tensor_shape_proto, type_proto};

use super::digest;
use crate::{Context, Error, Result};

/// A graph that was read, with where its external data lies.
pub(super) struct Source {
    /// The decoded file. External tensors are still external.
    pub proto: ModelProto,
    /// The file.
    pub path: PathBuf,
    /// `sha256` over the graph and its external data, 64 hex digits.
    pub digest: String,
    /// Bytes of the graph and its external data.
    pub bytes: u64,
}

impl Source {
    /// Reads the graph at `path`; its external data must lie beneath `folder`.
    pub fn read(path: &Path, folder: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).context(format_args!("reading the graph {}", path.display()))?;
        let proto =
            ModelProto::decode(bytes.as_slice()).map_err(|e| Error::config(format_args!("{} is not an ONNX file: {e}", path.display())))?;
        let Some(graph) = proto.graph.as_ref() else {
            return Err(Error::config(format_args!("{} is not an ONNX file: it has no graph", path.display())));
        };
        let folder = folder.canonicalize().context(format_args!("opening {}", folder.display()))?;
        // ONNX resolves external data beside the graph, which may itself lie in a subfolder of the model's.
        let beside = path.parent().unwrap_or(Path::new("."));
        let beside = if beside.as_os_str().is_empty() { Path::new(".") } else { beside };
        let mut names = BTreeSet::new();
        external(graph, &mut names);
        for node in proto.functions.iter().flat_map(|f| &f.node) {
            node.attribute.iter().for_each(|a| in_attribute(a, &mut names));
        }
        let mut total = bytes.len() as u64;
        let mut files = vec![(file_name(path), digest::of_bytes(&bytes))];
        for name in names {
            let file = inside(beside, Path::new(&name))
                .map_err(|e| Error::config(format_args!("{}: external data {name:?}: {e}", path.display())))?;
            if !file.starts_with(&folder) {
                return Err(Error::config(format_args!(
                    "{}: external data {name:?} lies outside the model's folder {}",
                    path.display(),
                    folder.display()
                )));
            }
            let (hex, size) = digest::of_file(&file)?;
            total += size;
            files.push((name, hex));
        }
        Ok(Self { proto, path: path.to_path_buf(), digest: digest::of_files(&files), bytes: total })
    }

    /// The graph. [`Source::read`] made sure that there is one.
    pub fn graph(&self) -> &GraphProto {
        static EMPTY: std::sync::LazyLock<GraphProto> = std::sync::LazyLock::new(GraphProto::default);
        self.proto.graph.as_ref().unwrap_or(&EMPTY)
    }

    /// The graph, to be changed.
    pub fn graph_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.get_or_insert_default()
    }

    /// The inputs that the user feeds: older files list their weights among the inputs as well.
    pub fn inputs(&self) -> Vec<&ValueInfoProto> {
        let weights: HashSet<&str> = self.graph().initializer.iter().map(|t| t.name.as_str()).collect();
        self.graph().input.iter().filter(|i| !weights.contains(i.name.as_str())).collect()
    }

    /// Class names that the file's metadata carries under one of the usual keys: a list, a map from index to name, or lines.
    pub fn labels(&self) -> Option<Vec<String>> {
        const KEYS: [&str; 5] = ["labels", "classes", "class_names", "names", "id2label"];
        KEYS.iter()
            .filter_map(|key| self.proto.metadata_props.iter().find(|p| p.key.eq_ignore_ascii_case(key)))
            .find_map(|p| super::labels::from_metadata(&p.value))
    }
}

/// A value's element type and its dimensions, `None` for one that is symbolic. `None` in all where the file declares no shape.
pub(super) fn declared(value: &ValueInfoProto) -> Option<(i32, Vec<Option<usize>>)> {
    use tensor_shape_proto::dimension::Value;
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    let dims = tensor.shape.as_ref()?.dim.iter().map(|d| match d.value {
        Some(Value::DimValue(n)) if n > 0 => usize::try_from(n).ok(),
        _ => None,
    });
    Some((tensor.elem_type, dims.collect()))
}

fn external(graph: &GraphProto, names: &mut BTreeSet<String>) {
    let sparse = graph.sparse_initializer.iter().flat_map(|s| [s.values.as_ref(), s.indices.as_ref()]).flatten();
    graph.initializer.iter().chain(sparse).for_each(|t| in_tensor(t, names));
    // The protobuf decoder bounds the nesting, so the recursion is bounded too.
    graph.node.iter().flat_map(|n| &n.attribute).for_each(|a| in_attribute(a, names));
}

fn in_attribute(attribute: &tract_onnx::pb::AttributeProto, names: &mut BTreeSet<String>) {
    let sparse = attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors);
    let sparse = sparse.flat_map(|s| [s.values.as_ref(), s.indices.as_ref()]).flatten();
    attribute.t.iter().chain(&attribute.tensors).chain(sparse).for_each(|t| in_tensor(t, names));
    attribute.g.iter().chain(&attribute.graphs).for_each(|g| external(g, names));
}

fn in_tensor(tensor: &TensorProto, names: &mut BTreeSet<String>) {
    if tensor.data_location == Some(tensor_proto::DataLocation::External as i32) {
        names.extend(tensor.external_data.iter().filter(|e| e.key == "location").map(|e| e.value.clone()));
    }
}

/// The regular file `relative` beneath `folder`, symlinks resolved; the text says why it is none.
pub(super) fn inside(folder: &Path, relative: &Path) -> std::result::Result<PathBuf, String> {
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !plain || relative.as_os_str().is_empty() {
        return Err("the path must be relative and stay inside the model's folder".into());
    }
    let folder = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
    let file = folder.join(relative).canonicalize().map_err(|e| format!("{}: {e}", folder.join(relative).display()))?;
    if !file.starts_with(&folder) {
        return Err(format!("it is a link that leads outside the model's folder, to {}", file.display()));
    }
    if !file.is_file() {
        return Err(format!("{} is not a regular file", file.display()));
    }
    Ok(file)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The numbers of a tensor of 32-bit floats that lies in the file itself.
pub(super) fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != tensor_proto::DataType::Float as i32 || tensor.data_location.unwrap_or(0) != 0 {
        return None;
    }
    let values: Vec<f32> = if tensor.float_data.is_empty() {
        tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    } else {
        tensor.float_data.clone()
    };
    (values.len() as i64 == tensor.dims.iter().product::<i64>()).then_some(values)
}

/// A tensor of the given type and its bytes.
pub(super) fn tensor(name: &str, dims: &[usize], kind: tensor_proto::DataType, raw_data: Vec<u8>) -> TensorProto {
    let dims = dims.iter().map(|&d| d as i64).collect();
    TensorProto { name: name.to_owned(), dims, data_type: kind as i32, raw_data, ..Default::default() }
}
