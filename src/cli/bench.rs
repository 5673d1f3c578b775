//! `lakelens bench`: figures that anyone can measure again. Ratios are taken within one run, pair by pair, since machines drift.

mod engine;
mod peers;

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use image::{ImageFormat, Rgb, RgbImage};
use serde::Serialize;

use crate::cli::{Common, print};
use crate::model::{Loaded, Model, init_resnet50};
use crate::pipeline::{self, Parts};
use crate::preprocess::bench::bench_decode;
use crate::preprocess::{Limits, Preprocessor, decode, probe};
use crate::sink::Journal;
use crate::source::{ListingOptions, listing};
use crate::worker::intake::Reading;
use crate::worker::terms::Bounds;
use crate::{Context, Error, Result, config, model};

/// Measure this machine.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Networks beside the measured peak of the cores and beside stock tract: images a second, share of the peak, loading, memory, layers.
    Engine(engine::Args),
    /// Decode and resize, each format, beside the `image` crate alone.
    #[command(after_help = "Examples:\n  \
        lakelens bench decode\n  \
        lakelens bench decode --seconds 20 photos/a.jpg photos/b.png")]
    Decode {
        /// Seconds in all.
        #[arg(long, default_value_t = 6.0, value_parser = super::seconds)]
        seconds: f64,
        /// Pictures to measure; drawn ones of 500 x 375 pixels where none are given.
        paths: Vec<PathBuf>,
    },
    /// Folder to records, beside decoding and inference alone: CPU time an image, in interleaved pairs.
    #[command(after_help = "Examples:\n  \
        lakelens bench pipeline\n  \
        lakelens bench pipeline --model models/resnet50 --images 100 --json")]
    Pipeline {
        /// A model; a seeded ResNet-50 where not given.
        #[arg(long)]
        model: Option<PathBuf>,
        /// Images a run.
        #[arg(long, default_value_t = 24)]
        images: usize,
        /// Pairs of runs.
        #[arg(long, default_value_t = 10)]
        pairs: usize,
        /// Worker threads; 0 = one a core.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1024))]
        threads: u16,
    },
}

pub async fn run(command: Command, common: Common) -> Result<()> {
    match command {
        Command::Engine(args) => engine::run(&args, &common),
        Command::Decode { seconds, paths } => formats(seconds, &paths, &common),
        Command::Pipeline { model, images, pairs, threads } => {
            pairs_of_runs(model, images.max(1), pairs.max(1), threads.into(), &common).await
        }
    }
}

/// A picture of the size that photographs on the web commonly have, with structure and noise.
fn picture(n: u32) -> RgbImage {
    RgbImage::from_fn(500, 375, |x, y| {
        let (fx, fy) = (x as f32 / 40.0, y as f32 / 30.0);
        let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503) ^ n.wrapping_mul(97)) >> 24 & 15;
        let channel = |shift: f32| (120.0 + 90.0 * (fx + shift + n as f32).sin() * (fy - shift).cos()) as u8 + noise as u8;
        Rgb([channel(0.0), channel(1.0), channel(2.0)])
    })
}

pub(super) fn encoded(n: u32, format: ImageFormat) -> Result<Vec<u8>> {
    let mut out = Cursor::new(Vec::new());
    picture(n).write_to(&mut out, format).context("cannot draw a picture")?;
    Ok(out.into_inner())
}

fn limits(loaded: &Loaded) -> Limits {
    Limits::new(&config::Fetch::default(), &config::Decode::default(), &loaded.file.preprocess)
}

fn formats(seconds: f64, paths: &[PathBuf], common: &Common) -> Result<()> {
    let figures = bench_decode(seconds, Some(paths).filter(|paths| !paths.is_empty()))?;
    if common.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&figures).map_err(Error::failed)?));
    }
    let baseline = figures.first().map_or("", |f| f.baseline_name);
    let mut text = format!("ms an image on one thread, ours and the baseline in turn; baseline: {baseline}\n");
    text.push_str(&format!(
        "{:<6} {:>8} {:>9} {:>11} {:>10} {:>16}\n",
        "format", "pictures", "decode", "preprocess", "baseline", "baseline / ours"
    ));
    for f in figures {
        text.push_str(&format!(
            "{:<6} {:>8} {:>9.2} {:>11.2} {:>10.2} {:>16.2}\n",
            f.format,
            f.images,
            f.ms_decode,
            f.ms_preprocess,
            f.baseline_ms,
            f.baseline_ms / (f.ms_decode + f.ms_preprocess)
        ));
    }
    print(&text)
}

/// Wall and CPU seconds of the whole process and its helpers.
#[derive(Clone, Copy)]
struct Spent {
    wall: f64,
    cpu: f64,
}

struct Meter(Instant, f64);

impl Meter {
    fn start() -> Self {
        Self(Instant::now(), cpu_seconds())
    }

    fn stop(self) -> Spent {
        Spent { wall: self.0.elapsed().as_secs_f64(), cpu: cpu_seconds() - self.1 }
    }
}

/// Of this process and of the helpers that have ended.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9 + helpers_seconds().unwrap_or(0.0)
}

/// User and system time of children waited for: fields 16 and 17 of `proc_pid_stat(5)`; what precedes the last `)` may hold spaces.
fn helpers_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(13)?.parse::<f64>().ok()? + fields.get(14)?.parse::<f64>().ok()?;
    Some(ticks / rustix::param::clock_ticks_per_second() as f64)
}

#[derive(Serialize)]
struct PipelineFigures {
    model: String,
    images: usize,
    threads: usize,
    pairs: usize,
    /// Images a second, median over the runs.
    end_to_end_images_per_s: f64,
    bare_images_per_s: f64,
    /// Cores kept busy, end to end, in percent of the threads.
    cores_busy_percent: f64,
    /// CPU seconds end to end over CPU seconds of decoding and inference alone, less one: median, least and most over the pairs.
    overhead_median: f64,
    overhead_min: f64,
    overhead_max: f64,
}

async fn pairs_of_runs(path: Option<PathBuf>, images: usize, pairs: usize, threads: usize, common: &Common) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = match path {
        Some(path) => path,
        None => {
            let seeded = folder.path().join("model");
            init_resnet50(0, &seeded, 1000)?;
            seeded
        }
    };
    let pictures = folder.path().join("pictures");
    std::fs::create_dir(&pictures).context("cannot make a folder")?;
    for n in 0..images {
        std::fs::write(pictures.join(format!("{n:05}.jpg")), encoded(n as u32, ImageFormat::Jpeg)?).context("cannot write a picture")?;
    }
    let output = config::Output::default();
    let load = || model::load(&path, &model::LoadOptions::of(config::Precision::F32, &output, &config::Decode::default()));
    let threads = pipeline::threads(threads);
    let loaded = load()?;
    let name = loaded.info().id.to_string();
    bare(&loaded, &pictures, images.min(4), threads)?;
    let (mut bares, mut wholes) = (Vec::new(), Vec::new());
    for n in 0..pairs {
        bares.push(bare(&loaded, &pictures, images, threads)?);
        wholes.push(whole(load()?, &pictures, &folder.path().join(format!("{n}.jsonl")), threads, common).await?);
    }
    let mut ratios: Vec<f64> = bares.iter().zip(&wholes).map(|(bare, whole)| whole.cpu / bare.cpu - 1.0).collect();
    ratios.sort_by(f64::total_cmp);
    let median = |values: &[Spent], of: fn(&Spent) -> f64| {
        let mut list: Vec<f64> = values.iter().map(of).collect();
        list.sort_by(f64::total_cmp);
        list[list.len() / 2]
    };
    let figures = PipelineFigures {
        model: name,
        images,
        threads,
        pairs,
        end_to_end_images_per_s: images as f64 / median(&wholes, |s| s.wall),
        bare_images_per_s: images as f64 / median(&bares, |s| s.wall),
        cores_busy_percent: 100.0 * median(&wholes, |s| s.cpu / s.wall) / threads as f64,
        overhead_median: ratios[ratios.len() / 2],
        overhead_min: ratios[0],
        overhead_max: ratios[ratios.len() - 1],
    };
    if common.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&figures).map_err(Error::failed)?));
    }
    print(&format!(
        "{} on {} threads, {} JPEGs of 500 x 375, {} interleaved pairs\n\
         end to end             {:.2} images/s, cores busy {:.0}%\n\
         decode and model alone {:.2} images/s\n\
         CPU time an image end to end over decode and model alone: {:+.1}% (median; {:+.1}% to {:+.1}%)\n",
        figures.model,
        threads,
        images,
        pairs,
        figures.end_to_end_images_per_s,
        figures.cores_busy_percent,
        figures.bare_images_per_s,
        100.0 * figures.overhead_median,
        100.0 * figures.overhead_min,
        100.0 * figures.overhead_max
    ))
}

/// Decodes and predicts on plain threads, with nothing around it.
fn bare(loaded: &Loaded, pictures: &Path, images: usize, threads: usize) -> Result<Spent> {
    let next = AtomicUsize::new(0);
    let model: Arc<dyn Model> = loaded.model.clone();
    let limits = limits(loaded);
    let meter = Meter::start();
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            let mut preprocessor = Preprocessor::new(loaded.file.preprocess.clone());
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= images {
                    return Ok(());
                }
                let bytes = std::fs::read(pictures.join(format!("{n:05}.jpg"))).context("cannot read a picture")?;
                let header = probe(&bytes, &limits).map_err(Error::failed)?;
                let pixels = decode(&bytes, &header, &limits).map_err(Error::failed)?;
                let tensor = preprocessor.tensor(&pixels);
                for result in model.predict(&[&tensor]) {
                    result.map_err(Error::failed)?;
                }
            }
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(Error::failed("a thread panicked"))))
    })?;
    Ok(meter.stop())
}

/// The pipeline, from the folder to a file of records.
async fn whole(loaded: Loaded, pictures: &Path, out: &Path, threads: usize, common: &Common) -> Result<Spent> {
    let name = |path: &Path| path.to_string_lossy().into_owned();
    let mut journal = Journal::open(&name(out), false, true)?;
    let meter = Meter::start();
    let source = listing::start_inputs(&[name(pictures)], None, None, ListingOptions::default()).await?;
    let summary = pipeline::run(Parts {
        sources: vec![(source, Reading::References(config::OnDelete::Skip))],
        sinks: vec![Box::new(journal.sink()?)],
        transactions: None,
        model: Some(loaded),
        fetch: config::Fetch::default(),
        decode: config::Decode::default(),
        decoder: Some(crate::sandbox::own_program()),
        s3: config::S3::default(),
        memory: 512 << 20,
        batch: config::Batch::default(),
        threads,
        heads: crate::head::Heads::default(),
        output: config::Output::default(),
        reject_limit: config::RejectLimit::default(),
        bounds: Bounds::default(),
        watchdog: std::time::Duration::ZERO,
        stop: common.stop.clone(),
        stats: std::sync::Arc::default(),
        tracing: None,
        quiet: true,
    })
    .await?;
    match summary.error {
        Some(error) => Err(error),
        None => Ok(meter.stop()),
    }
}
