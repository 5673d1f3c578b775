//! Records as Parquet: the contract's columns, zstd, row groups of bounded size.

mod columns;
mod read;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::json::{RECORD_SCHEMA, parse_record};
use crate::flow::Record;
use crate::{Context, Error, Result};
use columns::columns;

pub use columns::schema;
pub use read::RecordReader;

/// Rows of a row group: with embeddings of 2,048 values 8 MiB.
pub const GROUP_ROWS: usize = 1024;
/// Rows that are gathered before they are handed to the encoder.
const BATCH_ROWS: usize = 128;

/// What is the same for all records of one file. Embeddings of two spaces never share a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileKind {
    /// The space of the embeddings.
    pub space: Arc<str>,
    /// Length of the embeddings; `None` where records carry none.
    pub embedding_dim: Option<u32>,
}

impl FileKind {
    /// The kind of file that `record` goes into. An embedding of no values, which a foreign record may have, is none: there is no column of them.
    pub fn of(record: &Record) -> Self {
        let dim = record.embedding.as_ref().map(|e| e.len() as u32);
        Self { space: record.space.clone(), embedding_dim: dim.filter(|dim| *dim > 0) }
    }
}

/// Writes one file. Memory is bounded by a row group, however long the file becomes.
pub struct RecordFile<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: SchemaRef,
    dim: Option<u32>,
    rows: Vec<Record>,
    count: u64,
}

impl RecordFile<Vec<u8>> {
    /// Takes the bytes that are encoded so far, to be appended to those taken before.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }
}

impl<W: Write + Send> RecordFile<W> {
    /// Begins a file; `facts` go into its metadata beside `lakelens.schema` and `lakelens.space`.
    pub fn new(out: W, kind: &FileKind, facts: &[(&str, String)]) -> Result<Self> {
        let schema = schema(kind.embedding_dim);
        let fixed = [("lakelens.schema", RECORD_SCHEMA.to_owned()), ("lakelens.space", kind.space.to_string())];
        let metadata = fixed.iter().chain(facts).map(|(name, value)| KeyValue::new((*name).to_owned(), value.clone())).collect();
        let embedding = ColumnPath::from("embedding.list.element");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_key_value_metadata(Some(metadata))
            .set_created_by(concat!("lakelens ", env!("CARGO_PKG_VERSION")).to_owned())
            // Neighbouring floats share their high bytes, and nothing else: a dictionary and minima of single values are of no use.
            .set_column_dictionary_enabled(embedding.clone(), false)
            .set_column_statistics_enabled(embedding.clone(), EnabledStatistics::None)
            .set_column_encoding(embedding, Encoding::BYTE_STREAM_SPLIT)
            .build();
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties)).context("cannot begin a Parquet file")?;
        Ok(Self { writer, schema, dim: kind.embedding_dim, rows: Vec::new(), count: 0 })
    }

    /// Appends one record of this file's kind.
    pub fn push(&mut self, record: Record) -> Result<()> {
        self.rows.push(record);
        self.count += 1;
        if self.rows.len() >= BATCH_ROWS { self.encode() } else { Ok(()) }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.count
    }

    /// Adds to the metadata.
    pub fn fact(&mut self, name: &str, value: String) {
        self.writer.append_key_value_metadata(KeyValue::new(name.to_owned(), value));
    }

    /// Writes the footer and gives the writer back.
    pub fn finish(mut self) -> Result<W> {
        self.encode()?;
        self.writer.into_inner().context("cannot end a Parquet file")
    }

    fn encode(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let columns = columns(&rows, self.dim).context("cannot build columns")?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns).context("cannot build a batch")?;
        self.writer.write(&batch).context("cannot write a Parquet file")
    }
}

/// Turns a JSONL file of records into one Parquet file, through a temporary file beside it. All records must be of one kind.
pub fn jsonl_to_parquet(journal: &Path, out: &Path) -> Result<()> {
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = crate::temporary::temporary_in(folder).context(format!("cannot write to {}", folder.display()))?;
    let handle = || temporary.as_file().try_clone().context("cannot write the Parquet file");
    let reader = BufReader::new(File::open(journal).context(format!("cannot read {}", journal.display()))?);
    let mut file: Option<(FileKind, RecordFile<File>)> = None;
    for (number, line) in reader.lines().enumerate() {
        let line = line.context(format!("cannot read {}", journal.display()))?;
        let at = || format!("{}, line {}", journal.display(), number + 1);
        if line.starts_with("{\"schema\":\"lakelens.rejection") {
            continue;
        }
        let record = parse_record(line.as_bytes()).map_err(|e| Error::failed(format!("{}: {e}", at())))?;
        let kind = FileKind::of(&record);
        let (known, file) = match &mut file {
            Some((known, file)) => (known, file),
            none => {
                let (known, file) = none.insert((kind.clone(), RecordFile::new(handle()?, &kind, &[])?));
                (known, file)
            }
        };
        if *known != kind {
            return Err(Error::failed(format!(
                "{}: its embedding is of the space {}, those before it of {}; one file holds one space. Label again with --overwrite",
                at(),
                kind.space,
                known.space
            )));
        }
        file.push(record)?;
    }
    let file = match file {
        Some((_, file)) => file,
        // No picture had a record: a file with the columns and no rows.
        None => RecordFile::new(handle()?, &FileKind { space: "".into(), embedding_dim: None }, &[])?,
    };
    file.finish()?;
    temporary.as_file().sync_all().context("cannot write the Parquet file")?;
    temporary.persist(out).context(format!("cannot rename to {}", out.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::json::tests::any_record;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_records_of_one_kind_make_a_file(records in proptest::collection::vec(any_record(), 1..300)) {
            let mut first = FileKind::of(&records[0]);
            first.embedding_dim = Some(4);
            let mut file = RecordFile::new(Vec::new(), &first, &[]).unwrap();
            let count = records.len() as u64;
            for mut record in records {
                record.embedding = Some(vec![1.5; 4]);
                file.push(record).unwrap();
            }
            prop_assert_eq!(file.rows(), count);
            let bytes = file.finish().unwrap();
            prop_assert_eq!(&bytes[..4], b"PAR1");
            prop_assert_eq!(&bytes[bytes.len() - 4..], b"PAR1");
        }
    }
}
