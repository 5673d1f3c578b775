//! Weights as they were published, made into a safetensors file with torchvision's names.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::torch;
use crate::{Context, Error, Result};

/// What a file is, told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A header in JSON, and the tensors.
    Safetensors,
    /// What `torch.save` writes.
    Torch,
    /// A graph.
    Onnx,
}

/// Whether the file at `path` is neither a safetensors file nor one of torch, and so, if a model, a graph.
///
/// # Errors
/// [`Error::Failed`] if it cannot be read.
pub fn is_graph(path: &Path) -> Result<bool> {
    Ok(form(path)? == Form::Onnx)
}

fn form(path: &Path) -> Result<Form> {
    let mut head = Vec::new();
    let doing = || format!("reading {}", path.display());
    File::open(path).and_then(|file| file.take(16).read_to_end(&mut head)).context(doing())?;
    Ok(form_of(&head))
}

fn form_of(head: &[u8]) -> Form {
    match head {
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, 0x8a, 10, ..] => Form::Torch,
        [length @ .., b'{', _, _, _, _, _, _, _] if length.len() == 8 => Form::Safetensors,
        _ => Form::Onnx,
    }
}

/// Gives a safetensors file with torchvision's names that has the tensors at `path`: the file itself where it is one, or a new one in `folder`.
///
/// # Errors
/// [`Error::Config`] if the file at `path` is damaged, or does more than hold tensors; `name` is what the user knows it by.
pub(super) fn as_safetensors(path: &Path, name: &str, folder: &Path) -> Result<PathBuf> {
    let out = folder.join("weights.safetensors");
    let wrong = |e: String| Error::config(format_args!("{name}: {e}"));
    match form(path)? {
        Form::Onnx => Err(wrong("it is neither a safetensors file nor one of torch".into())),
        Form::Safetensors => {
            let bytes = std::fs::read(path).context(format_args!("reading {}", path.display()))?;
            let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(format!("it cannot be read as safetensors: {e}")))?;
            if !file.names().iter().any(|name| torchvisions(name).is_some()) {
                return Ok(path.to_owned());
            }
            let named = file.tensors().into_iter().map(|(name, view)| (torchvisions(&name).unwrap_or(name), view));
            safetensors::serialize_to_file(named, None, &out).map_err(|e| wrong(format!("writing it anew failed: {e}")))?;
            Ok(out)
        }
        Form::Torch => {
            let mut file = File::open(path).context(format_args!("opening {}", path.display()))?;
            let length = file.metadata().context(format_args!("opening {}", path.display()))?.len();
            if length > torch::MAX_BYTES {
                return Err(wrong(format!("it has {length} bytes; at most 2 GiB are read")));
            }
            let tensors = torch::parse(&mut file, length).map_err(|e| wrong(format!("it cannot be read as a file of torch: {e}")))?;
            let view = |(name, tensor): (&String, &'_ torch::Tensor)| -> Result<_> {
                Ok((torchvisions(name).unwrap_or_else(|| name.clone()), dtype(tensor.kind)))
            };
            let mut views = Vec::with_capacity(tensors.len());
            for (name, tensor) in &tensors {
                let (name, dtype) = view((name, tensor))?;
                views.push((name, TensorView::new(dtype, tensor.dims.clone(), &tensor.bytes).map_err(|e| wrong(e.to_string()))?));
            }
            safetensors::serialize_to_file(views, None, &out).map_err(|e| wrong(format!("writing it anew failed: {e}")))?;
            Ok(out)
        }
    }
}

fn dtype(kind: torch::Kind) -> Dtype {
    match kind {
        torch::Kind::F64 => Dtype::F64,
        torch::Kind::F32 => Dtype::F32,
        torch::Kind::F16 => Dtype::F16,
        torch::Kind::Bf16 => Dtype::BF16,
        torch::Kind::I64 => Dtype::I64,
        torch::Kind::I32 => Dtype::I32,
        torch::Kind::I16 => Dtype::I16,
        torch::Kind::I8 => Dtype::I8,
        torch::Kind::U8 => Dtype::U8,
        torch::Kind::Bool => Dtype::BOOL,
    }
}

/// torchvision's name of a parameter of transformers' `ResNetForImageClassification`; `None` if it is none.
fn torchvisions(name: &str) -> Option<String> {
    let part = |rest: &str, convolution: &str, normalization: &str| {
        let (layer, field) = rest.rsplit_once('.')?;
        match layer {
            "convolution" => Some(format!("{convolution}.{field}")),
            "normalization" => Some(format!("{normalization}.{field}")),
            _ => None,
        }
    };
    if let Some(field) = name.strip_prefix("classifier.1.") {
        return Some(format!("fc.{field}"));
    }
    if let Some(rest) = name.strip_prefix("resnet.embedder.embedder.") {
        return part(rest, "conv1", "bn1");
    }
    let (stage, rest) = name.strip_prefix("resnet.encoder.stages.")?.split_once(".layers.")?;
    let (block, rest) = rest.split_once('.')?;
    let (stage, block): (usize, usize) = (stage.parse().ok()?, block.parse().ok()?);
    let at = format!("layer{}.{block}", stage.checked_add(1)?);
    if let Some(rest) = rest.strip_prefix("shortcut.") {
        return part(rest, &format!("{at}.downsample.0"), &format!("{at}.downsample.1"));
    }
    let (layer, rest) = rest.strip_prefix("layer.")?.split_once('.')?;
    let layer = layer.parse::<usize>().ok()?.checked_add(1)?;
    part(rest, &format!("{at}.conv{layer}"), &format!("{at}.bn{layer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transformers_names_become_torchvisions() {
        for (theirs, ours) in [
            ("resnet.embedder.embedder.convolution.weight", "conv1.weight"),
            ("resnet.embedder.embedder.normalization.running_var", "bn1.running_var"),
            ("resnet.encoder.stages.0.layers.0.shortcut.convolution.weight", "layer1.0.downsample.0.weight"),
            ("resnet.encoder.stages.0.layers.0.shortcut.normalization.bias", "layer1.0.downsample.1.bias"),
            ("resnet.encoder.stages.3.layers.2.layer.2.convolution.weight", "layer4.2.conv3.weight"),
            ("resnet.encoder.stages.3.layers.2.layer.0.normalization.num_batches_tracked", "layer4.2.bn1.num_batches_tracked"),
            ("classifier.1.bias", "fc.bias"),
        ] {
            assert_eq!(torchvisions(theirs).as_deref(), Some(ours), "{theirs}");
        }
        for other in ["conv1.weight", "layer1.0.bn1.weight", "fc.weight", "resnet.encoder.stages.x.layers.0.layer.0.convolution.weight"] {
            assert_eq!(torchvisions(other), None);
        }
    }

    #[test]
    fn a_file_is_what_its_first_bytes_say_and_not_its_name() {
        assert_eq!(form_of(b"PK\x03\x04...."), Form::Torch);
        assert_eq!(form_of(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80"), Form::Torch);
        assert_eq!(form_of(b"\x10\0\0\0\0\0\0\0{\"a\":{}}"), Form::Safetensors);
        assert_eq!(form_of(b"\x08\x08\x12\x07pytorch"), Form::Onnx);
        assert_eq!(form_of(b""), Form::Onnx);
    }
}
