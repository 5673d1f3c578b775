//! Names of the classes.

use std::path::Path;
use std::sync::Arc;

use saphyr::{LoadableYamlNode, Scalar, Yaml};

use crate::{Context, Error, Result};

/// Names longer than this in all are no labels file.
const MAX_BYTES: u64 = 64 << 20;

/// Reads a labels file: one name a line, in the order of the logits. Empty lines at the end count for nothing.
pub(super) fn read(path: &Path) -> Result<Vec<String>> {
    let size = std::fs::metadata(path).context(format_args!("opening the labels {}", path.display()))?.len();
    if size > MAX_BYTES {
        return Err(Error::config(format_args!("{} is no labels file: it has {size} bytes", path.display())));
    }
    let text = std::fs::read(path).context(format_args!("reading the labels {}", path.display()))?;
    let text = String::from_utf8(text)
        .map_err(|e| Error::config(format_args!("the labels {} are not UTF-8: {}", path.display(), e.utf8_error())))?;
    Ok(lines(&text))
}

fn lines(text: &str) -> Vec<String> {
    text.trim_start_matches('\u{feff}').trim_end().lines().map(|l| l.trim().to_owned()).collect()
}

/// Reads names out of a graph's metadata. JSON lists and maps, and the Python dictionaries that some exporters print, are all YAML.
pub(super) fn from_metadata(text: &str) -> Option<Vec<String>> {
    let documents = Yaml::load_from_str(text).ok();
    match documents.as_deref() {
        Some([Yaml::Sequence(items)]) => items.iter().map(scalar).collect(),
        Some([Yaml::Mapping(map)]) => {
            let mut names = vec![None; map.len()];
            for (index, name) in map {
                let index: usize = scalar(index)?.parse().ok()?;
                *names.get_mut(index)? = Some(scalar(name)?);
            }
            names.into_iter().collect()
        }
        _ => Some(lines(text)).filter(|l| l.len() > 1),
    }
}

fn scalar(yaml: &Yaml<'_>) -> Option<String> {
    match yaml {
        Yaml::Value(Scalar::String(s)) => Some(s.to_string()),
        Yaml::Value(Scalar::Integer(i)) => Some(i.to_string()),
        Yaml::Value(Scalar::Boolean(b)) => Some(b.to_string()),
        _ => None,
    }
}

/// The name of each of `classes` logits; the index as text where there are no labels. `file` is what the labels came from.
pub(super) fn for_classes(names: Option<Vec<String>>, classes: usize, file: &str, graph: &Path) -> Result<Arc<[Arc<str>]>> {
    match names {
        Some(names) if names.len() != classes => Err(Error::config(format_args!(
            "{file} has {} labels, but {} has {classes} logits: the names would be wrong; give the labels file that belongs to this model",
            names.len(),
            graph.display()
        ))),
        Some(names) => Ok(names.into_iter().map(Arc::from).collect()),
        None => Ok((0..classes).map(|i| Arc::from(i.to_string())).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_inner_blanks_and_drop_the_end() {
        assert_eq!(lines("\u{feff}cat\r\ndog\n\nbird \n\n"), ["cat", "dog", "", "bird"]);
        assert!(lines("\n\n").is_empty());
    }

    #[test]
    fn metadata_is_read_as_list_as_map_and_as_lines() {
        let want = Some(vec!["cat".to_owned(), "isn't".to_owned()]);
        assert_eq!(from_metadata(r#"["cat", "isn't"]"#), want);
        assert_eq!(from_metadata(r#"{"1": "isn't", "0": "cat"}"#), want);
        assert_eq!(from_metadata(r#"{0: 'cat', 1: "isn't"}"#), want);
        assert_eq!(from_metadata("cat\nisn't\n"), want);
        assert_eq!(from_metadata(r#"{"0": "cat", "7": "dog"}"#), None, "a hole in the indices");
        assert_eq!(from_metadata("1"), None);
    }

    #[test]
    fn a_wrong_count_names_the_file_and_both_counts() {
        let e = for_classes(Some(vec!["a".into()]), 10, "labels.txt", Path::new("m.onnx")).unwrap_err().to_string();
        assert!(e.contains("labels.txt") && e.contains('1') && e.contains("10 logits") && e.contains("m.onnx"), "{e}");
        let unnamed = for_classes(None, 3, "", Path::new("m.onnx")).unwrap();
        assert_eq!(unnamed.iter().map(|l| &**l).collect::<Vec<_>>(), ["0", "1", "2"]);
    }
}
