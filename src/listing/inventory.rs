//! The data files that the `manifest.json` of an S3 Inventory names: CSV (gzip, keys form-encoded) or Parquet.
//!
//! Rows that are not the newest version of an object, delete markers and folder markers are passed over.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use aws_sdk_s3::Client;
use flate2::bufread::MultiGzDecoder;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::bucket::form_decoded;
use super::{Batches, Entry, Gone, Mark};
use crate::error::chain;
use crate::store::split_s3;
use crate::{Context, Error, Result};

const ATTEMPTS: u32 = 5;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    source_bucket: String,
    file_format: String,
    #[serde(default)]
    file_schema: String,
    files: Vec<DataFile>,
}

#[derive(Debug, Clone, Deserialize)]
struct DataFile {
    key: String,
    #[serde(default)]
    size: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Parquet,
}

/// What an inventory holds and is no object to label.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Skipped {
    old_versions: u64,
    delete_markers: u64,
    folders: u64,
}

/// One row.
#[derive(Debug, Default)]
struct Row {
    key: String,
    version: Option<String>,
    etag: Option<String>,
    latest: bool,
    delete_marker: bool,
}

pub(super) async fn list(client: Option<&Client>, path: &str, after: Option<Mark>, tx: &mpsc::Sender<Result<Vec<Entry>>>) -> Result<()> {
    let (first, behind) = match after {
        None => (0, None),
        Some(Mark::Row { file, row }) => (file, Some(row)),
        Some(_) => return Err(Error::config("the state file is not of an inventory; delete it to begin anew")),
    };
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let remote = split_s3(path);
    let manifest_file = match (remote, client) {
        (Some((bucket, key)), Some(client)) => download(client, bucket, key, folder.path()).await?,
        _ => PathBuf::from(path),
    };
    let text = std::fs::read(&manifest_file).context(format!("cannot read `{path}`"))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|e| Error::config(format!("`{path}` is not the manifest of an S3 Inventory: {e}")))?;
    let format = match manifest.file_format.to_ascii_lowercase().as_str() {
        "csv" => Format::Csv,
        "parquet" => Format::Parquet,
        other => {
            return Err(Error::config(format!(
                "`{path}` names {other} files, which are not read; configure the inventory as CSV or Parquet"
            )));
        }
    };
    let mut skipped = Skipped::default();
    for (number, file) in manifest.files.iter().enumerate().skip(first) {
        let data = match (remote, client) {
            (Some((bucket, _)), Some(client)) => download(client, bucket, &file.key, folder.path()).await?,
            _ => beside(Path::new(path), &file.key)?,
        };
        let size = std::fs::metadata(&data).context(format!("cannot read `{}`", data.display()))?.len();
        if let Some(told) = file.size.filter(|told| *told != size) {
            return Err(Error::failed(format!("`{}` has {size} bytes and not the {told} of its manifest; copy it again", file.key)));
        }
        let columns: Vec<String> = manifest.file_schema.split(',').map(|c| c.trim().to_owned()).collect();
        let (bucket, tx, name, temporary) = (manifest.source_bucket.clone(), tx.clone(), file.key.clone(), data.clone());
        let behind = behind.filter(|_| number == first);
        let read = move || {
            let mut out = Batches::new(tx);
            let mut skip = Skipped::default();
            let mut each = |n: u64, row: Row| match behind {
                Some(behind) if n <= behind => Ok(()),
                _ => entry(&bucket, row, Mark::Row { file: number, row: n }, &mut skip).map_or(Ok(()), |e| out.push(e)),
            };
            let ended = match format {
                Format::Csv => read_csv(&data, &columns, &mut each),
                Format::Parquet => read_parquet(&data, &mut each),
            };
            let gone = ended.map_err(|e| Error::failed(format!("`{name}`: {e}")))?.is_err() || out.flush().is_err();
            Ok::<_, Error>((gone, skip))
        };
        let (gone, skip) =
            tokio::task::spawn_blocking(read).await.map_err(|e| Error::failed(format!("reading an inventory broke off: {e}")))??;
        skipped.old_versions += skip.old_versions;
        skipped.delete_markers += skip.delete_markers;
        skipped.folders += skip.folders;
        if remote.is_some() {
            // The folder is removed at the end anyway; this only keeps one data file on the disk at a time.
            let _ = std::fs::remove_file(temporary);
        }
        if gone {
            return Ok(());
        }
    }
    if skipped != Skipped::default() {
        tracing::info!(
            "{path}: passed over {} old versions, {} delete markers and {} folder markers",
            skipped.old_versions,
            skipped.delete_markers,
            skipped.folders
        );
    }
    Ok(())
}

fn entry(bucket: &str, row: Row, mark: Mark, skipped: &mut Skipped) -> Option<Entry> {
    let counter = match &row {
        Row { delete_marker: true, .. } => &mut skipped.delete_markers,
        Row { latest: false, .. } => &mut skipped.old_versions,
        Row { key, .. } if key.ends_with('/') => &mut skipped.folders,
        _ => {
            let mut entry = Entry::of_uri(format!("s3://{bucket}/{}", row.key), row.key, mark);
            entry.etag = row.etag.map(|e| e.trim_matches('"').to_owned()).filter(|e| !e.is_empty());
            entry.version = row.version.filter(|v| !v.is_empty() && v != "null");
            return Some(entry);
        }
    };
    *counter += 1;
    None
}

/// The data file of a manifest that was copied to this machine: at its key below some folder above the manifest, or by its name nearby.
fn beside(manifest: &Path, key: &str) -> Result<PathBuf> {
    let folder = manifest.parent().unwrap_or(Path::new(""));
    let name = Path::new(key).file_name().unwrap_or_default();
    let nearby = [folder.join(name), folder.join("data").join(name), folder.join("../data").join(name)];
    // A key of a strange manifest may not lead out of these folders.
    let plain = Path::new(key).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    let above = folder.ancestors().filter(|_| plain).map(|a| a.join(key));
    above.chain(nearby).find(|p| p.is_file()).ok_or_else(|| {
        Error::config(format!("the inventory's data file `{key}` is not here; copy it next to `{}` (into data/)", manifest.display()))
    })
}

async fn download(client: &Client, bucket: &str, key: &str, folder: &Path) -> Result<PathBuf> {
    let path = folder.join(Path::new(key).file_name().unwrap_or("data".as_ref()));
    let mut attempt = 0;
    loop {
        attempt += 1;
        let once = async {
            let object = client.get_object().bucket(bucket).key(key).send().await.map_err(|e| chain(&e))?;
            let (told, mut body) = (object.content_length(), object.body);
            let mut file = tokio::fs::File::create(&path).await.map_err(|e| chain(&e))?;
            let mut written = 0;
            while let Some(part) = body.try_next().await.map_err(|e| chain(&e))? {
                written += part.len() as i64;
                tokio::io::AsyncWriteExt::write_all(&mut file, &part).await.map_err(|e| chain(&e))?;
            }
            tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(|e| chain(&e))?;
            match told {
                Some(told) if told != written => Err(format!("{written} of {told} bytes came")),
                _ => Ok(()),
            }
        };
        match once.await {
            Ok(()) => return Ok(path),
            Err(e) if attempt >= ATTEMPTS => return Err(Error::failed(format!("cannot read s3://{bucket}/{key}: {e}"))),
            Err(e) => {
                tracing::warn!("reading s3://{bucket}/{key}: {e}; trying again");
                tokio::time::sleep(std::time::Duration::from_millis(500) * attempt).await;
            }
        }
    }
}

/// Whoever wanted the rows may be gone, which ends the reading early; what cannot be read is told as text.
type Read = Result<Result<(), Gone>, String>;

fn read_csv(path: &Path, columns: &[String], each: &mut dyn FnMut(u64, Row) -> Result<(), Gone>) -> Read {
    let column = |name: &str| columns.iter().position(|c| c.eq_ignore_ascii_case(name));
    let key = column("Key").ok_or("the manifest's fileSchema has no column Key")?;
    let (version, etag) = (column("VersionId"), column("ETag"));
    let (latest, marker) = (column("IsLatest"), column("IsDeleteMarker"));
    let file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(MultiGzDecoder::new(file));
    let mut record = csv::StringRecord::new();
    let mut number = 0;
    while reader.read_record(&mut record).map_err(|e| e.to_string())? {
        let field = |at: Option<usize>| at.and_then(|i| record.get(i));
        let row = Row {
            key: form_decoded(record.get(key).ok_or_else(|| format!("row {number} has no key"))?).map_err(|e| e.to_string())?,
            version: field(version).map(str::to_owned),
            etag: field(etag).map(str::to_owned),
            latest: field(latest).is_none_or(|l| !l.eq_ignore_ascii_case("false")),
            delete_marker: field(marker).is_some_and(|m| m.eq_ignore_ascii_case("true")),
        };
        if each(number, row).is_err() {
            return Ok(Err(Gone));
        }
        number += 1;
    }
    Ok(Ok(()))
}

fn read_parquet(path: &Path, each: &mut dyn FnMut(u64, Row) -> Result<(), Gone>) -> Read {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| e.to_string())?;
    let names = ["key", "version_id", "is_latest", "is_delete_marker", "e_tag"];
    let schema = builder.parquet_schema();
    let leaves = (0..schema.num_columns()).filter(|&i| names.contains(&schema.column(i).name().to_ascii_lowercase().as_str()));
    let mask = ProjectionMask::leaves(schema, leaves);
    let reader = builder.with_projection(mask).with_batch_size(4096).build().map_err(|e| e.to_string())?;
    let mut number = 0;
    for batch in reader {
        let batch = batch.map_err(|e| e.to_string())?;
        let keys = texts(&batch, "key").ok_or("there is no column `key` of text")?;
        let (versions, etags) = (texts(&batch, "version_id"), texts(&batch, "e_tag"));
        let (latest, markers) = (flags(&batch, "is_latest"), flags(&batch, "is_delete_marker"));
        for (at, key) in keys.into_iter().enumerate() {
            let text = |column: &Option<Vec<Option<String>>>| column.as_ref().and_then(|c| c[at].clone());
            let row = Row {
                key: key.ok_or_else(|| format!("row {number} has no key"))?,
                version: text(&versions),
                etag: text(&etags),
                latest: latest.as_ref().is_none_or(|l| l[at] != Some(false)),
                delete_marker: markers.as_ref().is_some_and(|m| m[at] == Some(true)),
            };
            if each(number, row).is_err() {
                return Ok(Err(Gone));
            }
            number += 1;
        }
    }
    Ok(Ok(()))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a dyn Array> {
    let at = batch.schema().fields().iter().position(|f| f.name().eq_ignore_ascii_case(name))?;
    Some(batch.column(at).as_ref())
}

fn texts(batch: &RecordBatch, name: &str) -> Option<Vec<Option<String>>> {
    let array = column(batch, name)?;
    let owned = |t: Option<&str>| t.map(str::to_owned);
    array
        .as_string_opt::<i32>()
        .map(|a| a.iter().map(owned).collect())
        .or_else(|| array.as_string_opt::<i64>().map(|a| a.iter().map(owned).collect()))
}

fn flags(batch: &RecordBatch, name: &str) -> Option<Vec<Option<bool>>> {
    Some(column(batch, name)?.as_boolean_opt()?.iter().collect())
}
