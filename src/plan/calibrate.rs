//! A few seconds of the worker itself on this machine, and of its fetching alone: what an image costs here.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::fetch::{Fetcher, GetError};
use crate::flow::{ImageRef, MemoryBudget, ParsedItem, Partition, Priority};
use crate::head::Heads;
use crate::model::Loaded;
use crate::pipeline::{self, Parts};
use crate::sink::Journal;
use crate::source::{Event, ListingOptions, Source, listing};
use crate::worker::intake::Reading;
use crate::worker::terms::Bounds;
use crate::{Context, Error, Result, config};

/// How long the worker runs.
const COMPUTE: Duration = Duration::from_secs(7);
/// How long fetching alone is measured, and how long it is given to find its pace before.
const FETCH: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(500);
/// How long a store may take to say anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// A sample is gone through so often at most, so that a small one lasts.
const ROUNDS: usize = 2000;

/// What is measured with.
pub struct Setup {
    /// The network.
    pub model: Loaded,
    /// Classifiers on its embeddings.
    pub heads: Heads,
    /// What a record holds.
    pub output: config::Output,
    /// Fetching.
    pub fetch: config::Fetch,
    /// Decoding.
    pub decode: config::Decode,
    /// Micro-batches.
    pub batch: config::Batch,
    /// Memory in bytes.
    pub memory: u64,
    /// Object store, and a client for listing it.
    pub s3: config::S3,
    /// Lists the sample, where it is in a bucket.
    pub client: Option<Client>,
    /// Threads; 0 = one a core.
    pub threads: usize,
    /// Folders, files, or s3://bucket/prefix.
    pub sample: Vec<String>,
    /// Whether fetching the sample tells of the network.
    pub fetching: bool,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Calibration {
    /// The model's name and digest.
    pub model: String,
    /// Its arithmetic.
    pub precision: String,
    /// Threads that computed at once.
    pub threads: usize,
    /// Images that the worker labelled.
    pub images: u64,
    /// Seconds of a thread that the network takes for an image, with all threads at work.
    pub infer_s: f64,
    /// Seconds of a thread that decoding and resizing take.
    pub decode_s: f64,
    /// Bytes of a picture.
    pub bytes_per_image: f64,
    /// Images a second that were fetched with nothing else to do; `None` where that was not measured.
    pub fetch_per_s: Option<f64>,
    /// Share of the time in which the threads that inferred had a core: less than 1 where other processes are at work, or a quota holds this one.
    pub cores_got: f64,
}

impl Calibration {
    /// A worker like this machine with so many cores, which are taken to add up.
    pub fn worker(&self, cores: f64) -> Worker {
        Worker { cores, infer_s: self.infer_s, decode_s: self.decode_s, fetch_per_s: self.fetch_per_s }
    }
}

/// Measures for about ten seconds.
///
/// # Errors
/// [`Error::Config`] if the sample is not there; [`Error::Failed`] if none of it can be labelled.
pub async fn calibrate(setup: Setup, stop: &CancellationToken) -> Result<Calibration> {
    let mut fetch_per_s = None;
    if setup.fetching {
        // A fetcher waits for a store that is away for as long as it takes.
        fetch_per_s = tokio::select! {
            rate = tokio::time::timeout(PATIENCE, fetching(&setup)) => {
                let late = |_| Error::failed(format_args!("{}: no answer within {} s", setup.sample.join(" "), PATIENCE.as_secs()));
                Some(rate.map_err(late)??)
            }
            () = stop.cancelled() => return Err(Error::failed("stopped before anything was measured")),
        };
    }
    let info = setup.model.info().clone();
    let threads = pipeline::threads(setup.threads);
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut journal = Journal::open(&folder.path().join("records.jsonl").to_string_lossy(), false, true)?;
    let source = source(&setup).await?;
    let over = stop.child_token();
    let before = cpu_seconds();
    let time = over.clone();
    let timer = tokio::spawn(async move {
        tokio::time::sleep(COMPUTE).await;
        time.cancel();
    });
    let summary = pipeline::run(Parts {
        sources: vec![(source, Reading::References(config::OnDelete::Skip))],
        sinks: vec![Box::new(journal.sink()?)],
        transactions: None,
        model: Some(setup.model),
        fetch: setup.fetch,
        decode: setup.decode,
        decoder: Some(crate::sandbox::own_program()),
        s3: setup.s3,
        memory: setup.memory,
        batch: setup.batch,
        threads: setup.threads,
        heads: setup.heads,
        output: setup.output,
        reject_limit: config::RejectLimit { share: 1.0, of_last: 1 },
        bounds: Bounds::default(),
        watchdog: Duration::ZERO,
        stop: over,
        quiet: true,
        stats: Arc::default(),
        tracing: None,
    })
    .await?;
    timer.abort();
    let spent = cpu_seconds() - before;
    if let Some(error) = summary.error {
        return Err(error);
    }
    let stats = &summary.stats;
    let images = stats.batches.images();
    if images == 0 {
        let rejected = summary.ledger.total().rejected;
        let why: Vec<String> = rejected.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        let why = if why.is_empty() { "nothing came of it in time".to_owned() } else { why.join(", ") };
        return Err(Error::failed(format_args!("no picture of the sample was labelled, so that nothing can be planned: {why}")));
    }
    let each = |total: f64, count: u64| total / count.max(1) as f64;
    Ok(Calibration {
        model: info.id.to_string(),
        precision: info.precision.to_string(),
        threads,
        images,
        infer_s: each(stats.infer.total().as_secs_f64(), images),
        decode_s: each(stats.decode.total().as_secs_f64(), stats.decode.count()),
        bytes_per_image: each(stats.bytes.load(Relaxed) as f64, stats.fetch.count()),
        fetch_per_s,
        cores_got: (spent / stats.infer.total().as_secs_f64()).min(1.0),
    })
}

/// CPU time of this process, which is that of inference and little else: helpers decode.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The sample, over and over.
async fn source(setup: &Setup) -> Result<Source> {
    let inputs: Vec<String> = std::iter::repeat_n(&setup.sample, ROUNDS).flatten().cloned().collect();
    listing::start_inputs(&inputs, None, setup.client.clone(), ListingOptions::default()).await
}

/// Images a second that `fetch.concurrency` fetches at once bring in.
async fn fetching(setup: &Setup) -> Result<f64> {
    let memory = MemoryBudget::new(usize::try_from(setup.memory).unwrap_or(usize::MAX), false);
    let fetcher = Arc::new(Fetcher::new(setup.fetch.clone(), setup.s3.clone(), memory.bodies, false)?);
    let mut once = listing::start_inputs(&setup.sample, None, setup.client.clone(), ListingOptions::default()).await?;
    let any = reference(&mut once).await?.is_some();
    once.control.stop(Duration::from_secs(1)).await;
    if !any {
        return Err(Error::config(format_args!("{}: there is no picture to measure with", setup.sample.join(" "))));
    }
    let mut source = source(setup).await?;
    let (mut tasks, mut begun, mut count) = (JoinSet::new(), None, [0_u64; 2]);
    let started = Instant::now();
    let mut next = 0;
    loop {
        while tasks.len() < setup.fetch.concurrency {
            let Some(reference) = reference(&mut source).await? else { break };
            let fetcher = fetcher.clone();
            // A partition may take no more than half of the slots.
            next = (next + 1) % 4;
            let partition = Partition::new("sample", next);
            tasks.spawn(async move { fetcher.get(&reference, true, Priority::Live, &partition).await.map(drop) });
        }
        let Ok(Some(done)) = tokio::time::timeout_at((started + WARM_UP + FETCH).into(), tasks.join_next()).await else { break };
        match done.map_err(Error::failed)? {
            Ok(()) => count[usize::from(begun.is_some())] += 1,
            Err(GetError::Fatal(error)) => return Err(error),
            Err(GetError::Rejected(_) | GetError::Skipped(_)) => {}
        }
        if begun.is_none() && started.elapsed() >= WARM_UP {
            begun = Some(Instant::now());
        }
        if started.elapsed() >= WARM_UP + FETCH {
            break;
        }
    }
    source.control.stop(Duration::from_secs(1)).await;
    match begun {
        Some(begun) if count[1] > 0 => Ok(count[1] as f64 / begun.elapsed().as_secs_f64()),
        // A small sample on a fast disk is at its end before that.
        _ if count[0] > 0 => Ok(count[0] as f64 / started.elapsed().as_secs_f64()),
        _ => Err(Error::failed("nothing of the sample could be fetched within some seconds; look at it with `lakelens label`")),
    }
}

/// The next image of the sample; `None` at its end.
async fn reference(source: &mut Source) -> Result<Option<ImageRef>> {
    while let Some(event) = source.events.recv().await {
        match event {
            Event::Message(message) => {
                let entries = Reading::References(config::OnDelete::Skip).expand(message, None);
                let image = entries.iter().find_map(|entry| match &entry.item.parsed {
                    ParsedItem::Image(reference) => Some(reference.clone()),
                    _ => None,
                });
                if image.is_some() {
                    return Ok(image);
                }
            }
            Event::Failed(error) => return Err(error),
            Event::End => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}
