//! Mistakes in a file: where they are, what is wrong, all of them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A place in a file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Mark {
    pub(super) const START: Mark = Mark { line: 1, column: 1 };
}

/// One mistake, or one warning. Never holds a value from the environment or from `properties`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Where.
    pub mark: Mark,
    /// The field, as in `source.kafka.topics[0]`; empty for the whole file.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Something that works, and is perhaps not meant.
pub type Warning = Diagnostic;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.mark.line, self.mark.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// All mistakes of one file, in the order in which they stand. Shown as lines of `file:line:column: path: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// The file's name.
    pub file: String,
    /// At least one.
    pub errors: Vec<Diagnostic>,
    /// How many more there are: a file of another kind has one on each line.
    pub more: usize,
    /// What else was noticed.
    pub warnings: Vec<Warning>,
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{error}", self.file)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more mistakes", self.file),
        }
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostics> for crate::Error {
    fn from(mistakes: Diagnostics) -> Self {
        Self::config(mistakes)
    }
}

/// Most mistakes that are kept.
const MOST: usize = 100;

/// Collects what is found in one file.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Warning>,
    /// Where each field stands.
    pub marks: BTreeMap<String, Mark>,
    /// Fields whose value came from the environment.
    pub secrets: BTreeSet<String>,
    silent: BTreeSet<Mark>,
    more: usize,
}

impl Report {
    pub fn error_at(&mut self, mark: Mark, path: &str, message: String) {
        match self.silent.contains(&mark) {
            true => {}
            false if self.errors.len() == MOST => self.more += 1,
            false => self.errors.push(Diagnostic { mark, path: path.into(), message }),
        }
    }

    /// Says nothing more of what stands at `mark`.
    pub fn silence(&mut self, mark: Mark) {
        self.silent.insert(mark);
    }

    /// Where the field stands, or the nearest field around it.
    pub fn mark(&self, path: &str) -> Mark {
        let mut path = path;
        loop {
            match (self.marks.get(path), path.rfind(['.', '['])) {
                (Some(mark), _) => return *mark,
                (None, Some(at)) => path = &path[..at],
                (None, None) => return self.marks.get("").copied().unwrap_or(Mark::START),
            }
        }
    }

    /// The result, in the order of the file.
    pub fn finish(mut self, file: &str) -> Result<Vec<Warning>, Diagnostics> {
        // The reader does not know yet which field a scalar is the value of.
        for error in self.errors.iter_mut().filter(|e| e.path.is_empty()) {
            if let Some((path, _)) = self.marks.iter().find(|(_, mark)| **mark == error.mark) {
                error.path.clone_from(path);
            }
        }
        self.errors.sort();
        self.errors.dedup();
        self.warnings.sort();
        match self.errors.is_empty() {
            true => Ok(self.warnings),
            false => Err(Diagnostics { file: shown(file), errors: self.errors, more: self.more, warnings: self.warnings }),
        }
    }
}

/// Text from a file as it may go into a message: control characters escaped, long text cut.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 120;
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    let mut out: String = text.chars().take(MOST).map(escape).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}
