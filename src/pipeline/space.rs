//! Whether a sink's last record came from another space: another model, preprocessing, arithmetic or normalisation. Embeddings of two spaces cannot
//! be compared, and who reads them would not notice.

mod files;
mod topic;

use aws_sdk_s3::Client;
use serde::Deserialize;

use super::assemble::cluster;
use crate::config::{OnSpaceChange, Pipeline};
use crate::model::ModelInfo;
use crate::telemetry::escape;
use crate::{Error, Result};

/// What a record, or a file of records, says of where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Origin {
    space: String,
    #[serde(default)]
    model: String,
}

/// The last record of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Last {
    /// Where it stands, for a message.
    place: String,
    origin: Origin,
}

/// Looks at the last record of every sink. Where it is of another space than `info`, says so; and refuses unless the pipeline allows it. What other
/// workers write meanwhile is not looked at.
///
/// # Errors
/// [`Error::Config`] naming both spaces; [`Error::Failed`] if a sink cannot be read, and that is not allowed either.
pub(super) async fn look(pipeline: &Pipeline, info: &ModelInfo, s3: Option<&Client>) -> Result<()> {
    let (brokers, properties) = cluster(pipeline);
    let group = pipeline.source.all().iter().find_map(|s| s.kafka.as_ref()?.group.as_deref()).unwrap_or(&pipeline.name);
    let mut found = Vec::new();
    for sink in &pipeline.sinks {
        if let Some(kafka) = &sink.kafka {
            let brokers = kafka.brokers.as_deref().filter(|b| !b.is_empty()).unwrap_or(brokers);
            let properties = kafka.properties.as_ref().unwrap_or(properties);
            for topic in [&kafka.labels, &kafka.embeddings, &kafka.records].into_iter().flatten() {
                found.push(topic::last(brokers, properties, group, topic).await);
            }
        }
        if let Some(parquet) = &sink.parquet {
            found.push(files::last_parquet(&parquet.path, s3).await);
        }
        if let Some(jsonl) = &sink.jsonl {
            found.push(files::last_line(&jsonl.path));
        }
    }
    for last in found {
        match last {
            Ok(Some(last)) => judge(&last, info, pipeline.on_space_change)?,
            Ok(None) => {}
            Err(error) if pipeline.on_space_change == OnSpaceChange::Allow => tracing::warn!("{error}"),
            Err(error) => {
                return Err(Error::failed(format_args!(
                    "{error}. Let the worker read it, or set `on_space_change: allow`, with which it does without"
                )));
            }
        }
    }
    Ok(())
}

fn judge(last: &Last, info: &ModelInfo, on: OnSpaceChange) -> Result<()> {
    let Last { place, origin } = last;
    if *origin.space == *info.space {
        return Ok(());
    }
    let what = format!(
        "{place} is of space {}, and this worker's records are of space {} ({}, {}, {}, normalize {})",
        shown(origin),
        info.space,
        info.id,
        info.precision,
        info.preprocess,
        info.normalize
    );
    match on {
        OnSpaceChange::Allow => {
            tracing::warn!("{what}; their embeddings cannot be compared. Going on (on_space_change: allow)");
            Ok(())
        }
        OnSpaceChange::Refuse => Err(Error::config(format_args!(
            "{what}: their embeddings cannot be compared. Give the sink another topic or folder, or go back to what made it (model, precision, \
             preprocessing, normalize); or set `on_space_change: allow`, and both will stand there, each record with its `space`"
        ))),
    }
}

/// Text from a sink, which anybody may have written, for a message.
fn shown(Origin { space, model }: &Origin) -> String {
    let short = |text: &str| escape(&text.chars().take(100).collect::<String>());
    if model.is_empty() { short(space) } else { format!("{} ({})", short(space), short(model)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(space: &str) -> ModelInfo {
        ModelInfo {
            id: "m@sha256:2".into(),
            space: space.into(),
            preprocess: "sha256:3".into(),
            precision: "bf16".into(),
            normalize: "l2".into(),
            classes: 2,
            embedding_dim: 3,
            input: [3, 4, 4],
        }
    }

    #[test]
    fn another_space_is_refused_with_both_names_or_allowed() {
        let place = "topic `t`: its last record (partition 0, offset 7)".to_owned();
        let last = Last { place, origin: Origin { space: "old\u{1b}[31m".into(), model: "m@sha256:1".into() } };
        let error = judge(&last, &info("new"), OnSpaceChange::Refuse).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        for part in ["topic `t`", "offset 7", "old", "m@sha256:1", "space new", "m@sha256:2", "bf16", "on_space_change: allow"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}'));
        judge(&last, &info("new"), OnSpaceChange::Allow).unwrap();
        judge(&last, &info(&last.origin.space), OnSpaceChange::Refuse).unwrap();
    }
}
