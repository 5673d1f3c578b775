//! A model folder from a state dictionary: no graph is needed where the architecture is known.

use std::path::Path;

use super::load::{LoadOptions, Loaded, load};
use super::new_folder::NewFolder;
use super::onnx::Source;
use super::published::as_safetensors;
use super::resnet::ResNet;
use super::state::StateDict;
use super::{digest, labels};
use crate::config::{ModelFile, Outputs, Preprocess};
use crate::{Context, Error, Result};

/// Name of the weights in the folder.
const WEIGHTS: &str = "model.safetensors";

/// What the user says of the weights.
#[derive(Debug, Clone)]
pub struct Import<'a> {
    /// A safetensors file or one of `torch.save`, with the names of torchvision, timm or transformers.
    pub weights: &'a Path,
    /// What the user knows it by, where that is not its path.
    pub known_as: Option<&'a str>,
    /// The network that they are of.
    pub arch: ResNet,
    /// Names of the classes, one a line; their numbers where not given.
    pub labels: Option<&'a Path>,
    /// The model's name.
    pub name: &'a str,
    /// What it was trained with.
    pub preprocess: &'a Preprocess,
}

/// Writes a model folder to `out`, if the network can be built of the weights and a picture goes through it. Weights in safetensors are copied as they are.
///
/// # Errors
/// [`Error::Config`] if the weights are of another network or damaged, if the labels are of another number, or if `out` is there and not to be written
/// over.
pub fn import(from: &Import<'_>, out: &Path, force: bool) -> Result<Loaded> {
    let folder = NewFolder::new(out, force, from.weights)?;
    let path = from.weights.display().to_string();
    let weights = as_safetensors(from.weights, from.known_as.unwrap_or(&path), folder.path())?;
    if weights == from.weights {
        folder.copy(&weights, Path::new(WEIGHTS))?;
    } else {
        std::fs::rename(&weights, folder.at(Path::new(WEIGHTS))?).context(format_args!("writing {}", out.display()))?;
    }
    if let Some(labels) = from.labels {
        // Read before it is copied, so that the error names the user's file.
        labels::read(labels)?;
        folder.copy(labels, Path::new("labels.txt"))?;
    }
    let file = ModelFile {
        version: 1,
        name: from.name.to_owned(),
        graph: None,
        weights: Some(WEIGHTS.into()),
        arch: Some(from.arch.name().to_owned()),
        labels: from.labels.map(|_| "labels.txt".into()),
        preprocess: from.preprocess.clone(),
        outputs: Outputs::default(),
    };
    folder.write(Path::new("model.yaml"), &yaml(&file)?)?;
    let loaded = load(folder.path(), &LoadOptions::default())?;
    folder.keep(from.weights)?;
    Ok(Loaded { path: out.to_owned(), ..loaded })
}

/// The description as a person would write it: a line a field, JSON (which is YAML) within.
pub(super) fn yaml(file: &ModelFile) -> Result<Vec<u8>> {
    let fields = serde_json::to_value(file).map_err(Error::failed)?;
    let mut text = String::new();
    for name in ["version", "name", "graph", "weights", "arch", "labels", "preprocess"] {
        if let Some(value) = fields.get(name).filter(|value| !value.is_null()) {
            text.push_str(&format!("{name}: {value}\n"));
        }
    }
    Ok(text.into_bytes())
}

/// The graph of the network `arch` with the weights at `path`, for pictures of `side` pixels.
///
/// # Errors
/// [`Error::Config`] naming the file and the parameter that does not fit.
pub(super) fn from_weights(path: &Path, arch: &str, side: usize) -> Result<Source> {
    let known = || <ResNet as clap::ValueEnum>::value_variants().iter().map(|arch| arch.name()).collect::<Vec<_>>().join(", ");
    let arch = ResNet::named(arch).ok_or_else(|| {
        Error::config(format_args!("arch {arch:?} is not built in: {} are; any other network goes in as an ONNX graph", known()))
    })?;
    let wrong = |e: String| Error::config(format_args!("the weights {} are not those of a {}: {e}", path.display(), arch.name()));
    let (mut state, classes) = StateDict::read(path)?.into_resnet().map_err(wrong)?;
    let graph = arch.graph(side, classes, &mut state).and_then(|graph| state.all_used(arch).map(|()| graph)).map_err(wrong)?;
    let (digest, bytes) = digest::of_file(path)?;
    Ok(Source { proto: graph.model(arch.name()), path: path.to_path_buf(), digest, bytes })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use safetensors::tensor::{Dtype, View};

    use super::super::load::check_picture;
    use super::super::resnet::{Parameters, Part, Seeded};
    use super::*;

    /// Parameters of a seed, remembered as they are asked for.
    struct Recorded(Seeded, BTreeMap<String, (Vec<usize>, Vec<f32>)>);

    impl Parameters for Recorded {
        fn get(&mut self, name: &str, dims: &[usize], part: Part) -> std::result::Result<Vec<f32>, String> {
            let values = self.0.get(name, dims, part)?;
            self.1.insert(name.to_owned(), (dims.to_vec(), values.clone()));
            Ok(values)
        }
    }

    struct Float(Vec<usize>, Vec<u8>);

    impl View for Float {
        fn dtype(&self) -> Dtype {
            Dtype::F32
        }
        fn shape(&self) -> &[usize] {
            &self.0
        }
        fn data(&self) -> std::borrow::Cow<'_, [u8]> {
            (&self.1).into()
        }
        fn data_len(&self) -> usize {
            self.1.len()
        }
    }

    fn save(parameters: &BTreeMap<String, (Vec<usize>, Vec<f32>)>, path: &Path) {
        let views = parameters.iter().map(|(name, (dims, values))| {
            (format!("module.{name}"), Float(dims.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        });
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    #[test]
    fn a_network_from_its_weights_is_the_network_from_its_graph() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut recorded = Recorded(Seeded(5), BTreeMap::new());
        ResNet::Resnet18.graph(224, 10, &mut recorded).unwrap();
        save(&recorded.1, &at("w.safetensors"));
        std::fs::write(at("labels.txt"), (0..10).map(|n| format!("class {n}\n")).collect::<String>()).unwrap();
        let (weights, labels, preprocess) = (at("w.safetensors"), at("labels.txt"), Preprocess::default());
        let from = Import {
            weights: &weights,
            known_as: None,
            arch: ResNet::Resnet18,
            labels: Some(&labels),
            name: "mine",
            preprocess: &preprocess,
        };
        import(&from, &at("imported"), false).unwrap();
        super::super::init_resnet18(5, &at("graph"), 10).unwrap();
        let picture = check_picture(&preprocess);
        let answer = |name: &str| load(&at(name), &LoadOptions::default()).unwrap().model.predict(&[&picture]).remove(0).unwrap();
        assert_eq!(answer("imported"), answer("graph"));

        let error = import(&from, &at("imported"), false).unwrap_err().to_string();
        assert!(error.contains("--force"), "{error}");
        let other = Import { arch: ResNet::Resnet34, ..from.clone() };
        let error = import(&other, &at("other"), false).unwrap_err().to_string();
        assert!(error.contains("resnet34") && error.contains("layer1.2.conv1.weight") && !at("other").exists(), "{error}");
        let mut more = recorded.1.clone();
        more.insert("layer1.0.se.weight".into(), (vec![1], vec![0.0]));
        save(&more, &at("w.safetensors"));
        let error = import(&from, &at("other"), false).unwrap_err().to_string();
        assert!(error.contains("layer1.0.se.weight"), "{error}");
        std::fs::write(at("labels.txt"), "one\n").unwrap();
        save(&recorded.1, &at("w.safetensors"));
        let error = import(&from, &at("other"), false).unwrap_err().to_string();
        assert!(error.contains("1 labels") && error.contains("10 logits"), "{error}");
    }
}
