//! `lakelens schema` and `lakelens completions`.

use clap::CommandFactory;

use crate::Result;
use crate::cli::{Cli, print};
use crate::config::{self, SchemaOf};

/// Print a JSON Schema.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens schema pipeline > pipeline.schema.json\n  \
    lakelens schema record")]
pub struct Args {
    /// Of what.
    #[arg(value_enum)]
    of: SchemaOf,
}

/// Print a shell's completions.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens completions bash > ~/.local/share/bash-completion/completions/lakelens\n  \
    lakelens completions zsh > ~/.zfunc/_lakelens")]
pub struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> Result<()> {
    print(&format!("{:#}\n", config::schema(args.of)))
}

pub fn completions(args: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lakelens", &mut script);
    print(&String::from_utf8_lossy(&script))
}
