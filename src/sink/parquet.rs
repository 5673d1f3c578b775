//! Parquet files in a folder or under a bucket prefix: `topic=T/partition=P/<first offset>.parquet`.
//!
//! A file is named after the offset of its first row, and no commit goes beyond that offset before the file is whole at its place. A worker that begins
//! looks how far the files reach that stand there already, committed or not, and passes over the rows that they have: so no row is in two files,
//! wherever the worker before it died. A file holds whole messages. One that meets another of its name, which only a worker can have put there that was
//! believed dead, gives way or stops the worker; it never takes the place of one that others have gone on behind.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use async_trait::async_trait;
use tempfile::NamedTempFile;

use super::place::{self, Cover, Place};
use super::room::Appender;
use super::{Flush, Sink, file_name};
use crate::config::ParquetSink as Config;
use crate::flow::{Delivery, Outcome, Partition, Record, Rejection};
use crate::format::parquet::{FileKind, RecordFile};
use crate::{Context, Error, Result};

/// Rows of a file, and where it will lie.
struct Open {
    cover: Cover,
    begun: Instant,
    kind: FileKind,
    rows: RecordFile<Vec<u8>>,
    file: Appender,
    temporary: NamedTempFile,
}

#[derive(Default)]
struct Lane {
    open: Option<Open>,
    /// Rows of the message that is being handed over, and its offset: they go into a file together.
    message: Option<(i64, Vec<Record>)>,
    /// Files have every row below it.
    there: i64,
    /// It was said that rows are passed over.
    said: bool,
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

    async fn push(&mut self, partition: &Partition, offset: i64, grows: bool, record: Record) -> Result<()> {
        let kind = FileKind::of(&record);
        let span = self.span();
        if let Some(open) = self.lanes.get_mut(partition).and_then(|lane| lane.open.as_mut()) {
            if open.kind != kind {
                // Amid a message, all of it is to be read again unless the next file comes to stand, too.
                open.cover.end = open.cover.end.min(offset);
                self.close(partition).await?;
            } else if offset >= open.cover.first.saturating_add(span) {
                self.close(partition).await?;
            }
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
                let cover = Cover { first: offset, end: offset, grows };
                none.insert(Open { cover, begun: Instant::now(), kind, rows, file, temporary })
            }
        };
        open.rows.push(record)?;
        open.cover.end = offset + 1;
        open.file.append(&open.rows.take()).await
    }

    fn span(&self) -> i64 {
        i64::try_from(self.config.span).unwrap_or(i64::MAX)
    }

    /// Closes the partition's file and puts it at its place.
    async fn close(&mut self, partition: &Partition) -> Result<()> {
        let Some(lane) = self.lanes.get_mut(partition) else { return Ok(()) };
        let Some(open) = lane.open.take() else { return Ok(()) };
        let Open { cover, mut rows, mut file, temporary, .. } = open;
        lane.closed = Some(cover.first);
        rows.fact("lakelens.end", cover.end.to_string());
        file.append(&rows.finish()?).await?;
        file.sync()?;
        let path = folder_of(partition).join(place::file_name(cover.first));
        lane.there = lane.there.max(self.place.put(&path, temporary, cover).await?);
        Ok(())
    }
}

fn folder_of(partition: &Partition) -> PathBuf {
    Path::new(&format!("topic={}", file_name(&partition.topic))).join(format!("partition={}", partition.partition))
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
            let (position, item) = (&delivery.item.position, &delivery.item);
            let lane = self.lanes.get_mut(&position.partition);
            let lane = lane.ok_or_else(|| Error::failed(format!("{position} was written before its partition began; this is a bug")))?;
            // Of a listing a row's offset says nothing about the last run's.
            let grows = item.message.listing.is_some();
            let passes = position.offset < lane.there && !grows;
            if let Outcome::Record(record) = &delivery.outcome {
                if !passes {
                    lane.message.get_or_insert_with(|| (position.offset, Vec::new())).1.push((**record).clone());
                } else if !std::mem::replace(&mut lane.said, true) {
                    tracing::info!("{}: rows below offset {} are in files already and passed over", position.partition, lane.there);
                }
            }
            // Another worker's file may have come to stand meanwhile, and have all of the message.
            if item.last
                && let Some((offset, rows)) = lane.message.take()
                && !passes
            {
                for row in rows {
                    self.push(&position.partition, offset, grows, row).await?;
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self, how: Flush) -> Result<()> {
        if how == Flush::All {
            // It begins again, whole.
            self.lanes.values_mut().for_each(|lane| lane.message = None);
        }
        let age = self.config.max_age.0;
        let due = |lane: &Lane| lane.open.as_ref().is_some_and(|open| how == Flush::All || open.begun.elapsed() >= age);
        let due: Vec<Partition> = self.lanes.iter().filter(|(_, lane)| due(lane)).map(|(partition, _)| partition.clone()).collect();
        for partition in due {
            self.close(&partition).await?;
        }
        Ok(())
    }

    fn held(&self, partition: &Partition) -> Option<i64> {
        let lane = self.lanes.get(partition)?;
        lane.open.as_ref().map(|open| open.cover.first).or(lane.message.as_ref().map(|(offset, _)| *offset))
    }

    async fn begin(&mut self, partition: &Partition, next_offset: i64) -> Result<()> {
        // A file that is not closed goes with its temporary name.
        self.lanes.remove(partition);
        let there = self.place.end_beyond(&folder_of(partition), next_offset, self.span()).await?;
        self.lanes.insert(partition.clone(), Lane { there: there.unwrap_or(next_offset), ..Lane::default() });
        Ok(())
    }

    async fn release(&mut self, partition: &Partition) -> Result<()> {
        self.close(partition).await?;
        self.lanes.remove(partition);
        Ok(())
    }

    fn forget(&mut self, partition: &Partition) {
        self.lanes.insert(partition.clone(), Lane { there: i64::MAX, said: true, ..Lane::default() });
    }
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
