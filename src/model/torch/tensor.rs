//! Tensors: what kind their elements are, and how they are cut from a storage.

use super::Tensors;
use super::object::{Cut, Id, Objects};

/// Kinds of elements, by torch's names of their storages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Kind {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "Double" => Self::F64,
            "Float" => Self::F32,
            "Half" => Self::F16,
            "BFloat16" => Self::Bf16,
            "Long" => Self::I64,
            "Int" => Self::I32,
            "Short" => Self::I16,
            "Char" => Self::I8,
            "Byte" => Self::U8,
            "Bool" => Self::Bool,
            _ => return None,
        })
    }

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// A tensor by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Of what.
    pub kind: Kind,
    /// Its sizes.
    pub dims: Vec<usize>,
    /// Its elements in C order, least significant byte first.
    pub bytes: Vec<u8>,
}

/// Most dimensions of a tensor.
const MOST_DIMS: usize = 16;

/// Cuts out the tensors of the state dictionary `root`. `storage` gives the bytes of one, and is asked once for each; `length` is that of the file: all
/// tensors together may not be longer than twice that, since few share their storage.
pub(super) fn cut_all(
    objects: &Objects,
    root: Id,
    length: u64,
    mut storage: impl FnMut(&str, u64) -> Result<Vec<u8>, String>,
) -> Result<Tensors, String> {
    let mut left = length.saturating_mul(2);
    let mut all: Vec<_> = objects.state(root)?.into_iter().collect();
    // One storage at a time is in memory. The sizes are looked at before the first byte is read.
    all.sort_by(|a, b| (&a.1.1.key, a.0).cmp(&(&b.1.1.key, b.0)));
    let mut sizes = Vec::with_capacity(all.len());
    for (name, (cut, of)) in &all {
        let here = |e: String| format!("tensor {:?}: {e}", shown(name));
        let size = cut.size(of.length).map_err(here)?;
        left = size
            .checked_mul(of.kind.bytes() as u64)
            .and_then(|bytes| left.checked_sub(bytes))
            .ok_or_else(|| here("its tensors are together longer than the file".into()))?;
        sizes.push(size);
    }
    let (mut tensors, mut last) = (Tensors::new(), None::<(&str, Vec<u8>)>);
    for ((name, (cut, of)), size) in all.into_iter().zip(sizes) {
        let here = |e: String| format!("tensor {:?}: {e}", shown(name));
        let need = of.length.checked_mul(of.kind.bytes() as u64).ok_or_else(|| here("its storage is too long".into()))?;
        let bytes = match &last {
            Some((key, bytes)) if *key == of.key => bytes,
            _ => &last.insert((&of.key, storage(&of.key, need).map_err(here)?)).1,
        };
        if (bytes.len() as u64) < need {
            return Err(here(format!("its storage has {} bytes where {need} are needed", bytes.len())));
        }
        let dims = cut.dims.iter().map(|d| *d as usize).collect();
        tensors.insert(name.to_owned(), Tensor { kind: of.kind, dims, bytes: cut.gather(bytes, of.kind.bytes(), size as usize) });
    }
    Ok(tensors)
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

impl Cut {
    /// How many elements it has. All of them lie within a storage of `length`, and it has no more than that.
    fn size(&self, length: u64) -> Result<u64, String> {
        if self.dims.len() != self.strides.len() || self.dims.len() > MOST_DIMS {
            return Err(format!("it has {} sizes and {} strides", self.dims.len(), self.strides.len()));
        }
        if self.dims.contains(&0) {
            return Ok(0);
        }
        let size = self.dims.iter().try_fold(1u64, |all, d| all.checked_mul(*d)).filter(|size| *size <= length);
        let size = size.ok_or_else(|| format!("its sizes {:?} are more than its storage has ({length})", self.dims))?;
        let steps = self.dims.iter().zip(&self.strides);
        let last = steps.into_iter().try_fold(self.offset, |at, (d, s)| (d - 1).checked_mul(*s).and_then(|step| at.checked_add(step)));
        match last {
            Some(last) if last < length => Ok(size),
            _ => Err(format!("it reaches beyond its storage, which has {length} elements")),
        }
    }

    /// The elements in C order; `size` was checked.
    fn gather(&self, storage: &[u8], width: usize, size: usize) -> Vec<u8> {
        if size == 0 {
            return Vec::new();
        }
        let mut expected = 1;
        let in_order = self.dims.iter().zip(&self.strides).rev().all(|(d, s)| {
            let fits = *d == 1 || *s == expected;
            expected *= d;
            fits
        });
        let start = self.offset as usize * width;
        if in_order {
            return storage[start..start + size * width].to_vec();
        }
        let mut out = Vec::with_capacity(size * width);
        let mut index = vec![0u64; self.dims.len()];
        let mut at = self.offset;
        for _ in 0..size {
            let byte = at as usize * width;
            out.extend_from_slice(&storage[byte..byte + width]);
            // The next index, the last dimension fastest.
            for d in (0..index.len()).rev() {
                index[d] += 1;
                at += self.strides[d];
                if index[d] < self.dims[d] {
                    break;
                }
                at -= self.strides[d] * self.dims[d];
                index[d] = 0;
            }
        }
        out
    }
}
