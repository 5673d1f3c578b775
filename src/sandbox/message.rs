//! What worker and helper say to each other: a length, a JSON message, and after some messages raw bytes.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Settings;

/// Longest message in bytes; raw bytes are apart.
const LONGEST: usize = 64 << 10;

/// What the worker asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// First of all.
    Start(Settings),
    /// Probe the file of which this many bytes follow, and keep it.
    Probe(u64),
    /// Decode the file that was probed.
    Decode,
}

/// What the helper answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// To `Start`.
    Ready,
    /// To `Probe`.
    Header { format: String, width: u32, height: u32, decode_bytes: usize },
    /// To `Decode`: `width * height * 3` bytes follow.
    Pixels { width: u32, height: u32 },
    /// To either.
    Rejected { reason: String, detail: String },
}

pub(super) fn send(to: &mut impl Write, message: &impl Serialize, raw: &[u8]) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame)?;
    to.write_all(raw)
}

/// The next message, without the raw bytes that may follow it.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Raw bytes after a message, into a buffer that grows with what comes and not with what is announced.
pub(super) fn receive_raw(from: &mut impl Read, length: u64, into: &mut Vec<u8>) -> io::Result<()> {
    into.clear();
    if from.take(length).read_to_end(into)? as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
