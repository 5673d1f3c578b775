//! The command line: one file a subcommand, all of them in the list below.

mod audit;
mod bench;
mod check;
mod demo;
mod enqueue;
mod label;
mod model;
mod plan;
mod redrive;
mod relabel;
mod report;
mod run;
mod schema;
mod summary;

use std::collections::BTreeMap;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::{Error, Result};

/// Labels and embeds an image lake.
///
/// Image references come from Kafka, a listing or a file; pictures from S3, http or disk; every reference leaves as exactly one record (labels and
/// embedding) or one rejection (the reason why not).
#[derive(Parser)]
#[command(name = "lakelens", version = crate::version::LINE, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Log only warnings, and show no progress.
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Label(Box<label::Args>),
    Run(run::Args),
    Check(check::Args),
    Enqueue(enqueue::Args),
    Redrive(redrive::Args),
    Audit(audit::Args),
    Relabel(relabel::Args),
    Report(report::Args),
    Plan(plan::Args),
    #[command(subcommand)]
    Model(model::Command),
    #[command(subcommand)]
    Bench(bench::Command),
    Schema(schema::Args),
    Completions(schema::Completions),
    /// Decodes for a worker, which starts it.
    #[command(hide = true)]
    Decoder,
}

/// What every command is given.
#[derive(Clone)]
pub struct Common {
    /// Results for scripts.
    pub json: bool,
    /// No progress.
    pub quiet: bool,
    /// Asks the command to stop: the first SIGTERM or Ctrl-C.
    pub stop: CancellationToken,
}

/// Runs the command line and gives the exit code of the contract.
pub fn main() -> u8 {
    let cli = Cli::parse();
    if let Command::Decoder = cli.command {
        return crate::sandbox::serve();
    }
    crate::telemetry::init_log(cli.json, cli.quiet);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("lakelens: cannot start: {error}");
            return 1;
        }
    };
    let result = runtime.block_on(async {
        let common = Common { json: cli.json, quiet: cli.quiet, stop: stop_on_signal() };
        dispatch(cli.command, common).await
    });
    // Threads of clients that wait for a server that is away must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("lakelens: {error}");
            error.exit_code()
        }
    }
}

async fn dispatch(command: Command, common: Common) -> Result<()> {
    match command {
        Command::Demo(args) => demo::run(args, common).await,
        Command::Label(args) => label::run(*args, common).await,
        Command::Run(args) => run::run(args, common).await,
        Command::Check(args) => check::run(args).await,
        Command::Enqueue(args) => enqueue::run(args, common).await,
        Command::Redrive(args) => redrive::run(args, common).await,
        Command::Relabel(args) => relabel::run(&args, &common),
        Command::Audit(args) => audit::run(args, common).await,
        Command::Report(args) => report::run(args, &common),
        Command::Plan(args) => plan::run(args, common).await,
        Command::Model(command) => model::run(command, &common).await,
        Command::Bench(command) => bench::run(command, common).await,
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => schema::completions(&args),
        Command::Decoder => Ok(()),
    }
}

/// The first SIGTERM or Ctrl-C cancels the token, the second ends the process at once.
fn stop_on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(term) => term,
            Err(error) => return tracing::warn!("SIGTERM will not be noticed: {error}"),
        };
        for first in [true, false] {
            tokio::select! {
                _ = term.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            if first {
                stop.cancel();
            } else {
                std::process::exit(130);
            }
        }
    });
    token
}

/// What `--property NAME=VALUE` says. A value may be a secret, so a mistake is not repeated.
fn properties(given: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |property: &String| {
        let (name, value) = property.split_once('=').ok_or_else(|| Error::config("--property: write NAME=VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    given.iter().map(pair).collect()
}

/// A number as an argument; `nan` and `inf` are read by Rust, and mean nothing here.
fn finite(text: &str) -> std::result::Result<f32, String> {
    text.parse().ok().filter(|number: &f32| number.is_finite()).ok_or_else(|| "not a number".to_owned())
}

/// A length of time as an argument, in seconds.
fn seconds(text: &str) -> std::result::Result<f64, String> {
    let allowed = |seconds: &f64| (0.0..=86_400.0).contains(seconds);
    text.parse().ok().filter(allowed).ok_or_else(|| "not a number of seconds from 0 to 86400".to_owned())
}

/// Writes to stdout; a closed pipe (`| head`) ends the process quietly, as for other Unix tools.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(|e| Error::failed(format!("cannot write to stdout: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn leaves(command: &clap::Command, above: &str, found: &mut Vec<(String, String)>) {
        let name = format!("{above} {}", command.get_name());
        if command.get_subcommands().next().is_none() && !command.is_hide_set() {
            found.push((name.trim().to_owned(), command.get_after_help().map(ToString::to_string).unwrap_or_default()));
        }
        command.get_subcommands().filter(|c| c.get_name() != "help").for_each(|c| leaves(c, &name, found));
    }

    #[test]
    fn every_command_has_examples_and_every_example_is_a_command() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() > 15, "{found:?}");
        for (command, help) in found {
            let lines: Vec<&str> = help.lines().map(str::trim).filter(|line| line.contains("lakelens ")).collect();
            assert!(!lines.is_empty(), "{command} has no example");
            for line in lines {
                let own = &line[line.find("lakelens ").unwrap_or_default()..];
                let words = own.split_whitespace().take_while(|word| !["|", ">"].contains(word));
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{command}: {line}: {error}");
                }
            }
        }
    }
}
