//! The last record in a folder or under a bucket prefix, by the time at which files were last written.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::{Last, Origin};
use crate::store::{Problem, split_s3};
use crate::{Context, Error, Result};

/// What is read first of a file's end: enough for the metadata of most.
const TAIL: u64 = 64 << 10;
/// Longest line that is read, and longest metadata.
const LONGEST: u64 = 64 << 20;
/// Time for one answer of the store, and between two attempts.
const ANSWER: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(2);

/// Of the newest file of records in a JSONL sink's folder the last line; `None` where there is none.
///
/// # Errors
/// [`Error::Failed`] if the folder or a file cannot be read.
pub(super) fn last_line(folder: &Path) -> Result<Option<Last>> {
    let ours = |name: &str| name.ends_with(".jsonl") && !name.ends_with(".rejected.jsonl");
    for path in newest_first(folder, 0, &ours)? {
        let line = read_last_line(&path).context(format_args!("{} cannot be read", path.display()))?;
        if let Some(origin) = line.and_then(|line| serde_json::from_slice::<Origin>(&line).ok()) {
            return Ok(Some(Last { place: format!("the last record in {}", path.display()), origin }));
        }
    }
    Ok(None)
}

/// The last line that is whole and not empty.
fn read_last_line(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut size = TAIL;
    loop {
        let from = length.saturating_sub(size);
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        (&mut file).take(length - from).read_to_end(&mut end)?;
        let Some(last) = end.iter().rposition(|b| *b == b'\n') else {
            // Only a line that is not finished, or not even the end of one.
            if from == 0 || size >= LONGEST {
                return Ok(None);
            }
            size *= 4;
            continue;
        };
        let begin = end[..last].iter().rposition(|b| *b == b'\n').map(|at| at + 1);
        match begin {
            Some(begin) => return Ok(Some(end[begin..last].to_vec())),
            None if from == 0 => return Ok((last > 0).then(|| end[..last].to_vec())),
            None if size >= LONGEST => return Ok(None),
            None => size *= 4,
        }
    }
}

/// Files below `folder`, so many folders deep, whose name is `ours`: those written last first.
fn newest_first(folder: &Path, depth: usize, ours: &impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    fn gather(folder: &Path, depth: usize, ours: &impl Fn(&str) -> bool, found: &mut Vec<(SystemTime, PathBuf)>) -> std::io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_dir() && depth > 0 {
                gather(&entry.path(), depth - 1, ours, found)?;
            } else if about.is_file() && entry.file_name().to_str().is_some_and(ours) {
                found.push((about.modified()?, entry.path()));
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    gather(folder, depth, ours, &mut found).context(format_args!("{} cannot be read", folder.display()))?;
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Of the newest file of a Parquet sink what its metadata says; `None` where there is no file of ours. Waits while a store does not answer.
///
/// # Errors
/// [`Error::Failed`] if the folder cannot be read, or the store lets nobody list or read.
pub(super) async fn last_parquet(path: &str, s3: Option<&Client>) -> Result<Option<Last>> {
    if let (Some((bucket, prefix)), Some(client)) = (split_s3(path), s3) {
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        loop {
            match last_object(client, bucket, &prefix).await {
                Ok(found) => return Ok(found),
                Err(Problem { text, advice: Some(advice), .. }) => {
                    return Err(Error::failed(format_args!(
                        "s3://{bucket}/{prefix}: of which space its last file is cannot be seen: {text}; {advice}"
                    )));
                }
                Err(Problem { text, .. }) => {
                    tracing::warn!("s3://{bucket}/{prefix}: what is there cannot be seen yet, trying again: {text}")
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    // `topic=T/partition=P/OFFSET.parquet`
    for file in newest_first(Path::new(path), 2, &|name| name.ends_with(".parquet") && !name.starts_with('.'))? {
        let parsed = File::open(&file).map_err(ParquetError::from).and_then(|open| ParquetMetaDataReader::new().parse_and_finish(&open));
        // Another program's, or one that was cut off: the sink passes it over, too.
        if let Some(origin) = parsed.ok().as_ref().and_then(origin) {
            return Ok(Some(Last { place: format!("the last file, {},", file.display()), origin }));
        }
    }
    Ok(None)
}

fn origin(metadata: &ParquetMetaData) -> Option<Origin> {
    let facts = metadata.file_metadata().key_value_metadata()?;
    let fact = |name: &str| facts.iter().find(|fact| fact.key == name)?.value.clone();
    // A file without records, all of which were rejected, has none.
    let space = fact("lakelens.space").filter(|space| !space.is_empty())?;
    Some(Origin { space, model: fact("lakelens.model").unwrap_or_default() })
}

/// An answer within time.
async fn answer<T, E>(asked: impl Future<Output = Result<T, E>>, problem: impl Fn(E) -> Problem) -> Result<T, Problem> {
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answer) => answer.map_err(problem),
        Err(_) => Err(transient(format!("no answer within {} s", ANSWER.as_secs()))),
    }
}

fn transient(text: String) -> Problem {
    Problem { text, advice: None, denied: false }
}

async fn last_object(client: &Client, bucket: &str, prefix: &str) -> Result<Option<Last>, Problem> {
    let mut pages = client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
    let mut newest: Option<(i64, u32, String, u64)> = None;
    while let Some(page) = tokio::time::timeout(ANSWER, pages.next()).await.map_err(|_| transient("no answer to a listing".into()))? {
        let page = page.map_err(|e| Problem::of(&e))?;
        for object in page.contents().iter().filter(|o| o.key().is_some_and(|key| key.ends_with(".parquet"))) {
            let at = object.last_modified().map_or((0, 0), |t| (t.secs(), t.subsec_nanos()));
            let (key, size) = (object.key().unwrap_or_default().to_owned(), object.size().unwrap_or_default().cast_unsigned());
            newest = newest.max(Some((at.0, at.1, key, size)));
        }
    }
    let Some((_, _, key, size)) = newest else { return Ok(None) };
    let mut wanted = TAIL;
    loop {
        let from = size.saturating_sub(wanted);
        let got = client.get_object().bucket(bucket).key(&key).range(format!("bytes={from}-{}", size.saturating_sub(1)));
        let object = answer(got.send(), |e| Problem::of(&e)).await?;
        let end: Bytes = answer(object.body.collect(), |e| transient(crate::error::chain(&e))).await?.into_bytes();
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&end, size) {
            Ok(()) => {
                let origin = reader.finish().ok().as_ref().and_then(origin);
                return Ok(origin.map(|origin| Last { place: format!("the last file, s3://{bucket}/{key},"), origin }));
            }
            Err(ParquetError::NeedMoreData(more)) if wanted < LONGEST && from > 0 => wanted = (more as u64).max(wanted + 1),
            // Another program's.
            Err(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(space: &str) -> String {
        format!("{{\"schema\":\"lakelens.record.v1\",\"uri\":\"{}\",\"space\":\"{space}\",\"model\":\"m@{space}\"}}\n", "x".repeat(100))
    }

    fn written(path: &Path, text: &str, age: u64) {
        fs::write(path, text).unwrap();
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }

    #[test]
    fn the_last_whole_line_of_the_file_that_was_written_last_says_the_space() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(last_line(&at("not/there")).unwrap(), None);
        assert_eq!(last_line(folder.path()).unwrap(), None);
        written(&at("t-0.jsonl"), &(line("a") + &line("b")), 100);
        written(&at("t-1.jsonl"), &line("c"), 200);
        written(&at("t-0.rejected.jsonl"), "{\"space\":\"no\"}\n", 0);
        written(&at("t-2.jsonl"), "", 0);
        let last = last_line(folder.path()).unwrap().unwrap();
        assert_eq!(last.origin, Origin { space: "b".into(), model: "m@b".into() });
        assert!(last.place.contains("t-0.jsonl"), "{}", last.place);
        // A kill leaves the beginning of a line.
        written(&at("t-1.jsonl"), &(line("a") + &line("d") + "{\"space\":\"torn"), 50);
        assert_eq!(last_line(folder.path()).unwrap().unwrap().origin.space, "d");
        // A line longer than what is read at first, alone and behind another.
        let long = format!("{{\"space\":\"long\",\"embedding_b64\":\"{}\"}}\n", "A".repeat(3 * TAIL as usize));
        for before in ["", &line("a")] {
            written(&at("t-3.jsonl"), &format!("{before}{long}"), 0);
            assert_eq!(last_line(folder.path()).unwrap().unwrap().origin.space, "long");
        }
    }
}
