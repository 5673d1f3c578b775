//! `lakelens run`: the worker.

use std::path::PathBuf;
use std::sync::Arc;

use crate::Result;
use crate::cli::{Common, summary};
use crate::config::{self, Span};
use crate::pipeline::{self, assemble};
use crate::telemetry::{About, Endpoint, Export, Stats};
use crate::worker::terms::Bounds;

/// Run a pipeline: the worker.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens run pipeline.yaml\n  \
    lakelens run pipeline.yaml --until-idle 10s\n  \
    lakelens run pipeline.yaml --dry-run --max-items 20")]
pub struct Args {
    /// The pipeline file.
    pipeline: PathBuf,
    /// End when there has been nothing to do for this long (a backfill): every partition at its end, nothing in flight.
    #[arg(long, value_name = "10s")]
    until_idle: Option<Span>,
    /// End after this many items.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    max_items: Option<u64>,
    /// Label, but write records to stdout instead of the sinks and commit nothing; 20 items unless --max-items says otherwise.
    #[arg(long)]
    dry_run: bool,
    /// End with code 4 if an image was rejected.
    #[arg(long)]
    fail_on_rejected: bool,
}

pub async fn run(args: Args, common: Common) -> Result<()> {
    let pipeline = config::load(&args.pipeline)?;
    let bounds = Bounds { until_idle: args.until_idle.map(|span| span.0), max_items: args.max_items.or(args.dry_run.then_some(20)) };
    let mode = if args.dry_run { assemble::Mode::DryRun } else { assemble::Mode::Real };
    let stats = Arc::new(Stats::default());
    // Before the model is loaded, so that whoever asks learns that it is.
    let listen = pipeline.telemetry.listen.as_deref().filter(|_| !args.dry_run);
    let about = || About {
        name: pipeline.name.clone(),
        instance: pipeline.instance.clone(),
        watchdog: pipeline.watchdog.0,
        deadline: pipeline.deadline.map(|moment| moment.0.into()),
    };
    let _endpoint = listen.map(|listen| Endpoint::start(listen, stats.clone(), about())).transpose()?;
    // Starting waits for servers that are away; a stop does not wait for that.
    let mut parts = tokio::select! {
        biased;
        parts = assemble::parts(&pipeline, mode, &common, stats) => parts?,
        () = common.stop.cancelled() => {
            tracing::warn!("stopped before all servers had answered; nothing was taken");
            return Ok(());
        }
    };
    parts.bounds = bounds;
    parts.decoder = Some(crate::sandbox::own_program());
    let otlp = pipeline.telemetry.otlp.as_ref().filter(|_| !args.dry_run);
    let export = otlp.map(|otlp| Export::start(otlp, &pipeline.name, &pipeline.instance)).transpose()?;
    parts.tracing = export.as_ref().map(Export::tracing);
    let summary = pipeline::run(parts).await;
    if let Some(export) = export {
        let _ = tokio::task::spawn_blocking(move || export.stop()).await;
    }
    let summary = summary?;
    if !common.quiet {
        summary::print(&summary);
    }
    let bounded = args.until_idle.is_some() || args.max_items.is_some();
    summary::verdict(summary, args.fail_on_rejected, bounded)
}
