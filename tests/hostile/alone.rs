//! One file at a time, as a worker's thread does it, with a clock and a count of what is allocated.

use std::time::Duration;

use lakelens::config::{self, Preprocess};
use lakelens::flow::{MemoryBudget, Reason, Rejection};
use lakelens::preprocess::{Header, Limits, Preprocessor, decode, probe};

use super::{ALLOCATED, alone_in_the_process, make};

/// No file may take longer, in time of a core: on a busy machine the clock on the wall says little.
pub const LONGEST: Duration = Duration::from_secs(5);
/// The worker's memory.
pub const MEMORY: usize = 512 << 20;
/// What is not charged: errors, a header's few values, hash maps.
const UNCHARGED: usize = 256 << 10;

/// What became of a file.
pub struct Seen {
    /// A picture, or why not.
    pub outcome: Result<Header, Rejection>,
    /// From its first byte to the tensor.
    pub time: Duration,
    /// Most bytes allocated while reading the headers.
    probing: usize,
    /// Bytes that the headers say decoding takes.
    charged: usize,
    /// Most bytes allocated while decoding and resizing.
    decoding: usize,
}

/// The limits that a worker has by default.
pub fn limits() -> Limits {
    Limits::new(&config::Fetch::default(), &config::Decode::default(), &Preprocess::default())
}

/// Most bytes allocated by `work` beyond what was before.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let result = work();
    (result, ALLOCATED.peak_usage().saturating_sub(before))
}

/// What this thread has had of a core.
fn core_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Does with a file what a worker's thread does.
pub fn see(file: &[u8], limits: &Limits) -> Seen {
    let mut preprocessor = Preprocessor::new(limits.preprocess.clone());
    let memory = MemoryBudget::new(MEMORY, false).decode.capacity();
    let begun = core_time();
    let (header, probing) = measured(|| probe(file, limits));
    let charged = header.as_ref().map_or(0, |header| header.decode_bytes);
    let (outcome, decoding) = measured(|| {
        let header = header?;
        if charged > memory {
            return Err(Rejection::new(lakelens::flow::Stage::Decode, Reason::TooManyPixels, "more than the memory budget"));
        }
        let picture = decode(file, &header, limits)?;
        assert_eq!(picture.rgb.len(), picture.width as usize * picture.height as usize * 3);
        assert_eq!(preprocessor.tensor(&picture).shape(), [3, 224, 224]);
        Ok(header)
    });
    Seen { outcome, time: core_time().saturating_sub(begun), probing, charged, decoding }
}

/// What is wrong with what was seen, if anything.
pub fn complaint(seen: &Seen) -> Option<String> {
    use Reason::{CorruptImage, Empty, TooManyPixels, UnsupportedFormat};
    if seen.time > LONGEST {
        return Some(format!("took {:?}", seen.time));
    }
    if seen.probing > UNCHARGED {
        return Some(format!("{} bytes allocated before anything was charged", seen.probing));
    }
    if seen.decoding > seen.charged + UNCHARGED {
        return Some(format!("{} bytes charged, {} allocated", seen.charged, seen.decoding));
    }
    match &seen.outcome {
        Ok(header) => {
            let pixels = u64::from(header.width) * u64::from(header.height);
            (pixels > config::Fetch::default().max_pixels.0).then(|| format!("a picture of {pixels} pixels was decoded"))
        }
        Err(r) if r.detail.contains("panicked") => Some(r.to_string()),
        Err(r) => (!matches!(r.reason, Empty | UnsupportedFormat | CorruptImage | TooManyPixels)).then(|| r.to_string()),
    }
}

#[test]
fn a_sound_picture_cut_at_any_boundary_is_a_picture_or_a_reason() {
    let _turn = alone_in_the_process();
    let limits = limits();
    let mut complaints = Vec::new();
    let mut cuts = 0;
    for file in make::sound() {
        let near = |place: usize| [place.saturating_sub(1), place, (place + 1).min(file.bytes.len())];
        let mut places: Vec<usize> = make::structure::boundaries(&file.bytes).into_iter().flat_map(near).collect();
        places.dedup();
        cuts += places.len();
        let told = |place: usize| Some(format!("{} cut at {place}: {}", file.name, complaint(&see(&file.bytes[..place], &limits))?));
        complaints.extend(places.into_iter().filter_map(told));
    }
    println!("{cuts} cuts");
    assert!(cuts > 5000, "{cuts}");
    assert!(complaints.is_empty(), "{} of {cuts}:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn without_the_limit_on_pixels_the_suite_would_say_so() {
    let _turn = alone_in_the_process();
    let none = Limits { max_pixels: u64::MAX, ..limits() };
    // Some of them have a little more pixels than are allowed, and all the data for it.
    let bombs = (0..).filter(|&index| make::name(index).contains("jpeg-bomb")).take(20);
    let complaints = bombs.filter_map(|index| complaint(&see(&make::file(1, index).bytes, &none)));
    assert!(complaints.filter(|c| c.contains("pixels was decoded")).count() > 0);
}

#[test]
fn each_thing_that_may_go_wrong_is_said() {
    let sound = || Seen { outcome: Err(reject(Reason::Empty, "")), time: Duration::ZERO, probing: 0, charged: 0, decoding: 0 };
    fn reject(reason: Reason, detail: &'static str) -> Rejection {
        Rejection::new(lakelens::flow::Stage::Decode, reason, detail)
    }
    assert_eq!(complaint(&sound()), None);
    for wrong in [
        Seen { time: Duration::from_secs(6), ..sound() },
        Seen { probing: 1 << 20, ..sound() },
        Seen { charged: 5 << 20, decoding: 6 << 20, ..sound() },
        Seen { outcome: Err(reject(Reason::DecodeTimeout, "")), ..sound() },
        Seen { outcome: Err(reject(Reason::CorruptImage, "the decoder gave up on the file (it panicked)")), ..sound() },
    ] {
        assert!(complaint(&wrong).is_some());
    }
}
