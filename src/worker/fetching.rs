//! The fetch stage: a task an item, so that one that waits for a dead host keeps nobody else waiting. How many there can be is bounded by the
//! windows of the partitions; how many speak to a server at once, by the fetcher.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use opentelemetry::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::compute::Intake;
use crate::Error;
use crate::fetch::{Fetcher, GetError};
use crate::flow::{ByPriority, Delivery, Envelope, ImageRef, Outcome};
use crate::telemetry::{Presence, Stats};

/// Where fetched bodies and ends go.
#[derive(Clone)]
pub struct Outlets {
    /// Bodies.
    pub compute: Intake,
    /// Rejections.
    pub done: mpsc::UnboundedSender<Delivery>,
    /// What stops the worker.
    pub fatal: mpsc::UnboundedSender<Error>,
    /// Counters.
    pub stats: Arc<Stats>,
}

/// Runs until the channel closes or `cancel` drops everything that is not being decoded yet.
pub async fn run(
    fetcher: Arc<Fetcher>,
    mut work: ByPriority<mpsc::UnboundedReceiver<Envelope<ImageRef>>>,
    outlets: Outlets,
    cancel: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            job = work.recv() => match job {
                Some(job) => {
                    tasks.spawn(one(fetcher.clone(), job, outlets.clone()));
                }
                None => break,
            }
        }
    }
    if cancel.is_cancelled() {
        // The envelopes are dropped with their tasks; the coordinator expects that while it drains.
        tasks.shutdown().await;
        outlets.compute.discard();
        return;
    }
    while tasks.join_next().await.is_some() {}
}

async fn one(fetcher: Arc<Fetcher>, job: Envelope<ImageRef>, outlets: Outlets) {
    let _here = Presence::new(&outlets.stats.fetching);
    let begun = Instant::now();
    let (reference, envelope) = job.split();
    let message = &envelope.item.message;
    let result = tokio::select! {
        biased;
        // The coordinator expects that the envelope is dropped.
        () = envelope.token.over() => return,
        result = fetcher.get(&reference, message.trusted, envelope.priority, &message.partition) => result,
    };
    let time = begun.elapsed();
    outlets.stats.fetch.add(time);
    if let Some(trace) = &envelope.item.trace {
        let bytes = result.as_ref().map_or(0, |body| body.bytes.len());
        trace.span("fetch", time, [("lakelens.bytes", Value::I64(bytes as i64))]);
    }
    let end = match result {
        Ok(body) => {
            outlets.stats.bytes.fetch_add(body.bytes.len() as u64, Relaxed);
            outlets.compute.push(envelope.map(|()| body));
            return;
        }
        Err(GetError::Rejected(rejection)) => envelope.reject(rejection),
        Err(GetError::Skipped(skip)) => envelope.deliver(Outcome::Skipped(skip)),
        Err(GetError::Fatal(error)) => {
            // The error goes first, so that the dropped token behind it is not taken for the cause.
            let _ = outlets.fatal.send(error);
            return;
        }
    };
    let _ = outlets.done.send(end);
}
