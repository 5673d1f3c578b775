//! Records as Parquet: the contract's columns, zstd, row groups of bounded size.

mod read;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{
    FixedSizeListBuilder, Float32Builder, Int32Builder, Int64Builder, ListBuilder, MapBuilder, StringBuilder, StructBuilder,
    TimestampMillisecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use chrono::DateTime;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::json::{RECORD_SCHEMA, parse_record};
use crate::flow::{Label, Record, SourceRef};
use crate::{Context, Error, Result};

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

fn label_fields() -> Fields {
    Fields::from(vec![
        Field::new("index", DataType::Int32, false),
        Field::new("label", DataType::Utf8, false),
        Field::new("score", DataType::Float32, false),
    ])
}

fn labels_type() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Struct(label_fields()), false)))
}

fn map_type(value: DataType, nullable: bool) -> DataType {
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, nullable)]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false)
}

/// The contract's columns; the embedding is of `dim` values, or of type null list of 0 where there is none.
pub fn schema(dim: Option<u32>) -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let time = |name: &str, nullable| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), nullable);
    let int = |name: &str, nullable| Field::new(name, DataType::Int64, nullable);
    let mut fields = vec![
        text("uri", false),
        text("id", true),
        Field::new("tags", map_type(DataType::Utf8, false), false),
        text("etag", true),
        text("version", true),
        int("bytes", false),
        text("format", false),
        Field::new("width", DataType::Int32, false),
        Field::new("height", DataType::Int32, false),
        text("sha256", false),
        Field::new("labels", labels_type(), true),
        Field::new("heads", map_type(labels_type(), false), true),
    ];
    if let Some(dim) = dim {
        let element = Arc::new(Field::new("element", DataType::Float32, false));
        fields.push(Field::new("embedding", DataType::FixedSizeList(element, dim as i32), false));
    }
    fields.extend([
        Field::new("embedding_dim", DataType::Int32, true),
        text("space", false),
        text("model", false),
        text("preprocess", false),
        text("precision", false),
        text("normalize", false),
        time("event_time", true),
        text("source_topic", true),
        Field::new("source_partition", DataType::Int32, true),
        int("source_offset", true),
        Field::new("source_item", DataType::Int32, true),
        time("source_timestamp", true),
        text("source_listing", true),
        text("source_key", true),
        time("processed_at", false),
    ]);
    Arc::new(Schema::new(fields))
}

fn columns(rows: &[Record], dim: Option<u32>) -> Result<Vec<ArrayRef>, ArrowError> {
    let text =
        |get: &dyn Fn(&Record) -> Option<String>| -> ArrayRef { Arc::new(rows.iter().map(get).collect::<arrow_array::StringArray>()) };
    let plain = |get: &dyn Fn(&Record) -> &str| text(&|r| Some(get(r).to_owned()));
    let long = |get: &dyn Fn(&Record) -> Option<i64>| -> ArrayRef {
        let mut builder = Int64Builder::new();
        rows.iter().for_each(|r| builder.append_option(get(r)));
        Arc::new(builder.finish())
    };
    let int = |get: &dyn Fn(&Record) -> Option<i32>| -> ArrayRef {
        let mut builder = Int32Builder::new();
        rows.iter().for_each(|r| builder.append_option(get(r)));
        Arc::new(builder.finish())
    };
    let time = |get: &dyn Fn(&Record) -> Option<i64>| -> ArrayRef {
        let mut builder = TimestampMillisecondBuilder::new();
        rows.iter().for_each(|r| builder.append_option(get(r)));
        Arc::new(builder.finish().with_timezone("UTC"))
    };
    let mut all: Vec<ArrayRef> = vec![
        plain(&|r| &r.uri),
        text(&|r| r.id.clone()),
        tags(rows)?,
        text(&|r| r.etag.clone()),
        text(&|r| r.version.clone()),
        // Foreign records may say anything; a column without nulls must have a value all the same.
        long(&|r| Some(i64::try_from(r.bytes).unwrap_or(i64::MAX))),
        plain(&|r| &r.format),
        int(&|r| Some(i32::try_from(r.width).unwrap_or(i32::MAX))),
        int(&|r| Some(i32::try_from(r.height).unwrap_or(i32::MAX))),
        plain(&|r| &r.sha256),
        labels(rows),
        heads(rows)?,
    ];
    if let Some(dim) = dim {
        all.push(embeddings(rows, dim));
    }
    all.extend([
        int(&|r| r.embedding_dim.and_then(|d| i32::try_from(d).ok())),
        plain(&|r| &r.space),
        plain(&|r| &r.model),
        plain(&|r| &r.preprocess),
        plain(&|r| &r.precision),
        plain(&|r| &r.normalize),
        time(&|r| r.event_time.as_deref().and_then(millis)),
        text(&|r| kafka(&r.source).map(|(topic, ..)| topic.to_string())),
        int(&|r| kafka(&r.source).map(|(_, partition, ..)| partition)),
        long(&|r| kafka(&r.source).map(|(_, _, offset, _)| offset)),
        int(&|r| kafka(&r.source).and_then(|(.., item)| i32::try_from(item).ok())),
        time(&|r| match &r.source {
            SourceRef::Kafka { timestamp, .. } => timestamp.as_deref().and_then(millis),
            SourceRef::Listing { .. } => None,
        }),
        text(&|r| listing(&r.source).map(|(listing, _)| listing.to_string())),
        text(&|r| listing(&r.source).map(|(_, key)| key.to_owned())),
        time(&|r| Some(millis(&r.processed_at).unwrap_or(0))),
    ]);
    Ok(all)
}

fn kafka(source: &SourceRef) -> Option<(&Arc<str>, i32, i64, u32)> {
    match source {
        SourceRef::Kafka { topic, partition, offset, item, .. } => Some((topic, *partition, *offset, *item)),
        SourceRef::Listing { .. } => None,
    }
}

fn listing(source: &SourceRef) -> Option<(&Arc<str>, &str)> {
    match source {
        SourceRef::Listing { listing, key } => Some((listing, key)),
        SourceRef::Kafka { .. } => None,
    }
}

fn millis(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

fn names() -> Option<arrow_array::builder::MapFieldNames> {
    Some(arrow_array::builder::MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() })
}

fn tags(rows: &[Record]) -> Result<ArrayRef, ArrowError> {
    let mut builder =
        MapBuilder::new(names(), StringBuilder::new(), StringBuilder::new()).with_values_field(Field::new("value", DataType::Utf8, false));
    for row in rows {
        for (key, value) in &row.tags {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

type Labels = ListBuilder<StructBuilder>;

fn labels_builder() -> Labels {
    let fields: Vec<Box<dyn arrow_array::builder::ArrayBuilder>> =
        vec![Box::new(Int32Builder::new()), Box::new(StringBuilder::new()), Box::new(Float32Builder::new())];
    ListBuilder::new(StructBuilder::new(label_fields(), fields)).with_field(Field::new("element", DataType::Struct(label_fields()), false))
}

fn append_labels(builder: &mut Labels, list: Option<&[Label]>) {
    for label in list.unwrap_or_default() {
        let entry = builder.values();
        if let Some(index) = entry.field_builder::<Int32Builder>(0) {
            index.append_value(i32::try_from(label.index).unwrap_or(i32::MAX));
        }
        if let Some(name) = entry.field_builder::<StringBuilder>(1) {
            name.append_value(&label.label);
        }
        if let Some(score) = entry.field_builder::<Float32Builder>(2) {
            score.append_value(label.score);
        }
        entry.append(true);
    }
    builder.append(list.is_some());
}

fn labels(rows: &[Record]) -> ArrayRef {
    let mut builder = labels_builder();
    rows.iter().for_each(|row| append_labels(&mut builder, row.labels.as_deref()));
    Arc::new(builder.finish())
}

fn heads(rows: &[Record]) -> Result<ArrayRef, ArrowError> {
    let none = BTreeMap::new();
    let mut builder =
        MapBuilder::new(names(), StringBuilder::new(), labels_builder()).with_values_field(Field::new("value", labels_type(), false));
    for row in rows {
        for (name, labels) in row.heads.as_ref().unwrap_or(&none) {
            builder.keys().append_value(name);
            append_labels(builder.values(), Some(labels));
        }
        builder.append(row.heads.is_some())?;
    }
    Ok(Arc::new(builder.finish()))
}

fn embeddings(rows: &[Record], dim: u32) -> ArrayRef {
    let values = Float32Builder::with_capacity(rows.len() * dim as usize);
    let mut builder = FixedSizeListBuilder::new(values, dim as i32).with_field(Field::new("element", DataType::Float32, false));
    for row in rows {
        // Records of one file are of one kind, so that lengths agree; zeros stand for one that is not, and cannot occur.
        match row.embedding.as_deref().filter(|e| e.len() == dim as usize) {
            Some(embedding) => builder.values().append_slice(embedding),
            None => builder.values().append_slice(&vec![0.0; dim as usize]),
        }
        builder.append(true);
    }
    Arc::new(builder.finish())
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
