use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::DataType;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::flow::Position;
use crate::sink::conformance::{Destination, What, conforms, deliver, delivery, record};

fn config(path: &str, span: u64, max_age: Duration) -> Config {
    Config { path: path.to_owned(), span, max_age: crate::config::Span(max_age) }
}

fn sink(folder: &Path, span: u64, max_age: Duration) -> ParquetSink {
    ParquetSink::new(config(folder.to_str().unwrap(), span, max_age), None, true).unwrap()
}

const LONG: Duration = Duration::from_secs(3600);

struct Folder {
    folder: TempDir,
    span: u64,
    max_age: Duration,
}

#[async_trait]
impl Destination for Folder {
    async fn start(&self) -> Box<dyn Sink> {
        Box::new(sink(self.folder.path(), self.span, self.max_age))
    }

    async fn read(&self) -> Vec<Position> {
        files(self.folder.path()).iter().flat_map(|path| positions(path)).collect()
    }

    fn exact(&self) -> bool {
        true
    }

    fn ordered(&self) -> bool {
        false
    }
}

/// Every file under the name of a Parquet file, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "parquet") => all.push(path),
                false => assert!(path.file_name().unwrap().to_str().unwrap().starts_with(".lakelens-"), "{}", path.display()),
            }
        }
    }
    all.sort();
    all
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).iter().map(|path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()).collect()
}

fn rows(path: &Path) -> Vec<Row> {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).expect("whole under its final name");
    reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
}

fn field(row: &Row, name: &str) -> Field {
    row.get_column_iter().find(|(n, _)| *n == name).map(|(_, field)| field.clone()).unwrap()
}

fn facts(path: &Path) -> BTreeMap<String, String> {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let all = reader.metadata().file_metadata().key_value_metadata().unwrap();
    all.iter().map(|fact| (fact.key.clone(), fact.value.clone().unwrap_or_default())).collect()
}

/// The rows' positions, having looked that they stand in order, are of one space, and lie within what the file says it covers.
fn positions(path: &Path) -> Vec<Position> {
    let facts = facts(path);
    let all: Vec<Position> = rows(path)
        .iter()
        .map(|row| {
            assert_eq!(field(row, "space"), Field::Str(facts["lakelens.space"].clone()));
            let (Field::Str(topic), Field::Int(partition), Field::Long(offset), Field::Int(item)) =
                (field(row, "source_topic"), field(row, "source_partition"), field(row, "source_offset"), field(row, "source_item"))
            else {
                panic!("{row}")
            };
            Position { partition: Partition::new(topic, partition), offset, item: item as u32 }
        })
        .collect();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    let name = path.file_stem().unwrap().to_str().unwrap();
    assert_eq!((name.len(), name.parse::<i64>().unwrap()), (20, all[0].offset));
    assert!(all[all.len() - 1].offset <= facts["lakelens.end"].parse().unwrap());
    all
}

#[test]
fn files_that_are_closed_by_span_conform() {
    conforms(40, || async { Folder { folder: tempfile::tempdir().unwrap(), span: 4, max_age: LONG } });
}

#[test]
fn files_that_are_closed_at_once_by_age_conform() {
    conforms(40, || async { Folder { folder: tempfile::tempdir().unwrap(), span: 1000, max_age: Duration::ZERO } });
}

#[test]
fn files_in_a_bucket_conform() {
    let Some(_) = crate::sink::place::tests::endpoint() else { return };
    conforms(12, || async { crate::sink::place::tests::bucket("conforms").await });
}

#[async_trait]
impl Destination for crate::sink::place::tests::Bucket {
    async fn start(&self) -> Box<dyn Sink> {
        Box::new(
            ParquetSink::new(config(&format!("s3://{}/under", self.name), 4, Duration::ZERO), Some(self.client.clone()), true).unwrap(),
        )
    }

    async fn read(&self) -> Vec<Position> {
        let copy = tempfile::tempdir().unwrap();
        for (key, bytes) in self.all().await {
            let path = copy.path().join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        files(copy.path()).iter().flat_map(|path| positions(path)).collect()
    }

    fn exact(&self) -> bool {
        true
    }

    fn ordered(&self) -> bool {
        false
    }
}

fn at(offset: i64, item: u32) -> Position {
    Position { partition: Partition::new("refs", 3), offset, item }
}

/// A record of one space at each offset.
fn plain(offset: i64) -> Delivery {
    let mut record = record(&at(offset, 0));
    record.space = "one".into();
    deliver(at(offset, 0), true, Outcome::Record(Box::new(record)))
}

async fn begun(folder: &Path, span: u64, max_age: Duration, next_offset: i64) -> ParquetSink {
    let mut sink = sink(folder, span, max_age);
    sink.begin(&Partition::new("refs", 3), next_offset).await.unwrap();
    sink
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_file_covers_its_span_and_is_named_after_its_first_row(
        offsets in proptest::collection::btree_set(0i64..60, 1..30),
        span in 1u64..20,
        begin in 0i64..3_000_000_000,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let offsets: Vec<i64> = offsets.into_iter().map(|o| o + begin).collect();
        runtime.block_on(async {
            let mut sink = begun(folder.path(), span, LONG, begin).await;
            let all: Vec<Delivery> = offsets.iter().map(|o| plain(*o)).collect();
            sink.write(&all).await.unwrap();
            sink.flush(Flush::All).await.unwrap();
        });
        // As the contract says it: a file goes on until an offset that is `span` beyond its first.
        let mut expected: Vec<Vec<i64>> = Vec::new();
        for offset in offsets {
            match expected.last_mut() {
                Some(file) if offset < file[0] + span as i64 => file.push(offset),
                _ => expected.push(vec![offset]),
            }
        }
        let named: Vec<String> = expected.iter().map(|file| format!("topic=refs/partition=3/{:020}.parquet", file[0])).collect();
        prop_assert_eq!(names(folder.path()), named);
        let found: Vec<Vec<i64>> = files(folder.path()).iter().map(|f| positions(f).iter().map(|p| p.offset).collect()).collect();
        prop_assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_file_is_invisible_until_it_is_whole_and_old_enough() {
    let folder = tempfile::tempdir().unwrap();
    let age = Duration::from_millis(300);
    let mut sink = begun(folder.path(), 1000, age, 7).await;
    sink.write(&[plain(7), plain(8)]).await.unwrap();
    sink.flush(Flush::Ready).await.unwrap();
    assert_eq!((names(folder.path()).len(), sink.held(&Partition::new("refs", 3))), (0, Some(7)));
    tokio::time::sleep(age).await;
    sink.flush(Flush::Ready).await.unwrap();
    assert_eq!((names(folder.path()).len(), sink.held(&Partition::new("refs", 3))), (1, None));
    // Dropped with a file open: nothing is left of it.
    sink.write(&[plain(9)]).await.unwrap();
    drop(sink);
    assert_eq!(names(folder.path()).len(), 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
}

#[tokio::test]
async fn another_space_or_length_begins_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = begun(folder.path(), 1000, LONG, 0).await;
    for (offset, space, embedding) in [(0, "a", Some(2)), (1, "a", Some(2)), (2, "b", Some(2)), (3, "b", Some(3)), (4, "b", None)] {
        let mut record = record(&at(offset, 0));
        record.space = space.into();
        record.embedding = embedding.map(|n| vec![1.0; n]);
        sink.write(&[deliver(at(offset, 0), true, Outcome::Record(Box::new(record)))]).await.unwrap();
    }
    sink.flush(Flush::All).await.unwrap();
    let counts: Vec<usize> = files(folder.path()).iter().map(|f| positions(f).len()).collect();
    assert_eq!(counts, [2, 1, 1, 1]);
}

#[tokio::test]
async fn a_file_closed_amid_a_message_does_not_hide_the_rest_of_it() {
    let (first, second) = (delivery(at(5, 0), false, What::Record), delivery(at(5, 1), true, What::Record));
    // By age, in one run.
    let folder = tempfile::tempdir().unwrap();
    let mut sink = begun(folder.path(), 1000, Duration::ZERO, 5).await;
    for one in [&first, &second] {
        sink.write(std::slice::from_ref(one)).await.unwrap();
        sink.flush(Flush::Ready).await.unwrap();
    }
    assert_eq!(files(folder.path()).iter().flat_map(|f| positions(f)).collect::<Vec<_>>(), [at(5, 0), at(5, 1)]);
    // By a stop in between: the next run begins at the message.
    let folder = tempfile::tempdir().unwrap();
    let mut sink = begun(folder.path(), 1000, LONG, 5).await;
    sink.write(std::slice::from_ref(&first)).await.unwrap();
    sink.flush(Flush::All).await.unwrap();
    let mut sink = begun(folder.path(), 1000, LONG, 5).await;
    sink.write(&[first, second]).await.unwrap();
    sink.flush(Flush::All).await.unwrap();
    assert_eq!(files(folder.path()).iter().flat_map(|f| positions(f)).collect::<Vec<_>>(), [at(5, 0), at(5, 1)]);
}

fn all(folder: &Path) -> Vec<i64> {
    files(folder).iter().flat_map(|f| positions(f)).map(|p| p.offset).collect()
}

#[tokio::test]
async fn a_file_behind_one_that_a_replay_made_longer_once_doubled_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut dies = begun(folder.path(), 3, LONG, 0).await;
    dies.write(&(0..7).map(plain).collect::<Vec<_>>()).await.unwrap();
    drop(dies);
    assert_eq!(all(folder.path()), [0, 1, 2, 3, 4, 5], "two files, of which nothing is committed");
    // The next one begins at the committed offset, and closes its files elsewhere.
    let mut next = begun(folder.path(), 5, LONG, 0).await;
    next.write(&(0..9).map(plain).collect::<Vec<_>>()).await.unwrap();
    next.flush(Flush::All).await.unwrap();
    assert_eq!(all(folder.path()), (0..9).collect::<Vec<_>>());
    // And one that begins amid a file, or behind them all.
    for (from, to) in [(4, 11), (11, 12)] {
        let mut next = begun(folder.path(), 5, LONG, from).await;
        next.write(&(from..to).map(plain).collect::<Vec<_>>()).await.unwrap();
        next.flush(Flush::All).await.unwrap();
        assert_eq!(all(folder.path()), (0..to).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_zombie_neither_doubles_nor_hides_what_its_heir_wrote() {
    let refs = Partition::new("refs", 3);
    let rows = |range: std::ops::Range<i64>| range.map(plain).collect::<Vec<_>>();
    for knows in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (mut zombie, mut heir) = (begun(folder.path(), 1000, LONG, 0).await, begun(folder.path(), 1000, LONG, 0).await);
        zombie.write(&rows(0..6)).await.unwrap();
        heir.write(&rows(0..3)).await.unwrap();
        heir.flush(Flush::All).await.unwrap();
        heir.write(&rows(3..5)).await.unwrap();
        if knows {
            zombie.forget(&refs);
            zombie.write(&rows(6..8)).await.unwrap();
            zombie.flush(Flush::All).await.unwrap();
        } else {
            let error = zombie.flush(Flush::All).await.unwrap_err().to_string();
            assert!(error.contains("by another worker meanwhile, up to offset 3"), "{error}");
        }
        heir.flush(Flush::All).await.unwrap();
        assert_eq!(all(folder.path()), [0, 1, 2, 3, 4]);
    }
    // The zombie is the first: its heir goes on behind it.
    let folder = tempfile::tempdir().unwrap();
    let (mut zombie, mut heir) = (begun(folder.path(), 1000, LONG, 0).await, begun(folder.path(), 1000, LONG, 0).await);
    zombie.write(&rows(0..6)).await.unwrap();
    heir.write(&rows(0..3)).await.unwrap();
    zombie.flush(Flush::All).await.unwrap();
    heir.flush(Flush::All).await.unwrap();
    heir.write(&rows(3..8)).await.unwrap();
    heir.flush(Flush::All).await.unwrap();
    assert_eq!(all(folder.path()), (0..8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_that_another_workers_file_has_meanwhile_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut zombie, mut heir) = (begun(folder.path(), 1000, LONG, 0).await, begun(folder.path(), 1000, Duration::ZERO, 0).await);
    let two = |offset| [delivery(at(offset, 0), false, What::Record), delivery(at(offset, 1), true, What::Record)];
    let all: Vec<Delivery> = (0..4).flat_map(two).collect();
    heir.write(&all[..3]).await.unwrap();
    zombie.write(&all[..6]).await.unwrap();
    zombie.flush(Flush::All).await.unwrap();
    // It meets the zombie's file, amid a message that is in there.
    heir.flush(Flush::Ready).await.unwrap();
    heir.write(&all[3..]).await.unwrap();
    heir.flush(Flush::All).await.unwrap();
    let found: Vec<Position> = files(folder.path()).iter().flat_map(|f| positions(f)).collect();
    assert_eq!(found, all.iter().map(|d| d.item.position.clone()).collect::<Vec<_>>());
}

#[tokio::test]
async fn of_a_listing_the_longer_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let listed = |offset| {
        let mut delivery = plain(offset);
        let item = Arc::get_mut(&mut delivery.item).expect("one owner");
        Arc::get_mut(&mut item.message).expect("one owner").listing = Some(("photos".into(), offset.to_string()));
        delivery
    };
    for (count, stays) in [(3, 3), (2, 3), (5, 5), (1, 5)] {
        let mut sink = begun(folder.path(), 1000, LONG, 0).await;
        sink.write(&(0..count).map(listed).collect::<Vec<_>>()).await.unwrap();
        sink.flush(Flush::All).await.unwrap();
        let all = files(folder.path());
        assert_eq!((all.len(), positions(&all[0]).len()), (1, stays));
        assert_eq!(facts(&all[0])["lakelens.end"], stays.to_string());
    }
}

#[tokio::test]
async fn columns_are_what_the_contract_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = begun(folder.path(), 1000, LONG, 0).await;
    let hostile = "a\0b\"c\\d\ne\r\u{2028}\u{feff}\\ud800 {}";
    let mut expected = record(&at(0, 0));
    (expected.uri, expected.id) = (hostile.into(), Some(hostile.into()));
    expected.tags = [("k".to_owned(), "\n".repeat(16 << 10)), (String::new(), hostile.into())].into();
    expected.embedding = Some(vec![f32::MIN_POSITIVE, -0.0, 1.0e-40, f32::MAX]);
    expected.labels = Some(vec![crate::flow::Label { index: 281, label: hostile.into(), score: 0.83 }]);
    sink.write(&[deliver(at(0, 0), true, Outcome::Record(Box::new(expected.clone())))]).await.unwrap();
    sink.flush(Flush::All).await.unwrap();
    let path = &files(folder.path())[0];
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let metadata = reader.metadata().file_metadata();
    let schema = parquet_to_arrow_schema(metadata.schema_descr(), metadata.key_value_metadata()).unwrap();
    let kind = |name: &str| schema.field_with_name(name).unwrap().data_type().clone();
    assert!(matches!(kind("embedding"), DataType::FixedSizeList(element, 4) if *element.data_type() == DataType::Float32));
    assert!(matches!(kind("labels"), DataType::List(element) if matches!(element.data_type(), DataType::Struct(_))));
    assert!(matches!(kind("tags"), DataType::Map(..)));
    let row = &rows(path)[0];
    assert_eq!((field(row, "uri"), field(row, "id")), (Field::Str(hostile.into()), Field::Str(hostile.into())));
    let Field::MapInternal(tags) = field(row, "tags") else { panic!("{row}") };
    let tags: BTreeMap<String, String> = tags
        .entries()
        .iter()
        .map(|entry| match entry {
            (Field::Str(key), Field::Str(value)) => (key.clone(), value.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tags, expected.tags);
    let Field::ListInternal(values) = field(row, "embedding") else { panic!("{row}") };
    let bits = |f: &Field| if let Field::Float(v) = f { v.to_bits() } else { panic!("{f:?}") };
    let bits: Vec<u32> = values.elements().iter().map(bits).collect();
    assert_eq!(bits, expected.embedding.unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_foreign_record_of_odd_numbers_is_no_reason_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = begun(folder.path(), 1000, LONG, 0).await;
    let mut odd = record(&at(0, 0));
    odd.embedding = Some(Vec::new());
    (odd.width, odd.height, odd.bytes) = (u32::MAX, u32::MAX, u64::MAX);
    (odd.processed_at, odd.event_time) = ("yesterday".into(), Some(String::new()));
    sink.write(&[deliver(at(0, 0), true, Outcome::Record(Box::new(odd)))]).await.unwrap();
    sink.flush(Flush::All).await.unwrap();
    assert_eq!(positions(&files(folder.path())[0]).len(), 1);
}

#[tokio::test]
async fn names_from_outside_stay_beneath_the_folder_and_apart() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("lake");
    let mut sink = sink(&folder, 10, LONG);
    let long = "/photos of the year".repeat(30);
    let topics = ["../../up", "/etc/passwd", "..", ".", "", "a/b\0c", "%2F", "a b=c", "é", &long, &format!("{long}2")];
    for topic in topics {
        let partition = Partition::new(topic, 0);
        sink.begin(&partition, 0).await.unwrap();
        let position = Position { partition: partition.clone(), offset: 0, item: 0 };
        sink.write(&[delivery(position, true, What::Record)]).await.unwrap();
        sink.release(&partition).await.unwrap();
    }
    let all = names(&folder);
    assert_eq!(all.len(), topics.len());
    assert!(all.iter().all(|name| name.split('/').count() == 3), "{all:?}");
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
}
