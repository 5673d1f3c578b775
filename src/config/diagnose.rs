//! What is wrong with a file, all of it at once, each with its line and column.

use std::fmt;

/// Line and column, from 1; both 0 where a problem has no place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    place: Place,
    path: String,
    message: String,
}

/// All the problems of one file.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    file: String,
    problems: Vec<Problem>,
}

impl Diagnostics {
    /// None yet.
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), problems: Vec::new() }
    }

    /// A file that cannot be read at all.
    pub fn unreadable(file: &str, error: &std::io::Error) -> Self {
        let mut all = Self::new(file);
        all.add(Place::default(), "", format!("cannot be read: {error}"));
        all
    }

    /// One more problem, with the path of the field (`sinks[0].kafka`).
    pub fn add(&mut self, place: Place, path: &str, message: impl Into<String>) {
        self.problems.push(Problem { place, path: path.to_owned(), message: message.into() });
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.problems.len()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut problems = self.problems.clone();
        problems.sort();
        problems.dedup();
        for (n, problem) in problems.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file)?;
            if problem.place.line > 0 {
                write!(f, ":{}:{}", problem.place.line, problem.place.column)?;
            }
            write!(f, ": ")?;
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            write!(f, "{}", crate::telemetry::escape(&problem.message))?;
        }
        Ok(())
    }
}
