//! Puts a record together from the item, the file and the prediction.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

use super::compute::FileFacts;
use crate::config::Output;
use crate::flow::{Item, Record};
use crate::format::source_ref;
use crate::head::Heads;
use crate::model::{ModelInfo, Prediction};

/// What all records of one run have in common.
#[derive(Debug, Clone)]
pub struct RecordForm {
    info: Arc<ModelInfo>,
    heads: Heads,
    top_k: usize,
    min_score: f32,
    embeddings: bool,
}

impl RecordForm {
    /// Records of the model `info` with what `output` asks for, and what `heads` say of its embeddings.
    pub fn new(info: &ModelInfo, output: &Output, heads: Heads) -> Self {
        let &Output { top_k, min_score, embeddings, .. } = output;
        Self { info: Arc::new(info.clone()), heads, top_k, min_score, embeddings }
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
            labels: (self.top_k > 0).then_some(prediction.labels),
            heads: self.heads.label(&prediction.embedding, self.top_k, self.min_score),
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
