//! A graph without a description: what is assumed of it, and what the log says of that.

use std::path::{Path, PathBuf};

use super::onnx::Source;
use crate::config::{ModelFile, Outputs, Preprocess};
use crate::{Context, Result};

/// Reads the graph at `path`; with the description that is assumed, and the folder that it lies in.
pub(super) fn read(path: &Path) -> Result<(ModelFile, PathBuf, Source)> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let file = ModelFile {
        version: 1,
        name: name.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect(),
        graph: path.file_name().map(PathBuf::from),
        weights: None,
        arch: None,
        labels: None,
        preprocess: Preprocess::default(),
        outputs: Outputs::default(),
    };
    let path = path.canonicalize().context(format_args!("opening {}", path.display()))?;
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let source = Source::read(&path, &folder)?;
    Ok((file, folder, source))
}

/// Says in the log what was assumed of the graph at `path`, and what lies beside it and was not read. `named`: its metadata has names for the classes.
pub(super) fn tell(path: &Path, file: &ModelFile, named: bool) {
    tracing::info!("{}", assumed(path, &file.preprocess, named));
    if let Some(text) = not_read(path, file) {
        tracing::warn!("{text}");
    }
}

fn assumed(path: &Path, preprocess: &Preprocess, named: bool) -> String {
    let Preprocess { resize, crop, mean, std, .. } = preprocess;
    let classes = if named { "have the names in its metadata" } else { "are numbers" };
    format!(
        "{}: a bare graph, so pictures are prepared as is usual for ImageNet (the short side to {resize}, the middle {crop} of it, mean {mean:?}, \
         deviation {std:?}), and classes {classes}; a folder with a model.yaml (`graph`, `labels`, `preprocess`) says otherwise",
        path.display()
    )
}

/// What lies beside the graph and looks as if it were meant for it.
fn not_read(path: &Path, file: &ModelFile) -> Option<String> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let has = |name: &str| folder.join(name).is_file();
    let (path, folder) = (path.display(), folder.display());
    if has("model.yaml") {
        return Some(format!("{path}: the model.yaml beside it is not read, nor the labels it names; give the folder {folder} instead"));
    }
    let (name, graph) = (&file.name, file.graph.as_deref().unwrap_or(Path::new("")).display());
    has("labels.txt").then(|| {
        format!(
            "{path}: the labels.txt beside it is not read; to have it read, write {folder}/model.yaml (the lines `version: 1`, `name: {name}`, \
             `graph: {graph}`, `labels: labels.txt`) and give the folder {folder} instead"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Arch, LoadOptions, init, load};
    use super::*;

    #[test]
    fn what_is_assumed_is_said() {
        let said = |named| assumed(Path::new("net.onnx"), &Preprocess::default(), named);
        for part in ["net.onnx: ", "short side to 256", "middle 224", "[0.485, 0.456, 0.406]", "[0.229, 0.224, 0.225]", "model.yaml"] {
            assert!(said(false).contains(part), "{part}: {}", said(false));
        }
        assert!(said(false).contains("classes are numbers") && said(true).contains("names in its metadata"));
    }

    #[test]
    fn labels_beside_a_bare_graph_are_missed_until_the_folder_describes_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        init(Arch::Tiny, 1, folder.path(), None).unwrap();
        let description = std::fs::read_to_string(at("model.yaml")).unwrap();
        let (graph, file) = (at("model.onnx"), read(&at("model.onnx")).unwrap().0);
        let give = format!("give the folder {} instead", folder.path().display());
        let said = not_read(&graph, &file).unwrap();
        assert!(said.contains("model.yaml beside it is not read") && said.contains(&give), "{said}");
        std::fs::remove_file(at("model.yaml")).unwrap();
        let said = not_read(&graph, &file).unwrap();
        assert!(said.contains("labels.txt beside it is not read") && said.contains(&give), "{said}");
        // The lines that it gives do, and what else so small a network needs.
        let mut lines: Vec<&str> = said.split('`').skip(1).step_by(2).collect();
        lines.extend(description.lines().skip_while(|line| !line.starts_with("preprocess:")));
        std::fs::write(at("model.yaml"), lines.join("\n")).unwrap();
        let loaded = load(folder.path(), &LoadOptions::default()).unwrap();
        assert!(loaded.labels[0].starts_with("class ") && loaded.info().id.starts_with("model@"), "{:?}", loaded.labels);
        std::fs::remove_file(at("model.yaml")).unwrap();
        std::fs::remove_file(at("labels.txt")).unwrap();
        assert_eq!(not_read(&graph, &file), None);
    }
}
