//! Hostile files: whatever a file is, it becomes one record or one rejection, in bounded time and memory.
//!
//! `make` makes the files, each from a seed and its index; `alone` decodes one at a time and measures; `worker` gives them all to the program, as a
//! user's folder; `broke` has those that broke something. As part of the tests it takes 1,500 files; CONTRIBUTING.md says how to try more.

// An `unwrap` in a test is the assertion that it looks like, and what was counted is told.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod alone;
mod broke;
mod make;
mod worker;

use peak_alloc::PeakAlloc;

/// Counts what is allocated, so that a decoder can be held to what a file's header says.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Allocations are counted for the whole process, so one test runs at a time.
fn alone_in_the_process() -> impl Drop {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A number from the environment.
fn asked(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |n| n.parse().unwrap_or_else(|_| panic!("{name} is not a number: {n}")))
}

fn seed() -> u64 {
    asked("LAKELENS_HOSTILE_SEED", 1) as u64
}

#[test]
fn a_seed_and_an_index_give_the_same_file_and_others_another() {
    let _turn = alone_in_the_process();
    let others = (0..80).filter(|&index| {
        let file = make::file(5, index);
        assert!(file == make::file(5, index), "{}", file.name);
        file.bytes != make::file(6, index).bytes
    });
    assert!(others.count() > 60);
}

/// Writes one file, to look at what failed.
#[test]
#[ignore = "a tool: LAKELENS_HOSTILE_SEED=1 LAKELENS_HOSTILE_INDEX=7 cargo test --release --test hostile -- --ignored write_one"]
fn write_one() {
    let file = make::file(seed(), asked("LAKELENS_HOSTILE_INDEX", 0));
    let path = std::env::temp_dir().join(&file.name);
    std::fs::write(&path, &file.bytes).unwrap();
    println!("{}", path.display());
}

/// Writes a seed corpus for the fuzzer: the sound pictures and one small file of each kind.
#[test]
#[ignore = "a tool: LAKELENS_HOSTILE_OUT=fuzz/corpus/decode cargo test --release --test hostile -- --ignored write_corpus"]
fn write_corpus() {
    let folder = std::path::PathBuf::from(std::env::var("LAKELENS_HOSTILE_OUT").unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    let hostile = (0..400).map(|index| make::file(seed(), index)).filter(|file| file.bytes.len() < 16 << 10);
    for file in hostile.chain(make::sound().iter().filter(|f| f.bytes.len() < 16 << 10).cloned()) {
        std::fs::write(folder.join(&file.name), &file.bytes).unwrap();
    }
}
