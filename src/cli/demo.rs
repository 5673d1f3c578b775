//! `lakelens demo`: the whole way in miniature, without servers, network or files of one's own.

mod pictures;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cli::{Common, print, summary};
use crate::config;
use crate::format::json;
use crate::format::parquet::jsonl_to_parquet;
use crate::head::Heads;
use crate::pipeline::{self, Parts};
use crate::sink::Journal;
use crate::source::{ListingOptions, listing};
use crate::telemetry::escape;
use crate::worker::intake::Reading;
use crate::worker::terms::Bounds;
use crate::{Context, Error, Result, model, records, report};

/// Label drawn pictures with the bundled model: no server, no network.
///
/// The model is a ResNet-50 that this project trained on pictures of 28 kinds of surfaces, and knows nothing else: its card is in OUT/model. Pictures are
/// drawn anew, like those that it was trained on and none of them; some files are broken on purpose.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  lakelens demo\n  lakelens demo --out /tmp/demo")]
pub struct Args {
    /// Where pictures, model and results go.
    #[arg(long, default_value = "out/demo")]
    out: PathBuf,
}

pub async fn run(args: Args, common: Common) -> Result<()> {
    let out = args.out;
    let (photos, folder) = (out.join("pictures"), out.join("model"));
    write_model(&folder)?;
    let begun = Instant::now();
    let drawn = tokio::task::block_in_place(|| pictures::draw(&photos))?;
    let drawing = begun.elapsed();
    let output = config::Output { top_k: 3, ..config::Output::default() };
    let loaded = model::load(&folder, &model::LoadOptions::of(config::Precision::F32, &output, &config::Decode::default()))?;

    let jsonl = out.join("records.jsonl");
    let name = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| Error::config("--out is not UTF-8"));
    let mut journal = Journal::open(&name(&jsonl)?, false, true)?;
    let source = listing::start_inputs(&[name(&photos)?], None, None, ListingOptions::default()).await?;
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
        heads: Heads::default(),
        output,
        reject_limit: config::RejectLimit { share: 1.0, of_last: 1 },
        bounds: Bounds::default(),
        watchdog: std::time::Duration::ZERO,
        stop: common.stop.clone(),
        stats: std::sync::Arc::default(),
        tracing: None,
        quiet: true,
    })
    .await?;
    journal.finish()?;
    let parquet = out.join("records.parquet");
    jsonl_to_parquet(&jsonl, &parquet)?;
    let page = report::Options {
        inputs: vec![name(&jsonl)?],
        out: out.join("report.html"),
        overwrite: true,
        images: report::Images::Uri,
        sample: 1000,
    };
    if !done.stopped {
        tokio::task::block_in_place(|| report::write(records::open(&page.inputs)?, &page, &common.stop, |_| ()))?;
    }
    print(&table(&jsonl)?)?;
    summary::print(&done);
    print(&format!(
        "\n{drawn} pictures were drawn in {:.1} s, in {}\n\
         records     {} and {}\nrejections  {}.rejected.jsonl\n\
         report      {} (open it in a browser)\n\
         try next    lakelens label {} --model {} --precision bf16 --out labels.parquet\n\
         \x20           lakelens label YOUR-PHOTOS/ --model YOUR-MODEL/ --out labels.parquet\n",
        drawing.as_secs_f64(),
        photos.display(),
        jsonl.display(),
        parquet.display(),
        jsonl.display(),
        page.out.display(),
        photos.display(),
        folder.display(),
    ))?;
    summary::verdict(done, false, true)
}

/// Writes the model that is bundled with this program as a model folder.
fn write_model(folder: &Path) -> Result<()> {
    let files = lakelens_surfaces::MODEL.ok_or_else(|| {
        Error::config(
            "this build has no bundled model, which the published crate leaves out: build from the repository, or try \
             `lakelens model init resnet50` and `lakelens label PHOTOS/ --model resnet50`",
        )
    })?;
    std::fs::create_dir_all(folder).context(format_args!("cannot make the folder {}", folder.display()))?;
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::write(&path, bytes).context(format_args!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A table of picture, best label and score: a picture of each class and every one that is labelled as something else, and how many of all are right.
fn table(records: &Path) -> Result<String> {
    use std::fmt::Write;
    let text = std::fs::read_to_string(records).context(format_args!("cannot read {}", records.display()))?;
    let mut table = format!("{:<24} {:>9}  {:<16} {:>6}  embedding\n", "picture", "pixels", "label", "score");
    let (mut right, mut all) = (0, 0);
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let record = json::parse_record(line.as_bytes()).map_err(Error::failed)?;
        let name = record.uri.rsplit('/').next().unwrap_or_default();
        let best = record.labels.as_ref().and_then(|labels| labels.first());
        let (label, score) = best.map_or(("-", 0.0), |best| (&best.label, best.score));
        let class = name.rsplit_once('-').map_or(name, |(class, _)| class);
        let is_right = class == pictures::slug(label);
        (all, right) = (all + 1, right + usize::from(is_right));
        if is_right && !name.ends_with("-1.jpg") {
            continue;
        }
        let head: Vec<String> = record.embedding.iter().flatten().take(3).map(|v| format!("{v:.2}")).collect();
        let pixels = format!("{}x{}", record.width, record.height);
        let mark = if is_right { "" } else { "  <- drawn as something else" };
        let (name, label) = (escape(name), escape(label));
        lines.push(format!("{name:<24} {pixels:>9}  {label:<16} {score:>6.3}  [{}, ...]{mark}\n", head.join(", ")));
    }
    lines.sort();
    table.extend(lines);
    let _ = writeln!(table, "\n{right} of {all} pictures are labelled as what they were drawn as\n");
    Ok(table)
}
