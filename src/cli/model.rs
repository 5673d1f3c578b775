//! `lakelens model`: make and look at models.

mod head;
mod import;
mod pull;
mod quantize;

use std::path::PathBuf;

use crate::Result;
use crate::cli::{Common, print};
use crate::model::{Arch, init, inspect};

/// Make and look at models.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Write a network with seeded random weights, for benches and tests: its labels mean nothing.
    #[command(after_help = "Examples:\n  \
        lakelens model init resnet50 --out models/resnet50\n  \
        lakelens model init resnet18 --classes 10 --seed 7 --out models/small")]
    Init {
        /// Which network.
        arch: Arch,
        /// The same seed gives the same bytes.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The model folder to write; the network's name where not given.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Number of classes, for the ResNets; 1000 where not given.
        #[arg(long)]
        classes: Option<usize>,
    },
    /// Show inputs, outputs, layers, size, FLOPs and digest.
    #[command(after_help = "Examples:\n  \
        lakelens model inspect models/resnet50\n  \
        lakelens model inspect net.onnx --json")]
    Inspect {
        /// A model folder, or an .onnx file.
        model: PathBuf,
    },
    Import(import::Args),
    Pull(Box<pull::Args>),
    #[command(subcommand)]
    Head(head::Command),
    Quantize(quantize::QuantizeArgs),
    Verify(quantize::VerifyArgs),
}

pub async fn run(command: Command, common: &Common) -> Result<()> {
    match command {
        Command::Head(command) => head::run(&command, common),
        Command::Import(args) => import::run(&args, common),
        Command::Pull(args) => pull::run(&args, common).await,
        Command::Quantize(args) => quantize::run(&args, common),
        Command::Verify(args) => quantize::verify(&args, common),
        Command::Init { arch, seed, out, classes } => {
            let name = clap::ValueEnum::to_possible_value(&arch).map_or_else(String::new, |v| v.get_name().to_owned());
            let out = out.unwrap_or_else(|| PathBuf::from(name));
            init(arch, seed, &out, classes)?;
            print(&format!("wrote {}\n", out.display()))
        }
        Command::Inspect { model } => {
            let inspection = inspect(&model)?;
            if common.json {
                let json = serde_json::to_string_pretty(&inspection).map_err(crate::Error::failed)?;
                return print(&format!("{json}\n"));
            }
            print(&inspection.to_string())
        }
    }
}

/// What `option` says of the three channels, or else what they are without it.
fn channels(option: &str, given: Option<&[f32]>, otherwise: [f32; 3]) -> Result<[f32; 3]> {
    let Some(values) = given else { return Ok(otherwise) };
    values.try_into().map_err(|_| crate::Error::config(format_args!("{option}: give three numbers, R,G,B")))
}
