//! The polling thread.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use tokio::sync::{mpsc, oneshot};

use super::member::member_id;
use super::rebalance::Leaving;
use super::waiting::Waiting;
use super::{Command, Consumer_, Shared, partitions_list};
use crate::config;
use crate::error::{Error, Result};
use crate::flow::{Message, Partition, Reservation};
use crate::kafka::{lasting, lock};
use crate::source::Event;

/// Longest time in one poll, and so until a command is seen.
const POLL: Duration = Duration::from_millis(20);
/// How long a full channel is waited for before the partitions are paused, which throws away what librdkafka has fetched ahead.
const GRACE: Duration = Duration::from_millis(200);
/// Longest wait for one answer of a broker.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

pub(super) struct Poller {
    pub(super) consumer: Arc<Consumer_>,
    pub(super) config: config::KafkaSource,
    /// How long the worker may take to answer a revocation.
    pub(super) patience: Duration,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) orders: std_mpsc::Receiver<Command>,
    pub(super) shared: Arc<Mutex<Shared>>,
    pub(super) runtime: tokio::runtime::Handle,
    /// Events that the channel had no room for.
    pub(super) held_back: VecDeque<Event>,
    /// Everything is paused since the channel is full.
    pub(super) choked: bool,
    /// Partitions that the worker has paused.
    pub(super) paused: BTreeSet<Partition>,
    /// Since when each partition has been read without a break, and whether its end was reported since.
    pub(super) running: BTreeMap<Partition, (Instant, bool)>,
    pub(super) leaving: Option<Leaving>,
    pub(super) names: HashMap<String, Arc<str>>,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) looked_for_topics: Option<Instant>,
    /// Some partition's next offset is out of range.
    pub(super) out_of_range: bool,
    pub(super) waiting: Waiting,
}

/// Why the loop ended.
pub(super) enum End {
    /// The worker asked for it, or is gone.
    Asked,
    Failed(Error),
}

impl From<Error> for End {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

impl Poller {
    pub(super) fn new(
        consumer: Arc<Consumer_>,
        config: config::KafkaSource,
        patience: Duration,
        events: mpsc::Sender<Event>,
        orders: std_mpsc::Receiver<Command>,
        shared: Arc<Mutex<Shared>>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self {
            consumer,
            config,
            patience,
            events,
            orders,
            shared,
            runtime,
            held_back: VecDeque::new(),
            choked: false,
            paused: BTreeSet::new(),
            running: BTreeMap::new(),
            leaving: None,
            names: HashMap::new(),
            stop: None,
            looked_for_topics: None,
            out_of_range: false,
            waiting: Waiting::default(),
        }
    }

    pub(super) fn run(mut self) {
        let end = self.work();
        let Self { consumer, events, stop, runtime, held_back, .. } = self;
        drop(held_back);
        if let Err(End::Failed(error)) = end {
            // The worker may have ended as well, or be waiting in a `stop` of its own.
            let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), events.send(Event::Failed(error))).await });
        }
        consumer.context().closing.store(true, Ordering::Release);
        // Without this librdkafka 2.12 leaves without a word where it owns nothing, and the others wait for it until its session is over.
        if consumer.assignment().is_ok_and(|list| list.count() == 0) {
            consumer.unsubscribe();
        }
        // Leaves the group.
        drop(consumer);
        if let Some(stop) = stop {
            let _ = stop.send(());
        }
    }

    pub(super) fn topics(&self) -> Vec<String> {
        if self.config.topics.is_empty() { self.config.records.clone() } else { self.config.topics.clone() }
    }

    fn work(&mut self) -> Result<(), End> {
        let topics = self.topics();
        self.wait_for_topics(&topics)?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&names).map_err(|e| Error::failed(format!("the topics {names:?} cannot be subscribed to: {e}")))?;
        self.waiting.begin();
        loop {
            self.obey()?;
            self.hand_out();
            self.regulate();
            let consumer = self.consumer.clone();
            match consumer.poll(POLL) {
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) => self.trouble(error)?,
                None => {}
            }
            self.note_ends();
            self.serve_changes()?;
            self.serve_leaving()?;
            self.waiting.say();
            self.put_out_for_long()?;
            // Not while the group waits for an answer, which this would be taken for.
            if self.out_of_range && self.leaving.is_none() && lock(&self.consumer.context().changes).is_empty() {
                self.out_of_range = false;
                self.look_for_lost()?;
            }
        }
    }

    /// The group, which has put this worker out and taken it in again, takes away what it had. Should it not, nothing would be committed any more.
    fn put_out_for_long(&self) -> Result<()> {
        let since = lock(&self.shared).owned.values().filter(|o| !o.leaving).filter_map(|o| o.put_out).min();
        let waits = self.leaving.is_some() || !lock(&self.consumer.context().changes).is_empty();
        if waits || since.is_none_or(|since| since.elapsed() < self.patience) || member_id(&self.consumer).is_empty() {
            return Ok(());
        }
        Err(Error::failed(
            "the group has put this worker out, and taken it in again without taking its partitions away; start it again: what it had not committed is read again",
        ))
    }

    /// Carries out what the worker asked for.
    pub(super) fn obey(&mut self) -> Result<(), End> {
        loop {
            match self.orders.try_recv() {
                Ok(Command::Pause(partition)) => {
                    if self.owns(&partition) && self.paused.insert(partition.clone()) && !self.choked {
                        self.pause([&partition]);
                    }
                }
                Ok(Command::Resume(partition)) => {
                    if self.paused.remove(&partition) && !self.choked && self.owns(&partition) {
                        self.resume([&partition]);
                    }
                }
                Ok(Command::Stop(stopped)) => {
                    self.stop = Some(stopped);
                    return Err(End::Asked);
                }
                Err(std_mpsc::TryRecvError::Disconnected) => return Err(End::Asked),
                Err(std_mpsc::TryRecvError::Empty) if self.events.is_closed() => return Err(End::Asked),
                Err(std_mpsc::TryRecvError::Empty) => return Ok(()),
            }
        }
    }

    fn owns(&self, partition: &Partition) -> bool {
        lock(&self.shared).owned.get(partition).is_some_and(|o| !o.leaving)
    }

    pub(super) fn pause<'a>(&mut self, partitions: impl IntoIterator<Item = &'a Partition> + Clone) {
        // What was fetched ahead is dropped, so "nothing is waiting" says nothing any more about where the partition is.
        for partition in partitions.clone() {
            self.running.remove(partition);
        }
        if let Err(e) = self.consumer.pause(&partitions_list(partitions)) {
            tracing::warn!("partitions could not be paused: {e}");
        }
    }

    fn resume<'a>(&mut self, partitions: impl IntoIterator<Item = &'a Partition> + Clone) {
        for partition in partitions.clone() {
            self.running.insert(partition.clone(), (Instant::now(), false));
        }
        if let Err(e) = self.consumer.resume(&partitions_list(partitions)) {
            tracing::warn!("partitions could not be resumed: {e}");
        }
    }

    /// Moves what was held back into the channel, as far as it goes.
    fn hand_out(&mut self) {
        while let Some(event) = self.held_back.pop_front() {
            match self.events.try_reserve() {
                Ok(room) => {
                    mark_handed(&self.shared, &event);
                    room.send(event);
                }
                Err(_) => {
                    self.held_back.push_front(event);
                    return;
                }
            }
        }
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.held_back.push_back(event);
        self.hand_out();
    }

    /// Pauses everything while the worker takes nothing, and goes on when half the channel is free again.
    fn regulate(&mut self) {
        if !self.held_back.is_empty() && !self.choked {
            let events = self.events.clone();
            let _ = self.runtime.block_on(async { tokio::time::timeout(GRACE, events.reserve()).await.map(drop) });
            self.hand_out();
            if !self.held_back.is_empty() {
                self.choked = true;
                let running: Vec<Partition> = self.unpaused();
                self.pause(&running);
                tracing::debug!("the worker takes no more: intake is paused");
            }
        } else if self.choked && self.held_back.is_empty() && self.events.capacity() >= self.events.max_capacity() / 2 {
            self.choked = false;
            let running: Vec<Partition> = self.unpaused();
            self.resume(&running);
            tracing::debug!("the worker takes more: intake goes on");
        }
    }

    fn unpaused(&self) -> Vec<Partition> {
        lock(&self.shared).owned.iter().filter(|(p, o)| !o.leaving && !self.paused.contains(*p)).map(|(p, _)| p.clone()).collect()
    }

    pub(super) fn partition(&mut self, topic: &str, partition: i32) -> Partition {
        let name = match self.names.get(topic) {
            Some(name) => name.clone(),
            None => {
                let name: Arc<str> = topic.into();
                self.names.insert(topic.to_owned(), name.clone());
                name
            }
        };
        Partition { topic: name, partition }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let partition = self.partition(message.topic(), message.partition());
        {
            let mut shared = lock(&self.shared);
            // Left over from before a revocation, a seek or a pause.
            let Some(owned) = shared.owned.get_mut(&partition).filter(|o| !o.leaving && message.offset() >= o.next) else { return };
            owned.next = message.offset() + 1;
        }
        let headers = message
            .headers()
            .map_or_else(Vec::new, |h| h.iter().map(|header| (header.key.to_owned(), header.value.map(Bytes::copy_from_slice))).collect());
        self.emit(Event::Message(Message {
            partition,
            offset: message.offset(),
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice),
            headers,
            timestamp_ms: message.timestamp().to_millis(),
            trusted: false,
            listing: None,
            memory: Reservation::none(),
        }));
    }

    /// Notes where reading has come to, also beyond the last message. A transaction's marker takes an offset and is never handed out.
    fn note_ends(&mut self) {
        let read_to = std::mem::take(&mut *lock(&self.consumer.context().read_to));
        for at in read_to {
            let partition = self.partition(&at.topic, at.partition);
            let Some((since, ended)) = self.running.get_mut(&partition) else { continue };
            let Some(end) = at.end else {
                *since = Instant::now();
                continue;
            };
            // The end that is reported may be up to a second older than the pause, the seek or the new leader before it: hence the wait.
            if *ended
                && since.elapsed() > Duration::from_secs(2)
                && let Some(owned) = lock(&self.shared).owned.get_mut(&partition)
            {
                owned.end_seen = Some(end);
            }
        }
    }

    /// Deals with what a poll reported.
    pub(super) fn trouble(&mut self, error: KafkaError) -> Result<(), End> {
        if let KafkaError::PartitionEOF(number) = error {
            for (partition, (_, ended)) in &mut self.running {
                *ended |= partition.partition == number;
            }
            return Ok(());
        }
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => {
                self.out_of_range = true;
                Ok(())
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition if !fatal => self.look_for_topics(),
            _ => match lasting(code).or(fatal.then_some("the client cannot go on")) {
                Some(what) => Err(End::Failed(Error::failed(format!(
                    "Kafka at {}: {what}{}",
                    self.config.brokers,
                    self.consumer.context().logger.because()
                )))),
                // Passes; the context has logged it.
                None => Ok(()),
            },
        }
    }
}

/// Notes that the worker has been given this message.
fn mark_handed(shared: &Mutex<Shared>, event: &Event) {
    if let Event::Message(message) = event
        && let Some(owned) = lock(shared).owned.get_mut(&message.partition)
        && !owned.leaving
    {
        owned.handed = message.offset + 1;
    }
}
