use std::collections::BTreeMap;
use std::io::Cursor;

use bytes::Bytes;
use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::flow::{AckToken, ImageRef, Item, Message, ParsedItem, Partition, Position, Reservation};
use crate::model::{LoadOptions, Loaded, ModelInfo};

/// A network of the kind and the options that `label` would load.
fn network(kind: crate::model::Arch) -> (tempfile::TempDir, Loaded) {
    let folder = tempfile::tempdir().unwrap();
    crate::model::init(kind, 3, folder.path(), None).unwrap();
    let loaded =
        crate::model::load(folder.path(), &LoadOptions::of(config::Precision::F32, &config::Output::default(), &config::Decode::default()))
            .unwrap();
    (folder, loaded)
}

/// Panics in any batch that holds a white picture.
struct Fragile(Arc<dyn Model>);

impl Model for Fragile {
    fn info(&self) -> &ModelInfo {
        self.0.info()
    }

    fn predict(&self, batch: &[&Tensor]) -> Vec<Result<Prediction, Rejection>> {
        let white = |t: &&Tensor| t.iter().all(|v| *v == t[[0, 0, 0]]) && t[[0, 0, 0]] > 0.9;
        assert!(!batch.iter().any(white), "a white picture\n");
        self.0.predict(batch)
    }
}

fn picture(n: u32) -> Bytes {
    encoded(RgbImage::from_fn(30 + n % 40, 30 + n % 23, |x, y| Rgb([(x * 5 + n) as u8, (y * 7) as u8, (x * y + n * 3) as u8])))
}

fn plain(value: u8) -> Bytes {
    encoded(RgbImage::from_pixel(32, 32, Rgb([value; 3])))
}

fn encoded(image: RgbImage) -> Bytes {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner().into()
}

fn envelope(offset: i64, bytes: Bytes) -> Envelope<Body> {
    of(Priority::Live, offset, bytes)
}

fn of(priority: Priority, offset: i64, bytes: Bytes) -> Envelope<Body> {
    let location = Location::S3 { bucket: "lake".into(), key: format!("{offset}.png") };
    let position = Position { partition: Partition::new("refs", 0), offset, item: 0 };
    let message = Message {
        partition: position.partition.clone(),
        offset,
        key: None,
        value: None,
        headers: Vec::new(),
        timestamp_ms: None,
        trusted: false,
        listing: None,
        memory: Reservation::none(),
    };
    let parsed = ParsedItem::Image(ImageRef::new(location.clone()));
    Envelope {
        token: AckToken::detached(position.partition.clone(), offset),
        item: Arc::new(Item { message: Arc::new(message), position, parsed, last: true, trace: None }),
        priority,
        memory: Reservation::none(),
        value: Body { bytes, location, etag: None, version: None, memory: Reservation::none() },
    }
}

/// Puts the files through the pool; gives each one's prediction (as bits) or its stage, reason and detail.
type Results = BTreeMap<i64, Result<(Vec<String>, Vec<u32>), (Stage, Reason, String)>>;

fn run(model: Arc<dyn Model>, loaded: &Loaded, files: &[Bytes], threads: usize, max_items: usize, memory: usize) -> Results {
    let (done, mut ended) = mpsc::unbounded_channel();
    let (fatal, mut fatals) = mpsc::unbounded_channel();
    let preprocess = loaded.file.preprocess.clone();
    let memory = Pool::new(memory);
    let config = ComputeConfig {
        threads,
        batch: config::Batch { max_items, ..config::Batch::default() },
        limits: preprocess::Limits::new(&config::Fetch::default(), &config::Decode::default(), &preprocess),
        memory: memory.clone(),
        helper: None,
    };
    let form = RecordForm::new(loaded.info(), &config::Output::default(), crate::head::Heads::default());
    let pool = Compute::start(config, model, form, done, fatal, Arc::default()).unwrap();
    let intake = pool.intake();
    files.iter().enumerate().for_each(|(n, bytes)| intake.push(envelope(n as i64, bytes.clone())));
    pool.stop();
    drop(intake);
    assert!(fatals.try_recv().is_err(), "nothing that one image does stops the worker");
    assert_eq!(memory.in_use(), 0, "all memory came back");
    let mut results = BTreeMap::new();
    while let Ok(delivery) = ended.try_recv() {
        let result = match delivery.outcome {
            Outcome::Record(record) => Ok((
                record.labels.unwrap().iter().map(|l| format!("{} {:08x}", l.label, l.score.to_bits())).collect(),
                record.embedding.unwrap().iter().map(|v| v.to_bits()).collect(),
            )),
            Outcome::Rejected(rejection) => Err((rejection.stage, rejection.reason, rejection.detail.into_owned())),
            other => panic!("{other:?}"),
        };
        assert!(results.insert(delivery.item.position.offset, result).is_none(), "each image ends once");
    }
    assert_eq!(results.len(), files.len(), "each image ends");
    results
}

#[test]
fn neither_batch_size_nor_threads_nor_scarce_memory_change_a_result() {
    let (_folder, loaded) = network(crate::model::Arch::Tiny);
    let mut files: Vec<Bytes> = (0..24).map(picture).collect();
    files.insert(7, Bytes::from_static(b"not a picture"));
    files.insert(9, files[3].slice(..60));
    let expected = run(loaded.model.clone(), &loaded, &files, 1, 1, 64 << 20);
    assert_eq!(expected[&7].as_ref().unwrap_err().1, Reason::UnsupportedFormat);
    assert_eq!(expected[&9].as_ref().unwrap_err().1, Reason::CorruptImage);
    assert_eq!(expected.values().filter(|r| r.is_ok()).count(), 24);
    for (threads, batch, memory) in [(1, 5, 64 << 20), (2, 8, 64 << 20), (3, 3, 1 << 20), (2, 64, 600 << 10)] {
        assert!(run(loaded.model.clone(), &loaded, &files, threads, batch, memory) == expected, "{threads} threads, batches of {batch}");
    }
}

#[test]
fn nan_is_model_failed_of_that_image_alone_in_a_batch() {
    let (_folder, loaded) = network(crate::model::Arch::TinyNan);
    let bright: Vec<Bytes> = (0..8).map(picture).collect();
    let expected = run(loaded.model.clone(), &loaded, &bright, 1, 8, 64 << 20);
    assert!(expected.values().all(Result::is_ok));
    let mut files = bright;
    files[3] = plain(0);
    files[6] = plain(1);
    let results = run(loaded.model.clone(), &loaded, &files, 1, 8, 64 << 20);
    for (n, result) in &results {
        match result {
            Err((stage, reason, detail)) if [3, 6].contains(n) => {
                assert_eq!((*stage, *reason), (Stage::Infer, Reason::ModelFailed));
                assert!(detail.contains("NaN"), "{detail}");
            }
            other => assert!(other == &expected[n], "{n}"),
        }
    }
}

#[test]
fn a_panic_of_the_model_is_model_failed_of_that_image_alone() {
    let (_folder, loaded) = network(crate::model::Arch::Tiny);
    let mut files: Vec<Bytes> = (0..12).map(picture).collect();
    let expected = run(loaded.model.clone(), &loaded, &files, 1, 4, 64 << 20);
    files[2] = plain(255);
    files[3] = plain(255);
    files[9] = plain(255);
    for (threads, batch) in [(1, 1), (1, 8), (2, 5)] {
        let results = run(Arc::new(Fragile(loaded.model.clone())), &loaded, &files, threads, batch, 64 << 20);
        for (n, result) in &results {
            match result {
                Err((stage, reason, detail)) if [2, 3, 9].contains(n) => {
                    assert_eq!((*stage, *reason), (Stage::Infer, Reason::ModelFailed));
                    assert_eq!(detail, "the model panicked: a white picture\n");
                }
                other => assert!(other == &expected[n], "{n}"),
            }
        }
    }
}

#[test]
fn what_the_budget_could_never_decode_is_rejected_and_not_waited_for() {
    let (_folder, loaded) = network(crate::model::Arch::Tiny);
    let large = encoded(RgbImage::from_pixel(1200, 1200, Rgb([9; 3])));
    let results = run(loaded.model.clone(), &loaded, &[large, picture(1)], 2, 8, 1 << 20);
    assert_eq!(results[&0].as_ref().unwrap_err().1, Reason::TooManyPixels);
    assert!(results[&1].is_ok());
}

/// Says when its first micro-batch begins, and ends it only when told to.
struct Held {
    model: Arc<dyn Model>,
    begun: std::sync::mpsc::Sender<()>,
    go_on: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Model for Held {
    fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    fn predict(&self, batch: &[&Tensor]) -> Vec<Result<Prediction, Rejection>> {
        let _ = self.begun.send(());
        // Once the test has let it go on the channel is closed.
        let _ = self.go_on.lock().unwrap().recv();
        self.model.predict(batch)
    }
}

/// A pool of one thread with micro-batches of four, whose model is [`Held`].
struct HeldPool {
    pool: Compute,
    intake: Intake,
    first: std::sync::mpsc::Receiver<()>,
    go_on: std::sync::mpsc::Sender<()>,
    ended: mpsc::UnboundedReceiver<Delivery>,
    fatals: mpsc::UnboundedReceiver<Error>,
    stats: Arc<Stats>,
}

fn held_pool(loaded: &Loaded, memory: Pool) -> HeldPool {
    let (begun, first) = std::sync::mpsc::channel();
    let (go_on, held) = std::sync::mpsc::channel();
    let model = Arc::new(Held { model: loaded.model.clone(), begun, go_on: Mutex::new(held) });
    let (done, ended) = mpsc::unbounded_channel();
    let (fatal, fatals) = mpsc::unbounded_channel();
    let config = ComputeConfig {
        threads: 1,
        batch: config::Batch { max_items: 4, ..config::Batch::default() },
        limits: preprocess::Limits::new(&config::Fetch::default(), &config::Decode::default(), &loaded.file.preprocess),
        memory,
        helper: None,
    };
    let form = RecordForm::new(loaded.info(), &config::Output::default(), crate::head::Heads::default());
    let stats = Arc::new(Stats::default());
    let pool = Compute::start(config, model, form, done, fatal, stats.clone()).unwrap();
    HeldPool { intake: pool.intake(), pool, first, go_on, ended, fatals, stats }
}

#[test]
fn a_live_image_waits_for_the_micro_batch_under_way_and_for_nothing_else_of_a_backfill() {
    let (_folder, loaded) = network(crate::model::Arch::Tiny);
    let HeldPool { pool, intake, first, go_on, mut ended, .. } = held_pool(&loaded, Pool::keeping(1 << 20, 256 << 10));
    for n in 0..40 {
        intake.push(of(Priority::Backfill, n, picture(n as u32)));
    }
    first.recv_timeout(Duration::from_secs(60)).unwrap();
    for n in 100..102 {
        intake.push(of(Priority::Live, n, picture(n as u32)));
    }
    drop(go_on);
    pool.stop();
    let mut order = Vec::new();
    while let Ok(delivery) = ended.try_recv() {
        assert!(matches!(delivery.outcome, Outcome::Record(_)));
        order.push(delivery.item.position.offset);
    }
    assert_eq!(order.len(), 42, "backfill is finished, too");
    let ahead = order.iter().position(|offset| *offset >= 100).unwrap();
    assert!(ahead <= 4 && order[ahead..][..2] == [100, 101], "{order:?}");
}

/// A worker once went through all it had been given of partitions that were another worker's by then, which did the same work.
#[test]
fn items_of_partitions_that_were_given_up_were_once_labelled_in_vain() {
    let (_folder, loaded) = network(crate::model::Arch::Tiny);
    let memory = Pool::new(1 << 20);
    let HeldPool { pool, intake, first, go_on, mut ended, mut fatals, stats } = held_pool(&loaded, memory.clone());
    let (over, kept) = (CancellationToken::new(), CancellationToken::new());
    let lost = mpsc::unbounded_channel();
    for n in 0..40 {
        let mut envelope = envelope(n, picture(n as u32));
        let assignment = if n % 2 == 0 { &over } else { &kept };
        envelope.token = AckToken::new(envelope.item.position.clone(), 1, assignment.clone(), lost.0.clone());
        intake.push(envelope);
    }
    // A micro-batch is with the model, more are decoded, the rest waits to be.
    first.recv_timeout(Duration::from_secs(60)).unwrap();
    over.cancel();
    drop(go_on);
    pool.stop();
    assert!(fatals.try_recv().is_err());
    let mut offsets = Vec::new();
    while let Ok(delivery) = ended.try_recv() {
        offsets.push(delivery.item.position.offset);
    }
    let expected: Vec<i64> = (0..40).filter(|n| n % 2 == 1 || *n < 4).collect();
    assert_eq!(offsets, expected, "all of the partition that was kept, and of the other one what was begun");
    assert_eq!((stats.computing.load(Relaxed), memory.in_use()), (0, 0));
}

proptest! {
    #[test]
    fn a_turn_is_always_one_that_can_be_taken(
        bodies in 0usize..4,
        ready in 0usize..30,
        old_bodies in 0usize..4,
        old_ready in 0usize..30,
        decoding in 0usize..4,
        idle in 0usize..4,
        closed in any::<bool>(),
        waited in 0u64..200,
        max_items in 1usize..9,
        threads in 1usize..5,
    ) {
        // The thread that asks neither decodes nor waits.
        let decoding = decoding.min(threads - 1);
        let idle = idle.min(threads - 1 - decoding);
        let now = Instant::now();
        let since = now - Duration::from_millis(waited);
        let tensor = || Ready {
            tensor: Tensor::default((0, 0, 0)),
            file: FileFacts {
                location: Location::File("/a".into()),
                etag: None,
                version: None,
                bytes: 0,
                format: "png",
                width: 1,
                height: 1,
                sha256: String::new(),
            },
        };
        let queue = |bodies: usize, ready: usize| Queue {
            bodies: (0..bodies).map(|n| Waiting { body: envelope(n as i64, Bytes::new()), header: None }).collect(),
            tensors: (0..ready).map(|n| (since, envelope(n as i64, Bytes::new()).map(|_| tensor()))).collect(),
        };
        let state = State {
            queues: ByPriority { live: queue(bodies, ready), backfill: queue(old_bodies, old_ready) },
            decoding,
            idle,
            closed,
        };
        let batch = config::Batch { max_items, max_wait: config::Span(Duration::from_millis(100)) };
        match state.turn(now, &batch, threads) {
            Turn::Predict(Priority::Live, count) => prop_assert!(count >= 1 && count <= ready.min(max_items)),
            Turn::Decode(Priority::Live) => prop_assert!(bodies > 0),
            // Nothing of backfill is begun while anything live is there.
            Turn::Predict(Priority::Backfill, count) => prop_assert!(bodies + ready == 0 && count >= 1 && count <= old_ready.min(max_items)),
            Turn::Decode(Priority::Backfill) => prop_assert!(bodies + ready == 0 && old_bodies > 0),
            // Nobody sleeps over work that is due, nor for longer than the batch may wait, nor while there is backfill to do.
            Turn::Wait(Some(limit)) => {
                let ready = if ready > 0 { ready } else { old_ready };
                prop_assert!(bodies + old_bodies == 0 && ready > 0 && ready < max_items && waited < 100 && limit <= Duration::from_millis(100));
                prop_assert!(old_ready == 0 || state.queues.live.is_empty());
            }
            Turn::Wait(None) => prop_assert!(bodies + old_bodies + ready + old_ready == 0 && (!closed || decoding > 0)),
            Turn::Stop => prop_assert!(closed && bodies + old_bodies + ready + old_ready == 0 && decoding == 0),
        }
    }
}
