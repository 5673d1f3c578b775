//! The contract's columns, and records as arrays of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{
    FixedSizeListBuilder, Float32Builder, Int32Builder, Int64Builder, ListBuilder, MapBuilder, StringBuilder, StructBuilder,
    TimestampMillisecondBuilder,
};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use chrono::DateTime;

use crate::flow::{Label, Record, SourceRef};

fn label_fields() -> Fields {
    Fields::from(vec![
        Field::new("index", DataType::Int32, false),
        Field::new("label", DataType::Utf8, false),
        Field::new("score", DataType::Float32, false),
    ])
}

pub(super) fn labels_type() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Struct(label_fields()), false)))
}

pub(super) fn map_type(value: DataType, nullable: bool) -> DataType {
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

/// The values of those columns, in their order.
pub(super) fn columns(rows: &[Record], dim: Option<u32>) -> Result<Vec<ArrayRef>, ArrowError> {
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
