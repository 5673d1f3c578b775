//! Reading `model.yaml`.

use std::path::Path;

use crate::config::{self, ModelFile};
use crate::{Error, Result};

/// Reads a model's description. Values that no preprocessing can have (sizes of 0, a scale or a deviation that is 0 or not finite) are refused.
///
/// # Errors
/// [`Error::Config`] naming the file.
pub fn read_model_file(path: &Path) -> Result<ModelFile> {
    let wrong = |what: String| Error::config(format_args!("{}: {what}", path.display()));
    let file = config::load_model(path).map_err(Error::config)?;
    validate(&file).map_err(wrong)?;
    Ok(file)
}

fn validate(file: &ModelFile) -> Result<(), String> {
    let p = &file.preprocess;
    if file.version != 1 {
        return Err(format!("version {} is not known; this build reads version 1", file.version));
    }
    if file.name.is_empty() || !file.name.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)) {
        return Err(format!("name: {:?} may hold letters, digits, dots, dashes and underscores only", file.name));
    }
    for (field, size) in [("crop", p.crop), ("resize", p.resize)] {
        if !(1..=4096).contains(&size) {
            return Err(format!("preprocess.{field}: {size} is not between 1 and 4096"));
        }
    }
    let divisors = std::iter::once(p.scale).chain(p.std);
    if !divisors.into_iter().all(|v| v.is_finite() && v > 0.0) || !p.mean.iter().all(|v| v.is_finite()) {
        return Err("preprocess: scale and std must be above 0, mean must be finite".into());
    }
    Ok(())
}
