//! `lakelens audit`: every input position against records and dead letters.

use indicatif::ProgressBar;

use crate::audit::{AuditOptions, audit};
use crate::cli::{Common, print, properties};
use crate::{Error, Result, reference};

/// Compare every input position with the records and dead letters: missing, doubled, unasked. Ends with code 3 if they do not balance.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens audit --brokers localhost:9092 --topic image-refs --outputs image-labels image-embeddings --dead image-refs.dead")]
pub struct Args {
    /// Bootstrap servers.
    #[arg(long, env = "KAFKA_BROKERS")]
    brokers: String,
    /// The topic of references.
    #[arg(long)]
    topic: String,
    /// Topics of records; each of them must have every item that has no dead letter.
    #[arg(long, required = true, num_args = 1..)]
    outputs: Vec<String>,
    /// The topic of dead letters.
    #[arg(long)]
    dead: Option<String>,
    /// Wrong items listed of each kind.
    #[arg(long, default_value_t = 20)]
    list: usize,
    /// A property of librdkafka, name=value; may be given several times.
    #[arg(long = "property", value_name = "NAME=VALUE")]
    properties: Vec<String>,
}

pub async fn run(args: Args, common: Common) -> Result<()> {
    let properties = properties(&args.properties)?;
    let options =
        AuditOptions { brokers: args.brokers, topic: args.topic, outputs: args.outputs, dead: args.dead, properties, listed: args.list };
    let bar = if common.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let shown = bar.clone();
    let report = audit(options, reference::parse, move |count| shown.set_message(format!("{count} messages"))).await;
    bar.finish_and_clear();
    let report = report?;
    match common.json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(&report).map_err(Error::failed)?))?,
        false => print(&format!("{report}\n"))?,
    }
    report.verdict()
}
