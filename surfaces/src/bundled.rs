//! The network that `train/` has trained on these pictures.

/// The files of its model folder, by name; `None` where they were left out of the crate.
#[cfg(bundled_model)]
pub static MODEL: Option<&[(&str, &[u8])]> = Some(&[
    ("model.onnx", include_bytes!("../model/model.onnx")),
    ("model.yaml", include_bytes!("../model/model.yaml")),
    ("labels.txt", include_bytes!("../model/labels.txt")),
    ("README.md", include_bytes!("../model/README.md")),
]);

/// The files of its model folder, by name; `None` where they were left out of the crate.
#[cfg(not(bundled_model))]
pub static MODEL: Option<&[(&str, &[u8])]> = None;
