//! Lines of a file or of standard input, gzip-compressed or not.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::{Batches, Entry, Mark, absolute, file_uri};
use crate::{Context, Error, Result};

/// A longer line is cut here; it is still an item, and ends as `bad_reference`.
pub const MAX_LINE: usize = 1 << 20;

const BUFFER: usize = 64 << 10;

/// Reads one line into `line`, without its end and cut to [`MAX_LINE`]. The answer is the number of bytes read, with the line's end.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<u64> {
    line.clear();
    let mut read = reader.take(MAX_LINE as u64 + 2).read_until(b'\n', line)? as u64;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if read == MAX_LINE as u64 + 2 {
        read += reader.skip_until(b'\n')? as u64;
    }
    line.truncate(MAX_LINE);
    Ok(read)
}

pub(super) fn list(path: Option<&Path>, after: Option<Mark>, out: &mut Batches) -> Result<()> {
    let name = path.map_or_else(|| "standard input".into(), |p| format!("`{}`", p.display()));
    let (mut number, mut end) = match after {
        None => (0, 0),
        Some(Mark::Line { number, end }) if path.is_some() => (number + 1, end),
        Some(_) => return Err(Error::config(format!("{name} cannot be resumed from this state; delete the state file to begin anew"))),
    };
    let mut reader = open(path, end).context(format!("cannot read {name}"))?;
    let mut line = Vec::new();
    loop {
        // Whoever writes into a pipe line by line shall not wait for a batch to fill.
        if reader.buffer().is_empty() && out.flush().is_err() {
            return Ok(());
        }
        let read = read_line(&mut reader, &mut line).context(format!("cannot read line {} of {name}", number + 1))?;
        if read == 0 {
            return Ok(());
        }
        end += read;
        let text = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 0).unwrap_or(&line);
        if !text.trim_ascii().is_empty() {
            let value = Bytes::copy_from_slice(&as_reference(text));
            let entry =
                Entry { key: (number + 1).to_string(), value, uri: None, etag: None, version: None, mark: Mark::Line { number, end } };
            if out.push(entry).is_err() {
                return Ok(());
            }
        }
        number += 1;
    }
}

/// The text from byte `start` on.
fn open(path: Option<&Path>, start: u64) -> std::io::Result<BufReader<Box<dyn Read>>> {
    let plain: Box<dyn Read> = match path {
        Some(path) => Box::new(File::open(path)?),
        None => Box::new(std::io::stdin()),
    };
    let mut reader = BufReader::with_capacity(BUFFER, plain);
    let shorter = || std::io::Error::other("it is shorter than when it was read before; delete the state file to begin anew");
    if reader.fill_buf()?.starts_with(b"\x1f\x8b") {
        reader = BufReader::with_capacity(BUFFER, Box::new(MultiGzDecoder::new(reader)));
        if std::io::copy(&mut reader.by_ref().take(start), &mut std::io::sink())? < start {
            return Err(shorter());
        }
    } else if let Some(path) = path.filter(|_| start > 0) {
        let mut file = File::open(path)?;
        if file.metadata()?.len() < start {
            return Err(shorter());
        }
        file.seek(SeekFrom::Start(start))?;
        reader = BufReader::with_capacity(BUFFER, Box::new(file));
    }
    Ok(reader)
}

/// A line as a reference: the path of an existing file, as `find` prints it, becomes its `file://` URI; everything else stays as it is.
pub fn as_reference(line: &[u8]) -> Cow<'_, [u8]> {
    // No path is longer, and asking the system about each line of JSON would take longer than reading it.
    if line.len() > 4096 || line.trim_ascii_start().starts_with(b"{") || line.trim_ascii_start().starts_with(b"[") || has_scheme(line) {
        return Cow::Borrowed(line);
    }
    let uri = path_from(line).filter(|p| p.is_file()).and_then(|p| absolute(p).ok()).and_then(|p| file_uri(&p).ok());
    uri.map_or(Cow::Borrowed(line), |uri| Cow::Owned(uri.into_bytes()))
}

fn has_scheme(line: &[u8]) -> bool {
    line.windows(3).take(16).any(|w| w == b"://")
}

#[cfg(unix)]
fn path_from(line: &[u8]) -> Option<&Path> {
    use std::os::unix::ffi::OsStrExt;
    Some(Path::new(std::ffi::OsStr::from_bytes(line)))
}

#[cfg(not(unix))]
fn path_from(line: &[u8]) -> Option<&Path> {
    std::str::from_utf8(line).ok().map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(mut bytes: &[u8]) -> Vec<(Vec<u8>, u64)> {
        let (mut lines, mut line) = (Vec::new(), Vec::new());
        loop {
            match read_line(&mut bytes, &mut line).expect("memory") {
                0 => return lines,
                read => lines.push((line.clone(), read)),
            }
        }
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_one_is_whole() {
        for (surplus, kept) in [(0, MAX_LINE), (1, MAX_LINE), (2, MAX_LINE), (3, MAX_LINE), (100_000, MAX_LINE)] {
            let mut text = vec![b'x'; MAX_LINE + surplus];
            text.extend_from_slice(b"\nnext");
            let lines = all(&text);
            assert_eq!(lines.len(), 2, "{surplus}");
            assert_eq!(lines[0].0.len(), kept);
            assert_eq!(lines[0].1, (MAX_LINE + surplus + 1) as u64);
            assert_eq!(lines[1].0, b"next");
        }
    }

    proptest! {
        #[test]
        fn lines_are_split_as_written(lines in prop::collection::vec("[^\r\n]{0,20}", 0..10), crlf: bool, last: bool) {
            let end = if crlf { "\r\n" } else { "\n" };
            let mut text = lines.join(end);
            if last && !lines.is_empty() {
                text.push_str(end);
            }
            let read = all(text.as_bytes());
            let mut expected: Vec<_> = lines.iter().map(|l| l.clone().into_bytes()).collect();
            if !last && expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(read.iter().map(|r| r.0.clone()).collect::<Vec<_>>(), expected);
            prop_assert_eq!(read.iter().map(|r| r.1).sum::<u64>(), text.len() as u64);
        }

        #[test]
        fn no_line_makes_it_panic(line: Vec<u8>) {
            as_reference(&line);
        }
    }

    #[test]
    fn only_paths_of_files_become_uris() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a b#é.jpg");
        std::fs::write(&file, b"x").expect("written");
        let name = file.to_str().expect("UTF-8");
        let uri = as_reference(name.as_bytes()).into_owned();
        assert_eq!(String::from_utf8(uri).expect("UTF-8"), url::Url::from_file_path(&file).expect("absolute").as_str());
        for other in ["s3://b/k", "{\"uri\":\"x\"}", " [1]", "/no/such/file", "https://a/b?c=://", "", "."] {
            assert_eq!(as_reference(other.as_bytes()), other.as_bytes());
        }
    }
}
