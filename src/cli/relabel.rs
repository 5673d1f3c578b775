//! `lakelens relabel`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::{Common, print};
use crate::head::{Head, relabel};
use crate::telemetry::escape;
use crate::{Error, Result, records};

/// Label records again from their stored embeddings, without fetching a picture.
///
/// The labels of a head stand under its name in `heads` of each record; everything else stays. Refused for embeddings of another model or preprocessing
/// than the head was trained on.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens relabel records.parquet --head heads/season.json --out seasons.parquet\n  \
    lakelens relabel archive/ --head season=heads/s.json --head room=heads/r.json --top-k 1 --out - | jq .heads")]
pub struct Args {
    /// Files of records with embeddings (.jsonl, .parquet), or folders of them.
    #[arg(required = true)]
    records: Vec<String>,
    /// A head of `lakelens model head train`, with or without a name; the file's where not given. May be repeated.
    #[arg(long = "head", value_name = "[NAME=]FILE", required = true)]
    heads: Vec<String>,
    /// Where records go: FILE.jsonl, FILE.parquet, or - for JSONL on stdout.
    #[arg(long)]
    out: String,
    /// Labels of each head.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// Leave out labels below this score.
    #[arg(long, default_value_t = 0.0, value_parser = super::finite)]
    min_score: f32,
    /// Write over an existing file.
    #[arg(long)]
    overwrite: bool,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    if args.out != "-" && Path::new(&args.out).exists() && !args.overwrite {
        return Err(Error::config(format_args!("{} exists; give another file, or --overwrite to write over it", args.out)));
    }
    let mut heads = BTreeMap::new();
    for (name, path) in args.heads.iter().map(|given| named(given)) {
        if heads.insert(name.clone(), Head::read(&path)?).is_some() {
            return Err(Error::config(format_args!("two heads are named {name}; write --head NAME=FILE")));
        }
    }
    let stop = common.stop.clone();
    let entries = records::open(&args.records)?.map(|entry| {
        let stopped = || Error::failed("stopped by a signal; nothing was written");
        if stop.is_cancelled() { Err(stopped()) } else { entry }
    });
    let limits = (args.top_k as usize, args.min_score);
    if args.out == "-" {
        return relabel(entries, &heads, limits, &mut |record| print(&String::from_utf8_lossy(&records::line(&record)))).map(drop);
    }
    let mut file = records::NewFile::create(Path::new(&args.out))?;
    let done = relabel(entries, &heads, limits, &mut |record| file.push(record))?;
    file.finish()?;
    if common.json {
        let json = serde_json::json!({"out": args.out, "records": done.records, "rejections": done.rejections, "best": done.best});
        return print(&format!("{json:#}\n"));
    }
    let mut text = format!("{} records labelled, in {}", done.records, args.out);
    if done.rejections > 0 {
        text.push_str(&format!("; {} rejections have nothing to label", done.rejections));
    }
    text.push('\n');
    for (name, best) in &done.best {
        let mut counts: Vec<(&String, &u64)> = best.iter().collect();
        counts.sort_by_key(|(label, count)| (std::cmp::Reverse(**count), *label));
        let most: Vec<String> = counts.iter().take(10).map(|(label, count)| format!("{} {count}", escape(label))).collect();
        text.push_str(&format!("{}: {}\n", escape(name), most.join(", ")));
    }
    print(&text)
}

/// `NAME=FILE`, or `FILE` with its stem as the name.
pub(super) fn named(given: &str) -> (String, PathBuf) {
    match given.split_once('=') {
        Some((name, path)) if !name.is_empty() && !name.contains('/') => (name.to_owned(), PathBuf::from(path)),
        _ => (Path::new(given).file_stem().unwrap_or_default().to_string_lossy().into_owned(), PathBuf::from(given)),
    }
}
