//! What `--version` and the metric `lakelens_build_info` say of this build: see src/version.rs.

use std::path::Path;
use std::process::Command;

/// What is compiled. Only a change of these is looked for, so that a commit that changes none of them costs no second build.
const SOURCES: [&str; 6] = ["src", "engine", "surfaces", "Cargo.toml", "Cargo.lock", "build.rs"];

fn main() {
    for source in SOURCES.into_iter().filter(|source| Path::new(source).exists()) {
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rerun-if-env-changed=LAKELENS_REVISION");
    let revision = given().or_else(from_git).or_else(from_package).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=LAKELENS_REVISION={revision}");
    println!("cargo:rustc-env=LAKELENS_TARGET={}", std::env::var("TARGET").unwrap_or_else(|_| "unknown".into()));
}

/// From whoever builds without the repository, in an image for one.
fn given() -> Option<String> {
    std::env::var("LAKELENS_REVISION").ok().filter(|text| is_revision(text))
}

/// The commit, with `-dirty` where the sources are not those of it. Only of a repository that is this project's own, not of one that it was unpacked in.
fn from_git() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    let commit = git(&["rev-parse", "--short=7", "HEAD"])?;
    let changed = !git(&[&["status", "--porcelain", "--"][..], &SOURCES].concat())?.is_empty();
    Some(if changed { format!("{commit}-dirty") } else { commit }).filter(|text| is_revision(text))
}

/// What `cargo package` notes in the published crate.
fn from_package() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    rest.split('"').nth(1)?.get(..7).map(str::to_owned).filter(|text| is_revision(text))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// It becomes part of a line of Cargo's protocol and the value of a label.
fn is_revision(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}
