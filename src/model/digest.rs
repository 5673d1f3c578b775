//! What tells one model from another: digests of weights and preprocessing, and the short hash of an embedding space.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::config::Preprocess;
use crate::{Context, Result};

/// Hex digits that identifiers show.
const SHORT: usize = 12;

/// The first twelve digits.
pub(super) fn short(hex: &str) -> &str {
    hex.get(..SHORT).unwrap_or(hex)
}

/// SHA-256 in 64 lower-case hex digits.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

/// SHA-256 of a file, read in pieces, and its length.
pub(crate) fn of_file(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).context(format_args!("opening {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 18];
    let mut total = 0;
    loop {
        let n = file.read(&mut piece).context(format_args!("reading {}", path.display()))?;
        if n == 0 {
            return Ok((hex(hash.finalize().as_slice()), total));
        }
        hash.update(&piece[..n]);
        total += n as u64;
    }
}

/// One digest of several files, `(name, sha256)`. A single file's is its own SHA-256; of several it is that of the lines that `sha256sum` prints
/// for them, so that either can be had from a shell.
pub(super) fn of_files(files: &[(String, String)]) -> String {
    match files {
        [(_, only)] => only.clone(),
        many => {
            let lines = many.iter().fold(String::new(), |mut text, (name, hex)| {
                let _ = writeln!(text, "{hex}  {name}");
                text
            });
            of_bytes(lines.as_bytes())
        }
    }
}

/// `sha256:` and twelve hex digits over the preprocessing, over every field with its default filled in, and whether pictures are turned as EXIF says.
pub fn preprocess_digest(preprocess: &Preprocess, exif: bool) -> String {
    // Field order is that of the struct, floats print shortest-exact, so equal settings give equal text.
    let mut text = serde_json::to_string(preprocess).unwrap_or_default();
    if exif {
        text.push_str(" exif");
    }
    format!("sha256:{}", short(&of_bytes(text.as_bytes())))
}

/// Twelve hex digits over everything that decides whether two embeddings may be compared.
pub(super) fn space(weights: &str, preprocess: &str, embedding: &str, precision: &str, normalize: &str) -> String {
    // A JSON array, so that no two lists of parts read alike.
    let text = serde_json::json!([weights, preprocess, embedding, precision, normalize]).to_string();
    short(&of_bytes(text.as_bytes())).to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_file_has_its_own_sha256_and_several_that_of_sha256sums_lines() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_bytes(b"abc"), abc);
        assert_eq!(of_files(&[("model.onnx".into(), abc.into())]), abc);
        let two = of_files(&[("a".into(), abc.into()), ("b".into(), abc.into())]);
        assert_eq!(two, of_bytes(format!("{abc}  a\n{abc}  b\n").as_bytes()));
    }

    #[test]
    fn every_part_changes_the_space() {
        let base = ["w", "p", "e", "f32", "none"];
        let hash = |p: [&str; 5]| space(p[0], p[1], p[2], p[3], p[4]);
        assert_eq!(hash(base).len(), 12);
        for i in 0..base.len() {
            let mut other = base;
            other[i] = "x";
            assert_ne!(hash(base), hash(other), "part {i}");
        }
    }

    #[test]
    fn every_field_changes_the_preprocess_digest() {
        let base = Preprocess::default();
        let others = [
            Preprocess { resize: 255, ..base.clone() },
            Preprocess { resize_mode: crate::config::ResizeMode::Exact, ..base.clone() },
            Preprocess { crop: 223, ..base.clone() },
            Preprocess { interpolation: crate::config::Interpolation::Bicubic, ..base.clone() },
            Preprocess { channels: crate::config::Channels::Bgr, ..base.clone() },
            Preprocess { scale: 1.0, ..base.clone() },
            Preprocess { mean: [0.485, 0.456, 0.4], ..base.clone() },
            Preprocess { std: [0.229, 0.224, 0.2], ..base.clone() },
        ];
        for other in others {
            assert_ne!(preprocess_digest(&base, false), preprocess_digest(&other, false), "{other:?}");
        }
        assert_eq!(preprocess_digest(&base, false), preprocess_digest(&base.clone(), false));
        assert_ne!(preprocess_digest(&base, false), preprocess_digest(&base, true), "turned pictures give other embeddings");
    }
}
