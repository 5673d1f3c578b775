//! State dictionaries: the parameters of a network by the names that torch gives them.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::resnet::{Parameters, Part, ResNet};
use crate::{Context, Error, Result};

/// Longest file that is read: 500 million parameters, in memory twice.
const MAX_BYTES: u64 = 2 << 30;

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct StateTensor {
    /// Its sizes.
    pub dims: Vec<usize>,
    /// Its values in C order.
    pub values: Vec<f32>,
}

/// Parameters by name. Whole numbers, such as a normalisation's count of batches, are not kept: no network here computes with them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict(pub BTreeMap<String, StateTensor>);

impl StateDict {
    /// Reads a safetensors file of F64, F32, F16 or BF16.
    ///
    /// # Errors
    /// [`Error::Config`] naming the file if it is none, is longer than 2 GiB, or has floats of another kind.
    pub fn read(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path).context(format_args!("opening the weights {}", path.display()))?.len();
        if size > MAX_BYTES {
            return Err(Error::config(format_args!("the weights {} have {size} bytes; at most 2 GiB are read", path.display())));
        }
        let bytes = std::fs::read(path).context(format_args!("reading the weights {}", path.display()))?;
        Self::parse(&bytes).map_err(|e| {
            Error::config(format_args!(
                "the weights {} cannot be read as safetensors: {e}; save them with safetensors.torch.save_file",
                path.display()
            ))
        })
    }

    /// Reads the bytes of a safetensors file.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => numbers(data, f32::from_le_bytes),
                Dtype::F64 => numbers(data, |b| f64::from_le_bytes(b) as f32),
                Dtype::F16 => numbers(data, |b| f16::from_le_bytes(b).to_f32()),
                Dtype::BF16 => numbers(data, |b| bf16::from_le_bytes(b).to_f32()),
                Dtype::BOOL | Dtype::U8 | Dtype::I8 | Dtype::I16 | Dtype::U16 | Dtype::I32 | Dtype::U32 | Dtype::I64 | Dtype::U64 => {
                    continue;
                }
                other => return Err(format!("{name:?} is of type {other:?}, which is not read")),
            };
            tensors.insert(name, StateTensor { dims: view.shape().to_vec(), values });
        }
        Ok(Self(tensors))
    }

    /// What stands before torchvision's names, as wrappers put it (`module.`, `model.`); the text says why this is no ResNet.
    fn prefix(&self) -> std::result::Result<String, String> {
        let first = "layer1.0.conv1.weight";
        let mut found = self.0.keys().filter_map(|name| name.strip_suffix(first)).filter(|p| p.is_empty() || p.ends_with('.'));
        match (found.next(), found.next()) {
            (Some(prefix), None) => Ok(prefix.to_owned()),
            (Some(_), Some(_)) => Err("they hold several networks: save one of them by itself".into()),
            (None, _) => {
                let some: Vec<&str> = self.0.keys().take(3).map(String::as_str).collect();
                Err(format!(
                    "they have no {first:?}, so they are of no ResNet as torchvision and timm name its parameters (they begin with {some:?}); export the                      network as ONNX instead"
                ))
            }
        }
    }

    /// Renames the parameters to torchvision's names, and gives the number of classes. A classifier that a fine-tuned network has in a `Sequential` is
    /// `fc` all the same.
    pub(super) fn into_resnet(mut self) -> std::result::Result<(Self, usize), String> {
        let prefix = self.prefix()?;
        let named = std::mem::take(&mut self.0).into_iter().map(|(name, tensor)| match name.strip_prefix(&prefix) {
            Some(rest) => (rest.to_owned(), tensor),
            None => (name, tensor),
        });
        self.0 = named.collect();
        if !self.0.contains_key("fc.weight") {
            let mut inner = self.0.keys().filter(|name| name.starts_with("fc.") && name.ends_with(".weight")).cloned();
            match (inner.next(), inner.next()) {
                (Some(name), None) => {
                    for part in ["weight", "bias"] {
                        if let Some(tensor) = self.0.remove(&format!("{}{part}", name.trim_end_matches("weight"))) {
                            self.0.insert(format!("fc.{part}"), tensor);
                        }
                    }
                }
                (Some(_), Some(_)) => return Err("their classifier `fc` has several layers; export the network as ONNX instead".into()),
                (None, _) => return Err("they have no classifier `fc.weight`: only the backbone was saved; save the whole network".into()),
            }
        }
        let classes = self.0.get("fc.weight").and_then(|fc| fc.dims.first()).copied().unwrap_or_default();
        if !(1..=100_000).contains(&classes) {
            return Err(format!("their classifier has {classes} classes; from 1 to 100000 can be"));
        }
        Ok((self, classes))
    }

    /// An error if parameters are left, after a network was built of what it needed.
    pub(super) fn all_used(&self, arch: ResNet) -> std::result::Result<(), String> {
        let Some(first) = self.0.keys().next() else { return Ok(()) };
        Err(format!(
            "{} of their parameters are no part of a {}, first {first:?}: they are of another network, or of a variant that is not built in",
            self.0.len(),
            arch.name()
        ))
    }
}

impl Parameters for StateDict {
    fn get(&mut self, name: &str, dims: &[usize], part: Part) -> std::result::Result<Vec<f32>, String> {
        let tensor = self.0.remove(name).ok_or_else(|| format!("they have no {name:?}: they are of another --arch"))?;
        if tensor.dims != dims {
            return Err(format!("{name:?} is {:?}, where {dims:?} is needed: they are of another network", tensor.dims));
        }
        // A variance of -epsilon or less has no root.
        let allowed = |v: &f32| v.is_finite() && (part != Part::Variance || *v >= 0.0);
        match tensor.values.iter().position(|v| !allowed(v)) {
            Some(at) => Err(format!("{name:?} holds {}, which no trained network has: the file is damaged", tensor.values[at])),
            None => Ok(tensor.values),
        }
    }
}

fn numbers<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (whole, _) = data.as_chunks::<N>();
    whole.iter().map(|bytes| number(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(names: &[(&str, &[usize])]) -> StateDict {
        let tensor = |dims: &[usize]| StateTensor { dims: dims.to_vec(), values: vec![0.5; dims.iter().product()] };
        StateDict(names.iter().map(|(name, dims)| ((*name).to_owned(), tensor(dims))).collect())
    }

    #[test]
    fn a_wrappers_prefix_and_a_sequential_classifier_are_seen_through() {
        let wrapped = state(&[("module.layer1.0.conv1.weight", &[1]), ("module.fc.1.weight", &[7, 2]), ("module.fc.1.bias", &[7])]);
        let (plain, classes) = wrapped.into_resnet().unwrap();
        assert_eq!(
            (plain.0.keys().map(String::as_str).collect::<Vec<_>>(), classes),
            (vec!["fc.bias", "fc.weight", "layer1.0.conv1.weight"], 7)
        );
    }

    #[test]
    fn what_is_no_whole_resnet_is_refused_by_name() {
        let error = |names: &[(&str, &[usize])]| state(names).into_resnet().unwrap_err();
        assert!(error(&[("features.0.weight", &[1])]).contains("features.0.weight"));
        assert!(error(&[("layer1.0.conv1.weight", &[1])]).contains("classifier"));
        let first = "layer1.0.conv1.weight";
        assert!(error(&[(first, &[1]), ("fc.0.weight", &[2, 2]), ("fc.2.weight", &[2, 2])]).contains("several layers"));
        assert!(error(&[("a.layer1.0.conv1.weight", &[1]), ("b.layer1.0.conv1.weight", &[1])]).contains("several networks"));
    }

    #[test]
    fn a_parameter_of_another_shape_or_without_a_value_is_refused() {
        let mut wrong = state(&[("a", &[2, 3]), ("b", &[2])]);
        assert!(wrong.get("a", &[3, 2], Part::Summand).unwrap_err().contains("[2, 3]"));
        wrong.0.get_mut("b").unwrap().values[1] = f32::NAN;
        assert!(wrong.get("b", &[2], Part::Summand).unwrap_err().contains("NaN"));
        assert!(wrong.get("c", &[2], Part::Summand).unwrap_err().contains("no \"c\""));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0u64..300) {
            let _ = StateDict::parse(&bytes);
            let framed: Vec<u8> = length.to_le_bytes().into_iter().chain(bytes).collect();
            let _ = StateDict::parse(&framed);
        }
    }
}
