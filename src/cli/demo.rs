//! `lakelens demo`: the whole way in miniature, without servers, network or files of one's own.
//!
//! In this first form the network's weights are seeded, not trained: its labels mean nothing yet, and the demo says so.

use std::f32::consts::TAU;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};

use crate::cli::{Common, print, summary};
use crate::config;
use crate::format::json;
use crate::format::parquet::jsonl_to_parquet;
use crate::model::init_resnet50;
use crate::pipeline::{self, Parts};
use crate::sink::Journal;
use crate::source::{ListingOptions, listing};
use crate::telemetry::escape;
use crate::worker::intake::Reading;
use crate::worker::terms::Bounds;
use crate::{Context, Error, Result, model};

/// Label a few drawn pictures with a seeded model: no server, no network.
#[derive(clap::Args)]
pub struct Args {
    /// Where pictures, model and results go.
    #[arg(long, default_value = "out/demo")]
    out: PathBuf,
}

pub async fn run(args: Args, common: Common) -> Result<()> {
    let out = args.out;
    let pictures = out.join("pictures");
    draw(&pictures)?;
    let folder = out.join("model");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context(format!("cannot renew {}", folder.display()))?;
    }
    init_resnet50(0, &folder, 1000)?;
    let output = config::Output { top_k: 3, ..config::Output::default() };
    let loaded = model::load(&folder, &model::LoadOptions::of(config::Precision::F32, &output, &config::Decode::default()))?;

    let jsonl = out.join("records.jsonl");
    let name = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| Error::config("--out is not UTF-8"));
    let mut journal = Journal::open(&name(&jsonl)?, false, true)?;
    let source = listing::start_inputs(&[name(&pictures)?], None, None, ListingOptions::default()).await?;
    let done = pipeline::run(Parts {
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
        threads: 0,
        output,
        reject_limit: config::RejectLimit { share: 1.0, of_last: 1 },
        bounds: Bounds::default(),
        watchdog: std::time::Duration::ZERO,
        stop: common.stop.clone(),
        quiet: true,
    })
    .await?;
    journal.finish()?;
    let parquet = out.join("records.parquet");
    jsonl_to_parquet(&jsonl, &parquet)?;
    print(&table(&jsonl)?)?;
    summary::print(&done);
    print(&format!(
        "\nThe weights are random (seeded), so the labels mean nothing yet; everything else is real.\n\
         records     {} and {}\nrejections  {}.rejected.jsonl\n\
         try next    lakelens label YOUR-PHOTOS/ --model YOUR-MODEL/ --out labels.parquet\n",
        jsonl.display(),
        parquet.display(),
        jsonl.display()
    ))?;
    summary::verdict(done, false, true)
}

/// A table of picture, best label and score.
fn table(records: &Path) -> Result<String> {
    use std::fmt::Write;
    let text = std::fs::read_to_string(records).context(format!("cannot read {}", records.display()))?;
    let mut table = format!("{:<28} {:>9}  {:<10} {:>7}  embedding\n", "picture", "pixels", "label", "score");
    for line in text.lines() {
        let record = json::parse_record(line.as_bytes()).map_err(Error::failed)?;
        let name = record.uri.rsplit('/').next().unwrap_or_default();
        let best = record.labels.as_ref().and_then(|labels| labels.first());
        let (label, score) = best.map_or(("-", 0.0), |best| (&best.label, best.score));
        let head: Vec<String> = record.embedding.iter().flatten().take(3).map(|v| format!("{v:.2}")).collect();
        let pixels = format!("{}x{}", record.width, record.height);
        let _ = writeln!(table, "{:<28} {pixels:>9}  {:<10} {score:>7.4}  [{}, ...]", escape(name), escape(label), head.join(", "));
    }
    Ok(table)
}

/// Draws the pictures, some broken ones among them.
fn draw(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).context(format!("cannot make the folder {}", folder.display()))?;
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).context(format!("cannot write {name}"));
    let formats = ["jpg", "png", "webp", "gif", "bmp", "tiff"];
    for n in 0..18u32 {
        let (width, height) = (300 + 37 * (n % 7), 260 + 29 * (n % 5));
        let picture = pattern(n, width, height);
        let extension = formats[n as usize % formats.len()];
        let name = format!("{:02}-{}.{extension}", n, PATTERNS[n as usize % PATTERNS.len()].0);
        picture.save(folder.join(&name)).context(format!("cannot draw {name}"))?;
    }
    let mut whole = std::io::Cursor::new(Vec::new());
    pattern(3, 320, 240).write_to(&mut whole, image::ImageFormat::Jpeg).context("cannot draw a picture")?;
    let whole = whole.into_inner();
    write("90-truncated.jpg", &whole[..whole.len() / 2])?;
    write("91-not-a-picture.png", b"This is a text.\n")?;
    write("92-empty.gif", b"")?;
    Ok(())
}

type Pattern = fn(f32, f32) -> f32;

/// Patterns over the plane, from 0 to 1.
const PATTERNS: &[(&str, Pattern)] = &[
    ("stripes", |x, y| 0.5 + 0.5 * ((x + 0.3 * y) * 4.0).sin()),
    ("checks", |x, y| f32::from(((x * 2.0).sin() > 0.0) ^ ((y * 2.0).sin() > 0.0))),
    ("rings", |x, y| 0.5 + 0.5 * ((x - 6.0).hypot(y - 5.0) * 5.0).sin()),
    ("dots", |x, y| f32::from((x * 2.0).sin() * (y * 2.0).sin() > 0.6)),
    ("waves", |x, y| 0.5 + 0.5 * (y * 3.0 + (x * 2.0).sin() * 1.5).sin()),
    ("weave", |x, y| 0.25 * (2.0 + (x * 6.0).sin() + (y * 6.0).cos())),
];

fn pattern(n: u32, width: u32, height: u32) -> RgbImage {
    let value = PATTERNS[n as usize % PATTERNS.len()].1;
    let hue = n as f32 * 0.7;
    RgbImage::from_fn(width, height, |x, y| {
        let v = value(x as f32 / 28.0, y as f32 / 28.0);
        let channel = |shift: f32| {
            let tint = 0.5 + 0.5 * (hue + shift).sin();
            (255.0 * (0.15 + 0.85 * (v * tint + (1.0 - v) * (1.0 - tint)))).clamp(0.0, 255.0) as u8
        };
        Rgb([channel(0.0), channel(TAU / 3.0), channel(2.0 * TAU / 3.0)])
    })
}
