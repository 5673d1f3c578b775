//! Files that `torch.save` wrote, read without Python: what is a tensor is read, and nothing is ever run.
//!
//! Such a file is a pickle, a small program that builds objects by calling functions by name, and the tensors' bytes: in a zip, or one after the other
//! (`_use_new_zipfile_serialization=False`, and all files from before torch 1.6). `torch.serialization` and `pickletools` are their descriptions. The
//! reader here knows dictionaries, lists, numbers, text and tensors; any other function is refused by its name.

mod archive;
mod object;
mod old;
mod pickle;
mod tensor;
#[cfg(test)]
mod tests;

pub use tensor::{Kind, Tensor};

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use crate::{Context, Error, Result};

/// Longest file that is read: its tensors are in memory twice for a moment.
pub const MAX_BYTES: u64 = 2 << 30;

/// The tensors of a state dictionary, by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Reads the state dictionary in a `.pth`, `.pt` or `.bin` file of torch. One that lies in a checkpoint under `state_dict`, `model_state_dict` or
/// `model` is found there.
///
/// # Errors
/// [`Error::Config`] naming the file and what is wrong with it; [`Error::Failed`] where reading it failed.
pub fn read(path: &Path) -> Result<Tensors> {
    let mut file = File::open(path).context(format_args!("opening {}", path.display()))?;
    let length = file.metadata().context(format_args!("opening {}", path.display()))?.len();
    if length > MAX_BYTES {
        return Err(Error::config(format_args!("{} has {length} bytes; at most 2 GiB are read", path.display())));
    }
    parse(&mut file, length).map_err(|e| Error::config(format_args!("{} cannot be read as a file of torch: {e}", path.display())))
}

/// Reads a file of `length` bytes. Needs at most about four times its length of memory, and 200 MB for its pickle, whatever it says.
///
/// # Errors
/// What is wrong with it.
pub fn parse(file: &mut (impl std::io::Read + std::io::Seek), length: u64) -> std::result::Result<Tensors, String> {
    let mut first = [0; 4];
    let io = |e: std::io::Error| format!("reading failed: {e}");
    file.rewind().map_err(io)?;
    file.read_exact(&mut first).map_err(|_| "it has less than four bytes".to_owned())?;
    file.rewind().map_err(io)?;
    let tensors = if first == *b"PK\x03\x04" { archive::parse(file, length)? } else { old::parse(file, length)? };
    if tensors.is_empty() {
        return Err("there are no tensors in it".into());
    }
    Ok(tensors)
}
