//! The actor that owns every partition's state. It never waits for a stage: it takes what the sources, the stages and the sinks report, and tells
//! them what to do next. Offsets are committed only below the point where every sink has everything for good.

mod commits;
mod idle;
mod revoke;
mod snapshot;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use self::commits::Answer;
use self::revoke::Revocation;
use self::snapshot::Shown;
use super::deliver::{Command, Report};
use super::lane::{self, Lane};
use super::ledger::Ledger;
use super::reject_limit::RejectWindow;
use super::terms::{Channels, Ending, Feed, Settings};
use crate::flow::{AckToken, CommitPoint, Delivery, Envelope, LostToken, Message, Outcome, ParsedItem, Partition, Reservation};
use crate::sink::Flush;
use crate::source::Event;
use crate::telemetry::{Stats, escape};
use crate::{Error, Result};

/// How often offsets are committed and idleness is looked at.
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// How long a drain waits for the images that are being decoded or predicted.
const DRAIN_LIMIT: Duration = Duration::from_secs(15);

/// How long a stop waits for sinks that say nothing. With the farewell to the group it is the 30 s after which Kubernetes kills, and nobody learns why.
const STOP_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Taking messages.
    Running,
    /// No more messages; everything received is to be finished.
    Finishing,
    /// Asked to stop: what is not fetched yet is handed back.
    Draining(Instant),
    /// The last flush is under way.
    Closing,
    Closed,
}

/// The actor.
pub struct Coordinator {
    feeds: Vec<Feed>,
    channels: Channels,
    settings: Settings,
    stats: Arc<Stats>,
    lanes: HashMap<Partition, Lane>,
    ledger: Ledger,
    phase: Phase,
    epoch: u64,
    received: u64,
    ended: usize,
    /// Writes that the sinks have not reported on.
    writes: usize,
    revocations: Vec<Revocation>,
    rejects: RejectWindow,
    top_labels: BTreeMap<Arc<str>, u64>,
    quiet_since: Option<Instant>,
    ends_checked: bool,
    answers: (mpsc::UnboundedSender<Answer>, mpsc::UnboundedReceiver<Answer>),
    /// For each source, whether a commit or a look at its progress is under way.
    committing: Vec<bool>,
    asking: Vec<bool>,
    asked: Instant,
    behind: Vec<Option<i64>>,
    /// When the stop was asked for, or a sink's last word since then.
    stop_heard: Option<Instant>,
    /// How long the last commit may take once a stop was asked for, and how long the farewell to the group may.
    farewell: Duration,
    /// When it was asked to stop, some source had more to give.
    input_left: bool,
    shown: Shown,
}

impl Coordinator {
    /// An actor that owns nothing yet.
    pub fn new(feeds: Vec<Feed>, channels: Channels, settings: Settings, stats: Arc<Stats>) -> Self {
        let count = feeds.len();
        let rejects = RejectWindow::new(&settings.reject_limit);
        stats.lag.store(-1, Relaxed);
        Self {
            feeds,
            channels,
            settings,
            stats,
            lanes: HashMap::new(),
            ledger: Ledger::default(),
            phase: Phase::Running,
            epoch: 0,
            received: 0,
            ended: 0,
            writes: 0,
            revocations: Vec::new(),
            rejects,
            top_labels: BTreeMap::new(),
            quiet_since: None,
            ends_checked: false,
            answers: mpsc::unbounded_channel(),
            committing: vec![false; count],
            asking: vec![false; count],
            asked: Instant::now(),
            behind: vec![None; count],
            stop_heard: None,
            farewell: commits::CLOSE_LIMIT,
            input_left: false,
            shown: Shown::default(),
        }
    }

    /// Runs until the input ends, a bound is reached, a stop is asked for, or something fails.
    pub async fn run(mut self) -> Ending {
        self.show();
        let mut error = self.serve().await.err();
        self.phase = Phase::Closed;
        self.show();
        error = error.or(self.last_commit_in_time().await.err());
        for feed in &self.feeds {
            feed.control.stop(self.farewell).await;
        }
        let left = self.lanes.values().any(|lane| lane.open > 0);
        for (partition, lane) in std::mem::take(&mut self.lanes) {
            self.ledger.account(&partition).handed_back += lane.open;
        }
        self.show();
        Ending { ledger: self.ledger, top_labels: self.top_labels, stopped: self.stop_heard.is_some() && (self.input_left || left), error }
    }

    async fn serve(&mut self) -> Result<()> {
        let mut tick = tokio::time::interval(COMMIT_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stop = self.channels.stop.clone();
        while self.phase != Phase::Closed {
            tokio::select! {
                biased;
                Some(error) = self.channels.fatal.recv() => return Err(error),
                () = stop.cancelled(), if matches!(self.phase, Phase::Running | Phase::Finishing) => self.drain(),
                Some(report) = self.channels.reports.recv() => self.on_report(report),
                Some(delivery) = self.channels.done.recv() => {
                    self.finish(delivery)?;
                    // All that is here already goes to the sinks together.
                    while let Ok(delivery) = self.channels.done.try_recv() {
                        self.finish(delivery)?;
                    }
                }
                Some(lost) = self.channels.lost.1.recv() => self.on_lost_token(&lost)?,
                Some(answer) = self.answers.1.recv() => self.on_answer(answer)?,
                // Before messages, of which there may always be another: commits and what is shown of the worker must not wait for the last one.
                _ = tick.tick() => self.on_tick()?,
                Some((source, event)) = self.channels.events.recv() => self.on_event(source, event)?,
            }
            self.write();
            self.advance();
        }
        Ok(())
    }

    fn on_event(&mut self, source: usize, event: Event) -> Result<()> {
        match event {
            Event::Assigned { partition, assignment, next_offset } => {
                self.let_go(&partition);
                self.epoch += 1;
                tracing::debug!(%partition, next_offset, "assigned");
                self.command(Command::Begin(partition.clone(), next_offset));
                self.stats.rebalances.assigned.fetch_add(1, Relaxed);
                self.lanes.insert(partition, Lane::new(source, self.epoch, assignment, next_offset));
                self.quiet_since = None;
            }
            Event::Message(message) => self.on_message(source, message)?,
            Event::Revoked { partitions, done } => self.on_revoked(partitions, done),
            Event::Lost { partitions } => {
                self.stats.rebalances.lost.fetch_add(partitions.len() as u64, Relaxed);
                tracing::warn!("{} partitions were lost; what was not committed is another worker's now", partitions.len());
                partitions.iter().for_each(|partition| self.let_go(partition));
                self.command(Command::Forget(partitions));
            }
            Event::End => {
                self.ended += 1;
                if self.ended == self.feeds.len() && self.phase == Phase::Running {
                    self.phase = Phase::Finishing;
                }
            }
            Event::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn on_message(&mut self, source: usize, message: Message) -> Result<()> {
        if self.phase != Phase::Running {
            return Ok(());
        }
        let partition = message.partition.clone();
        let offset = message.offset;
        let Some(lane) = self.lanes.get_mut(&partition).filter(|lane| !lane.is_revoking()) else { return Ok(()) };
        let entries = self.feeds[source].reading.expand(message, self.settings.tracing.as_ref());
        let count = entries.len() as u64;
        lane.tracker.received(offset, u32::try_from(count).unwrap_or(u32::MAX));
        lane.open += count;
        lane.next = offset + 1;
        self.shown.messages += 1;
        let (epoch, over) = (lane.epoch, lane.over.clone());
        let priority = self.feeds[source].priority;
        self.ledger.account(&partition).received += count;
        self.stats.received.fetch_add(count, Relaxed);
        self.received += count;
        self.quiet_since = None;
        for entry in entries {
            let token = AckToken::new(entry.item.position.clone(), epoch, over.clone(), self.channels.lost.0.clone());
            let envelope = Envelope { item: entry.item.clone(), token, priority, memory: Reservation::none(), value: () };
            match (entry.outcome, &entry.item.parsed) {
                (None, ParsedItem::Image(reference)) => {
                    let job = envelope.map(|()| reference.clone());
                    // Fails only once fetches are cancelled; the dropped token then says that the item is handed back.
                    let _ = self.channels.work.of(priority).send(job);
                }
                (Some(outcome), _) => self.finish(envelope.deliver(outcome))?,
                (None, _) => return Err(Error::failed(format!("{} has neither work nor an end; this is a bug", entry.item.position))),
            }
        }
        if self.settings.bounds.max_items.is_some_and(|max| self.received >= max) {
            self.phase = Phase::Finishing;
        }
        self.pace(&partition);
        Ok(())
    }

    /// One item has its outcome.
    fn finish(&mut self, delivery: Delivery) -> Result<()> {
        let position = delivery.item.position.clone();
        let Some(lane) = self.lanes.get_mut(&position.partition).filter(|lane| lane.epoch == delivery.token.epoch()) else {
            // Of an assignment that is over: handed back already.
            delivery.token.settle();
            return Ok(());
        };
        self.stats.finished.fetch_add(1, Relaxed);
        match &delivery.outcome {
            Outcome::Rejected(rejection) => {
                self.stats.rejected.fetch_add(1, Relaxed);
                delivery.item.trace.iter().for_each(|trace| trace.rejected(rejection.reason.name()));
                let uri = delivery.item.reference().map_or_else(String::new, |r| r.location.to_string());
                self.rejects.log(&position, &escape(&uri), rejection);
            }
            Outcome::Record(record) => {
                if let Some(best) = record.labels.as_ref().and_then(|labels| labels.first()) {
                    *self.top_labels.entry(best.label.clone()).or_default() += 1;
                }
            }
            _ => {}
        }
        let over = self.rejects.count(&delivery.outcome);
        lane.tracker
            .finish(position.offset, position.item, delivery)
            .map_err(|_| Error::failed(format!("{position} ended twice; this is a bug")))?;
        over
    }

    /// Sends to the sinks what is finished and in order, live items first. One batch is under way at a time; while the sinks are busy the next one
    /// grows.
    fn write(&mut self) {
        // Behind the last flush, which has let go of what was under way, a message's last items would seem to be all of it.
        if self.writes > 0 || matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        let (batch, points) = lane::next_write(&mut self.lanes, |source| self.feeds[source].priority, self.settings.transactional);
        self.send(batch, points);
    }

    fn send(&mut self, batch: Vec<Delivery>, points: Vec<CommitPoint>) {
        if !batch.is_empty() {
            self.writes += 1;
            self.command(Command::Write(batch, points));
        }
    }

    fn command(&self, command: Command) {
        // Fails only after the sinks' task ended with an error, which is on its way through `fatal`.
        let _ = self.channels.commands.send(command);
    }

    fn on_report(&mut self, report: Report) {
        self.stop_heard = self.stop_heard.map(|_| Instant::now());
        if report.wrote {
            self.writes -= 1;
            self.stats.written.fetch_add(report.written.len() as u64, Relaxed);
            for written in &report.written {
                if let Some(lane) = self.lanes.get_mut(&written.partition).filter(|lane| lane.epoch == written.epoch) {
                    lane.wrote(written.offset, written.fate);
                }
            }
            if self.writes == 0 {
                self.lanes.values_mut().for_each(Lane::sent);
            }
        }
        for (partition, held) in report.held {
            if let Some(lane) = self.lanes.get_mut(&partition) {
                let account = self.ledger.account(&partition);
                lane.settle(held).into_iter().for_each(|fate| account.book(fate));
            }
            self.pace(&partition);
        }
        self.committed(report.committed);
        if !report.released.is_empty() {
            self.on_released(&report.released);
        }
        if report.flushed == Some(Flush::All) {
            self.phase = Phase::Closed;
        }
    }

    fn on_lost_token(&mut self, lost: &LostToken) -> Result<()> {
        let draining = matches!(self.phase, Phase::Draining(_) | Phase::Closing);
        match self.lanes.get_mut(&lost.position.partition).filter(|lane| lane.epoch == lost.epoch && !lane.is_revoking()) {
            Some(lane) if draining => {
                lane.dropped += 1;
                Ok(())
            }
            Some(_) => {
                Err(Error::failed(format!("{} was dropped inside the worker before it was delivered; this is a bug", lost.position)))
            }
            None => Ok(()),
        }
    }

    /// Pauses a partition whose unfinished items fill its window, and resumes it when half of them are done (a pause throws away what the
    /// client has prefetched, so it must not flutter).
    fn pace(&mut self, partition: &Partition) {
        let window = (self.settings.results_memory / self.settings.result_bytes.max(1) / self.lanes.len().max(1)).clamp(16, 4096);
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        let span = lane.tracker.span();
        let control = &self.feeds[lane.source].control;
        if !lane.paused && span >= window {
            lane.paused = true;
            control.pause(partition);
        } else if lane.paused && span <= window / 2 && self.phase == Phase::Running {
            lane.paused = false;
            control.resume(partition);
        }
    }

    fn drain(&mut self) {
        tracing::info!("stopping: finishing what is being decoded, handing back the rest");
        self.stop_heard = Some(Instant::now());
        self.input_left = self.ended < self.feeds.len();
        self.phase = Phase::Draining(Instant::now());
        // First, or a worker that waited for a store would be ready for an instant, since nothing waits any more.
        self.show();
        self.channels.cancel_fetches.cancel();
        for (partition, lane) in &self.lanes {
            self.feeds[lane.source].control.pause(partition);
        }
    }

    /// Moves on to the next phase where this one has nothing left to wait for.
    fn advance(&mut self) {
        let over = match self.phase {
            Phase::Finishing => self.lanes.values().all(Lane::is_quiet),
            Phase::Draining(since) => {
                since.elapsed() >= DRAIN_LIMIT
                    || self.writes == 0 && self.lanes.values().all(|lane| lane.tracker.unfinished() <= lane.dropped)
            }
            _ => false,
        };
        if over && self.revocations.is_empty() {
            self.phase = Phase::Closing;
            self.command(Command::Flush(Flush::All));
        }
    }

    fn on_tick(&mut self) -> Result<()> {
        if self.stop_heard.is_some_and(|heard| heard.elapsed() >= STOP_LIMIT) {
            self.farewell = commits::HASTE;
            return Err(Error::failed(format_args!(
                "stopped without the last results: the sinks have not taken them for {} s; what is not committed is read again at the next start",
                STOP_LIMIT.as_secs()
            )));
        }
        let waiting: usize = self.lanes.values().map(|lane| lane.tracker.span()).sum();
        self.stats.open.store((waiting + self.writes) as u64, Relaxed);
        if self.phase == Phase::Running {
            self.pass_markers();
            // Lets sinks close files by age though nothing is written.
            if self.writes == 0 {
                self.command(Command::Flush(Flush::Ready));
            }
            self.look_for_idleness();
        }
        self.rejects.tell_left_out(Instant::now());
        self.commit();
        self.show();
        Ok(())
    }
}
