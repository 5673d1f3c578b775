//! Entries of a JSONL file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;

use super::{Entry, Rejected};
use crate::format::json::{RECORD_SCHEMA, REJECTION_SCHEMA, parse_record};
use crate::{Error, Result};

/// Longest line: 4 million values of an embedding.
const MAX_LINE: u64 = 64 << 20;

/// The lines of one file.
pub(super) struct Lines {
    reader: BufReader<File>,
    name: String,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    pub fn new(file: File, name: String) -> Self {
        Self { reader: BufReader::with_capacity(1 << 18, file), name, line: Vec::new(), number: 0 }
    }

    /// `None` at the end.
    fn step(&mut self) -> Result<Option<Entry>> {
        loop {
            self.line.clear();
            self.number += 1;
            let at = |what: &dyn std::fmt::Display| Error::failed(format_args!("{}, line {}: {what}", self.name, self.number));
            let read = (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut self.line).map_err(|e| at(&e))?;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 == MAX_LINE {
                return Err(at(&"longer than 64 MiB; this is no file of records"));
            }
            let line = self.line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            match parse(line) {
                Ok(entry) => return Ok(Some(entry)),
                // A writer that is at work, or was killed, leaves the beginning of a line at the end.
                Err(error) if !self.line.ends_with(b"\n") => {
                    tracing::warn!("{}, line {}: the last line is cut off and is passed over: {error}", self.name, self.number);
                    return Ok(None);
                }
                Err(error) => return Err(at(&error)),
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    schema: String,
}

fn parse(line: &[u8]) -> Result<Entry, String> {
    // What our own writers write begins with the schema; whoever wrote the fields in another order pays for a second look.
    let begins = |schema: &str| line.strip_prefix(br#"{"schema":""#).is_some_and(|rest| rest.starts_with(schema.as_bytes()));
    let schema = match () {
        () if begins(RECORD_SCHEMA) => RECORD_SCHEMA.into(),
        () if begins(REJECTION_SCHEMA) => REJECTION_SCHEMA.into(),
        () => serde_json::from_slice::<Kind>(line).map_err(|e| format!("not a JSON object ({e})"))?.schema,
    };
    if schema == REJECTION_SCHEMA {
        let rejected: Rejected = serde_json::from_slice(line).map_err(|e| format!("not a rejection ({e})"))?;
        return Ok(Entry::Rejection(rejected));
    }
    parse_record(line).map(|record| Entry::Record(Box::new(record)))
}
