use std::sync::Arc;

use super::*;
use crate::config::{Normalize, Precision};
use crate::flow::{Reason, Stage};
use crate::model::{NAN_BELOW, inspect};

#[test]
fn resnet50_answers_as_torch_does() {
    let folder = Folder::new(Arch::Resnet50, 0);
    let yaml = std::fs::read_to_string(folder.file("model.yaml")).unwrap();
    std::fs::write(folder.file("model.yaml"), yaml.replace("activation: softmax", "activation: none")).unwrap();
    let options = LoadOptions { top_k: 1000, min_score: f32::NEG_INFINITY, ..Default::default() };
    let loaded = load(folder.path(), &options).unwrap();

    let text = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/model/resnet50.json")).unwrap();
    #[derive(serde::Deserialize)]
    struct Golden {
        logits: Vec<Vec<f32>>,
        embedding: Vec<Vec<f32>>,
    }
    let golden: Golden = serde_json::from_slice(&text).unwrap();
    let pixel = |f: fn(u64, u64, u64) -> f32| Tensor::from_shape_fn((3, 224, 224), |(c, y, x)| f(c as u64, y as u64, x as u64));
    let noise = pixel(|c, y, x| {
        let i = (c * 224 + y) * 224 + x;
        ((i * i * 31 + i * 17) % 2003) as f32 / 1001.0 - 1.0
    });
    let gradient = pixel(|c, y, x| ((2 * y + x + 85 * c) % 512) as f32 / 128.0 - 2.0);
    for (i, picture) in [noise, gradient].iter().enumerate() {
        let prediction = one(&loaded, picture);
        let mut logits = vec![0.0; 1000];
        prediction.labels.iter().for_each(|l| logits[l.index as usize] = l.score);
        assert!(difference(&logits, &golden.logits[i]) < 1e-3);
        assert!(difference(&prediction.embedding, &golden.embedding[i]) < 1e-3);
    }
    // The two pictures must not look alike to the network, or the comparison would say little.
    assert!(difference(&golden.logits[0], &golden.logits[1]) > 0.1);

    let inspection = inspect(folder.path()).unwrap();
    // torchvision's own counts for resnet50: parameters, and multiply-adds times two.
    assert_eq!((inspection.parameters, inspection.flops), (25_557_032, 2 * 4_089_184_256));
    assert_eq!((inspection.classes, inspection.embedding_dim, inspection.layers["Conv"]), (1000, 2048, 53));
    assert!(inspection.to_string().contains("8.18 GFLOP"), "{inspection}");
    assert_eq!(inspection.id, &*loaded.model.info().id);
    assert_eq!(inspection.space, &*loaded.model.info().space);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_another_network() {
    let [a, b, c] = [7, 7, 8].map(|seed| std::fs::read(Folder::new(Arch::Tiny, seed).file("model.onnx")).unwrap());
    assert!(a == b && a != c);
    assert!(a.len() < 8000);
    // Pinned, since a changed generator would silently make every parity file a lie.
    let resnet = Folder::new(Arch::Resnet18, 0);
    let digest = crate::model::digest::of_file(&resnet.file("model.onnx")).unwrap().0;
    assert_eq!(crate::model::digest::short(&digest), "739a9eb149c8");
    assert_eq!((resnet.load().model.info().embedding_dim, inspect(resnet.path()).unwrap().parameters), (512, 11_689_512));
    assert!(init(Arch::Resnet18, 0, resnet.path(), None).unwrap_err().to_string().contains("already"));
}

#[test]
fn what_else_is_in_the_batch_changes_nothing() {
    let folder = Folder::new(Arch::Tiny, 1);
    let loaded = folder.load();
    let pictures = tiny_pictures(12);
    let alone: Vec<Prediction> = pictures.iter().map(|p| one(&loaded, p)).collect();
    assert!(alone.windows(2).all(|w| w[0].embedding != w[1].embedding));
    for size in [1, 2, 5, 12] {
        for batch in 0..pictures.len().div_ceil(size) {
            let range = batch * size..((batch + 1) * size).min(pictures.len());
            // Backwards, so that the order is tested as well.
            let given: Vec<&Tensor> = pictures[range.clone()].iter().rev().collect();
            let got: Vec<Prediction> = loaded.model.predict(&given).into_iter().map(Result::unwrap).rev().collect();
            assert_eq!(got, alone[range]);
        }
    }
}

#[test]
fn threads_share_a_network_without_touching_each_other() {
    let loaded = Folder::new(Arch::Tiny, 1).load();
    let pictures = tiny_pictures(8);
    let alone: Vec<Prediction> = pictures.iter().map(|p| one(&loaded, p)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (loaded, pictures, alone) = (loaded.clone(), &pictures, &alone);
            scope.spawn(move || {
                for i in (0..200).map(|i| (i * (thread + 1)) % pictures.len()) {
                    assert_eq!(one(&loaded, &pictures[i]), alone[i]);
                }
            });
        }
    });
}

#[test]
fn a_picture_that_gives_nan_is_rejected_and_its_neighbours_are_not() {
    let loaded = Folder::new(Arch::TinyNan, 1).load();
    let mut pictures = tiny_pictures(3);
    pictures[1].fill(NAN_BELOW / 2.0);
    let got = loaded.model.predict(&pictures.iter().collect::<Vec<_>>());
    assert!(got[0].is_ok() && got[2].is_ok());
    let rejection = got[1].clone().unwrap_err();
    assert_eq!((rejection.stage, rejection.reason), (Stage::Infer, Reason::ModelFailed));
    assert!(rejection.detail.contains("is NaN"), "{rejection}");
    // An infinite pixel makes infinite features, which are refused as well.
    pictures[1][[0, 0, 0]] = f32::INFINITY;
    assert!(loaded.model.predict(&[&pictures[1]])[0].is_err());
    assert_eq!(loaded.model.predict(&[&pictures[0]]), got[..1]);
}

#[test]
fn a_panic_or_an_error_inside_tract_is_of_its_picture_alone() {
    use super::graphs::{int64s, node};
    let folder = Folder::new(Arch::Tiny, 1);
    // Looks its features up by the picture's brightness, and there is one row only.
    folder.change(|proto| {
        let graph = proto.graph.as_mut().unwrap();
        graph.initializer.push(int64s("zero", &[0]));
        let at = graph.node.iter().position(|n| n.op_type == "Gemm").unwrap();
        let lookup = [
            node("GlobalAveragePool", &["input"], "brightness", &[]),
            node("ReduceMean", &["brightness"], "mean", &[("keepdims", 0)]),
            node("Cast", &["mean"], "row", &[("to", 7)]),
            node("Gather", &["embedding", "row"], "features", &[("axis", 0)]),
            node("Unsqueeze", &["features", "zero"], "found", &[]),
        ];
        graph.node[at].input[0] = "found".into();
        graph.node.splice(at..at, lookup);
    });
    let loaded = folder.load();
    let mut pictures = tiny_pictures(3);
    let want = [one(&loaded, &pictures[0]), one(&loaded, &pictures[2])];
    pictures[1].fill(1e6);
    for _ in 0..3 {
        let mut got = loaded.model.predict(&pictures.iter().collect::<Vec<_>>());
        let rejection = got.remove(1).unwrap_err();
        assert_eq!((rejection.stage, rejection.reason), (Stage::Infer, Reason::ModelFailed));
        assert!(rejection.detail.starts_with("the network "), "{rejection}");
        assert_eq!(got, want.clone().map(Ok));
    }
}

#[test]
fn a_picture_of_the_wrong_size_is_rejected() {
    let loaded = Folder::new(Arch::Tiny, 1).load();
    for picture in [noise([3, 32, 31], 0), noise([1, 32, 32], 0)] {
        let rejection = loaded.model.predict(&[&picture]).remove(0).unwrap_err();
        assert_eq!(rejection.reason, Reason::ModelFailed);
    }
}

#[test]
fn options_decide_what_a_prediction_holds() {
    let folder = Folder::new(Arch::Tiny, 1);
    let picture = &tiny_pictures(1)[0];
    let with = |options: LoadOptions| load(folder.path(), &options).unwrap();
    let plain = with(LoadOptions::default());
    let all = one(&with(LoadOptions { top_k: 100, ..Default::default() }), picture);
    assert_eq!(all.labels.len(), 10);
    assert!((all.labels.iter().map(|l| l.score).sum::<f32>() - 1.0).abs() < 1e-5);
    assert!(all.labels.is_sorted_by(|a, b| a.score >= b.score));
    assert_eq!(one(&plain, picture).labels[..], all.labels[..5]);
    assert_eq!(&*all.labels[0].label, format!("class {}", all.labels[0].index));

    let limit = all.labels[2].score;
    assert_eq!(one(&with(LoadOptions { min_score: limit, ..Default::default() }), picture).labels[..], all.labels[..3]);

    let unit = with(LoadOptions { normalize: Normalize::L2, ..Default::default() });
    let embedding = one(&unit, picture).embedding;
    assert!((embedding.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
    assert_ne!(unit.model.info().space, plain.model.info().space);
    assert_eq!(unit.model.info().id, plain.model.info().id);

    let without = with(LoadOptions { want_embedding: false, top_k: 0, ..Default::default() });
    assert_eq!(one(&without, picture), Prediction { labels: vec![], embedding: vec![] });
    assert_eq!(without.model.info().space, plain.model.info().space);

    let e = load(folder.path(), &LoadOptions { precision: Precision::Int8, ..Default::default() }).unwrap_err();
    assert_eq!(e.exit_code(), 2);
    assert!(e.to_string().contains("is not quantised") || e.to_string().contains("does not multiply bytes"), "{e}");
}

#[test]
fn bf16_is_a_space_of_its_own_and_near_f32() {
    let folder = Folder::new(Arch::Tiny, 3);
    let plain = folder.load();
    let loaded = load(folder.path(), &LoadOptions { precision: Precision::Bf16, ..Default::default() });
    if !lakelens_engine::kernels::has_bf16() {
        let e = loaded.unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains("does not multiply bf16"), "{e}");
        return;
    }
    let loaded = loaded.unwrap();
    let (info, of_f32) = (loaded.model.info(), plain.model.info());
    assert_eq!((&*info.precision, &info.id), ("bf16", &of_f32.id));
    assert_ne!(info.space, of_f32.space);
    let picture = &tiny_pictures(1)[0];
    let (a, b) = (one(&plain, picture).embedding, one(&loaded, picture).embedding);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    assert!(a != b && dot(&a, &b) >= 0.999 * (dot(&a, &a) * dot(&b, &b)).sqrt(), "{a:?} became {b:?}");
}

#[test]
fn info_says_what_records_need() {
    let folder = Folder::new(Arch::Tiny, 1);
    let loaded = folder.load();
    let info = loaded.model.info();
    let digest = crate::model::digest::of_file(&folder.file("model.onnx")).unwrap().0;
    assert_eq!(loaded.digest, digest);
    assert_eq!(&*info.id, format!("tiny@sha256:{}", &digest[..12]));
    assert_eq!((info.classes, info.embedding_dim, info.input), (10, 16, [3, 32, 32]));
    assert_eq!(info.space.len(), 12);
    assert_eq!(info.preprocess, Arc::from(crate::model::preprocess_digest(&loaded.file.preprocess, false)));
}
