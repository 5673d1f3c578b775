use std::io::Read;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::flow::{Position, SourceRef};
use crate::sink::conformance::{Destination, What, conforms, deliver, delivery, position_in, record};

struct Folder(TempDir);

impl Folder {
    fn path(&self) -> String {
        self.0.path().join("out.jsonl").to_str().unwrap().to_owned()
    }
}

#[async_trait]
impl Destination for Folder {
    async fn start(&self) -> Box<dyn Sink> {
        let resume = Path::new(&self.path()).exists();
        Box::new(Journal::open(&self.path(), resume, false).unwrap().sink().unwrap())
    }

    async fn read(&self) -> Vec<Position> {
        let records = std::fs::read(self.path()).unwrap();
        let rejections = std::fs::read(rejected(Path::new(&self.path()))).unwrap_or_default();
        let mut all: Vec<Position> = [records, rejections]
            .iter()
            .flat_map(|text| text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(position_in).collect::<Vec<_>>())
            .collect();
        // Stable: what a replay wrote again stays where it was.
        all.sort_by(|a, b| a.partition.cmp(&b.partition));
        all
    }

    fn takes(&self, what: What) -> bool {
        matches!(what, What::Record | What::Rejected)
    }

    /// A replay is kept from doubling by the entries that `--resume` leaves out, not by the sink.
    fn exact(&self) -> bool {
        false
    }

    /// Records and rejections lie in two files.
    fn ordered(&self) -> bool {
        false
    }

    /// Nothing of a listing on the command line is committed anywhere, and rejections are tried again.
    fn goes_on_at(&self, _: i64) -> i64 {
        0
    }
}

#[test]
fn a_jsonl_output_conforms() {
    conforms(32, || async { Folder(tempfile::tempdir().unwrap()) });
}

fn at(offset: i64) -> Position {
    Position { partition: Partition::new("photos", 0), offset, item: 0 }
}

/// A record of an entry of a listing.
fn entry(offset: i64) -> Delivery {
    let mut record = record(&at(offset));
    (record.source, record.space) = (SourceRef::Listing { listing: "photos".into(), key: format!("{offset}\n.jpg") }, "one".into());
    deliver(at(offset), true, Outcome::Record(Box::new(record)))
}

async fn write(journal: &mut Journal, offsets: std::ops::Range<i64>) {
    let mut sink = journal.sink().unwrap();
    sink.write(&offsets.map(entry).collect::<Vec<_>>()).await.unwrap();
    sink.flush(Flush::All).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_run_torn_anywhere_is_gone_on_with_at_the_first_line_that_is_not_whole(count in 1i64..6, tear in any::<prop::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.jsonl");
        let out = path.to_str().unwrap();
        runtime.block_on(write(&mut Journal::open(out, false, false).unwrap(), 0..count));
        let whole = std::fs::read(&path).unwrap();
        let kept = tear.index(whole.len() + 1);
        std::fs::write(&path, &whole[..kept]).unwrap();
        let lines = whole[..kept].iter().filter(|b| **b == b'\n').count() as i64;
        let mut journal = Journal::open(out, true, false).unwrap();
        prop_assert_eq!(journal.done().len() as i64, lines);
        runtime.block_on(write(&mut journal, lines..count));
        prop_assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
}

#[tokio::test]
async fn hours_of_work_are_not_written_over_unasked() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["o.jsonl", "o.parquet"] {
        let path = folder.path().join(name);
        let out = path.to_str().unwrap();
        write(&mut Journal::open(out, false, false).unwrap(), 0..2).await;
        for resume in [false, true] {
            let opened = Journal::open(out, resume, false);
            assert_eq!(opened.is_ok(), resume, "{name}");
        }
        let journal = Journal::open(out, true, false).unwrap();
        assert_eq!(journal.done().len(), 2);
        journal.finish().unwrap();
        assert!(path.exists() && !beside(&path, "journal").exists());
    }
    let done = folder.path().join("o.parquet");
    assert!(Journal::open(done.to_str().unwrap(), true, false).err().unwrap().to_string().contains("complete"));
    assert!(Journal::open(done.to_str().unwrap(), false, true).is_ok());
    let foreign = folder.path().join("thesis.json");
    std::fs::write(&foreign, "{\"chapter\": 1}\n").unwrap();
    assert!(Journal::open(foreign.to_str().unwrap(), true, false).is_err());
    assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "{\"chapter\": 1}\n");
    assert_eq!(Journal::open("x.csv", false, false).err().unwrap().exit_code(), 2);
}

fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_takes_records_and_rejections_and_is_neither_refused_nor_removed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, overwrite) in [("pipe.jsonl", false), ("pipe", true)] {
        let path = folder.path().join(name);
        fifo(&path);
        let reader = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut text = String::new();
                File::open(path).unwrap().read_to_string(&mut text).unwrap();
                text
            }
        });
        let mut journal = Journal::open(path.to_str().unwrap(), false, overwrite).unwrap();
        let mut sink = journal.sink().unwrap();
        // More than a pipe holds.
        let mut all: Vec<_> = (0..2000).map(entry).collect();
        all.push(delivery(at(2000), true, What::Rejected));
        sink.write(&all).await.unwrap();
        sink.flush(Flush::All).await.unwrap();
        drop(sink);
        journal.finish().unwrap();
        assert_eq!(reader.join().unwrap().lines().count(), 2001);
        assert!(is_stream(&path));
    }
    let path = folder.path().join("pipe.parquet");
    fifo(&path);
    for (path, resume) in [(&path, false), (&folder.path().join("pipe"), true)] {
        assert_eq!(Journal::open(path.to_str().unwrap(), resume, false).err().unwrap().exit_code(), 2);
    }
}

#[tokio::test]
async fn a_device_without_room_is_an_error_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("o.jsonl");
    symlink("/dev/full", &link).unwrap();
    for out in ["/dev/full", link.to_str().unwrap()] {
        let mut sink = Journal::open(out, false, false).unwrap().sink().unwrap();
        sink.write(&[entry(0)]).await.unwrap();
        assert_eq!(sink.held(&at(0).partition), Some(0));
        let error = sink.flush(Flush::Ready).await.unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().starts_with(&format!("cannot write to {out}: No space left on device")), "{error}");
    }
}

/// As while some other thread starts a process, which has every open file until it becomes its own program.
#[test]
fn a_lock_that_goes_a_moment_later_is_waited_for() {
    let folder = Folder(TempDir::new().unwrap());
    let out = folder.path();
    drop(Journal::open(&out, false, false).unwrap());
    std::fs::write(&out, "").unwrap();
    let held = std::fs::File::open(&out).unwrap();
    held.lock().unwrap();
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(held);
    });
    Journal::open(&out, true, false).unwrap();
    letting_go.join().unwrap();
}
