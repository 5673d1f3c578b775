//! Folders, globs, bucket prefixes and files of references as a source: one partition, whose offsets are the entries' running numbers.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Control, Event, Progress, Source};
use crate::flow::{CommitPoint, Message, Partition, Priority, Reservation};
use crate::listing::{Entry, Input, Mark, entries, load_state, save_state};
use crate::{Error, Result, config};

/// How a listing is handed out.
#[derive(Debug, Clone)]
pub struct ListingOptions {
    /// Messages that the listing is ahead of whoever takes them.
    pub buffer: usize,
    /// Entries to leave out since they are done, by listing and key.
    pub done: Arc<HashSet<(String, String)>>,
}

impl Default for ListingOptions {
    fn default() -> Self {
        Self { buffer: 64, done: Arc::default() }
    }
}

/// How far a listing is done: everything below `next_offset`, which is everything up to `mark` of input number `input`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    inputs: Vec<String>,
    next_offset: i64,
    input: usize,
    mark: Mark,
}

/// What the offset of an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbering {
    /// The number of the entry, over all inputs.
    Running,
    /// The number of the line, so that offsets skip empty lines.
    Lines,
}

/// Starts listing a folder, a file, a glob or `s3://bucket/prefix`, from where `config.state` says that an earlier run had come.
///
/// # Errors
/// [`Error::Config`] if there is nothing at the path, or the state is that of another path.
pub async fn start(config: &config::Listing, s3: Option<Client>, options: ListingOptions) -> Result<Source> {
    if config.path == "-" {
        return Err(Error::config("a listing cannot be read from standard input; use `lines: { path: - }`"));
    }
    start_inputs(std::slice::from_ref(&config.path), config.state.as_deref(), s3, options).await
}

/// Starts listing several inputs, one after the other, in one partition: folders, files, globs, bucket prefixes, files of JSON lines, and `-`.
///
/// # Errors
/// [`Error::Config`] if one of them does not exist, or the state is that of other inputs.
pub async fn start_inputs(inputs: &[String], state: Option<&Path>, s3: Option<Client>, options: ListingOptions) -> Result<Source> {
    if inputs.is_empty() {
        return Err(Error::config("nothing to list: name a folder, a file, a pattern, s3://bucket/prefix, or - for standard input"));
    }
    let found = {
        let inputs = inputs.to_vec();
        // Reading folders may take a while, and must not hold up the runtime.
        tokio::task::spawn_blocking(move || inputs.into_iter().map(|text| Ok((Input::of_images(&text)?, text))).collect::<Result<Vec<_>>>())
            .await
            .map_err(|e| Error::failed(format!("looking for the inputs broke off: {e}")))??
    };
    launch(found, state, s3, options, Numbering::Running)
}

/// Starts the inputs' producer; the state is looked at first.
pub(super) fn launch(
    inputs: Vec<(Input, String)>,
    state: Option<&Path>,
    s3: Option<Client>,
    options: ListingOptions,
    numbering: Numbering,
) -> Result<Source> {
    let names: Vec<String> = inputs.iter().map(|i| i.1.clone()).collect();
    if state.is_some() && inputs.iter().any(|i| matches!(i.0, Input::Stdin)) {
        return Err(Error::config("standard input cannot be resumed: leave `state` out, or put the lines into a file"));
    }
    if s3.is_none()
        && let Some((_, name)) = inputs.iter().find(|i| i.0.needs_s3())
    {
        return Err(Error::config(format!("listing `{name}` needs an S3 client (`store.s3`)")));
    }
    let old: Option<State> = state.map(load_state).transpose()?.flatten();
    if let (Some(old), Some(path)) = (&old, state) {
        let file = path.display();
        if old.version != 1 {
            return Err(Error::config(format!("the state file `{file}` has version {}; this program reads version 1", old.version)));
        }
        if old.inputs != names {
            return Err(Error::config(format!(
                "the state file `{file}` remembers a listing of {}, not of {}; name another state file, or delete it to begin anew",
                brief(&old.inputs),
                brief(&names)
            )));
        }
    }
    let next_offset = old.as_ref().map_or(0, |s| s.next_offset);
    let partition = Partition::new(brief(&names), 0);
    let shared = Arc::new(Shared {
        position: AtomicI64::new(next_offset),
        finished: AtomicBool::new(false),
        marks: state.map(|_| Mutex::new(VecDeque::new())),
    });
    let (tx, events) = mpsc::channel(options.buffer.max(1));
    let (paused, unpaused) = watch::channel(false);
    let cancel = CancellationToken::new();
    let producer =
        Producer { partition: partition.clone(), inputs, s3, numbering, done: options.done, tx, unpaused, shared: shared.clone() };
    let stopped = cancel.clone();
    let task = tokio::spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = producer.run(next_offset, old.map(|s| (s.input, s.mark))) => {}
        }
    });
    let state = state.map(|path| StateFile { path: path.to_owned(), inputs: names, saved: tokio::sync::Mutex::new(next_offset) });
    Ok(Source {
        events,
        control: Box::new(Listed { partition, paused, shared, state, cancel, task: Mutex::new(Some(task)) }),
        member: None,
        priority: Priority::default(),
    })
}

/// Names for messages and for the partition, however many files a shell's pattern became.
fn brief(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [first @ .., last] if first.len() < 3 => first.iter().chain([last]).map(String::as_str).collect::<Vec<_>>().join(" "),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// What producer and control both see.
#[derive(Debug)]
struct Shared {
    position: AtomicI64,
    finished: AtomicBool,
    /// Offset, number of the input, and mark of each entry handed out and not committed; kept only where there is a state file.
    marks: Option<Mutex<VecDeque<(i64, usize, Mark)>>>,
}

struct Producer {
    partition: Partition,
    inputs: Vec<(Input, String)>,
    s3: Option<Client>,
    numbering: Numbering,
    done: Arc<HashSet<(String, String)>>,
    tx: mpsc::Sender<Event>,
    unpaused: watch::Receiver<bool>,
    shared: Arc<Shared>,
}

impl Producer {
    async fn run(mut self, next_offset: i64, resume: Option<(usize, Mark)>) {
        // Sending fails only when the worker is gone, and then nobody is left to tell.
        let _ = self.tx.send(Event::Assigned { partition: self.partition.clone(), assignment: 0, next_offset }).await;
        let last = match self.list(next_offset, resume).await {
            Ok(true) => Event::End,
            Ok(false) => return,
            Err(e) => Event::Failed(e),
        };
        self.shared.finished.store(true, Ordering::Release);
        let _ = self.tx.send(last).await;
    }

    /// Hands out everything; `false` if nobody takes it any more.
    async fn list(&mut self, mut offset: i64, resume: Option<(usize, Mark)>) -> Result<bool> {
        let (first, mut mark) = resume.map_or((0, None), |(input, mark)| (input, Some(mark)));
        for number in first..self.inputs.len() {
            let (input, name) = &self.inputs[number];
            let name: Arc<str> = name.as_str().into();
            let mut batches = entries(input, mark.take(), self.s3.as_ref())?;
            while let Some(batch) = batches.next().await? {
                for entry in batch {
                    if !self.done.is_empty() && self.done.contains(&(name.to_string(), entry.key.clone())) {
                        continue;
                    }
                    if self.unpaused.wait_for(|paused| !paused).await.is_err() {
                        return Ok(false);
                    }
                    if let (Numbering::Lines, Mark::Line { number, .. }) = (self.numbering, &entry.mark) {
                        offset = i64::try_from(*number).unwrap_or(i64::MAX - 1);
                    }
                    if let Some(marks) = &self.shared.marks {
                        lock(marks).push_back((offset, number, entry.mark.clone()));
                    }
                    if self.tx.send(Event::Message(self.message(offset, entry, &name))).await.is_err() {
                        return Ok(false);
                    }
                    offset += 1;
                    self.shared.position.store(offset, Ordering::Release);
                }
            }
        }
        Ok(true)
    }

    fn message(&self, offset: i64, entry: Entry, listing: &Arc<str>) -> Message {
        Message {
            partition: self.partition.clone(),
            offset,
            key: None,
            value: Some(entry.value),
            headers: Vec::new(),
            timestamp_ms: None,
            trusted: true,
            listing: Some((listing.clone(), entry.key)),
            memory: Reservation::none(),
        }
    }
}

struct StateFile {
    path: PathBuf,
    inputs: Vec<String>,
    /// The offset that the file holds; locked while it is written.
    saved: tokio::sync::Mutex<i64>,
}

struct Listed {
    partition: Partition,
    paused: watch::Sender<bool>,
    shared: Arc<Shared>,
    state: Option<StateFile>,
    cancel: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[async_trait]
impl Control for Listed {
    fn pause(&self, partition: &Partition) {
        if *partition == self.partition {
            self.paused.send_replace(true);
        }
    }

    fn resume(&self, partition: &Partition) {
        if *partition == self.partition {
            self.paused.send_replace(false);
        }
    }

    async fn commit(&self, points: &[CommitPoint]) -> Result<()> {
        let next_offset = points.iter().filter(|point| point.partition == self.partition).map(|point| point.next_offset).max();
        let (Some(state), Some(next_offset), Some(marks)) = (&self.state, next_offset, &self.shared.marks) else { return Ok(()) };
        let mut saved = state.saved.lock().await;
        if next_offset <= *saved {
            return Ok(());
        }
        let done = {
            let mut marks = lock(marks);
            let done = marks.partition_point(|m| m.0 < next_offset);
            marks.drain(..done).next_back()
        };
        let Some((_, input, mark)) = done else { return Ok(()) };
        let new = State { version: 1, inputs: state.inputs.clone(), next_offset, input, mark };
        let path = state.path.clone();
        tokio::task::spawn_blocking(move || save_state(&path, &new))
            .await
            .map_err(|e| Error::failed(format!("writing the state file broke off: {e}")))??;
        *saved = next_offset;
        Ok(())
    }

    /// A listing does not know its end before it is there: until then the end is told as one entry ahead.
    async fn progress(&self) -> Result<Option<Vec<Progress>>> {
        let finished = self.shared.finished.load(Ordering::Acquire);
        let position = self.shared.position.load(Ordering::Acquire);
        let end = if finished { position } else { position + 1 };
        Ok(Some(vec![Progress { partition: self.partition.clone(), position, end, exact: finished }]))
    }

    async fn stop(&self, limit: Duration) {
        self.cancel.cancel();
        let task = lock(&self.task).take();
        if let Some(task) = task
            && tokio::time::timeout(limit, task).await.is_err()
        {
            tracing::warn!("the listing of {} did not end within {} ms", self.partition.topic, limit.as_millis());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
