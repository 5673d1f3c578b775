//! `lakelens enqueue`: references of a folder, a bucket, a file or an inventory onto a topic.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{Common, print, properties};
use crate::enqueue::{EnqueueOptions, enqueue};
use crate::{Error, Result, config, store};

/// Put references of a folder, bucket prefix, JSONL file or S3 Inventory onto a topic.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens enqueue s3://lake/2026/ --brokers localhost:9092 --topic image-refs\n  \
    lakelens enqueue references.jsonl --brokers localhost:9092 --topic image-refs")]
pub struct Args {
    /// Folders, files of references, globs, s3://bucket/prefix, an inventory's manifest.json, or - for stdin.
    #[arg(required = true)]
    input: Vec<String>,
    /// Bootstrap servers.
    #[arg(long, env = "KAFKA_BROKERS")]
    brokers: String,
    /// The topic, which must exist.
    #[arg(long)]
    topic: String,
    /// A file that remembers how far it got, to go on from there.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Only keys that match; may be given several times.
    #[arg(long)]
    include: Vec<String>,
    /// No keys that match; may be given several times.
    #[arg(long)]
    exclude: Vec<String>,
    /// Leave ETag and version out of the references: whatever is there is labelled.
    #[arg(long)]
    without_etags: bool,
    /// Parts of a bucket that are listed at the same time.
    #[arg(long, default_value_t = 8)]
    parallel: usize,
    /// A property of librdkafka, name=value; may be given several times.
    #[arg(long = "property", value_name = "NAME=VALUE")]
    properties: Vec<String>,
    /// S3 endpoint, where it is not AWS.
    #[arg(long, env = "S3_ENDPOINT")]
    s3_endpoint: Option<String>,
}

pub async fn run(args: Args, common: Common) -> Result<()> {
    let properties = properties(&args.properties)?;
    let s3 = config::S3::at(args.s3_endpoint);
    let options = EnqueueOptions {
        inputs: args.input,
        brokers: args.brokers,
        topic: args.topic,
        state: args.state,
        include: args.include,
        exclude: args.exclude,
        properties,
        s3: Some(store::s3_client(&s3).await),
        parallel: args.parallel,
        without_etags: args.without_etags,
        cancel: common.stop.clone(),
    };
    let bar = if common.quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {human_pos} references, {per_sec}") {
        bar.set_style(style);
    }
    let summary = enqueue(&options, |count| bar.set_position(count)).await;
    bar.finish_and_clear();
    let summary = summary?;
    if common.json {
        let json = serde_json::to_string(&summary).map_err(Error::failed)?;
        print(&format!("{json}\n"))?;
    } else {
        let rate = summary.enqueued as f64 / summary.seconds.max(1e-9);
        let mut text = format!("{} references enqueued in {:.1} s ({rate:.0} a second)\n", summary.enqueued, summary.seconds);
        if summary.total > summary.enqueued {
            text.push_str(&format!("{} in all, with those of the earlier runs that --state remembers\n", summary.total));
        }
        if summary.filtered > 0 {
            text.push_str(&format!("{} left out by --include and --exclude\n", summary.filtered));
        }
        if summary.too_long > 0 {
            text.push_str(&format!("{} left out, too long for a message\n", summary.too_long));
        }
        print(&text)?;
    }
    match summary.finished {
        true => Ok(()),
        false => Err(Error::failed("stopped before the end of the inputs; with --state a further call goes on from there")),
    }
}
