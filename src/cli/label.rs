//! `lakelens label`: a one-off, without servers of any kind unless the input lies in a bucket.

use std::path::PathBuf;

use crate::cli::{Common, summary};
use crate::config::{self, ByteSize, Encoding, Normalize, OnDelete, Precision};
use crate::head::Heads;
use crate::pipeline::{self, Parts};
use crate::sink::{Journal, Sink};
use crate::source::{ListingOptions, listing};
use crate::worker::intake::Reading;
use crate::worker::terms::Bounds;
use crate::{Error, Result, model, store};

/// Label files, folders, globs, s3://bucket/prefix, or - for references on stdin.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens label photos/ --model models/resnet50 --out labels.parquet\n  \
    lakelens label s3://lake/2026/ --model models/resnet50 --precision bf16 --out labels.jsonl --resume\n  \
    cat uris.txt | lakelens label - --model models/resnet50 --no-embeddings | jq .labels")]
pub struct Args {
    /// Files, folders, globs, s3://bucket/prefix, or - for references on stdin, one a line; so are .txt, .lst, .uris, .jsonl and .ndjson files read.
    #[arg(required = true)]
    input: Vec<String>,
    /// A model folder with model.yaml, or an .onnx file.
    #[arg(long)]
    model: PathBuf,
    /// Where records go: FILE.jsonl, FILE.parquet, or - for JSONL on stdout.
    #[arg(long, default_value = "-")]
    out: String,
    /// Labels a record; 0 = none.
    #[arg(long, default_value_t = 5)]
    top_k: usize,
    /// Leave out labels below this score.
    #[arg(long, default_value_t = 0.0, value_parser = super::finite)]
    min_score: f32,
    /// A head of `lakelens model head train`, with or without a name; the file's where not given. May be repeated.
    #[arg(long = "head", value_name = "[NAME=]FILE")]
    heads: Vec<String>,
    /// Leave the embedding out.
    #[arg(long)]
    no_embeddings: bool,
    /// Scale embeddings to length 1.
    #[arg(long)]
    l2: bool,
    /// Arithmetic of the network.
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    /// Most images in one micro-batch.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Worker threads; 0 = one a core.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1024))]
    threads: u16,
    /// Upper bound for bodies, decoding and unfinished results together.
    #[arg(long, default_value = "512MiB")]
    memory: ByteSize,
    /// Turn images as their EXIF orientation says (torchvision does not).
    #[arg(long)]
    exif: bool,
    /// Go on with what an interrupted run has left in the output.
    #[arg(long)]
    resume: bool,
    /// Write over an existing output.
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// End with code 4 if an image was rejected.
    #[arg(long)]
    fail_on_rejected: bool,
    /// Time after which a picture that cannot be had is rejected as `unavailable`, where others of its bucket, or over its scheme, can be.
    #[arg(long, default_value = "10m", value_name = "SPAN")]
    give_up: config::Span,
    /// S3 endpoint, where it is not AWS; also from AWS_ENDPOINT_URL.
    #[arg(long, env = "S3_ENDPOINT")]
    s3_endpoint: Option<String>,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`; implied by --s3-endpoint.
    #[arg(long)]
    s3_path_style: bool,
    /// Read buckets without credentials.
    #[arg(long)]
    s3_anonymous: bool,
}

pub async fn run(args: Args, common: Common) -> Result<()> {
    let output = config::Output {
        top_k: args.top_k,
        min_score: args.min_score,
        embeddings: !args.no_embeddings,
        normalize: if args.l2 { Normalize::L2 } else { Normalize::None },
        encoding: Encoding::Array,
        ..config::Output::default()
    };
    let s3 = config::S3::at(args.s3_endpoint);
    let s3 = config::S3 { path_style: args.s3_path_style || s3.path_style, anonymous: args.s3_anonymous, ..s3 };
    if args.memory.0 < 16 << 20 {
        return Err(Error::config("--memory must be at least 16MiB"));
    }
    let decode = config::Decode { exif: args.exif, ..config::Decode::default() };
    let mut journal = Journal::open(&args.out, args.resume, args.overwrite)?;
    let options = model::LoadOptions::of(args.precision, &output, &decode);
    let want_embedding = options.want_embedding || !args.heads.is_empty();
    let loaded = model::load(&args.model, &model::LoadOptions { want_embedding, ..options })?;
    let files: std::collections::BTreeMap<_, _> = args.heads.iter().map(|given| super::relabel::named(given)).collect();
    let heads = Heads::read(&files, loaded.info())?;
    journal.goes_with(loaded.info(), output.embeddings)?;
    let client = match args.input.iter().any(|input| input.starts_with("s3://")) {
        true => Some(store::s3_client(&s3).await),
        false => None,
    };
    let source =
        listing::start_inputs(&args.input, None, client, ListingOptions { done: journal.done(), ..ListingOptions::default() }).await?;
    let sink: Box<dyn Sink> = Box::new(journal.sink()?);
    let summary = pipeline::run(Parts {
        sources: vec![(source, Reading::References(OnDelete::Skip))],
        sinks: vec![sink],
        transactions: None,
        model: Some(loaded),
        fetch: config::Fetch { give_up: args.give_up, ..config::Fetch::default() },
        decode,
        decoder: Some(crate::sandbox::own_program()),
        s3,
        memory: args.memory.0,
        batch: config::Batch { max_items: usize::from(args.batch), ..config::Batch::default() },
        threads: usize::from(args.threads),
        heads,
        output,
        // The user is looking on, and named the pictures: a folder of broken ones is an answer.
        reject_limit: config::RejectLimit { share: 1.0, of_last: 1 },
        bounds: Bounds::default(),
        watchdog: std::time::Duration::ZERO,
        stop: common.stop.clone(),
        stats: std::sync::Arc::default(),
        tracing: None,
        quiet: common.quiet,
    })
    .await?;
    let finished = summary.error.is_none() && !summary.stopped;
    if !common.quiet {
        summary::print(&summary);
    }
    if finished {
        journal.finish()?;
    }
    summary::verdict(summary, args.fail_on_rejected, true)
}
