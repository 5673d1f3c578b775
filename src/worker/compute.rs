//! One pool of threads for all that costs CPU time, one thread a core: each takes either an image to decode or a micro-batch to predict,
//! whichever is due, so that decoding runs ahead of inference just far enough and no core idles while there is work.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opentelemetry::Value;
use tokio::sync::mpsc;

use crate::error::panic_text;
use crate::fetch::Body;
use crate::flow::{ByPriority, Delivery, Envelope, Location, Outcome, Pool, Priority, Reason, Rejection, Stage};
use crate::model::{Model, Prediction, Tensor};
use crate::preprocess;
use crate::sandbox::Helper;
use crate::telemetry::{Stats, escape};
use crate::worker::decoding::{Decoded, Decoding, Waiting};
use crate::worker::record::RecordForm;
use crate::{Error, config};

/// What is known of an image when its pixels are ready for the model.
#[derive(Debug)]
pub struct Ready {
    /// Input of the model.
    pub tensor: Tensor,
    /// What the record says of the file.
    pub file: FileFacts,
}

/// What a record says of the file that was read.
#[derive(Debug, Clone)]
pub struct FileFacts {
    /// Which location gave it.
    pub location: Location,
    /// ETag without quotes.
    pub etag: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Size in bytes.
    pub bytes: u64,
    /// Lower-case name of the format.
    pub format: &'static str,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// What the pool needs to know.
pub struct ComputeConfig {
    /// Threads.
    pub threads: usize,
    /// Size and deadline of a micro-batch.
    pub batch: config::Batch,
    /// Limits of decoding.
    pub limits: preprocess::Limits,
    /// Memory for decoding and for tensors.
    pub memory: Pool,
    /// Decode in processes apart; `None`: on the threads themselves, where a crash of a decoder is one of everything.
    pub helper: Option<Helper>,
}

/// The running pool.
pub struct Compute {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    config: ComputeConfig,
    model: Arc<dyn Model>,
    form: RecordForm,
    done: mpsc::UnboundedSender<Delivery>,
    fatal: mpsc::UnboundedSender<Error>,
    stats: Arc<Stats>,
}

/// What waits of one priority.
#[derive(Default)]
struct Queue {
    bodies: VecDeque<Waiting>,
    tensors: VecDeque<(Instant, Envelope<Ready>)>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.bodies.is_empty() && self.tensors.is_empty()
    }
}

#[derive(Default)]
struct State {
    queues: ByPriority<Queue>,
    /// Threads that are decoding now.
    decoding: usize,
    /// Threads that wait for work.
    idle: usize,
    closed: bool,
}

/// What a thread does next.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Decode(Priority),
    Predict(Priority, usize),
    Wait(Option<Duration>),
    Stop,
}

impl State {
    /// Decides on the next piece of work: of live items, if there is any. Of each priority full micro-batches go first (their images have waited
    /// longest), then decoding, then what has waited for `max_wait`; a rest that nothing can join any more goes at once. So does what is live while
    /// there is backfill to do: of that, a whole micro-batch would be begun meanwhile. No micro-batch holds both, since a live image would wait for
    /// the others in it.
    fn turn(&self, now: Instant, batch: &config::Batch, threads: usize) -> Turn {
        let full = batch.max_items;
        let mut wait = None;
        for priority in Priority::ORDER {
            let Queue { bodies, tensors } = self.queues.of(priority);
            let ready = tensors.len();
            // With nothing left to decode, what is ready is shared among the threads that would otherwise stand by.
            let share = if bodies.is_empty() { ready.div_ceil(self.idle + 1) } else { ready };
            if ready >= full {
                return Turn::Predict(priority, share.min(full));
            }
            if !bodies.is_empty() && ready + self.decoding < full * (threads + 1) {
                return Turn::Decode(priority);
            }
            let Some((since, _)) = tensors.front() else { continue };
            let waited = now.saturating_duration_since(*since);
            let ahead = priority == Priority::Live && !self.queues.backfill.is_empty();
            if ahead || waited >= batch.max_wait.0 || self.closed && bodies.is_empty() && self.decoding == 0 {
                return Turn::Predict(priority, share.min(full));
            }
            wait = Some(batch.max_wait.0 - waited);
        }
        let over = self.closed && wait.is_none() && self.decoding == 0 && Priority::ORDER.iter().all(|p| self.queues.of(*p).is_empty());
        if over { Turn::Stop } else { Turn::Wait(wait) }
    }

    /// The micro-batch that gives memory back soonest: its priority and size.
    fn waiting(&self, full: usize) -> Option<(Priority, usize)> {
        let ready = |priority: &Priority| self.queues.of(*priority).tensors.len();
        Priority::ORDER.iter().find(|p| ready(p) > 0).map(|p| (*p, ready(p).min(full)))
    }
}

impl Compute {
    /// Starts the threads.
    pub fn start(
        config: ComputeConfig,
        model: Arc<dyn Model>,
        form: RecordForm,
        done: mpsc::UnboundedSender<Delivery>,
        fatal: mpsc::UnboundedSender<Error>,
        stats: Arc<Stats>,
    ) -> crate::Result<Self> {
        let count = config.threads.max(1);
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), config, model, form, done, fatal, stats });
        let threads = (0..count)
            .map(|n| {
                let shared = shared.clone();
                std::thread::Builder::new()
                    .name(format!("compute-{n}"))
                    .spawn(move || {
                        if catch_unwind(AssertUnwindSafe(|| shared.work())).is_err() {
                            let _ = shared.fatal.send(Error::failed("a compute thread panicked; this is a bug, please report it"));
                        }
                    })
                    .map_err(|e| Error::failed(format!("cannot start a thread: {e}")))
            })
            .collect::<crate::Result<Vec<_>>>()?;
        Ok(Self { shared, threads })
    }

    /// A handle that bodies are given to.
    pub fn intake(&self) -> Intake {
        Intake(self.shared.clone())
    }

    /// Lets the threads finish what they have, and waits for them.
    pub fn stop(self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Gives bodies to the pool. Never waits: how many there can be is bounded by the memory that each of them holds.
#[derive(Clone)]
pub struct Intake(Arc<Shared>);

impl Intake {
    /// Queues one body for decoding.
    pub fn push(&self, body: Envelope<Body>) {
        self.0.stats.computing.fetch_add(1, Relaxed);
        self.0.lock().queues.of_mut(body.priority).bodies.push_back(Waiting { body, header: None });
        self.0.wake.notify_one();
    }

    /// Drops what nobody has begun to decode.
    pub fn discard(&self) {
        let dropped = {
            let mut state = self.0.lock();
            Priority::ORDER.map(|priority| std::mem::take(&mut state.queues.of_mut(priority).bodies))
        };
        let count: usize = dropped.iter().map(std::collections::VecDeque::len).sum();
        self.0.stats.computing.fetch_sub(count as i64, Relaxed);
        self.0.wake.notify_all();
        drop(dropped);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements that hold the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut decoding = Decoding::new(&self.config.limits, &self.config.memory, self.config.helper.as_ref());
        let mut state = self.lock();
        loop {
            match state.turn(Instant::now(), &self.config.batch, self.config.threads.max(1)) {
                Turn::Stop => {
                    self.wake.notify_all();
                    return;
                }
                Turn::Wait(limit) => {
                    state.idle += 1;
                    state = match limit {
                        Some(limit) => self.wake.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0,
                        None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                    };
                    state.idle -= 1;
                }
                Turn::Decode(priority) => {
                    let Some(waiting) = state.queues.of_mut(priority).bodies.pop_front() else { continue };
                    if waiting.body.token.is_over() {
                        self.stats.computing.fetch_sub(1, Relaxed);
                        continue;
                    }
                    state.decoding += 1;
                    drop(state);
                    // Kept only where it is needed: the item goes with its body.
                    let traced = waiting.body.item.trace.is_some().then(|| waiting.body.item.clone());
                    let begun = Instant::now();
                    let result = decoding.run(waiting);
                    let time = begun.elapsed();
                    self.stats.decode.add(time);
                    if let Some(trace) = traced.as_ref().and_then(|item| item.trace.as_ref()) {
                        trace.span("decode", time, []);
                    }
                    drop(traced);
                    state = self.lock();
                    state.decoding -= 1;
                    match result {
                        Decoded::Ready(ready) => state.queues.of_mut(priority).tensors.push_back((Instant::now(), *ready)),
                        Decoded::Ended(delivery) => self.send(*delivery),
                        Decoded::Failed(error, body) => {
                            let _ = self.fatal.send(error);
                            drop(body);
                        }
                        Decoded::NoMemory(waiting) => {
                            state.queues.of_mut(priority).bodies.push_front(*waiting);
                            // Memory comes back when a decode or a prediction ends: do one, or wait for the other threads'.
                            state = match state.waiting(self.config.batch.max_items) {
                                Some((priority, count)) => self.predict(state, priority, count),
                                None => {
                                    let short = Duration::from_millis(5);
                                    self.wake.wait_timeout(state, short).unwrap_or_else(PoisonError::into_inner).0
                                }
                            };
                        }
                    }
                    self.wake.notify_one();
                }
                Turn::Predict(priority, count) => state = self.predict(state, priority, count),
            }
        }
    }

    fn predict<'a>(&'a self, mut state: MutexGuard<'a, State>, priority: Priority, count: usize) -> MutexGuard<'a, State> {
        let ready = state.queues.of_mut(priority).tensors.drain(..count).map(|(_, ready)| ready);
        let (over, batch): (Vec<_>, Vec<_>) = ready.partition(|envelope| envelope.token.is_over());
        self.stats.computing.fetch_sub(over.len() as i64, Relaxed);
        drop(over);
        if batch.is_empty() {
            return state;
        }
        drop(state);
        let begun = Instant::now();
        let results = {
            let tensors: Vec<&Tensor> = batch.iter().map(|e| &e.value.tensor).collect();
            predict_apart(&*self.model, &tensors)
        };
        let time = begun.elapsed();
        self.stats.infer.add(time);
        self.stats.batches.add_one(batch.len());
        for trace in batch.iter().filter_map(|envelope| envelope.item.trace.as_ref()) {
            trace.span("infer", time, [("lakelens.batch", Value::I64(batch.len() as i64))]);
        }
        if results.len() == batch.len() {
            for (envelope, result) in batch.into_iter().zip(results) {
                let (ready, envelope) = envelope.split();
                self.send(match result {
                    Ok(prediction) => {
                        let record = self.form.record(&envelope.item, ready.file, prediction);
                        envelope.deliver(Outcome::Record(Box::new(record)))
                    }
                    Err(rejection) => envelope.reject(rejection),
                });
            }
        } else {
            let _ = self.fatal.send(Error::failed("the model answered for another number of images than it was given; this is a bug"));
        }
        self.wake.notify_all();
        self.lock()
    }

    fn send(&self, delivery: Delivery) {
        self.stats.computing.fetch_sub(1, Relaxed);
        // Fails only when the coordinator is gone; the token inside then reports to nobody either.
        let _ = self.done.send(delivery);
    }
}

/// Predicts a batch. If the model panics the images are tried one by one, so that only the one which makes it panic is rejected.
fn predict_apart(model: &dyn Model, batch: &[&Tensor]) -> Vec<Result<Prediction, Rejection>> {
    match catch_unwind(AssertUnwindSafe(|| model.predict(batch))) {
        Ok(results) => results,
        Err(panic) if batch.len() == 1 => {
            let detail = format!("the model panicked: {}", panic_text(&*panic));
            tracing::error!("{}; this is a bug, please report it", escape(&detail));
            vec![Err(Rejection::new(Stage::Infer, Reason::ModelFailed, detail))]
        }
        Err(_) => batch.iter().flat_map(|one| predict_apart(model, &[one])).collect(),
    }
}

#[cfg(test)]
#[path = "compute_tests.rs"]
mod tests;
