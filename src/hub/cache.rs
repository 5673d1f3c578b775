//! The hub's cache on this machine, in the form that its Python client keeps too, so that neither downloads what the other has:
//! `models--OWNER--REPO/` with `refs/BRANCH` (a commit), `blobs/ETAG`, and `snapshots/COMMIT/PATH`, a link to a blob.

use std::path::{Path, PathBuf};

use super::source::{Repo, is_inside};
use crate::model::of_file;
use crate::temporary::temporary_in;
use crate::{Context, Result};

/// Most files of a repository that are listed.
const MOST_FILES: usize = 10_000;

/// The part of the cache that belongs to one repository.
pub struct Cache {
    folder: PathBuf,
}

/// Whether a text is a commit's name.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Cache {
    /// That of `repo` in the cache at `root`.
    pub fn of(root: &Path, repo: &Repo) -> Self {
        Self { folder: root.join(format!("models--{}--{}", repo.owner, repo.name)) }
    }

    /// The commit that a branch or tag was when it was last asked for.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = std::fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The file `path` of a commit, if it is there and what its name says: a blob of git's large files is named by its SHA-256.
    pub fn file(&self, commit: &str, path: &str) -> Option<PathBuf> {
        let link = self.snapshot(commit).join(path);
        let blob = link.canonicalize().ok().filter(|blob| blob.is_file())?;
        let name = blob.file_name()?.to_str()?;
        let broken = name.len() == 64 && of_file(&blob).is_ok_and(|(hex, _)| hex != name);
        if broken {
            tracing::warn!("{} is damaged; it is not used", blob.display());
        }
        (!broken).then_some(blob)
    }

    /// The files of a commit that are there.
    pub fn files(&self, commit: &str) -> Vec<String> {
        let root = self.snapshot(commit);
        let entries = walkdir::WalkDir::new(&root).max_depth(8).into_iter().flatten().take(MOST_FILES);
        let files =
            entries.filter(|e| !e.file_type().is_dir()).filter_map(|e| Some(e.path().strip_prefix(&root).ok()?.to_str()?.to_owned()));
        let mut files: Vec<String> = files.collect();
        files.sort();
        files
    }

    /// Where the bytes called `etag` go while they come.
    pub fn partial(&self, etag: &str) -> Result<PathBuf> {
        let blobs = self.folder.join("blobs");
        std::fs::create_dir_all(&blobs).context(format_args!("creating {}", blobs.display()))?;
        Ok(blobs.join(format!("{etag}.incomplete")))
    }

    /// The whole bytes called `etag`.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Gives `etag`, whose partial file is whole, its name, and makes it the file `path` of `commit`.
    pub fn keep(&self, etag: &str, commit: &str, path: &str) -> Result<PathBuf> {
        let blob = self.blob(etag);
        let doing = || format!("writing {}", blob.display());
        std::fs::rename(self.partial(etag)?, &blob).context(doing())?;
        self.link(etag, commit, path)
    }

    /// Makes the bytes called `etag` the file `path` of `commit`.
    pub fn link(&self, etag: &str, commit: &str, path: &str) -> Result<PathBuf> {
        debug_assert!(is_inside(path) && is_commit(commit));
        let link = self.snapshot(commit).join(path);
        let doing = || format!("writing {}", link.display());
        let parent = link.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(parent).context(doing())?;
        let target = format!("{}blobs/{etag}", "../".repeat(2 + path.matches('/').count()));
        // Made beside and renamed: a link cannot be made over another.
        let beside = tempfile::Builder::new().prefix(".lakelens-").tempdir_in(parent).context(doing())?;
        let made = beside.path().join("link");
        std::os::unix::fs::symlink(target, &made).context(doing())?;
        std::fs::rename(&made, &link).context(doing())?;
        Ok(self.blob(etag))
    }

    /// Remembers which commit a branch or tag is.
    pub fn remember(&self, revision: &str, commit: &str) -> Result<()> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        let doing = || format!("writing {}", path.display());
        let parent = path.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(parent).context(doing())?;
        let file = temporary_in(parent).context(doing())?;
        std::fs::write(file.path(), commit).context(doing())?;
        file.persist(&path).map(drop).map_err(|e| e.error).context(doing())
    }
}
