//! The form before torch 1.6: a magic number, a version, facts of the machine, the object and the keys of its storages, each a pickle; then for
//! each key the number of its elements and their bytes.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use super::object::Object;
use super::pickle::{self, MAX_PICKLE};
use super::{Tensors, tensor};

/// `0x1950a86a20f9469cfc6c` as a pickle of any version from 2 writes it, after the two bytes of that version.
const MAGIC: [u8; 12] = [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The only version of the form.
const VERSION: i64 = 1001;

/// Reads `file`, which has `length` bytes.
pub(super) fn parse(file: &mut (impl Read + Seek), length: u64) -> Result<Tensors, String> {
    let io = |e: std::io::Error| format!("reading failed: {e}");
    let mut head = Vec::new();
    file.by_ref().take(MAX_PICKLE as u64).read_to_end(&mut head).map_err(io)?;
    if head.get(2..14) != Some(&MAGIC[..]) {
        return Err("it begins neither as a zip nor with torch's magic number".into());
    }
    let mut at = 0;
    let mut next = || {
        let read = pickle::read(&head[at..])?;
        at += read.end;
        Ok::<_, String>(read)
    };
    next()?;
    let version = next()?;
    if *version.objects.get(version.root) != Object::Int(VERSION) {
        return Err("its version is not 1001, the only one that torch has written".into());
    }
    let machine = next()?;
    if let Object::Dict(facts) = machine.objects.get(machine.root)
        && facts
            .iter()
            .any(|(key, value)| machine.objects.text(*key) == Ok("little_endian") && *machine.objects.get(*value) == Object::Bool(false))
    {
        return Err("it was written on a machine with another byte order; save it on a little-endian one".into());
    }
    let (state, keys) = (next()?, next()?);
    let lengths: HashMap<&str, usize> = state.objects.storages().map(|s| (s.key.as_str(), s.kind.bytes())).collect();
    // Where each storage's bytes are.
    let mut places: HashMap<&str, (u64, u64)> = HashMap::new();
    let mut place = at as u64;
    for key in keys.objects.items(keys.root)? {
        let key = keys.objects.text(*key)?;
        file.seek(SeekFrom::Start(place)).map_err(io)?;
        let mut count = [0; 8];
        file.read_exact(&mut count).map_err(|_| "it is cut off".to_owned())?;
        let width = *lengths.get(key).ok_or("it holds a storage that nothing refers to")?;
        let bytes =
            u64::from_le_bytes(count).checked_mul(width as u64).filter(|b| *b <= length).ok_or("a storage is longer than the file")?;
        places.insert(key, (place + 8, bytes));
        place += 8 + bytes;
    }
    let mut left = length;
    tensor::cut_all(&state.objects, state.root, length, |key, need| {
        left = left.checked_sub(need).ok_or("its storages are together longer than the file")?;
        let (place, bytes) = *places.get(key).ok_or("its storage is not in the file")?;
        if bytes != need {
            return Err(format!("its storage has {bytes} bytes where {need} are needed"));
        }
        file.seek(SeekFrom::Start(place)).map_err(io)?;
        let mut out = Vec::new();
        file.by_ref().take(need).read_to_end(&mut out).map_err(io)?;
        Ok(out)
    })
}
