use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::flow::Position;
use crate::sink::conformance::{Destination, What, conforms, deliver, delivery, position_in, record};

struct Folder {
    folder: TempDir,
    rejections: bool,
}

#[async_trait]
impl Destination for Folder {
    async fn start(&self) -> Box<dyn Sink> {
        let path = self.folder.path();
        Box::new(if self.rejections { JsonlSink::rejections(path) } else { JsonlSink::records(path, Encoding::Array) }.unwrap())
    }

    async fn read(&self) -> Vec<Position> {
        let mut all = Vec::new();
        for path in files(self.folder.path()) {
            let text = std::fs::read(&path).unwrap();
            // A line that a crash tore is no record yet: it lies beyond every commit.
            let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            all.extend(text[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(position_in));
        }
        all
    }

    fn takes(&self, what: What) -> bool {
        what == if self.rejections { What::Rejected } else { What::Record }
    }

    fn exact(&self) -> bool {
        true
    }
}

/// Files of lines, not their indexes.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
    all.sort();
    all
}

fn at(offset: i64, item: u32) -> Position {
    Position { partition: Partition::new("refs", 0), offset, item }
}

#[test]
fn records_conform() {
    conforms(48, || async { Folder { folder: tempfile::tempdir().unwrap(), rejections: false } });
}

#[test]
fn rejections_conform() {
    conforms(24, || async { Folder { folder: tempfile::tempdir().unwrap(), rejections: true } });
}

/// A file of the offsets 0 to 9, each with two items.
async fn ten(folder: &Path) -> PathBuf {
    let mut sink = JsonlSink::records(folder, Encoding::Array).unwrap();
    let partition = Partition::new("refs", 0);
    sink.begin(&partition, 0).await.unwrap();
    let all: Vec<_> = (0..10).flat_map(|o| [delivery(at(o, 0), false, What::Record), delivery(at(o, 1), true, What::Record)]).collect();
    // The two items of one message in two writes.
    for pair in all.chunks(3) {
        sink.write(pair).await.unwrap();
        sink.flush(Flush::Ready).await.unwrap();
    }
    folder.join("refs-0.jsonl")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_a_crash_leaves_beyond_the_commit_is_cut_off(
        committed in 0i64..11,
        torn_data in 0usize..200,
        torn_index in proptest::collection::vec(0u8..2, 0..60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let path = runtime.block_on(ten(folder.path()));
        let before = std::fs::read(&path).unwrap();
        let append = |path: &Path, bytes: &[u8]| {
            let mut all = std::fs::read(path).unwrap();
            all.extend_from_slice(bytes);
            std::fs::write(path, all).unwrap();
        };
        append(&path, &vec![b'x'; torn_data]);
        // The file system may have made the index longer without writing it.
        let zeros: Vec<u8> = torn_index.iter().map(|_| 0).collect();
        append(&folder.path().join("refs-0.jsonl.pos"), &zeros);
        runtime.block_on(async {
            let mut sink = JsonlSink::records(folder.path(), Encoding::Array).unwrap();
            sink.begin(&Partition::new("refs", 0), committed).await.unwrap();
        });
        let after = std::fs::read(&path).unwrap();
        prop_assert!(before.starts_with(&after));
        prop_assert_eq!(after.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count() as i64, 2 * committed);
    }
}

#[tokio::test]
async fn a_file_that_was_cut_from_outside_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = ten(folder.path()).await;
    OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    let mut sink = JsonlSink::records(folder.path(), Encoding::Array).unwrap();
    let error = sink.begin(&Partition::new("refs", 0), 10).await.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("cut from outside"), "{error}");
    std::fs::remove_file(folder.path().join("refs-0.jsonl.pos")).unwrap();
    let error = sink.begin(&Partition::new("refs", 0), 10).await.unwrap_err();
    assert!(error.to_string().contains("index") && std::fs::metadata(&path).unwrap().len() == 100, "{error}");
}

/// One that was frozen once wrote on where it had been, over the lines of the worker that had its partition by then.
#[tokio::test]
async fn a_folder_is_one_workers() {
    let folder = tempfile::tempdir().unwrap();
    let records = || JsonlSink::records(folder.path(), Encoding::Array);
    let first = records().unwrap();
    let _rejections = JsonlSink::rejections(folder.path()).unwrap();
    let error = records().err().unwrap();
    assert!(error.exit_code() == 1 && error.to_string().contains("a folder of its own"), "{error}");
    drop(first);
    records().unwrap();
}

#[tokio::test]
async fn a_line_is_a_line_whatever_text_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = JsonlSink::records(folder.path(), Encoding::Array).unwrap();
    let partition = Partition::new("refs", 0);
    sink.begin(&partition, 0).await.unwrap();
    let mut expected = record(&at(0, 0));
    let hostile = "a\0b\"c\\d\ne\r\u{2028}\u{85}\u{7f}\u{feff}\\ud800 {}";
    (expected.uri, expected.id) = (hostile.into(), Some(hostile.into()));
    expected.tags = [(hostile.to_owned(), "\n".repeat(16 << 10)), (String::new(), hostile.into())].into();
    sink.write(&[deliver(at(0, 0), true, Outcome::Record(Box::new(expected.clone())))]).await.unwrap();
    sink.flush(Flush::All).await.unwrap();
    let text = std::fs::read_to_string(folder.path().join("refs-0.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert_eq!(json::parse_record(text.as_bytes()).unwrap(), expected);
}

#[tokio::test]
async fn names_from_outside_stay_beneath_the_folder_and_apart() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("out");
    let mut sink = JsonlSink::records(&folder, Encoding::Array).unwrap();
    // A listing's name may be a long path; two of them may differ at the end only.
    let long = "/photos of the year".repeat(30);
    let names = ["../../up", "/etc/passwd", "..", ".", "", "a/b\0c", "%2F", "a b=c", "é", &long, &format!("{long}2")];
    for name in names {
        let partition = Partition::new(name, 0);
        sink.begin(&partition, 0).await.unwrap();
        let position = Position { partition: partition.clone(), offset: 0, item: 0 };
        sink.write(&[delivery(position, true, What::Record)]).await.unwrap();
        sink.release(&partition).await.unwrap();
    }
    assert_eq!(files(&folder).len(), names.len(), "each has a file of its own, directly in the folder");
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
}
