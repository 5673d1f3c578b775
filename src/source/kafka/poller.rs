//! The polling thread.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::context::{Change, answer_assign, answer_revoke};
use super::offsets::{Lost, Place, count_lost, place};
use super::{Command, Committed, Consumer_, Owned, Shared, commit_now, offsets_list, partitions_list, past_markers};
use crate::config::{self, OnLost};
use crate::error::{Error, Result};
use crate::flow::{Message, Partition, Reservation};
use crate::kafka::{SAY_EVERY, TopicState, lasting, lock, missing_topic, topic_state};
use crate::source::Event;

/// Longest time in one poll, and so until a command is seen.
const POLL: Duration = Duration::from_millis(20);
/// How long a full channel is waited for before the partitions are paused, which throws away what librdkafka has fetched ahead.
const GRACE: Duration = Duration::from_millis(200);
/// Longest wait for one answer of a broker.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a topic that was just created may stay unknown to a broker.
const SPREAD: Duration = Duration::from_secs(5);

/// A revocation that waits for the worker, then for the commit of what the worker had done.
struct Leaving {
    list: TopicPartitionList,
    partitions: Vec<Partition>,
    deadline: Instant,
    step: Step,
}

enum Step {
    Worker(oneshot::Receiver<Vec<(Partition, i64)>>),
    Commit(std_mpsc::Receiver<()>),
    Done,
}

pub(super) struct Poller {
    consumer: Arc<Consumer_>,
    config: config::KafkaSource,
    /// How long the worker may take to answer a revocation.
    patience: Duration,
    events: mpsc::Sender<Event>,
    orders: std_mpsc::Receiver<Command>,
    shared: Arc<Mutex<Shared>>,
    runtime: tokio::runtime::Handle,
    /// Events that the channel had no room for.
    held_back: VecDeque<Event>,
    /// Everything is paused since the channel is full.
    choked: bool,
    /// Partitions that the worker has paused.
    paused: BTreeSet<Partition>,
    /// Since when each partition has been read without a break, and whether its end was reported since.
    running: BTreeMap<Partition, (Instant, bool)>,
    leaving: Option<Leaving>,
    names: HashMap<String, Arc<str>>,
    stop: Option<oneshot::Sender<()>>,
    looked_for_topics: Option<Instant>,
    /// Some partition's next offset is out of range.
    out_of_range: bool,
}

/// Why the loop ended.
enum End {
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
        // Leaves the group.
        drop(consumer);
        if let Some(stop) = stop {
            let _ = stop.send(());
        }
    }

    fn topics(&self) -> Vec<String> {
        if self.config.topics.is_empty() { self.config.records.clone() } else { self.config.topics.clone() }
    }

    fn work(&mut self) -> Result<(), End> {
        let topics = self.topics();
        self.wait_for_topics(&topics)?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&names).map_err(|e| Error::failed(format!("the topics {names:?} cannot be subscribed to: {e}")))?;
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
            // Not while the group waits for an answer, which this would be taken for.
            if self.out_of_range && self.leaving.is_none() && lock(&self.consumer.context().changes).is_empty() {
                self.out_of_range = false;
                self.look_for_lost()?;
            }
        }
    }

    /// Carries out what the worker asked for.
    fn obey(&mut self) -> Result<(), End> {
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

    fn pause<'a>(&mut self, partitions: impl IntoIterator<Item = &'a Partition> + Clone) {
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

    fn emit(&mut self, event: Event) {
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

    fn partition(&mut self, topic: &str, partition: i32) -> Partition {
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
            // The end that is reported may be up to a second older than the pause or seek before it: hence the wait.
            let settled = self.running.get(&partition).is_some_and(|(since, ended)| *ended && since.elapsed() > Duration::from_secs(2));
            if settled && let Some(owned) = lock(&self.shared).owned.get_mut(&partition) {
                owned.end_seen = Some(at.end);
            }
        }
    }

    /// Deals with what a poll reported.
    fn trouble(&mut self, error: KafkaError) -> Result<(), End> {
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

    /// Waits until the brokers answer and have all topics.
    fn wait_for_topics(&mut self, topics: &[String]) -> Result<(), End> {
        let mut missing_since: Option<Instant> = None;
        let mut said: Option<Instant> = None;
        // A name that begins with ^ is a pattern, which may match nothing yet.
        for topic in topics.iter().filter(|t| !t.starts_with('^')) {
            loop {
                self.obey()?;
                match topic_state(&self.consumer, topic, Duration::from_secs(2)) {
                    TopicState::Partitions(_) => break,
                    TopicState::Refused(what) => {
                        return Err(End::Failed(Error::failed(format!("topic `{topic}` on {}: {what}", self.config.brokers))));
                    }
                    TopicState::Missing => {
                        if missing_since.get_or_insert_with(Instant::now).elapsed() > SPREAD {
                            return Err(End::Failed(Error::failed(missing_topic(topic, &self.config.brokers))));
                        }
                        std::thread::sleep(Duration::from_millis(250));
                    }
                    TopicState::Away(what) => {
                        let consumer = self.consumer.clone();
                        if let Some(Err(error)) = consumer.poll(Duration::from_millis(100)) {
                            self.trouble(error)?;
                        }
                        // Before there was any answer a failing handshake is a wrong certificate, later it may be a broker that is starting.
                        if let Some((Code::SSL, reason)) = self.consumer.context().logger.last_error() {
                            return Err(End::Failed(Error::failed(format!("no TLS with Kafka at {}: {reason}", self.config.brokers))));
                        }
                        if said.is_none_or(|at| at.elapsed() > SAY_EVERY) {
                            said = Some(Instant::now());
                            let because = self.consumer.context().logger.because();
                            tracing::warn!("waiting for Kafka at {}: {what}{because}", self.config.brokers);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Some topic is unknown to a broker: stops if one that is subscribed to is gone.
    fn look_for_topics(&mut self) -> Result<(), End> {
        if self.looked_for_topics.is_some_and(|at| at.elapsed() < SPREAD) {
            return Ok(());
        }
        self.looked_for_topics = Some(Instant::now());
        for topic in self.topics().iter().filter(|t| !t.starts_with('^')) {
            if topic_state(&self.consumer, topic, Duration::from_secs(2)) == TopicState::Missing {
                return Err(End::Failed(Error::failed(missing_topic(topic, &self.config.brokers))));
            }
        }
        Ok(())
    }

    /// An offset is out of range, librdkafka does not say where: finds the partitions whose next message is gone.
    fn look_for_lost(&mut self) -> Result<()> {
        let positions: Vec<(Partition, i64)> =
            lock(&self.shared).owned.iter().filter(|(_, o)| !o.leaving).map(|(p, o)| (p.clone(), o.next.max(o.position()))).collect();
        let mut found = Vec::new();
        for (partition, position) in &positions {
            match self.bounds(partition, Some(*position)) {
                Ok((low, high)) => {
                    if let Place::Lost(lost) = place(Some(*position), low, high, self.config.start) {
                        let at = self.lost(partition, &lost)?;
                        self.move_to(partition, at, matches!(lost, Lost::Recreated { .. }));
                        found.push((partition.clone(), at));
                    }
                }
                Err(e) => tracing::warn!("{partition}: its bounds could not be read: {e}"),
            }
        }
        // It was out of range only in between: whichever it was, reading on where it was does no harm.
        self.restart(if found.is_empty() { positions } else { found })
    }

    /// Reads on at these offsets. A seek would not do: after an offset out of range librdkafka has stopped the partition.
    fn restart(&mut self, at: Vec<(Partition, i64)>) -> Result<()> {
        let list = offsets_list(at.iter().map(|(p, o)| (p, *o)))?;
        let moved = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self
                .consumer
                .incremental_unassign(&partitions_list(at.iter().map(|(p, _)| p)))
                .and_then(|()| self.consumer.incremental_assign(&list)),
            RebalanceProtocol::Eager | RebalanceProtocol::None => {
                let all: Vec<_> = lock(&self.shared).owned.iter().filter(|(_, o)| !o.leaving).map(|(p, o)| (p.clone(), o.next)).collect();
                self.consumer.assign(&offsets_list(all.iter().map(|(p, o)| (p, *o)))?)
            }
        };
        moved.map_err(|e| Error::failed(format!("partitions could not be read on: {e}")))?;
        for (partition, _) in at {
            if let Some(owned) = lock(&self.shared).owned.get_mut(&partition) {
                owned.end_seen = None;
            }
            if self.choked || self.paused.contains(&partition) {
                self.pause([&partition]);
            } else {
                self.running.insert(partition, (Instant::now(), false));
            }
        }
        Ok(())
    }

    /// Goes on elsewhere in a partition. Where offsets begin `anew`, the worker has to forget the former ones.
    fn move_to(&mut self, partition: &Partition, at: i64, anew: bool) {
        if anew {
            self.held_back.retain(|e| !matches!(e, Event::Message(m) if m.partition == *partition));
            self.emit(Event::Lost { partitions: vec![partition.clone()] });
            self.emit(Event::Assigned { partition: partition.clone(), next_offset: at });
        }
        if let Some(owned) = lock(&self.shared).owned.get_mut(partition) {
            if anew || owned.handed == owned.next {
                owned.handed = at;
            }
            owned.next = at;
        }
    }

    /// What `on_lost` says about it: the offset to go on at, or the error to stop with.
    fn lost(&self, partition: &Partition, lost: &Lost) -> Result<i64> {
        let what = lost.describe(partition);
        match self.config.on_lost {
            OnLost::Stop => Err(Error::failed(format!(
                "{what}. To go on without them set `on_lost: continue`, or put the group where it shall go on with kafka-consumer-groups.sh --reset-offsets"
            ))),
            OnLost::Continue => {
                tracing::warn!("{what}; going on there (on_lost: continue)");
                count_lost(lost);
                Ok(lost.go_on_at())
            }
        }
    }

    /// Oldest offset and end. An end below `expected` is asked for again for a while: right after a change of leaders it may lag behind.
    fn bounds(&self, partition: &Partition, expected: Option<i64>) -> Result<(i64, i64), KafkaError> {
        let mut tries = 0;
        loop {
            let (low, high) = self.consumer.fetch_watermarks(&partition.topic, partition.partition, ANSWER)?;
            if tries == 4 || expected.is_none_or(|e| e <= high) {
                return Ok((low, high));
            }
            tries += 1;
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Answers the group's changes, one after the other.
    fn serve_changes(&mut self) -> Result<(), End> {
        while self.leaving.is_none() {
            let Some(change) = lock(&self.consumer.context().changes).pop_front() else { return Ok(()) };
            match change {
                Change::Assign(list) => {
                    let partitions = list.iter().map(|(t, p)| self.partition(t, *p)).collect();
                    self.assign(partitions)?;
                }
                Change::Revoke { partitions, lost } => {
                    let partitions: Vec<Partition> = partitions.iter().map(|(t, p)| self.partition(t, *p)).collect();
                    self.revoke(partitions, lost);
                }
            }
        }
        Ok(())
    }

    fn assign(&mut self, partitions: Vec<Partition>) -> Result<(), End> {
        let begin = self.where_to_begin(&partitions)?;
        let list = offsets_list(begin.iter().map(|(p, at, _)| (p, *at)))?;
        answer_assign(&self.consumer, &list).map_err(|e| Error::failed(format!("the group's assignment could not be taken: {e}")))?;
        let fresh: Vec<_> = begin.iter().filter(|(_, _, fresh)| *fresh).map(|(p, at, _)| (p, *at)).collect();
        if !fresh.is_empty() {
            // From here on the group has a place of its own: what comes between now and its first commit must not be skipped after a crash.
            let _ = self.consumer.commit(&offsets_list(fresh)?, CommitMode::Async);
        }
        {
            let mut shared = lock(&self.shared);
            shared.assigned_once = true;
            shared.owned.extend(begin.iter().map(|(p, at, _)| (p.clone(), Owned::at(*at))));
        }
        for (partition, next_offset, _) in begin {
            tracing::info!("{partition}: assigned, from offset {next_offset}");
            self.paused.remove(&partition);
            if self.choked {
                self.pause([&partition]);
            } else {
                self.running.insert(partition.clone(), (Instant::now(), false));
            }
            self.emit(Event::Assigned { partition, next_offset });
        }
        Ok(())
    }

    /// The next offset of each partition, and whether it is the first that the group has there. Waits while the brokers are away.
    fn where_to_begin(&mut self, partitions: &[Partition]) -> Result<Vec<(Partition, i64, bool)>, End> {
        let mut said: Option<Instant> = None;
        loop {
            match self.try_where_to_begin(partitions) {
                Ok(places) => {
                    let mut begin = Vec::with_capacity(places.len());
                    for (partition, place) in places {
                        let (at, fresh) = match place {
                            Place::Committed(at) => (at, false),
                            Place::Fresh(at) => (at, true),
                            Place::Lost(lost) => (self.lost(&partition, &lost)?, false),
                        };
                        begin.push((partition, at, fresh));
                    }
                    return Ok(begin);
                }
                Err(error) => {
                    if let Some(what) = error.rdkafka_error_code().and_then(lasting) {
                        return Err(End::Failed(Error::failed(format!("the group's offsets cannot be read: {what}"))));
                    }
                    if said.is_none_or(|at| at.elapsed() > SAY_EVERY) {
                        said = Some(Instant::now());
                        tracing::warn!("the group's offsets cannot be read yet, waiting: {error}");
                    }
                    self.obey()?;
                    std::thread::sleep(Duration::from_millis(500));
                }
            }
        }
    }

    fn try_where_to_begin(&self, partitions: &[Partition]) -> Result<Vec<(Partition, Place)>, KafkaError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        // A read_committed consumer is told of offsets only when no transaction is still about to change them.
        let committed = self.consumer.committed_offsets(partitions_list(partitions), ANSWER)?;
        let mut places = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let element = committed.find_partition(&partition.topic, partition.partition);
            let from = match element {
                Some(element) => {
                    element.error()?;
                    match element.offset() {
                        Offset::Offset(at) => Some(at),
                        _ => None,
                    }
                }
                None => None,
            };
            let (low, high) = self.bounds(partition, from)?;
            places.push((partition.clone(), place(from, low, high, self.config.start)));
        }
        Ok(places)
    }

    fn revoke(&mut self, partitions: Vec<Partition>, lost: bool) {
        let list = partitions_list(&partitions);
        {
            let mut shared = lock(&self.shared);
            for partition in &partitions {
                if let Some(owned) = shared.owned.get_mut(partition) {
                    owned.leaving = true;
                    // What is held back is not handed out any more: its next owner reads it again, so no commit may go past it.
                    if owned.handed < owned.next {
                        owned.next = owned.handed;
                        owned.end_seen = None;
                    }
                }
                self.paused.remove(partition);
                self.running.remove(partition);
            }
        }
        self.held_back.retain(|e| !matches!(e, Event::Message(m) if partitions.contains(&m.partition)));
        let step = if partitions.is_empty() {
            Step::Done
        } else if lost {
            tracing::warn!("{} partitions were lost: the group had waited for this worker too long", partitions.len());
            self.emit(Event::Lost { partitions: partitions.clone() });
            Step::Done
        } else {
            tracing::info!("{} partitions are being revoked", partitions.len());
            let (done, answer) = oneshot::channel();
            self.emit(Event::Revoked { partitions: partitions.clone(), done });
            Step::Worker(answer)
        };
        self.leaving = Some(Leaving { list, partitions, deadline: Instant::now() + self.patience, step });
    }

    /// Moves a revocation on, without waiting.
    fn serve_leaving(&mut self) -> Result<(), End> {
        let Some(mut leaving) = self.leaving.take() else { return Ok(()) };
        let late = Instant::now() >= leaving.deadline;
        leaving.step = match leaving.step {
            Step::Worker(mut answer) => match answer.try_recv() {
                Ok(offsets) => self.commit_aside(&leaving.partitions, offsets)?,
                Err(oneshot::error::TryRecvError::Closed) => Step::Done,
                Err(oneshot::error::TryRecvError::Empty) if late => {
                    tracing::warn!(
                        "the worker did not answer a revocation within {:?}; what it had not committed will be repeated",
                        self.patience
                    );
                    self.unsay(&leaving.partitions);
                    Step::Done
                }
                Err(oneshot::error::TryRecvError::Empty) => Step::Worker(answer),
            },
            Step::Commit(done) => match done.try_recv() {
                Err(std_mpsc::TryRecvError::Empty) if !late => Step::Commit(done),
                Err(std_mpsc::TryRecvError::Empty) => {
                    tracing::warn!("the commit before a revocation took too long; what it covered may be repeated");
                    Step::Done
                }
                _ => Step::Done,
            },
            Step::Done => Step::Done,
        };
        if !matches!(leaving.step, Step::Done) {
            self.leaving = Some(leaving);
            return Ok(());
        }
        {
            let mut shared = lock(&self.shared);
            shared.assigned_once = true;
            for partition in &leaving.partitions {
                shared.owned.remove(partition);
            }
        }
        answer_revoke(&self.consumer, &leaving.list)
            .map_err(|e| Error::failed(format!("partitions could not be given back to the group: {e}")))?;
        Ok(())
    }

    /// A revocation that never reached the channel is one that has already happened.
    fn unsay(&mut self, partitions: &[Partition]) {
        for event in &mut self.held_back {
            if matches!(event, Event::Revoked { .. }) {
                *event = Event::Lost { partitions: partitions.to_vec() };
            }
        }
    }

    /// Commits on a thread of its own: a commit waits for the coordinator for as long as that is away, and this thread must not.
    fn commit_aside(&self, partitions: &[Partition], offsets: Vec<(Partition, i64)>) -> Result<Step> {
        let ours: Vec<(Partition, i64)> = {
            let shared = lock(&self.shared);
            let only = offsets.into_iter().filter(|(p, _)| partitions.contains(p));
            only.filter_map(|(p, offset)| Some((past_markers(shared.owned.get(&p)?, offset), p))).map(|(o, p)| (p, o)).collect()
        };
        if ours.is_empty() {
            return Ok(Step::Done);
        }
        let list = offsets_list(ours.iter().map(|(p, o)| (p, *o)))?;
        let consumer = self.consumer.clone();
        let (done, wait) = std_mpsc::channel();
        std::thread::Builder::new()
            .name("kafka-commit".into())
            .spawn(move || {
                match commit_now(&consumer, &list) {
                    Ok(Committed::Yes) => {}
                    Ok(Committed::Superseded(code) | Committed::Later(code)) => {
                        tracing::warn!("the commit before a revocation failed ({code}); what it covered will be repeated");
                    }
                    Err(e) => tracing::warn!("the commit before a revocation failed: {e}"),
                }
                // Before the sign, so that the last owner of the consumer, who closes it, is the polling thread.
                drop(consumer);
                let _ = done.send(());
            })
            .map_err(|e| Error::failed(format!("no thread for a commit: {e}")))?;
        Ok(Step::Commit(wait))
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
