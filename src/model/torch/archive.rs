//! The zip that torch writes since 1.6: `NAME/data.pkl`, and `NAME/data/KEY` for each storage.

use std::io::{Read, Seek};

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, MAX_PICKLE};
use super::{Tensors, tensor};

/// Most files in it; a ResNet-152 has 934.
const MOST_FILES: usize = 100_000;

/// Reads the zip in `file`, which has `length` bytes.
pub(super) fn parse(file: &mut (impl Read + Seek), length: u64) -> Result<Tensors, String> {
    let mut zip = ZipArchive::new(file).map_err(|e| format!("its zip is damaged or cut off: {e}"))?;
    if zip.len() > MOST_FILES {
        return Err(format!("its zip has {} files, more than {MOST_FILES}", zip.len()));
    }
    let names: Vec<String> =
        zip.file_names().map(|name| name.map(|n| n.into_owned())).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let mut pickles = names.iter().filter_map(|name| name.strip_suffix("/data.pkl")).filter(|folder| !folder.contains('/'));
    let (Some(folder), None) = (pickles.next(), pickles.next()) else {
        return Err("its zip has not one data.pkl: torch.save did not write it".into());
    };
    if names.iter().any(|name| name.strip_prefix(folder) == Some("/constants.pkl")) {
        return Err("it is a TorchScript program, not a state dictionary: save `network.state_dict()`".into());
    }
    if let Ok(order) = entry(&mut zip, &format!("{folder}/byteorder"), 16)
        && order != b"little"
    {
        return Err("it was written on a machine with another byte order; save it on a little-endian one".into());
    }
    let program = entry(&mut zip, &format!("{folder}/data.pkl"), MAX_PICKLE as u64)?;
    let read = pickle::read(&program)?;
    // Names may overlap in a hostile zip, so that the sum of its files is longer than it.
    let mut left = length;
    tensor::cut_all(&read.objects, read.root, length, |key, need| {
        left = left.checked_sub(need).ok_or("its storages are together longer than the file")?;
        entry(&mut zip, &format!("{folder}/data/{key}"), need)
    })
}

/// The bytes of the file `name`, which are at most `most`.
fn entry(zip: &mut ZipArchive<impl Read + Seek>, name: &str, most: u64) -> Result<Vec<u8>, String> {
    let shown: String = crate::telemetry::escape(name).chars().take(100).collect();
    let mut file = zip.by_name(name).map_err(|e| format!("{shown} in its zip: {e}"))?;
    if file.compression() != CompressionMethod::Stored {
        return Err(format!("{shown} in its zip is compressed, as torch does not"));
    }
    if file.size() > most {
        return Err(format!("{shown} in its zip has {} bytes, more than the {most} that belong there", file.size()));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(most).read_to_end(&mut bytes).map_err(|e| format!("{shown} in its zip: {e}"))?;
    Ok(bytes)
}
