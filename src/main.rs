//! The `lakelens` command: see `lakelens --help`.

fn main() -> std::process::ExitCode {
    lakelens::cli::main().into()
}
