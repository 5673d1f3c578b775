//! What every sink must do, whatever it writes to. A sink's own tests say how its destination is opened and read; this suite plays the coordinator
//! with random histories: it commits whenever `held` allows, and the worker dies at any point.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{Flush, Sink};
use crate::flow::{
    AckToken, Delivery, ImageRef, Item, Location, Message, Outcome, ParsedItem, Partition, Position, Reason, Record, Rejection,
    Reservation, Skip, SourceRef, Stage,
};

/// A destination that outlives the sinks which write to it.
#[async_trait]
pub(super) trait Destination: Send + Sync {
    /// A sink as a worker has it that starts now.
    async fn start(&self) -> Box<dyn Sink>;

    /// Where the items stood that an independent reader finds now, as they stand at the destination.
    async fn read(&self) -> Vec<Position>;

    /// Which items the sink writes.
    fn takes(&self, what: What) -> bool {
        what == What::Record
    }

    /// A replay leaves no item twice.
    fn exact(&self) -> bool;

    /// Each assignment's items of a partition stand in order.
    fn ordered(&self) -> bool {
        true
    }

    /// Where a worker goes on after a crash.
    fn goes_on_at(&self, committed: i64) -> i64 {
        committed
    }
}

/// How an item ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Record,
    Rejected,
    Skipped,
    Tombstone,
}

/// What the worker does next.
#[derive(Debug, Clone)]
enum Step {
    /// Hands so many items of a partition over, together with as many of the next one.
    Write(usize, usize),
    Flush(Flush),
    /// The partition is taken away, and comes back.
    Release(usize),
    Commit,
    /// The process dies.
    Crash,
}

/// The messages of each partition: gap to the offset before, and how its items end.
type History = Vec<Vec<(i64, Vec<What>)>>;

fn history() -> impl Strategy<Value = (History, Vec<Step>)> {
    let what = prop_oneof![4 => Just(What::Record), 1 => Just(What::Rejected), 1 => Just(What::Skipped), 1 => Just(What::Tombstone)];
    let message = (1i64..4, proptest::collection::vec(what, 1..4));
    let partitions = proptest::collection::vec(proptest::collection::vec(message, 1..14), 1..4);
    let step = prop_oneof![
        6 => (0usize..3, 1usize..6).prop_map(|(p, n)| Step::Write(p, n)),
        2 => Just(Step::Flush(Flush::Ready)),
        1 => Just(Step::Flush(Flush::All)),
        1 => (0usize..3).prop_map(Step::Release),
        2 => Just(Step::Commit),
        2 => Just(Step::Crash),
    ];
    (partitions, proptest::collection::vec(step, 1..24))
}

/// Runs `cases` random histories, each against a destination of its own.
pub(super) fn conforms<D: Destination, F: Future<Output = D>>(cases: u32, new: impl Fn() -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() };
    let run = |(history, steps): (History, Vec<Step>)| {
        runtime.block_on(async {
            let destination = new().await;
            Worker::start(&destination, history).await.live(&steps).await;
        });
        Ok(())
    };
    TestRunner::new(config).run(&history(), run).unwrap_or_else(|failure| panic!("{failure}"));
}

struct Lane {
    partition: Partition,
    /// Every item, in order: offset, number, whether it is its message's last, how it ends.
    items: Vec<(i64, u32, bool, What)>,
    /// Items handed to the sink under this assignment, or before it.
    handed: usize,
    committed: i64,
    begins: usize,
}

impl Lane {
    /// What the coordinator would commit: whole messages that were handed over, below what is held.
    fn commit_point(&self, held: Option<i64>) -> i64 {
        let whole = self.items[..self.handed].iter().rev().find(|(.., last, _)| *last).map_or(0, |(offset, ..)| offset + 1);
        held.map_or(whole, |held| held.min(whole)).max(self.committed)
    }

    fn go_on_at(&mut self, offset: i64) {
        self.handed = self.items.iter().take_while(|(at, ..)| *at < offset).count();
        self.begins += 1;
    }
}

struct Worker<'a> {
    destination: &'a dyn Destination,
    /// `None` while the worker is dead.
    sink: Option<Box<dyn Sink>>,
    lanes: Vec<Lane>,
}

impl<'a> Worker<'a> {
    async fn start(destination: &'a dyn Destination, history: History) -> Self {
        let lanes = history.into_iter().enumerate().map(|(number, messages)| {
            let mut offset = 0;
            let mut items = Vec::new();
            for (gap, whats) in messages {
                offset += gap;
                let last = whats.len() - 1;
                items.extend(whats.into_iter().enumerate().map(|(n, what)| (offset, n as u32, n == last, what)));
            }
            Lane { partition: Partition::new("refs", number as i32), items, handed: 0, committed: 0, begins: 0 }
        });
        let mut worker = Self { destination, sink: Some(destination.start().await), lanes: lanes.collect() };
        worker.begin().await;
        worker
    }

    async fn begin(&mut self) {
        let sink = self.sink.as_mut().unwrap();
        for lane in &mut self.lanes {
            let next = self.destination.goes_on_at(lane.committed);
            lane.committed = next;
            lane.go_on_at(next);
            sink.begin(&lane.partition, next).await.unwrap();
            assert_eq!(sink.held(&lane.partition), None, "nothing is held of an assignment that begins");
        }
    }

    async fn live(mut self, steps: &[Step]) {
        for step in steps {
            self.step(step).await;
        }
        self.write(0, usize::MAX).await;
        self.step(&Step::Flush(Flush::All)).await;
        for number in 0..self.lanes.len() {
            self.write(number, usize::MAX).await;
        }
        let sink = self.sink.as_mut().unwrap();
        for lane in &self.lanes {
            sink.release(&lane.partition).await.unwrap();
        }
        self.commit().await;
        for lane in &self.lanes {
            let end = lane.items.last().map_or(0, |(offset, ..)| offset + 1);
            assert_eq!(lane.committed, end, "all is durable after a release");
        }
        let found = self.check().await;
        for lane in &self.lanes {
            let of_lane: Vec<(i64, u32)> = found.iter().filter(|p| p.partition == lane.partition).map(|p| (p.offset, p.item)).collect();
            let taken = lane.items.iter().filter(|(.., what)| self.destination.takes(*what)).map(|(offset, item, ..)| (*offset, *item));
            let expected: Vec<(i64, u32)> = taken.collect();
            if self.destination.exact() {
                assert_eq!(of_lane, expected, "each item once, in order");
            } else {
                assert!(of_lane.iter().all(|at| expected.contains(at)), "nothing was written that was not handed over");
            }
            if self.destination.ordered() {
                let breaks = of_lane.windows(2).filter(|pair| pair[0] >= pair[1]).count();
                assert!(breaks < lane.begins, "{breaks} breaks of the order in {} assignments", lane.begins);
            }
        }
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Write(number, count) => self.write(number, count).await,
            Step::Flush(how) => {
                self.sink().flush(how).await.unwrap();
                if how == Flush::All {
                    self.flushed().await;
                }
            }
            Step::Release(number) => {
                let number = number % self.lanes.len();
                let (lane, sink) = (&mut self.lanes[number], self.sink.as_mut().unwrap());
                sink.release(&lane.partition).await.unwrap();
                assert_eq!(sink.held(&lane.partition), None, "nothing is held of a partition that is gone");
                lane.committed = lane.commit_point(None);
                lane.go_on_at(lane.committed);
                sink.begin(&lane.partition, lane.committed).await.unwrap();
            }
            Step::Commit => self.commit().await,
            Step::Crash => {
                // What was durable when it was committed is there though the sink is gone.
                self.sink = None;
                self.check().await;
                self.sink = Some(self.destination.start().await);
                self.begin().await;
            }
        }
    }

    async fn flushed(&mut self) {
        for number in 0..self.lanes.len() {
            let partition = self.lanes[number].partition.clone();
            assert_eq!(self.sink().held(&partition), None, "nothing is held after everything was flushed");
            let lane = &mut self.lanes[number];
            if lane.handed > 0 && !lane.items[lane.handed - 1].2 {
                lane.committed = lane.commit_point(None);
                lane.go_on_at(lane.committed);
                let next = lane.committed;
                self.sink().begin(&partition, next).await.unwrap();
            }
        }
    }

    fn sink(&mut self) -> &mut dyn Sink {
        &mut **self.sink.as_mut().unwrap()
    }

    /// Hands over items of one partition mixed with those of the next.
    async fn write(&mut self, number: usize, count: usize) {
        let mut deliveries = Vec::new();
        let lanes = self.lanes.len();
        for number in [number % lanes, (number + 1) % lanes] {
            let lane = &mut self.lanes[number];
            let until = lane.handed.saturating_add(count).min(lane.items.len());
            deliveries.extend(lane.items[lane.handed..until].iter().map(|(offset, item, last, what)| {
                let position = Position { partition: lane.partition.clone(), offset: *offset, item: *item };
                delivery(position, *last, *what)
            }));
            lane.handed = until;
        }
        for delivery in &deliveries {
            self.sink().check(delivery).unwrap();
        }
        self.sink().write(&deliveries).await.unwrap();
    }

    async fn commit(&mut self) {
        let sink = self.sink.as_ref().unwrap();
        for lane in &mut self.lanes {
            lane.committed = lane.commit_point(sink.held(&lane.partition));
        }
    }

    /// Whatever lies below a commit is at the destination.
    async fn check(&self) -> Vec<Position> {
        let found = self.destination.read().await;
        let mut counts: BTreeMap<&Position, usize> = BTreeMap::new();
        found.iter().for_each(|position| *counts.entry(position).or_default() += 1);
        for lane in &self.lanes {
            for (offset, item, _, what) in lane.items.iter().filter(|(offset, ..)| *offset < lane.committed) {
                let position = Position { partition: lane.partition.clone(), offset: *offset, item: *item };
                let count = counts.get(&position).copied().unwrap_or_default();
                match self.destination.takes(*what) {
                    true => assert!(count > 0, "{position} is committed, and it is not there"),
                    false => assert_eq!(count, 0, "{position} is not for this sink"),
                }
            }
        }
        found
    }
}

/// An item at its end. Its record and its rejection say where it stood; every fifth offset begins another space.
pub(crate) fn delivery(position: Position, last: bool, what: What) -> Delivery {
    let outcome = match what {
        What::Record => Outcome::Record(Box::new(record(&position))),
        What::Rejected => Outcome::Rejected(Rejection::new(Stage::Fetch, Reason::NotFound, "there is no such key")),
        What::Skipped => Outcome::Skipped(Skip::Deleted),
        What::Tombstone => Outcome::Tombstone(Box::new(image(&position))),
    };
    deliver(position, last, outcome)
}

pub(crate) fn deliver(position: Position, last: bool, outcome: Outcome) -> Delivery {
    let message = Message {
        partition: position.partition.clone(),
        offset: position.offset,
        key: None,
        value: Some(bytes::Bytes::from_static(b"s3://lake/a.jpg")),
        headers: Vec::new(),
        timestamp_ms: Some(1_700_000_000_123),
        trusted: false,
        listing: None,
        memory: Reservation::none(),
    };
    let token = AckToken::detached(position.partition.clone(), position.offset);
    let parsed = ParsedItem::Image(image(&position));
    Delivery { item: Arc::new(Item { message: Arc::new(message), position, parsed, last, trace: None }), token, outcome }
}

fn image(position: &Position) -> ImageRef {
    ImageRef::new(Location::S3 { bucket: "lake".into(), key: position.to_string() })
}

pub(super) fn record(position: &Position) -> Record {
    Record {
        uri: format!("s3://lake/{position}"),
        id: None,
        tags: BTreeMap::new(),
        etag: None,
        version: None,
        bytes: 1,
        format: "jpeg".into(),
        width: 1,
        height: 1,
        sha256: "9f".into(),
        labels: None,
        heads: None,
        embedding: Some(vec![position.offset as f32, 0.5]),
        embedding_dim: Some(2),
        space: format!("space-{}", position.offset / 5).into(),
        model: "m".into(),
        preprocess: "p".into(),
        precision: "f32".into(),
        normalize: "none".into(),
        event_time: None,
        source: SourceRef::Kafka {
            topic: position.partition.topic.clone(),
            partition: position.partition.partition,
            offset: position.offset,
            item: position.item,
            timestamp: None,
        },
        processed_at: "2026-11-23T19:13:30.120Z".into(),
    }
}

/// The position that a line of JSON says it is of.
pub(super) fn position_in(line: &[u8]) -> Position {
    let value: serde_json::Value = serde_json::from_slice(line).unwrap();
    let source = &value["source"];
    let number = |name: &str| source[name].as_i64().unwrap();
    let partition = Partition::new(source["topic"].as_str().unwrap(), number("partition") as i32);
    Position { partition, offset: number("offset"), item: number("item") as u32 }
}
