//! `lakelens redrive`: dead letters back to a topic.

use indicatif::ProgressBar;

use crate::cli::{Common, print, properties};
use crate::redrive::{NONE, RedriveOptions, reasons, redrive};
use crate::{Error, Result};

/// Send dead letters of chosen reasons back to a topic, each exactly once, up to those that are there when it starts.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens redrive --brokers localhost:9092 --topic image-refs.dead --to image-refs --reason unavailable --dry-run\n  \
    lakelens redrive --brokers localhost:9092 --topic image-refs.dead --to image-refs --reason unavailable --reason not_found")]
pub struct Args {
    /// Bootstrap servers.
    #[arg(long, env = "KAFKA_BROKERS")]
    brokers: String,
    /// The topic of dead letters.
    #[arg(long)]
    topic: String,
    /// The topic that they go to.
    #[arg(long)]
    to: String,
    /// Only letters of this reason; may be given several times. Each reason has a position of its own. All letters where not given, which leaves
    /// out `none`: messages that are no letters.
    #[arg(long = "reason", value_parser = reason_names())]
    reasons: Vec<String>,
    /// At most so many letters; a later run goes on from there.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_items: Option<u64>,
    /// Count only: nothing is sent and no position changes.
    #[arg(long)]
    dry_run: bool,
    /// Begin with the oldest letters where the group has no position, even if they are older than brokers keep positions.
    #[arg(long)]
    from_start: bool,
    /// The consumer group that the positions are kept under; `lakelens-redrive.TOPIC` where not given.
    #[arg(long)]
    group: Option<String>,
    /// A property of librdkafka, name=value; may be given several times.
    #[arg(long = "property", value_name = "NAME=VALUE")]
    properties: Vec<String>,
}

fn reason_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(reasons())
}

pub async fn run(args: Args, common: Common) -> Result<()> {
    let chosen =
        reasons().filter(|r| if args.reasons.is_empty() { *r != NONE } else { args.reasons.iter().any(|asked| asked == r) }).collect();
    let group = args.group.unwrap_or_else(|| format!("lakelens-redrive.{}", args.topic));
    let options = RedriveOptions {
        brokers: args.brokers,
        topic: args.topic,
        to: args.to,
        reasons: chosen,
        group,
        max_items: args.max_items.unwrap_or(u64::MAX),
        dry_run: args.dry_run,
        from_start: args.from_start,
        properties: properties(&args.properties)?,
    };
    let bar = if common.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let shown = bar.clone();
    let report =
        redrive(options, &common.stop, move |report| shown.set_message(format!("{} of {} letters", report.redriven(), report.read))).await;
    bar.finish_and_clear();
    let report = report?;
    match common.json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(&report).map_err(Error::failed)?))?,
        false => print(&report.to_string())?,
    }
    match report.stopped {
        true => Err(Error::failed("stopped before the end; run it again to go on from there")),
        false => Ok(()),
    }
}
