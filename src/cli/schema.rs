//! `lakelens schema` and `lakelens completions`.

use clap::CommandFactory;

use crate::cli::{Cli, print};
use crate::config::schema;
use crate::{Error, Result};

/// Print a JSON Schema.
#[derive(clap::Args)]
pub struct Args {
    /// Of what.
    #[arg(value_parser = ["pipeline", "model", "record", "rejection", "reference"])]
    of: String,
}

/// Print a shell's completions.
#[derive(clap::Args)]
pub struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> Result<()> {
    let schema = schema::of(&args.of).ok_or_else(|| Error::config(format!("there is no schema of `{}`", args.of)))?;
    print(&format!("{schema:#}\n"))
}

pub fn completions(args: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lakelens", &mut script);
    print(&String::from_utf8_lossy(&script))
}
