//! `lakelens check`: every mistake of a pipeline file at once.

use std::path::PathBuf;

use crate::cli::print;
use crate::config::{self, Loaded, Pipeline};
use crate::pipeline::assemble;
use crate::{Error, Result};

/// Check a pipeline file: every mistake at once, with line and column.
#[derive(clap::Args)]
pub struct Args {
    /// The pipeline file.
    pipeline: PathBuf,
    /// Also try the servers: brokers, topics, buckets.
    #[arg(long)]
    connect: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let Loaded { pipeline, warnings, text } = config::load_with(&args.pipeline, try_model)?;
    let (delivery, why) = config::effective_delivery(&pipeline);
    let mut text = config::redacted(&pipeline, &text);
    for warning in &warnings {
        text.push_str(&format!("# warning: {}:{warning}\n", args.pipeline.display()));
    }
    text.push_str(&format!("# delivery: {delivery} ({why})\n"));
    if args.connect {
        let faults = assemble::connect(&pipeline).await;
        if !faults.is_empty() {
            return Err(Error::failed(faults.join("\n")));
        }
        text.push_str("# every server answered\n");
    }
    text.push_str(&format!("# {}: no mistakes found\n", args.pipeline.display()));
    print(&text)
}

/// Loads the model as `run` would, so that what only its files show is found here, too.
fn try_model(pipeline: &Pipeline) -> Result<()> {
    assemble::load(pipeline).map(drop)
}
