//! `lakelens` with its failpoints: what `scripts/faults` kills.

fn main() -> std::process::ExitCode {
    lakelens::cli::main().into()
}
