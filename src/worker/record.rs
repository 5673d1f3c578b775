//! Puts a record together from the item, the file and the prediction.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

use super::compute::FileFacts;
use crate::config::Output;
use crate::flow::{Item, Record};
use crate::format::source_ref;
use crate::model::{ModelInfo, Prediction};

/// What all records of one run have in common.
#[derive(Debug, Clone)]
pub struct RecordForm {
    info: Arc<ModelInfo>,
    labels: bool,
    embeddings: bool,
}

impl RecordForm {
    /// Records of `model` with what `output` asks for.
    pub fn new(info: &ModelInfo, output: &Output) -> Self {
        Self { info: Arc::new(info.clone()), labels: output.top_k > 0, embeddings: output.embeddings }
    }

    /// The record of one image.
    pub fn record(&self, item: &Item, file: FileFacts, prediction: Prediction) -> Record {
        let reference = item.reference();
        Record {
            uri: file.location.to_string(),
            id: reference.and_then(|r| r.id.clone()),
            tags: reference.map_or_else(BTreeMap::new, |r| r.tags.clone()),
            etag: file.etag,
            version: file.version,
            bytes: file.bytes,
            format: file.format.to_owned(),
            width: file.width,
            height: file.height,
            sha256: file.sha256,
            labels: self.labels.then_some(prediction.labels),
            heads: None,
            embedding_dim: self.embeddings.then_some(self.info.embedding_dim as u32),
            embedding: self.embeddings.then_some(prediction.embedding),
            space: self.info.space.clone(),
            model: self.info.id.clone(),
            preprocess: self.info.preprocess.clone(),
            precision: self.info.precision.clone(),
            normalize: self.info.normalize.clone(),
            event_time: reference.and_then(|r| r.event_time.clone()),
            source: source_ref(item),
            processed_at: now(),
        }
    }
}

/// The time now as records say it: RFC 3339, UTC, milliseconds.
pub fn now() -> String {
    DateTime::<Utc>::from(std::time::SystemTime::now()).to_rfc3339_opts(SecondsFormat::Millis, true)
}
