//! `lakelens plan`: cores, workers, time and cost for a lake.

mod quantity;

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use image::ImageFormat;
use serde::Serialize;

use self::quantity::{Count, PerHour, PerSecond, Until};
use crate::cli::{Common, bench, print};
use crate::config::{self, Precision};
use crate::head::Heads;
use crate::model::{self, LoadOptions};
use crate::pipeline::assemble;
use crate::plan::calibrate::{Calibration, Setup, calibrate};
use crate::plan::{Bottleneck, Fleet, Goal, Plan, Worker, plan};
use crate::telemetry::escape;
use crate::{Context, Error, Result, store};

/// Pictures that are drawn where no sample is given.
const DRAWN: u32 = 24;
/// Share of a core below which what was measured is no measure.
const QUIET: f64 = 0.85;

/// Plan a lake: cores, workers, time and cost, from a few seconds of measuring on this machine.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens plan --images 200e6 --deadline 48h --price 1.50/h\n  \
    lakelens plan --images 200e6 --rate 500/s --deadline 2026-12-01T06:00:00Z --sample s3://lake/2026/11/\n  \
    lakelens plan pipeline.yaml --rate 40/s --cores 16 --json")]
pub struct Args {
    /// A pipeline file: its model, precision, threads, store and deadline; and of a listing, its pictures.
    pipeline: Option<PathBuf>,
    /// Images that wait: 200e6, 200M.
    #[arg(long, value_name = "N", default_value = "0")]
    images: Count,
    /// Images that come meanwhile and afterwards: 500/s, 20/m, 1e6/d.
    #[arg(long, value_name = "N/s", default_value = "0/s")]
    rate: PerSecond,
    /// When what waits is to be done: in 48h, or at 2026-12-01T06:00:00Z. The pipeline's where not given.
    #[arg(long, value_name = "48h|TIME")]
    deadline: Option<Until>,
    /// Price of a worker: 1.50/h, in whatever currency.
    #[arg(long, value_name = "N/h")]
    price: Option<PerHour>,
    /// Cores of a worker; as many as are measured on where not given. Cores are taken to add up.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    cores: Option<u16>,
    /// A model folder with model.yaml, or an .onnx file; the pipeline's, or a seeded ResNet-50, where not given.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Arithmetic of the network; the pipeline's, or f32, where not given.
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// Pictures to measure with, and the network: a folder, files, s3://bucket/prefix, or a file of references. Drawn JPEGs of 500 x 375 where none are
    /// given, and then fetching is not measured.
    #[arg(long, value_name = "PATH")]
    sample: Option<String>,
    /// S3 endpoint, where it is not AWS and no pipeline is given.
    #[arg(long, env = "S3_ENDPOINT")]
    s3_endpoint: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    calibration: Calibration,
    sample: String,
    goal: Goal,
    worker: Worker,
    images_per_s: f64,
    bottleneck: Bottleneck,
    #[serde(flatten)]
    plan: Plan,
}

pub async fn run(args: Args, common: Common) -> Result<()> {
    let pipeline = args.pipeline.as_ref().map(config::load).transpose()?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let within = match (&args.deadline, pipeline.as_ref().and_then(|p| p.deadline)) {
        (Some(until), _) => Some(until.left()),
        (None, Some(moment)) => Some(moment.left(chrono::Utc::now())),
        (None, None) => None,
    };
    if within.is_some_and(|left| left.is_zero()) {
        return Err(Error::config("the deadline is over; give one that is to come, such as --deadline 48h"));
    }
    let goal = Goal {
        images: args.images.0,
        arriving_per_s: args.rate.0,
        within_s: within.map(|left| left.as_secs_f64()),
        price_per_h: args.price.as_ref().map(|price| price.0),
    };
    let setup = setup(&args, pipeline, folder.path()).await?;
    let sample = if setup.fetching { escape(&setup.sample.join(" ")) } else { "drawn JPEGs of 500 x 375".to_owned() };
    if !common.quiet && !common.json {
        tracing::info!("measuring for some seconds with a worker, which is stopped then");
    }
    let calibration = calibrate(setup, &common.stop).await?;
    let worker = calibration.worker(args.cores.map_or(calibration.threads as f64, f64::from));
    let plan = plan(&worker, &goal);
    let answer = Answer { sample, goal, worker, images_per_s: worker.per_s(), bottleneck: worker.bottleneck(), plan, calibration };
    match common.json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(&answer).map_err(crate::Error::failed)?)),
        false => print(&text(&answer)),
    }
}

/// What the command line and the pipeline say, of which the command line goes first.
async fn setup(args: &Args, pipeline: Option<config::Pipeline>, folder: &std::path::Path) -> Result<Setup> {
    let listed = pipeline.as_ref().and_then(|p| p.source.all().iter().find_map(|s| s.listing.as_ref().map(|l| l.path.clone())));
    let given = args.sample.clone().or(listed);
    let fetching = given.is_some();
    let sample = match given {
        Some(path) if path == "-" => {
            return Err(crate::Error::config("--sample cannot be standard input, which cannot be read again and again"));
        }
        Some(path) => vec![path],
        None => vec![drawn(folder)?],
    };
    let output = pipeline.as_ref().map_or_else(Default::default, |p| p.output.clone());
    let decode = pipeline.as_ref().map_or_else(Default::default, |p| p.decode.clone());
    let own = pipeline.as_ref().and_then(|p| p.model.as_ref());
    let precision = args.precision.or(own.map(|m| m.precision)).unwrap_or_default();
    let (model, heads) = match (&args.model, &pipeline) {
        (None, Some(p)) if p.model.is_some() => {
            let mut p = p.clone();
            p.model.iter_mut().for_each(|m| m.precision = precision);
            // A pipeline with a model gives one.
            assemble::load(&p)?.ok_or_else(|| crate::Error::config("the pipeline has no model"))?
        }
        (path, _) => {
            let path = match path {
                Some(path) => path.clone(),
                None => {
                    let seeded = folder.join("model");
                    model::init_resnet50(0, &seeded, 1000)?;
                    seeded
                }
            };
            (model::load(&path, &LoadOptions::of(precision, &output, &decode))?, Heads::default())
        }
    };
    let s3 = match &pipeline {
        Some(p) => p.store.s3.clone(),
        None => config::S3::at(args.s3_endpoint.clone()),
    };
    let client = if sample.iter().any(|path| path.starts_with("s3://")) { Some(store::s3_client(&s3).await) } else { None };
    Ok(Setup {
        model,
        heads,
        output,
        fetch: pipeline.as_ref().map_or_else(Default::default, |p| p.fetch.clone()),
        decode,
        batch: pipeline.as_ref().map_or_else(Default::default, |p| p.batch.clone()),
        memory: pipeline.as_ref().map_or(512 << 20, |p| p.memory.0),
        threads: own.map_or(0, |m| m.threads),
        s3,
        client,
        sample,
        fetching,
    })
}

fn drawn(folder: &std::path::Path) -> Result<String> {
    let pictures = folder.join("pictures");
    std::fs::create_dir(&pictures).context("cannot make a folder")?;
    for n in 0..DRAWN {
        std::fs::write(pictures.join(format!("{n}.jpg")), bench::encoded(n, ImageFormat::Jpeg)?).context("cannot write a picture")?;
    }
    Ok(pictures.to_string_lossy().into_owned())
}

fn text(answer: &Answer) -> String {
    let Answer { calibration: c, sample, goal, worker, images_per_s, bottleneck, plan } = answer;
    let mut out =
        format!("measured here on {} threads: {}, {}; {} images of {sample}\n", c.threads, escape(&c.model), c.precision, c.images);
    let _ = writeln!(out, "  inference  {:>9.2} ms of a core an image", c.infer_s * 1e3);
    let _ = writeln!(out, "  decode     {:>9.2} ms of a core an image", c.decode_s * 1e3);
    let _ = match c.fetch_per_s {
        Some(fetched) => writeln!(out, "  network    {fetched:>9.1} images/s, {:.1} MB/s", fetched * c.bytes_per_image / 1e6),
        None => writeln!(out, "  network    not measured; --sample s3://bucket/prefix does"),
    };
    let _ = writeln!(
        out,
        "one worker of {} cores: {images_per_s:.1} images/s, {:.1} MB/s; the bottleneck is {}",
        worker.cores,
        images_per_s * c.bytes_per_image / 1e6,
        match bottleneck {
            Bottleneck::Inference => "inference",
            Bottleneck::Decode => "decode",
            Bottleneck::Network => "the network",
        }
    );
    if c.cores_got < QUIET {
        let _ = writeln!(
            out,
            "careful: the threads had only {:.0}% of a core each; without other processes, or a quota, the machine does more",
            c.cores_got * 100.0
        );
    }
    let mut wanted = Vec::new();
    if goal.images > 0.0 {
        wanted.push(format!("{} images", grouped(goal.images)));
    }
    if goal.arriving_per_s > 0.0 {
        wanted.push(format!("{} more a second", grouped(goal.arriving_per_s)));
    }
    if wanted.is_empty() {
        out.push_str("\nsay what is to be done: --images 200e6, --rate 500/s\n");
        return out;
    }
    let by = goal.within_s.map_or_else(String::new, |s| format!(" in {}", span(s)));
    let _ = match plan.needed {
        Some(n) => writeln!(
            out,
            "\n{}{by}: {n} workers, {} cores; a topic with at least {n} partitions",
            wanted.join(" and "),
            grouped(n as f64 * worker.cores)
        ),
        None if goal.within_s.is_some() => {
            writeln!(out, "\n{}{by}: no number of workers is enough; the deadline is over, or too near", wanted.join(" and "))
        }
        None => writeln!(out, "\n{}: as fast as you like", wanted.join(" and ")),
    };
    if !plan.fleets.is_empty() {
        let _ = writeln!(out, "\n{:>9} {:>9} {:>11} {:>10} {:>14}", "workers", "cores", "images/s", "time", "cost");
        plan.fleets.iter().for_each(|fleet| row(&mut out, fleet, goal));
    }
    out
}

fn row(out: &mut String, fleet: &Fleet, goal: &Goal) {
    let time = match fleet.seconds {
        None => "never".to_owned(),
        Some(_) if goal.images == 0.0 => "keeps up".to_owned(),
        Some(seconds) => span(seconds),
    };
    let cost = match (fleet.cost, fleet.cost_per_h) {
        (Some(cost), _) => format!("{cost:.2}"),
        (None, Some(per_h)) => format!("{per_h:.2}/h"),
        (None, None) => "-".to_owned(),
    };
    let late = if fleet.enough || plan_has_no_goal(goal) { "" } else { "   not enough" };
    let _ = writeln!(
        out,
        "{:>9} {:>9} {:>11} {time:>10} {cost:>14}{late}",
        grouped(fleet.workers as f64),
        grouped(fleet.cores),
        grouped(fleet.per_s)
    );
}

fn plan_has_no_goal(goal: &Goal) -> bool {
    goal.within_s.is_none() && goal.arriving_per_s == 0.0
}

/// A length of time with two units: `3d 4h`, `5h 12m`, `40s`.
fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(Duration::MAX).as_secs();
    let (d, h, m, s) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, m) => format!("{m}m {s}s"),
        (0, h, m) => format!("{h}h {m}m"),
        (d, h, _) => format!("{}d {h}h", grouped(d as f64)),
    }
}

/// A number with its thousands set apart, and one decimal where it is small and not whole.
fn grouped(number: f64) -> String {
    if number < 1000.0 && (number - number.round()).abs() > 1e-6 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_the_bottleneck_the_workers_and_what_is_not_enough() {
        let calibration = Calibration {
            model: "m@sha256:1".into(),
            precision: "f32".into(),
            threads: 4,
            images: 99,
            infer_s: 0.02,
            decode_s: 0.005,
            bytes_per_image: 1e5,
            fetch_per_s: None,
            cores_got: 0.5,
        };
        let worker = calibration.worker(4.0);
        let goal = Goal { images: 200e6, arriving_per_s: 500.0, within_s: Some(172_800.0), price_per_h: Some(1.5) };
        let plan = plan(&worker, &goal);
        let answer =
            Answer { calibration, sample: "x".into(), goal, worker, images_per_s: worker.per_s(), bottleneck: worker.bottleneck(), plan };
        let text = text(&answer);
        for part in [
            "160.0 images/s, 16.0 MB/s; the bottleneck is inference",
            "200,000,000 images and 500 more a second in 2d 0h: 11 workers, 44 cores; a topic with at least 11 partitions",
            "6        24         960",
            "not enough",
            "careful: the threads had only 50% of a core each",
            "       11        44       1,760     1d 20h",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!((&json["needed"], &json["bottleneck"], json["fleets"].as_array().unwrap().len()), (&11.into(), &"inference".into(), 4));
    }

    #[test]
    fn numbers_are_grouped_and_times_have_two_units() {
        assert_eq!([999.0, 1000.0, 1_234_567.0, 12.26, 0.0].map(grouped), ["999", "1,000", "1,234,567", "12.3", "0"].map(str::to_owned));
        assert_eq!([5.0, 61.0, 3600.0, 90_000.0].map(span), ["5s", "1m 1s", "1h 0m", "1d 1h"].map(str::to_owned));
    }
}
