//! Whether the bundled model is here: the published crate leaves it out, for registries take 10 MB at most.

fn main() {
    println!("cargo:rustc-check-cfg=cfg(bundled_model)");
    println!("cargo:rerun-if-changed=model");
    if std::path::Path::new("model/model.onnx").exists() {
        println!("cargo:rustc-cfg=bundled_model");
    }
}
