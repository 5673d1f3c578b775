//! Whole models: written, loaded, run.

pub(super) mod graphs;
mod guard;
mod run;

use std::path::{Path, PathBuf};

use prost::Message;
use tract_onnx::pb::ModelProto;

use super::random::SplitMix;
use super::{Arch, LoadOptions, Loaded, Prediction, Tensor, init, load};

/// A folder with a seeded model, removed when dropped.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(arch: Arch, seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        init(arch, seed, dir.path(), None).unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn load(&self) -> Loaded {
        load(self.path(), &LoadOptions::default()).unwrap()
    }

    fn error(&self) -> String {
        load(self.path(), &LoadOptions::default()).unwrap_err().to_string()
    }

    fn proto(&self) -> ModelProto {
        ModelProto::decode(std::fs::read(self.file("model.onnx")).unwrap().as_slice()).unwrap()
    }

    /// Writes the graph, changed.
    fn change(&self, change: impl FnOnce(&mut ModelProto)) {
        let mut proto = self.proto();
        change(&mut proto);
        std::fs::write(self.file("model.onnx"), proto.encode_to_vec()).unwrap();
    }

    /// Writes a description that names the graph, and what is given.
    fn describe(&self, more: &str) {
        let preprocess = "preprocess: { resize: 32, crop: 32, mean: [0, 0, 0], std: [1, 1, 1] }";
        std::fs::write(self.file("model.yaml"), format!("version: 1\nname: tiny\ngraph: model.onnx\n{preprocess}\n{more}\n")).unwrap();
    }
}

/// A picture of noise between 0 and 1.
fn noise(shape: [usize; 3], seed: u64) -> Tensor {
    let mut random = SplitMix::named(seed, "picture");
    Tensor::from_shape_simple_fn(shape, || random.uniform(0.0, 1.0) as f32)
}

fn tiny_pictures(count: u64) -> Vec<Tensor> {
    (0..count).map(|i| noise([3, 32, 32], i)).collect()
}

fn one(loaded: &Loaded, picture: &Tensor) -> Prediction {
    loaded.model.predict(&[picture]).remove(0).unwrap()
}

/// Largest absolute difference over the largest absolute value of `want`.
fn difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
    got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}
