//! Parquet files in a folder or under a bucket prefix: `topic=T/partition=P/<first offset>.parquet`.
//!
//! A file is named after the offset of its first row, and no commit goes beyond that offset before the file is whole at its place: a replay begins at or
//! before it and writes the same name. Of two files of one name the one that covers more offsets stays, so that a late zombie harms nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use async_trait::async_trait;
use tempfile::NamedTempFile;

use super::place::Place;
use super::room::Appender;
use super::{Flush, Sink, file_name};
use crate::config::ParquetSink as Config;
use crate::flow::{Delivery, Outcome, Partition, Record, Rejection};
use crate::format::parquet::{FileKind, RecordFile};
use crate::{Context, Error, Result};

/// Rows of a file, and where it will lie.
struct Open {
    first: i64,
    begun: Instant,
    kind: FileKind,
    rows: RecordFile<Vec<u8>>,
    file: Appender,
    temporary: NamedTempFile,
}

#[derive(Default)]
struct Lane {
    open: Option<Open>,
    /// Below it every message was seen whole, whether it had rows or not.
    next: i64,
    /// Items of the message at `next` were seen already, and more are to come.
    within: bool,
    /// Where the last file began that was closed.
    closed: Option<i64>,
}

/// Records as Parquet files.
pub struct ParquetSink {
    name: String,
    config: Config,
    place: Place,
    lanes: HashMap<Partition, Lane>,
}

impl ParquetSink {
    /// A sink by `config`; `client` is needed for a path in a bucket, `conditional` says whether that store honours conditional writes.
    pub fn new(config: Config, client: Option<aws_sdk_s3::Client>, conditional: bool) -> Result<Self> {
        let place = Place::new(&config.path, client, conditional)?;
        Ok(Self { name: format!("parquet:{}", config.path), config, place, lanes: HashMap::new() })
    }

    /// Looks whether the bucket, if it is one, is there: better at the start than when the first file is full.
    ///
    /// # Errors
    /// [`Error::Failed`] if nothing could ever be written there. A store that is away is waited for later.
    pub async fn try_bucket(&self) -> Result<()> {
        self.place.try_bucket().await
    }

    async fn push(&mut self, partition: &Partition, offset: i64, record: &Record) -> Result<()> {
        let kind = FileKind::of(record);
        let span = i64::try_from(self.config.span).unwrap_or(i64::MAX);
        let lane = self.lanes.entry(partition.clone()).or_default();
        if lane.open.as_ref().is_some_and(|open| open.kind != kind || offset >= open.first.saturating_add(span)) {
            self.close(partition, offset).await?;
        }
        let lane = self.lanes.entry(partition.clone()).or_default();
        let open = match &mut lane.open {
            Some(open) => open,
            // The one would take the other's place.
            None if lane.closed == Some(offset) => {
                return Err(Error::failed(format!("two files of {partition} begin with the message at offset {offset}; this is a bug")));
            }
            none => {
                let temporary = self.place.temporary().await?;
                let file = temporary.reopen().context("cannot open a temporary file")?;
                let facts = [("lakelens.first", offset.to_string()), ("lakelens.model", record.model.to_string())];
                let file = Appender::new(temporary.path(), file);
                let rows = RecordFile::new(Vec::new(), &kind, &facts)?;
                none.insert(Open { first: offset, begun: Instant::now(), kind, rows, file, temporary })
            }
        };
        open.rows.push(record.clone())?;
        open.file.append(&open.rows.take()).await
    }

    /// Closes the partition's file, which covers the offsets below `end`, and puts it at its place.
    async fn close(&mut self, partition: &Partition, end: i64) -> Result<()> {
        let Some(lane) = self.lanes.get_mut(partition) else { return Ok(()) };
        let Some(open) = lane.open.take() else { return Ok(()) };
        let Open { first, mut rows, mut file, temporary, .. } = open;
        lane.closed = Some(first);
        rows.fact("lakelens.end", end.to_string());
        file.append(&rows.finish()?).await?;
        file.sync()?;
        let path = PathBuf::from(format!("topic={}", file_name(&partition.topic)))
            .join(format!("partition={}", partition.partition))
            .join(format!("{first:020}.parquet"));
        self.place.put(&path, temporary, end).await
    }
}

#[async_trait]
impl Sink for ParquetSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&mut self, _: &Delivery) -> Result<(), Rejection> {
        Ok(())
    }

    async fn write(&mut self, deliveries: &[Delivery]) -> Result<()> {
        for delivery in deliveries {
            let position = &delivery.item.position;
            if let Outcome::Record(record) = &delivery.outcome {
                self.push(&position.partition, position.offset, record).await?;
            }
            let lane = self.lanes.get_mut(&position.partition);
            let lane = lane.ok_or_else(|| Error::failed(format!("{position} was written before its partition began; this is a bug")))?;
            lane.within = !delivery.item.last;
            lane.next = if lane.within { position.offset } else { position.offset + 1 };
        }
        Ok(())
    }

    async fn flush(&mut self, how: Flush) -> Result<()> {
        let age = self.config.max_age.0;
        // Never for its age amid a message: the next file would begin at the same offset, and have the same name.
        let due = |lane: &Lane| lane.open.as_ref().is_some_and(|open| how == Flush::All || !lane.within && open.begun.elapsed() >= age);
        let due: Vec<(Partition, i64)> =
            self.lanes.iter().filter(|(_, lane)| due(lane)).map(|(partition, lane)| (partition.clone(), lane.next)).collect();
        for (partition, end) in due {
            self.close(&partition, end).await?;
        }
        Ok(())
    }

    fn held(&self, partition: &Partition) -> Option<i64> {
        self.lanes.get(partition).and_then(|lane| lane.open.as_ref()).map(|open| open.first)
    }

    async fn begin(&mut self, partition: &Partition, next_offset: i64) -> Result<()> {
        // A file that is not closed goes with its temporary name.
        self.lanes.insert(partition.clone(), Lane { open: None, next: next_offset, within: false, closed: None });
        Ok(())
    }

    async fn release(&mut self, partition: &Partition) -> Result<()> {
        if let Some(end) = self.lanes.get(partition).map(|lane| lane.next) {
            self.close(partition, end).await?;
            self.lanes.remove(partition);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
