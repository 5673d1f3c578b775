//! `lakelens model`: make and look at models.

use std::path::PathBuf;

use crate::Result;
use crate::cli::{Common, print};
use crate::model::{init, inspect};

/// Make and look at models.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Write a network with seeded random weights, for benches and tests: its labels mean nothing.
    Init {
        /// Which network.
        kind: init::Kind,
        /// The same seed gives the same bytes.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The model folder to write; the network's name where not given.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Show inputs, outputs, layers, size, FLOPs and digest.
    Inspect {
        /// A model folder, or an .onnx file.
        model: PathBuf,
    },
}

pub fn run(command: Command, common: &Common) -> Result<()> {
    match command {
        Command::Init { kind, seed, out } => {
            let out = out.unwrap_or_else(|| PathBuf::from(kind.name()));
            init::init(kind, seed, &out)?;
            print(&format!("wrote {}\n", out.display()))
        }
        Command::Inspect { model } => {
            let inspection = inspect::inspect(&model)?;
            if common.json {
                let json = serde_json::to_string_pretty(&inspection).map_err(crate::Error::failed)?;
                return print(&format!("{json}\n"));
            }
            print(&inspection.to_string())
        }
    }
}
