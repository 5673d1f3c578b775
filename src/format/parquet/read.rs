//! Records out of Parquet, column by column and by name, so that files which another program wrote anew (other list and text types, other order, fewer
//! columns) are read as well.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, ListArray, MapArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, TimeUnit};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::BATCH_ROWS;
use super::columns::{labels_type, map_type};
use crate::flow::{Label, Record, SourceRef};
use crate::format::rfc3339;

/// The records of one file, in its order. Memory is bounded by a row group of the file.
pub struct RecordReader {
    batches: ParquetRecordBatchReader,
    rows: std::vec::IntoIter<Record>,
}

impl RecordReader {
    /// Begins to read `file`.
    ///
    /// # Errors
    /// What is wrong with the file: it is no Parquet, or has no column `uri`.
    pub fn new(file: File) -> Result<Self, String> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| e.to_string())?;
        if builder.schema().column_with_name("uri").is_none() {
            return Err("it has no column `uri`, so it holds no records".into());
        }
        let batches = builder.with_batch_size(BATCH_ROWS).build().map_err(|e| e.to_string())?;
        Ok(Self { batches, rows: Vec::new().into_iter() })
    }
}

impl Iterator for RecordReader {
    type Item = Result<Record, String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            match self.batches.next()?.map_err(|e| e.to_string()).and_then(|batch| records(&batch)) {
                Ok(rows) => self.rows = rows.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The rows of one batch. A column that is missing is null throughout, or empty where a record needs a value.
fn records(batch: &RecordBatch) -> Result<Vec<Record>, String> {
    let columns = Columns(batch);
    let [uri, id, etag, version, format, sha256] = columns.texts(["uri", "id", "etag", "version", "format", "sha256"])?;
    let [space, model, preprocess, precision, normalize] = columns.texts(["space", "model", "preprocess", "precision", "normalize"])?;
    let [topic, listing, key] = columns.texts(["source_topic", "source_listing", "source_key"])?;
    let [bytes, width, height, dim] = columns.numbers(["bytes", "width", "height", "embedding_dim"])?;
    let [partition, offset, item] = columns.numbers(["source_partition", "source_offset", "source_item"])?;
    let [event_time, source_time, processed_at] = columns.times(["event_time", "source_timestamp", "processed_at"])?;
    let tags = columns.get("tags", &map_type(DataType::Utf8, true))?;
    let labels = columns.get("labels", &labels_type())?;
    let heads = columns.get("heads", &map_type(labels_type(), true))?;
    let float_list = DataType::List(Arc::new(Field::new("element", DataType::Float32, true)));
    let embedding = columns.get("embedding", &float_list)?;

    let (mut shared, mut interned) = (Shared::default(), Shared::default());
    let rows = (0..batch.num_rows()).map(|row| {
        let embedding = embedding.as_ref().and_then(|list| list_at(list.as_list(), row)).map(|e| floats(&e)).transpose()?;
        Ok(Record {
            uri: uri.at(row).ok_or("a row has no `uri`")?.to_owned(),
            id: id.owned(row),
            tags: match tags.as_ref().map(AsArray::as_map).filter(|map| map.is_valid(row)) {
                Some(map) => pairs(map, row, |values, at| text_at(values.as_string(), at).unwrap_or_default().to_owned()),
                None => BTreeMap::new(),
            },
            etag: etag.owned(row),
            version: version.owned(row),
            bytes: whole(bytes.at(row)),
            format: format.owned(row).unwrap_or_default(),
            width: whole(width.at(row)),
            height: whole(height.at(row)),
            sha256: sha256.owned(row).unwrap_or_default(),
            labels: labels.as_ref().and_then(|list| list_at(list.as_list(), row)).map(|list| read_labels(&list, &mut interned)),
            heads: heads.as_ref().map(AsArray::as_map).filter(|map| map.is_valid(row)).map(|map| {
                pairs(map, row, |values, at| {
                    list_at(values.as_list(), at).map(|list| read_labels(&list, &mut interned)).unwrap_or_default()
                })
            }),
            embedding_dim: dim.at(row).map(|dim| whole(Some(dim))).or(embedding.as_ref().map(|e| e.len() as u32)),
            embedding,
            space: shared.of(space.at(row)),
            model: shared.of(model.at(row)),
            preprocess: shared.of(preprocess.at(row)),
            precision: shared.of(precision.at(row)),
            normalize: shared.of(normalize.at(row)),
            event_time: event_time.at(row).and_then(rfc3339),
            source: match topic.at(row) {
                Some(topic) => SourceRef::Kafka {
                    topic: shared.of(Some(topic)),
                    partition: partition.at(row).and_then(|p| i32::try_from(p).ok()).unwrap_or_default(),
                    offset: offset.at(row).unwrap_or_default(),
                    item: whole(item.at(row)),
                    timestamp: source_time.at(row).and_then(rfc3339),
                },
                None => SourceRef::Listing { listing: shared.of(listing.at(row)), key: key.owned(row).unwrap_or_default() },
            },
            processed_at: processed_at.at(row).and_then(rfc3339).unwrap_or_default(),
        })
    });
    rows.collect()
}

/// Columns of a batch by name, each as the type that is asked for.
struct Columns<'a>(&'a RecordBatch);

impl Columns<'_> {
    /// `None` where the file has no such column.
    fn get(&self, name: &str, kind: &DataType) -> Result<Option<ArrayRef>, String> {
        let Some(column) = self.0.column_by_name(name) else { return Ok(None) };
        if column.data_type() == &DataType::Null {
            return Ok(None);
        }
        let cast = arrow_cast::cast(column, kind);
        cast.map(Some).map_err(|_| format!("its column `{name}` is of type {}, which cannot be read as {kind}", column.data_type()))
    }

    fn texts<const N: usize>(&self, names: [&str; N]) -> Result<[Texts; N], String> {
        self.all(names, &DataType::Utf8, |column| Texts(column.map(|c| c.as_string().clone())))
    }

    fn numbers<const N: usize>(&self, names: [&str; N]) -> Result<[Numbers; N], String> {
        self.all(names, &DataType::Int64, |column| Numbers(column.map(|c| c.as_primitive::<Int64Type>().clone())))
    }

    /// Milliseconds since 1970.
    fn times<const N: usize>(&self, names: [&str; N]) -> Result<[Numbers; N], String> {
        let kind = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        self.all(names, &kind, |column| Numbers(column.map(|c| c.as_primitive::<TimestampMillisecondType>().reinterpret_cast())))
    }

    fn all<T, const N: usize>(&self, names: [&str; N], kind: &DataType, make: impl Fn(Option<ArrayRef>) -> T) -> Result<[T; N], String> {
        let columns = names.iter().map(|name| Ok(make(self.get(name, kind)?))).collect::<Result<Vec<T>, String>>()?;
        columns.try_into().map_err(|_| "a column is missing".to_owned())
    }
}

struct Texts(Option<StringArray>);

impl Texts {
    fn at(&self, row: usize) -> Option<&str> {
        self.0.as_ref().and_then(|column| text_at(column, row))
    }

    fn owned(&self, row: usize) -> Option<String> {
        self.at(row).map(str::to_owned)
    }
}

struct Numbers(Option<arrow_array::Int64Array>);

impl Numbers {
    fn at(&self, row: usize) -> Option<i64> {
        self.0.as_ref().filter(|column| column.is_valid(row)).map(|column| column.value(row))
    }
}

/// Texts that repeat from row to row are kept once.
#[derive(Default)]
struct Shared(std::collections::HashSet<Arc<str>>);

impl Shared {
    fn of(&mut self, text: Option<&str>) -> Arc<str> {
        let text = text.unwrap_or_default();
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.0.insert(new.clone());
        new
    }
}

fn text_at(column: &StringArray, at: usize) -> Option<&str> {
    column.is_valid(at).then(|| column.value(at))
}

fn list_at(column: &ListArray, at: usize) -> Option<ArrayRef> {
    column.is_valid(at).then(|| column.value(at))
}

fn whole<T: TryFrom<i64> + Default>(value: Option<i64>) -> T {
    value.and_then(|v| T::try_from(v).ok()).unwrap_or_default()
}

fn floats(list: &ArrayRef) -> Result<Vec<f32>, String> {
    let values = list.as_primitive::<Float32Type>();
    if values.null_count() > 0 {
        return Err("an embedding has a value that is null".into());
    }
    Ok(values.values().to_vec())
}

fn pairs<T>(map: &MapArray, row: usize, mut value: impl FnMut(&ArrayRef, usize) -> T) -> BTreeMap<String, T> {
    let entries = map.value(row);
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
    (0..entries.len()).map(|at| (text_at(keys, at).unwrap_or_default().to_owned(), value(values, at))).collect()
}

fn read_labels(list: &ArrayRef, shared: &mut Shared) -> Vec<Label> {
    let list = list.as_struct();
    let (index, label) = (list.column(0).as_primitive::<Int32Type>(), list.column(1).as_string::<i32>());
    let score = list.column(2).as_primitive::<Float32Type>();
    let one = |at| Label { index: whole(Some(index.value(at).into())), label: shared.of(text_at(label, at)), score: score.value(at) };
    (0..list.len()).map(one).collect()
}
