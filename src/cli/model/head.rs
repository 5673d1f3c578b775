//! `lakelens model head`: classifiers on embeddings.

use std::path::PathBuf;

use crate::cli::{Common, print};
use crate::head::{Examples, Truth, cross_validate, train};
use crate::records;
use crate::{Error, Result};

/// Classifiers on stored embeddings.
#[derive(clap::Subcommand)]
pub enum Command {
    Train(TrainArgs),
}

/// Fit a linear classifier to the embeddings of labelled pictures.
///
/// It is a multinomial logistic regression. Some dozen pictures of each class are enough where the network sees what tells them apart; cross-validation
/// says whether it does. The head goes with embeddings of the same model and preprocessing only.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens model head train records.parquet --labels season.csv --out heads/season.json\n  \
    lakelens relabel records.parquet --head heads/season.json --out seasons.parquet\n\n\
    season.csv:\n  uri,label\n  s3://lake/a.jpg,winter\n  s3://lake/b.jpg,summer")]
pub struct TrainArgs {
    /// Files of records with embeddings (.jsonl, .parquet), or folders of them.
    #[arg(required = true)]
    records: Vec<String>,
    /// A CSV file with a column `label` and one of `uri`, `id` and `file` (the last part of the URI).
    #[arg(long, value_name = "FILE.csv")]
    labels: PathBuf,
    /// The file to write.
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
    /// How strongly large weights are held back: more for few or doubtful labels, less for many.
    #[arg(long, default_value_t = 0.01, value_parser = penalty)]
    penalty: f64,
    /// Draws the parts of the cross-validation.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write over an existing file.
    #[arg(long)]
    force: bool,
}

fn penalty(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|p| (1e-9..=1e9).contains(p)).ok_or_else(|| "not a number from 1e-9 to 1e9".to_owned())
}

pub fn run(command: &Command, common: &Common) -> Result<()> {
    let Command::Train(args) = command;
    if args.out.exists() && !args.force {
        return Err(Error::config(format_args!("{} exists; give another file, or --force to write over it", args.out.display())));
    }
    let truth = Truth::read(&args.labels)?;
    let stop = common.stop.clone();
    let entries = records::open(&args.records)?.take_while(|_| !stop.is_cancelled());
    let examples = Examples::gather(entries, &truth)?;
    let stopped = || if common.stop.is_cancelled() { Err(Error::failed("stopped by a signal; nothing was written")) } else { Ok(()) };
    stopped()?;
    if examples.missing > 0 {
        tracing::warn!("{} of {} labelled pictures are not among the records", examples.missing, truth.len());
    }
    let validation = cross_validate(&examples, args.penalty, args.seed)?;
    stopped()?;
    let mut head = train(&examples, &(0..examples.classes.len()).collect::<Vec<_>>(), args.penalty)?;
    head.validation = Some(validation.clone());
    head.write(&args.out)?;
    if common.json {
        let json = serde_json::json!({"head": args.out, "origin": head.origin, "pictures": examples.classes.len(), "missing": examples.missing, "validation": validation});
        return print(&format!("{json:#}\n"));
    }
    print(&format!("{validation}\nwrote {}, for embeddings of {}\n", args.out.display(), crate::telemetry::escape(&head.origin.model)))
}
