//! Models that are known by name. Every number and address is as torchvision 0.29.2 states it (`torchvision/models/resnet.py`, and
//! `torchvision/models/_meta.py` for the names of the classes in `imagenet1k.txt`); `scripts/golden/known_models.py` holds the table against an installed
//! torchvision. None of these files was downloaded when the table was made.
//!
//! torchvision is under the BSD 3-clause licence. Of weights its README says that they may have licences or terms of their own, which come from the pictures
//! that they were trained on (here ImageNet's), and that whoever uses them has to find out whether he may.

use crate::config::{Interpolation, Preprocess};

/// A model that has a name.
#[derive(Debug, PartialEq)]
pub struct Known {
    /// What the user types.
    pub name: &'static str,
    /// The network.
    pub arch: &'static str,
    /// torchvision's name of these weights, in the enumeration of that network.
    pub weights: &'static str,
    /// Name of the file; ends in the first eight hex digits of its SHA-256, as torch's own downloader checks it.
    pub file: &'static str,
    /// Size of the file in MiB, rounded.
    pub mebibytes: f64,
    /// Share of ImageNet-1k's validation pictures whose best label is right, in percent, and of those that have the right one among the best five.
    pub accuracy: (f64, f64),
    /// The short side of a picture before its middle is cut out.
    pub resize: u32,
}

/// Where torchvision's files are.
pub const TORCHVISION: &str = "https://download.pytorch.org/models/";
/// What their users have to know.
pub const LICENCE: &str = "torchvision: BSD-3-Clause; weights trained on ImageNet-1k, whose terms may apply to them";
/// The names of ImageNet-1k's classes in the order of the logits, as torchvision has them, BSD-3-Clause.
pub const IMAGENET: &str = include_str!("imagenet1k.txt");

/// All of them; what a bare name means stands first of its network.
pub fn all() -> &'static [Known] {
    KNOWN
}

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

const KNOWN: &[Known] = &[
    known("resnet18", "resnet18", 1, "resnet18-f37072fd.pth", 44.661, (69.758, 89.078)),
    known("resnet34", "resnet34", 1, "resnet34-b627a593.pth", 83.275, (73.314, 91.420)),
    known("resnet50", "resnet50", 2, "resnet50-11ad3fa6.pth", 97.79, (80.858, 95.434)),
    known("resnet50-v1", "resnet50", 1, "resnet50-0676ba61.pth", 97.781, (76.130, 92.862)),
    known("resnet101", "resnet101", 2, "resnet101-cd907fc2.pth", 170.53, (81.886, 95.780)),
    known("resnet101-v1", "resnet101", 1, "resnet101-63fe2227.pth", 170.511, (77.374, 93.546)),
    known("resnet152", "resnet152", 2, "resnet152-f82ba261.pth", 230.474, (82.284, 96.002)),
    known("resnet152-v1", "resnet152", 1, "resnet152-394f9c45.pth", 230.434, (78.312, 94.046)),
];

const fn known(name: &'static str, arch: &'static str, version: u8, file: &'static str, mebibytes: f64, accuracy: (f64, f64)) -> Known {
    let (weights, resize) = if version == 1 { ("IMAGENET1K_V1", 256) } else { ("IMAGENET1K_V2", 232) };
    Known { name, arch, weights, file, mebibytes, accuracy, resize }
}

impl Known {
    /// The first eight hex digits of the file's SHA-256.
    pub fn sha256_prefix(&self) -> &'static str {
        let stem = self.file.strip_suffix(".pth").unwrap_or(self.file);
        stem.rsplit_once('-').map_or("", |(_, hex)| hex)
    }

    /// The preprocessing that its accuracy was measured with.
    pub fn preprocess(&self) -> Preprocess {
        Preprocess { resize: self.resize, crop: 224, interpolation: Interpolation::Bilinear, ..Preprocess::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_well_formed() {
        let names: BTreeSet<&str> = all().iter().map(|k| k.name).collect();
        assert_eq!(names.len(), all().len(), "a name is there twice");
        for known in all() {
            let hex = known.sha256_prefix();
            assert!(hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()), "{known:?}");
            assert!(known.file.starts_with(&format!("{}-", known.arch)) && known.name.starts_with(known.arch), "{known:?}");
            assert!(
                known.mebibytes > 40.0 && known.accuracy.0 > 60.0 && known.accuracy.0 < known.accuracy.1 && known.accuracy.1 < 100.0,
                "{known:?}"
            );
            assert!(find(known.arch).is_some_and(|best| best.accuracy.0 >= known.accuracy.0), "{known:?}");
        }
    }

    #[test]
    fn there_are_a_thousand_classes_of_which_some_are_known_by_heart() {
        let names: Vec<&str> = IMAGENET.lines().collect();
        assert_eq!((names.len(), names[0], names[281], names[999]), (1000, "tench", "tabby", "toilet tissue"));
        assert!(names.iter().all(|name| !name.is_empty() && name.trim() == *name));
    }
}
