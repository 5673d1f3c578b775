//! Which build this is, as `--version` and the metric `lakelens_build_info` tell it.

/// The release, as in Cargo.toml.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit: seven digits, with `-dirty` where the sources were changed since; `unknown` where neither git, `LAKELENS_REVISION` nor the package told.
pub const REVISION: &str = env!("LAKELENS_REVISION");

/// The machine that it was compiled for, as Rust names it.
pub const TARGET: &str = env!("LAKELENS_TARGET");

/// All three on a line.
pub const LINE: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("LAKELENS_REVISION"), ", ", env!("LAKELENS_TARGET"), ")");
