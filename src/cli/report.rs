//! `lakelens report`: a page to look at, of any records.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{Common, print};
use crate::report::{self, Images, Options, Written};
use crate::{Error, Result, config, records};

/// Make a page to look at of records: report.html, one file that works offline.
///
/// Counts and rejections by reason, labels, scores, a gallery to search, nearest neighbours, a map of the embeddings, what made them and how fast. Records
/// are read once, as a stream, millions too: the counts are of all of them, the pictures of a sample.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  lakelens report labels.jsonl
  lakelens report out/ --out report.html --images            # thumbnails from the files that were labelled
  lakelens report labels.parquet --images=s3://lake/2026/    # from the bucket, with the credentials of the environment
  lakelens report labels.parquet --images=/mnt/lake          # thumbnails of s3://BUCKET/KEY from /mnt/lake/KEY
  lakelens report labels.jsonl --json | jq .rejections")]
pub struct Args {
    /// Files that end in .jsonl or .parquet, or folders of them. Rejections in FILE.rejected.jsonl beside FILE belong to it.
    #[arg(required = true)]
    records: Vec<String>,
    /// The file to write. A report that is there is replaced, any other file is not.
    #[arg(long, default_value = "report.html")]
    out: PathBuf,
    /// Show thumbnails, of the files that the records name, or of those in PLACE: a folder, s3://BUCKET/PREFIX or https://HOST. Only files with the
    /// SHA-256 of the record are shown; without it, none.
    #[arg(long, value_name = "PLACE", num_args = 0..=1)]
    images: Option<Option<String>>,
    /// S3 endpoint, where it is not AWS, for --images=s3://...
    #[arg(long, env = "S3_ENDPOINT")]
    s3_endpoint: Option<String>,
    /// Pictures to show one by one, a fifth of them those that the model is least sure of.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=5000))]
    sample: u16,
    /// Write over a file that is no report.
    #[arg(long)]
    overwrite: bool,
}

pub fn run(args: Args, common: &Common) -> Result<()> {
    let images = match args.images {
        None => Images::None,
        Some(None) => Images::Uri,
        Some(Some(place)) if Path::new(&place).is_dir() => Images::Folder(place.into()),
        Some(Some(place)) => Images::Store { allow: report::place(&place)?, s3: config::S3::at(args.s3_endpoint) },
    };
    if args.out.as_os_str() == "-" {
        return Err(Error::config("--out -: a report is a file; give its name"));
    }
    let entries = records::open(&args.records)?;
    let options = Options { inputs: args.records, out: args.out, overwrite: args.overwrite, images, sample: usize::from(args.sample) };
    let bar = if common.quiet || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {human_pos} entries read, {per_sec}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let written = tokio::task::block_in_place(|| report::write(entries, &options, &common.stop, |count| bar.set_position(count)));
    bar.finish_and_clear();
    let written = written?;
    if written.overview.records + written.overview.rejections == 0 {
        tracing::warn!("there are no records in what was read: the report is empty");
    }
    if common.json {
        let json = serde_json::to_string(&written.overview).map_err(Error::failed)?;
        return print(&format!("{json}\n"));
    }
    print(&format!("{}\n", said(&options, &written)))
}

/// One line on what was written.
pub(super) fn said(options: &Options, written: &Written) -> String {
    let Written { overview, shown, thumbnails, missing, bytes } = written;
    let why = match (&options.images, missing) {
        (Images::None, _) | (_, None) => String::new(),
        (_, Some((count, why))) => format!(" ({count} without: {why})"),
    };
    format!(
        "{}: {} records, {} rejections; pictures to look at: {shown}, {thumbnails} with a thumbnail{why}; {:.1} MB",
        options.out.display(),
        overview.records,
        overview.rejections,
        *bytes as f64 / 1e6
    )
}
