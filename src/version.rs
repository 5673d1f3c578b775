//! Which build this is.

/// Version of the release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Revision of the source, where the build was told (`LAKELENS_REVISION`).
pub const REVISION: &str = match option_env!("LAKELENS_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
/// What it runs on: processor and system.
pub const TARGET: &str = target();

const fn target() -> &'static str {
    if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        "x86_64-linux"
    } else if cfg!(all(target_arch = "aarch64", target_os = "linux")) {
        "aarch64-linux"
    } else if cfg!(all(target_arch = "x86_64", target_os = "macos")) {
        "x86_64-macos"
    } else if cfg!(all(target_arch = "aarch64", target_os = "macos")) {
        "aarch64-macos"
    } else {
        "other"
    }
}
