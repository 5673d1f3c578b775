//! Hostile picture files: seeded, so that a file can be made again from its seed and index.
//!
//! A [`Kind`] makes as many different files as it is asked for.

mod bmp;
mod damage;
mod gif;
mod jpeg;
mod mixed;
mod png;
mod random;
pub mod structure;
mod tiff;
mod vp8l;
mod webp;

use std::path::Path;
use std::sync::OnceLock;

use random::Random;

/// A file, and a name that says what it is and how to make it again.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Index, kind and extension.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A way to make files.
struct Kind {
    name: &'static str,
    /// Of the file's name only.
    extension: &'static str,
    /// Its files take seconds to make or to decode; made once in [`ROUNDS`].
    rare: bool,
    make: fn(&mut Random) -> Vec<u8>,
}

const fn kind(name: &'static str, extension: &'static str, make: fn(&mut Random) -> Vec<u8>) -> Kind {
    Kind { name, extension, rare: false, make }
}

const fn rare(name: &'static str, extension: &'static str, make: fn(&mut Random) -> Vec<u8>) -> Kind {
    Kind { name, extension, rare: true, make }
}

/// Rounds of common kinds for one of the rare ones.
const ROUNDS: usize = 40;

/// The kind of which a file is: one round of all kinds, then [`ROUNDS`] of the common ones, and so on.
fn kind_of(index: usize) -> &'static Kind {
    let all = [jpeg::KINDS, png::KINDS, gif::KINDS, webp::KINDS, bmp::KINDS, tiff::KINDS, mixed::KINDS, damage::KINDS];
    let (rare, common): (Vec<&Kind>, Vec<&Kind>) = all.into_iter().flatten().partition(|k| k.rare);
    match index % (rare.len() + ROUNDS * common.len()) {
        place if place < common.len() => common[place],
        place if place < common.len() + rare.len() => rare[place - common.len()],
        place => common[(place - rare.len()) % common.len()],
    }
}

/// A file's name.
pub fn name(index: usize) -> String {
    let kind = kind_of(index);
    format!("{index:06}-{}.{}", kind.name, kind.extension)
}

/// The file with this index of this seed.
pub fn file(seed: u64, index: usize) -> File {
    File { name: name(index), bytes: (kind_of(index).make)(&mut Random::new(seed, index as u64)) }
}

/// The sound pictures that are damaged: the golden files of the decoders' own tests, of all formats.
pub fn sound() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut files: Vec<File> = ["preprocess", "jpeg"]
            .iter()
            .flat_map(|folder| std::fs::read_dir(golden.join(folder)).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| ["jpg", "png", "gif", "webp", "bmp", "tif"].iter().any(|f| e == *f)))
            .filter(|path| !path.to_string_lossy().contains(".expected."))
            .map(|path| File { name: path.file_name().unwrap().to_string_lossy().into_owned(), bytes: std::fs::read(&path).unwrap() })
            .collect();
        // The order of a folder is the file system's.
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    })
}

/// One of the sound pictures, of the format with this extension.
fn sound_of(random: &mut Random, extension: &str) -> &'static [u8] {
    let of: Vec<&File> = sound().iter().filter(|f| f.name.ends_with(extension)).collect();
    &random.pick(&of).bytes
}

/// Any of the sound pictures; formats are equally likely, though of JPEG there are most.
fn any_sound(random: &mut Random) -> &'static [u8] {
    let extension = *random.pick(&["jpg", "png", "gif", "webp", "bmp", "tif"]);
    sound_of(random, extension)
}
