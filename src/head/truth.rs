//! What the user says that pictures show: a CSV file.

use std::collections::HashMap;
use std::path::Path;

use crate::flow::Record;
use crate::{Error, Result};

/// What a record is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Uri,
    Id,
    File,
}

/// A label for each of many pictures.
#[derive(Debug, Clone)]
pub struct Truth {
    by: By,
    /// The label's number, and the line that gave it.
    rows: HashMap<String, (u32, u64)>,
    /// Names in the order of the alphabet.
    labels: Vec<String>,
}

impl Truth {
    /// Reads a CSV file with a header: a column `uri`, `id` or `file` (the last part of a URI's path) and a column `label`; others are passed over.
    ///
    /// # Errors
    /// [`Error::Config`] naming the line: no such column, a picture with two labels, an empty label, fewer than two labels.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |what: String| Error::config(format_args!("--labels {}: {what}", path.display()));
        let mut reader =
            csv::ReaderBuilder::new().flexible(false).trim(csv::Trim::All).from_path(path).map_err(|e| wrong(e.to_string()))?;
        let header = reader.headers().map_err(|e| wrong(e.to_string()))?;
        let column = |name: &str| header.iter().position(|h| h.trim_start_matches('\u{feff}').eq_ignore_ascii_case(name));
        let keys = [("uri", By::Uri), ("id", By::Id), ("file", By::File)];
        let key = keys.into_iter().find_map(|(name, by)| Some((column(name)?, by)));
        let (Some((key, by)), Some(label)) = (key, column("label")) else {
            return Err(wrong("its first line must name a column `label` and one of `uri`, `id` and `file`".into()));
        };
        let mut rows: HashMap<String, (String, u64)> = HashMap::new();
        for row in reader.records() {
            let row = row.map_err(|e| wrong(e.to_string()))?;
            let line = row.position().map_or(0, csv::Position::line);
            let (key, label) = (row.get(key).unwrap_or_default(), row.get(label).unwrap_or_default());
            if key.is_empty() || label.is_empty() {
                return Err(wrong(format!("line {line}: a picture or its label is empty")));
            }
            match rows.insert(key.to_owned(), (label.to_owned(), line)) {
                Some((before, first)) if before != label => {
                    return Err(wrong(format!("line {line}: the picture of line {first} again, with another label")));
                }
                _ => {}
            }
        }
        let mut labels: Vec<String> = rows.values().map(|(label, _)| label.clone()).collect();
        labels.sort();
        labels.dedup();
        if labels.len() < 2 {
            return Err(wrong(format!("{} different labels; a classifier needs two or more", labels.len())));
        }
        let number = |label: &String| labels.binary_search(label).unwrap_or_default() as u32;
        let rows = rows.into_iter().map(|(key, (label, line))| (key, (number(&label), line))).collect();
        Ok(Self { by, rows, labels })
    }

    /// Names of the labels.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Pictures that have a label.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The line and the label's number of the picture that `record` is of.
    pub fn of(&self, record: &Record) -> Option<(u64, u32)> {
        let key = match self.by {
            By::Uri => &record.uri,
            By::Id => record.id.as_ref()?,
            By::File => record.uri.rsplit('/').next()?,
        };
        self.rows.get(key).map(|(label, line)| (*line, *label))
    }
}
