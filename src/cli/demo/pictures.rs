//! The demo's pictures: drawn surfaces, and some files that are broken.

use std::path::Path;

use lakelens_surfaces::{Class, Rng, draw_jpeg, photograph_size};

use crate::parts::in_parts;
use crate::{Context, Error, Result};

/// Pictures of each class.
const OF_A_CLASS: usize = 7;
/// Another one than training had: the network sees these pictures for the first time.
const SEED: u64 = 0x6c61_6b65;

/// The label as it begins the names of its pictures.
pub(super) fn slug(label: &str) -> String {
    label.replace(' ', "-")
}

/// Draws them into `folder`, and says how many are whole.
pub(super) fn draw(folder: &Path) -> Result<usize> {
    std::fs::create_dir_all(folder).context(format_args!("cannot make the folder {}", folder.display()))?;
    let count = OF_A_CLASS * Class::all().len();
    in_parts(count, |mut part| part.try_for_each(|n| one(folder, n)))?;
    broken(folder)?;
    Ok(count)
}

fn one(folder: &Path, n: usize) -> Result<()> {
    let class = Class::all()[n / OF_A_CLASS];
    let mut rng = Rng::new(&[SEED, n as u64]);
    let (width, height) = photograph_size(&mut rng);
    let bytes = draw_jpeg(class, rng.bits(), width, height).map_err(Error::failed)?;
    write(folder, &format!("{}-{}.jpg", slug(class.label()), n % OF_A_CLASS + 1), &bytes)
}

/// What a lake has beside pictures: each becomes a rejection that says why.
fn broken(folder: &Path) -> Result<()> {
    let whole = draw_jpeg(Class::all()[0], SEED, 320, 240).map_err(Error::failed)?;
    write(folder, "broken-truncated.jpg", &whole[..whole.len() / 2])?;
    write(folder, "broken-a-text.png", b"This is a text.\n")?;
    write(folder, "broken-a-page.jpg", b"<!doctype html><title>404 Not Found</title>\n")?;
    write(folder, "broken-empty.gif", b"")?;
    write(folder, "broken-a-bomb.bmp", &bomb())
}

/// A bitmap's header that claims 60,000 pixels a side.
fn bomb() -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    for word in [54u32 + 16, 0, 54, 40, 60_000, 60_000, 24 << 16 | 1, 0, 0, 2835, 2835, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([0; 16]);
    bytes
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).context(format_args!("cannot write {}", path.display()))
}
