//! The stream that a trainer reads, and the program that writes it.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::process::Command;

use lakelens_surfaces::stream::{Error, Reader, Stream};
use lakelens_surfaces::{Class, draw_augmented};
use proptest::prelude::*;

fn written(stream: &Stream, threads: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.write(NonZeroUsize::new(threads).unwrap(), &mut bytes).unwrap();
    bytes
}

fn small(start: u64, count: u64) -> Stream {
    Stream { classes: Class::all().to_vec(), seed: 5, start, count, side: 8, augment: true }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_written_is_read(seed: u64, start in 0u64..1000, count in 0u64..60, side in 1u32..20, classes in 1usize..28, threads in 1usize..4, augment: bool) {
        let stream = Stream { classes: Class::all()[..classes].to_vec(), seed, start, count, side, augment };
        let bytes = written(&stream, threads);
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        prop_assert_eq!((reader.side, reader.start), (side, start));
        prop_assert!(reader.labels.iter().eq(stream.classes.iter().map(|class| class.label())));
        for number in start..start + count {
            prop_assert_eq!(reader.next_picture().unwrap(), Some(stream.picture(number).unwrap()));
        }
        prop_assert_eq!(reader.next_picture().unwrap(), None);
    }

    #[test]
    fn every_run_of_pictures_holds_each_class_once(seed: u64, run in 0u64..1_000_000) {
        let stream = Stream { seed, ..small(0, 0) };
        let classes = Class::all().len() as u64;
        let mut places: Vec<usize> = (run * classes..(run + 1) * classes).map(|number| stream.class_of(number)).collect();
        prop_assert!(!places.is_sorted(), "shuffled");
        places.sort_unstable();
        prop_assert!(places.into_iter().eq(0..Class::all().len()));
    }
}

#[test]
fn a_stream_goes_on_where_another_stopped() {
    let header = written(&small(0, 0), 1).len();
    let [first, second, all] = [small(0, 37), small(37, 20), small(0, 57)].map(|stream| written(&stream, 2).split_off(header));
    assert_eq!([first, second].concat(), all);
}

#[test]
fn a_damaged_stream_is_an_error() {
    let bytes = written(&small(0, 2), 1);
    assert!(Reader::new(&b"\xFF\xD8\xFF\xE0 no stream"[..]).is_err());
    for length in 0..bytes.len() {
        let read = Reader::new(&bytes[..length]).and_then(|mut reader| {
            while reader.next_picture()?.is_some() {}
            Ok(())
        });
        assert!(read.is_err(), "{length} of {} bytes", bytes.len());
    }
    let mut wrong = bytes.clone();
    let record = 2 + 8 * 8 * 3;
    let at = wrong.len() - record;
    wrong[at..at + 2].copy_from_slice(&500u16.to_le_bytes());
    let mut reader = Reader::new(wrong.as_slice()).unwrap();
    assert!(reader.next_picture().is_ok() && reader.next_picture().is_err(), "there is no class 500");
}

#[test]
fn a_stream_that_cannot_be_drawn_says_why() {
    let one = NonZeroUsize::MIN;
    assert!(matches!(Stream { classes: Vec::new(), ..small(0, 1) }.write(one, &mut Vec::new()), Err(Error::NoClasses)));
    assert!(matches!(Stream { side: 0, ..small(0, 1) }.write(one, &mut Vec::new()), Err(Error::Picture(_))));
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    assert!(matches!(small(0, 500).write(NonZeroUsize::new(3).unwrap(), &mut Full), Err(Error::Io(_))));
}

#[test]
fn the_program_writes_files_and_streams() {
    let program = || Command::new(env!("CARGO_BIN_EXE_surfaces"));
    let folder = std::env::temp_dir().join(format!("lakelens-surfaces-{}", std::process::id()));
    let write = program()
        .args(["write", "--per-class", "2", "--size", "40x30", "--classes", "knit,polka dots", "--out"])
        .arg(&folder)
        .output()
        .unwrap();
    assert!(write.status.success(), "{write:?}");
    for label in ["knit", "polka dots"] {
        for number in 0..2 {
            let picture = image::open(folder.join(label).join(format!("{number}.jpg"))).unwrap();
            assert_eq!((picture.width(), picture.height()), (40, 30));
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();

    let stream =
        program().args(["stream", "--count", "9", "--side", "16", "--classes", "4", "--augment", "--threads", "2"]).output().unwrap();
    let mut reader = Reader::new(stream.stdout.as_slice()).unwrap();
    let mut pictures = 0;
    while let Some((place, picture)) = reader.next_picture().unwrap() {
        assert!(place < 4 && picture.dimensions() == (16, 16));
        pictures += 1;
    }
    assert_eq!((pictures, reader.labels.len()), (9, 4));
    assert!(String::from_utf8_lossy(&stream.stderr).contains("9 pictures of 16 x 16"));

    let labels = program().arg("labels").output().unwrap();
    assert!(String::from_utf8(labels.stdout).unwrap().lines().eq(Class::all().iter().map(|class| class.label())));
    let wrong = program().args(["stream", "--count", "1", "--classes", "unicorn"]).output().unwrap();
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("surfaces labels"));
}

#[test]
fn pictures_to_train_on_are_worse_than_ordinary_ones() {
    // A strong blur or compression makes small files of some; noise large ones of others. Their sizes spread far more widely.
    let spread = |sizes: Vec<usize>| sizes.iter().max().unwrap() / sizes.iter().min().unwrap();
    let hard = (0..60).map(|seed| lakelens_surfaces::jpeg(&draw_augmented(Class::Brick, seed, 64).unwrap(), 90).unwrap().len()).collect();
    let plain = (0..60)
        .map(|seed| lakelens_surfaces::jpeg(&lakelens_surfaces::draw(Class::Brick, seed, 64, 64).unwrap(), 90).unwrap().len())
        .collect();
    let (hard, plain) = (spread(hard), spread(plain));
    assert!(hard > plain, "{hard} and {plain}");
}
