//! Reading `model.yaml`.

use std::path::Path;

use crate::Result;
use crate::config::{self, ModelFile};

/// Reads a model's description. Values that no preprocessing can have (sizes of 0, a scale or a deviation that is 0 or not finite) are refused.
///
/// # Errors
/// [`crate::Error::Config`] naming the file.
pub fn read_model_file(path: &Path) -> Result<ModelFile> {
    Ok(config::load_model(path)?)
}
