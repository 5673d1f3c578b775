//! What must not load, and what must be said.

use tract_onnx::pb::{StringStringEntryProto, tensor_proto::DataLocation};

use super::*;

#[test]
fn a_wrong_number_of_labels_refuses_to_start() {
    let folder = Folder::new(Arch::Tiny, 1);
    std::fs::write(folder.file("labels.txt"), "cat\ndog\n").unwrap();
    let e = folder.error();
    assert!(e.contains("labels.txt has 2 labels") && e.contains("has 10 logits"), "{e}");
}

#[test]
fn a_bare_graph_has_indices_for_names_unless_its_metadata_carries_them() {
    let folder = Folder::new(Arch::Tiny, 1);
    let names = (0..10).map(|i| format!("{i}: 'class {i}'")).collect::<Vec<_>>().join(", ");
    folder.change(|proto| {
        let graph = proto.graph.as_mut().unwrap();
        let Some(tract_onnx::pb::type_proto::Value::TensorType(t)) = graph.input[0].r#type.as_mut().and_then(|t| t.value.as_mut()) else {
            panic!()
        };
        // A bare graph gets the preprocessing of ResNet-50, so it must take 224 x 224.
        t.shape.as_mut().unwrap().dim[2..].iter_mut().for_each(|d| d.value = None);
    });
    let graph = folder.file("model.onnx");
    let picture = noise([3, 224, 224], 0);
    let bare = load(&graph, &LoadOptions::default()).unwrap();
    let label = one(&bare, &picture).labels.remove(0);
    assert_eq!(*label.label, label.index.to_string());
    assert!(bare.model.info().id.starts_with("model@sha256:"));

    folder.change(|proto| proto.metadata_props.push(StringStringEntryProto { key: "names".into(), value: format!("{{{names}}}") }));
    let label = one(&load(&graph, &LoadOptions::default()).unwrap(), &picture).labels.remove(0);
    assert_eq!(*label.label, format!("class {}", label.index));
}

#[test]
fn paths_stay_inside_the_folder() {
    let folder = Folder::new(Arch::Tiny, 1);
    let outside = tempfile::tempdir().unwrap();
    std::fs::copy(folder.file("labels.txt"), outside.path().join("labels.txt")).unwrap();
    std::fs::copy(folder.file("model.onnx"), outside.path().join("model.onnx")).unwrap();
    let absolute = outside.path().join("labels.txt");
    std::os::unix::fs::symlink(&absolute, folder.file("link.txt")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("model.onnx"), folder.file("link.onnx")).unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.file("sub")).unwrap();
    let relative = format!("../{}/labels.txt", outside.path().file_name().unwrap().to_string_lossy());
    for bad in [absolute.to_string_lossy().as_ref(), &relative, "link.txt", "sub/labels.txt", "missing.txt", "."] {
        folder.describe(&format!("labels: {bad}"));
        let e = folder.error();
        assert!(e.contains("labels") && e.contains("model.yaml"), "{bad}: {e}");
    }
    for bad in ["link.onnx", "sub/model.onnx", "../x/model.onnx"] {
        std::fs::write(folder.file("model.yaml"), format!("version: 1\nname: tiny\ngraph: {bad}\n")).unwrap();
        assert!(folder.error().contains("graph"), "{bad}: {}", folder.error());
    }
    // A link that stays inside is none of our business.
    std::os::unix::fs::symlink("labels.txt", folder.file("alias.txt")).unwrap();
    folder.describe("labels: alias.txt");
    folder.load();
}

/// Moves the weights into `weights.bin`, as `location` says.
fn externalise(folder: &Folder, location: &str) {
    let mut data = vec![];
    folder.change(|proto| {
        for tensor in &mut proto.graph.as_mut().unwrap().initializer {
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
            let length = tensor.raw_data.len();
            tensor.external_data =
                vec![entry("location", location.into()), entry("offset", data.len().to_string()), entry("length", length.to_string())];
            tensor.data_location = Some(DataLocation::External as i32);
            data.append(&mut tensor.raw_data);
        }
    });
    std::fs::write(folder.file("weights.bin"), data).unwrap();
}

#[test]
fn external_data_is_read_and_is_part_of_the_digest() {
    let folder = Folder::new(Arch::Tiny, 1);
    let picture = &tiny_pictures(1)[0];
    let inside = folder.load();
    externalise(&folder, "weights.bin");
    let outside = folder.load();
    assert_eq!(one(&inside, picture), one(&outside, picture));
    assert_ne!(inside.digest, outside.digest);

    let mut bytes = std::fs::read(folder.file("weights.bin")).unwrap();
    bytes[0] ^= 1;
    std::fs::write(folder.file("weights.bin"), &bytes).unwrap();
    let changed = folder.load();
    assert_ne!(changed.digest, outside.digest);
    assert_ne!(changed.model.info().space, outside.model.info().space);

    std::fs::write(folder.file("weights.bin"), &bytes[..100]).unwrap();
    assert!(folder.error().contains("out of bounds"), "{}", folder.error());
}

#[test]
fn external_data_stays_inside_the_folder() {
    let folder = Folder::new(Arch::Tiny, 1);
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    externalise(&folder, "weights.bin");
    std::fs::copy(folder.file("weights.bin"), elsewhere.path()).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), folder.file("link.bin")).unwrap();
    let absolute = elsewhere.path().to_string_lossy().into_owned();
    for bad in [absolute.as_str(), "../weights.bin", "link.bin", "a/../weights.bin", ""] {
        folder.change(|proto| {
            let tensors = &mut proto.graph.as_mut().unwrap().initializer;
            tensors.iter_mut().flat_map(|t| &mut t.external_data).filter(|e| e.key == "location").for_each(|e| e.value = bad.into());
        });
        assert!(folder.error().contains("external data"), "{bad}: {}", folder.error());
    }
}

#[test]
fn a_graph_that_is_no_classifier_is_refused_in_words() {
    let folder = Folder::new(Arch::Tiny, 1);
    std::fs::write(folder.file("model.yaml"), "version: 1\nname: tiny\ngraph: model.onnx\n").unwrap();
    let e = folder.error();
    assert!(e.contains("32 x 32") && e.contains("crop is 224"), "{e}");

    folder.describe("");
    folder.change(|proto| {
        let graph = proto.graph.as_mut().unwrap();
        let mut second = graph.input[0].clone();
        second.name = "second".into();
        graph.input.push(second);
    });
    assert!(folder.error().contains("has 2: input, second"), "{}", folder.error());

    // Weights of NaN: the check at start-up sees it.
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| {
        let bias = proto.graph.as_mut().unwrap().initializer.iter_mut().find(|t| t.name == "fc.bias").unwrap();
        bias.raw_data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(folder.error().contains("logit 0 is NaN"), "{}", folder.error());
}

#[test]
fn a_damaged_file_is_an_error_and_no_panic() {
    let folder = Folder::new(Arch::Tiny, 1);
    let whole = std::fs::read(folder.file("model.onnx")).unwrap();
    for length in (0..whole.len()).step_by(211) {
        std::fs::write(folder.file("model.onnx"), &whole[..length]).unwrap();
        assert_eq!(load(folder.path(), &LoadOptions::default()).unwrap_err().exit_code(), 2, "{length} bytes");
    }
    for yaml in [
        "",
        "version: 2\nname: x\ngraph: model.onnx",
        "version: 1\nname: x",
        "[",
        "version: 1\nname: a/b\ngraph: model.onnx",
        "version: 1\nname: x\ngraph: model.onnx\nlabel: y",
    ] {
        std::fs::write(folder.file("model.yaml"), yaml).unwrap();
        let e = folder.error();
        assert!(e.contains("model.yaml"), "{yaml:?}: {e}");
    }
    assert_eq!(load(&folder.file("nothing"), &LoadOptions::default()).unwrap_err().exit_code(), 2);
}
