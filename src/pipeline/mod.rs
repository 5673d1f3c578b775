//! The only wiring: starts the stages, owns the channels between them, and waits for the end.

pub mod assemble;
mod forgotten;
mod space;
mod tail;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::fetch::Fetcher;
use crate::flow::{MemoryBudget, Tracing, priority};
use crate::head::Heads;
use crate::model::{Loaded, ModelInfo};
use crate::preprocess::Limits;
use crate::sandbox::Helper;
use crate::sink::Sink;
use crate::sink::kafka::Transactions;
use crate::source::Source;
use crate::telemetry::{Facts, Places, Progress, Stats};
use crate::worker::compute::{Compute, ComputeConfig};
use crate::worker::coordinator::Coordinator;
use crate::worker::intake::Reading;
use crate::worker::ledger::Ledger;
use crate::worker::record::RecordForm;
use crate::worker::terms::{Bounds, Channels, Ending, Feed, Settings};
use crate::worker::watchdog::Watchdog;
use crate::worker::{deliver, fetching};
use crate::{Error, Result};

/// Messages that wait between the sources and the coordinator; small, since the coordinator never waits for a stage.
const EVENTS: usize = 256;

/// What a run consists of.
pub struct Parts {
    /// Started sources, and how their messages are read.
    pub sources: Vec<(Source, Reading)>,
    /// Where everything goes; dead letters included.
    pub sinks: Vec<Box<dyn Sink>>,
    /// Exactly-once: what the sinks write and the sources' offsets are one transaction.
    pub transactions: Option<Transactions>,
    /// The network; `None` in a pipeline that only archives records.
    pub model: Option<Loaded>,
    /// Fetching.
    pub fetch: config::Fetch,
    /// Decoding.
    pub decode: config::Decode,
    /// The program that decodes in processes apart ([`crate::sandbox`]); `None`: decode in this one.
    pub decoder: Option<PathBuf>,
    /// Object store.
    pub s3: config::S3,
    /// Memory in bytes.
    pub memory: u64,
    /// Micro-batches.
    pub batch: config::Batch,
    /// Worker threads; 0 = one a core.
    pub threads: usize,
    /// Classifiers on its embeddings.
    pub heads: Heads,
    /// What a record holds.
    pub output: config::Output,
    /// When too much is rejected.
    pub reject_limit: config::RejectLimit,
    /// When the run ends by itself.
    pub bounds: Bounds,
    /// Ends the process after this long without movement; zero: never.
    pub watchdog: Duration,
    /// Asks it to stop.
    pub stop: CancellationToken,
    /// Where everything is counted.
    pub stats: Arc<Stats>,
    /// Traces of items, if any are made.
    pub tracing: Option<Tracing>,
    /// Show no progress.
    pub quiet: bool,
}

/// How a run went.
pub struct Summary {
    /// The accounts of all partitions.
    pub ledger: Ledger,
    /// How often each label was the best one.
    pub top_labels: BTreeMap<Arc<str>, u64>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// From the first message asked for to the last offset committed.
    pub elapsed: Duration,
    /// The model, if any.
    pub model: Option<ModelInfo>,
    /// Ended by a signal, with input left.
    pub stopped: bool,
    /// Why it ended, if not well.
    pub error: Option<Error>,
}

/// Runs the parts to their end.
pub async fn run(parts: Parts) -> Result<Summary> {
    let stats = parts.stats;
    let first = parts.sources.first().map(|(source, _)| source.priority);
    let both = parts.sources.iter().any(|(source, _)| Some(source.priority) != first);
    let memory = MemoryBudget::new(usize::try_from(parts.memory).unwrap_or(usize::MAX), both);
    let (done_tx, done) = mpsc::unbounded_channel();
    let (fatal_tx, fatal) = mpsc::unbounded_channel();
    let (work, work_rx) = priority::unbounded();
    let (commands, commands_rx) = mpsc::unbounded_channel();
    let (reports_tx, reports) = mpsc::unbounded_channel();
    let cancel_fetches = CancellationToken::new();
    let result_bytes = 2048 + if parts.output.embeddings { 4 * parts.model.as_ref().map_or(2048, |m| m.info().embedding_dim) } else { 0 };
    let info = parts.model.as_ref().map(|m| m.info().clone());

    let transactional = parts.transactions.is_some();
    let mut stages = Vec::new();
    let mut compute = None;
    let mut places: Places = Box::new(Vec::new);
    let threads = if parts.model.is_some() { threads(parts.threads) } else { 0 };
    if let Some(loaded) = parts.model {
        let pool = Compute::start(
            ComputeConfig {
                threads,
                batch: parts.batch,
                limits: Limits::new(&parts.fetch, &parts.decode, &loaded.file.preprocess),
                helper: parts.decoder.map(|program| Helper { program, memory: memory.decode.capacity() + beside(&parts.fetch) }),
                memory: memory.decode.clone(),
            },
            loaded.model.clone(),
            RecordForm::new(loaded.info(), &parts.output, parts.heads),
            done_tx.clone(),
            fatal_tx.clone(),
            stats.clone(),
        )?;
        let fetcher = Fetcher::new(parts.fetch, parts.s3, memory.bodies.clone(), both)?.counting(stats.attempts.clone());
        let fetcher = Arc::new(fetcher);
        let asked = fetcher.clone();
        places = Box::new(move || asked.waiting());
        let outlets = fetching::Outlets { compute: pool.intake(), done: done_tx.clone(), fatal: fatal_tx.clone(), stats: stats.clone() };
        stages.push(tokio::spawn(fetching::run(fetcher, work_rx, outlets, cancel_fetches.clone())));
        compute = Some(pool);
    }
    let members = parts.sources.iter().filter_map(|(source, _)| source.member.clone()).collect();
    let transactions = parts.transactions.map(|transactions| transactions.with_members(members, stats.clone()));
    // Set once: a second run with the same counters would be another worker.
    let _ = stats.facts.set(Facts { model: info.clone(), threads, memory: parts.memory, pools: memory.clone(), places });
    stages.push(tokio::spawn(deliver::run(parts.sinks, transactions, commands_rx, reports_tx, fatal_tx, stats.clone())));

    let (events_tx, events) = priority::bounded(EVENTS);
    let mut feeds = Vec::new();
    let mut forwards = Vec::new();
    for (number, (source, reading)) in parts.sources.into_iter().enumerate() {
        let Source { events: mut from, control, priority, .. } = source;
        let to = events_tx.of(priority).clone();
        forwards.push(tokio::spawn(async move {
            while let Some(event) = from.recv().await {
                if to.send((number, event)).await.is_err() {
                    return;
                }
            }
        }));
        feeds.push(Feed { control: control.into(), reading, priority });
    }
    drop((events_tx, done_tx));

    let channels = Channels {
        events,
        work,
        done,
        lost: mpsc::unbounded_channel(),
        fatal,
        commands,
        reports,
        cancel_fetches: cancel_fetches.clone(),
        stop: parts.stop,
    };
    let settings = Settings {
        bounds: parts.bounds,
        transactional,
        results_memory: memory.results,
        result_bytes,
        tracing: parts.tracing,
        reject_limit: parts.reject_limit,
    };
    let begun = Instant::now();
    let progress = Progress::start(stats.clone(), parts.quiet);
    let watchdog = (!parts.watchdog.is_zero()).then(|| Watchdog::start(stats.clone(), parts.watchdog)).transpose()?;
    let ending = Coordinator::new(feeds, channels, settings, stats.clone()).run().await;
    drop(progress);
    let elapsed = begun.elapsed();

    cancel_fetches.cancel();
    forwards.iter().for_each(tokio::task::JoinHandle::abort);
    for stage in stages {
        // A sink that waits for a server that is away must not keep a failed worker from ending.
        let _ = tokio::time::timeout(Duration::from_secs(5), stage).await;
    }
    if let Some(pool) = compute {
        let _ = tokio::task::spawn_blocking(move || pool.stop()).await;
    }
    drop(watchdog);
    let Ending { ledger, top_labels, stopped, error } = ending;
    let unbalanced = ledger.unbalanced();
    let error = error.or_else(|| (!unbalanced.is_empty()).then(|| Error::Unbalanced(unbalanced.join("; "))));
    Ok(Summary { ledger, top_labels, stats, elapsed, model: info, stopped, error })
}

/// What a helper needs beside the memory for decoding: the file in a buffer that doubles, and the program itself.
fn beside(fetch: &config::Fetch) -> usize {
    usize::try_from(fetch.max_bytes.0).unwrap_or(usize::MAX / 4).saturating_mul(2) + (64 << 20)
}

/// Worker threads for `asked`, 0 meaning one a core.
pub fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}
