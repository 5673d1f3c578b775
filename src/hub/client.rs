//! The hub's protocol, as far as fetching a model needs it: what a revision holds, what a file's hash is, and the file.
//!
//! The hub answers for a file with the commit (`X-Repo-Commit`) and either the git name of the blob (`ETag`, 40 hex digits) or, for large files, a
//! redirect with their SHA-256 (`X-Linked-ETag`) and size (`X-Linked-Size`); errors have a name (`X-Error-Code`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::header::{CONTENT_LENGTH, ETAG, LOCATION};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use sha1::{Digest, Sha1};
use url::Url;

use super::cache::{Cache, is_commit};
use super::download::{self, Want};
use super::progress::Bar;
use super::source::{Repo, is_inside, is_loopback};
use crate::error::chain;
use crate::telemetry::escape;
use crate::{Context, Error, Result};

/// Where the hub is, where not said otherwise.
const ENDPOINT: &str = "https://huggingface.co";
/// Longest description of a repository.
const MAX_INFO: usize = 32 << 20;
/// Longest file whose git name is computed: larger ones have a SHA-256.
const MAX_GIT: u64 = 64 << 20;
/// Most redirects within the hub: a repository that was renamed.
const RENAMES: usize = 5;

/// What the environment says of the hub, in the names that its own clients use.
pub struct Settings {
    /// `HF_ENDPOINT`
    pub endpoint: Url,
    /// `HF_TOKEN`, or what the file at `HF_TOKEN_PATH` or `HF_HOME/token` holds.
    pub token: Option<String>,
    /// `HF_HUB_CACHE`, or `HF_HOME/hub`.
    pub cache: PathBuf,
    /// `HF_HUB_OFFLINE`
    pub offline: bool,
}

impl Settings {
    /// Reads them from the variables that `get` gives.
    ///
    /// # Errors
    /// [`Error::Config`] if the endpoint is no http URL.
    pub fn of(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| get(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let text = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = Url::parse(text.trim_end_matches('/')).ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
        let endpoint = endpoint.filter(|url| url.username().is_empty() && url.password().is_none() && url.query().is_none());
        let endpoint =
            endpoint.ok_or_else(|| Error::config("HF_ENDPOINT is no URL of a hub; write https://HOST, without a password or a query"))?;
        let home =
            set("HF_HOME").map(PathBuf::from).or_else(|| set("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("huggingface")));
        let home = home.unwrap_or_else(|| PathBuf::from(set("HOME").unwrap_or_else(|| "/tmp".to_owned())).join(".cache/huggingface"));
        let cache = set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        let path = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let in_file = || std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let token = set("HF_TOKEN").or_else(in_file);
        let offline = set("HF_HUB_OFFLINE").is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"));
        Ok(Self { endpoint, token, cache, offline })
    }
}

/// A repository at a revision, online or in the cache.
pub struct Hub {
    settings: Settings,
    repo: Repo,
    cache: Cache,
    follow: Client,
    stay: Client,
    quiet: bool,
}

/// A revision.
pub struct Revision {
    /// Its commit.
    pub commit: String,
    /// Its files; offline those that are in the cache.
    pub files: BTreeMap<String, Listed>,
}

/// What the list says of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Bytes.
    pub size: Option<u64>,
    /// Of a large file, 64 hex digits.
    pub sha256: Option<String>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
}

/// What the hub says of one file.
struct Head {
    etag: String,
    size: Option<u64>,
}

impl Hub {
    /// For `repo`, with progress unless `quiet`.
    ///
    /// # Errors
    /// The system's certificates cannot be loaded.
    pub fn new(mut settings: Settings, repo: Repo, quiet: bool) -> Result<Self> {
        if settings.token.is_some() && settings.endpoint.scheme() != "https" && !is_loopback(&settings.endpoint) {
            tracing::warn!("the token is not sent: HF_ENDPOINT is not https");
            settings.token = None;
        }
        let cache = Cache::of(&settings.cache, &repo);
        Ok(Self { cache, settings, repo, follow: download::client(true)?, stay: download::client(false)?, quiet })
    }

    fn url(&self, parts: &[&str]) -> Result<Url> {
        let mut url = self.settings.endpoint.clone();
        url.path_segments_mut().map_err(|()| Error::config("HF_ENDPOINT is no URL of a hub"))?.pop_if_empty().extend(parts);
        Ok(url)
    }

    fn request(&self, client: &Client, method: reqwest::Method, url: Url) -> reqwest::RequestBuilder {
        let request = client.request(method, url);
        match &self.settings.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// The commit and the files of the revision.
    ///
    /// # Errors
    /// [`Error::Failed`] if the hub is away or refuses, and says what to do; also if offline and nothing of it is in the cache.
    pub async fn revision(&self) -> Result<Revision> {
        let (id, revision) = (self.repo.id(), self.repo.revision());
        if self.settings.offline {
            let missing = || {
                Error::failed(format_args!(
                    "{id} at {revision} is not in {}, and HF_HUB_OFFLINE is set: pull it once online, or copy the cache of a machine that did",
                    self.settings.cache.display()
                ))
            };
            let commit = self.cache.commit(revision).ok_or_else(missing)?;
            let files: BTreeMap<_, _> = self.cache.files(&commit).into_iter().map(|path| (path, Listed::default())).collect();
            return if files.is_empty() { Err(missing()) } else { Ok(Revision { commit, files }) };
        }
        let mut url = self.url(&["api", "models", &self.repo.owner, &self.repo.name, "revision", revision])?;
        url.set_query(Some("blobs=true"));
        let response = self.request(&self.follow, reqwest::Method::GET, url).send().await;
        let mut response = self.answered(response, None)?;
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|e| self.away(&e.without_url()))? {
            body.extend_from_slice(&bytes);
            if body.len() > MAX_INFO {
                return Err(Error::failed(format_args!("{id}: the hub describes it in more than 32 MiB")));
            }
        }
        let strange = |what: &str| Error::failed(format_args!("{id}: {} answers {what}; is HF_ENDPOINT right?", self.settings.endpoint));
        let info: Info = serde_json::from_slice(&body).map_err(|e| strange(&format!("in another form than the hub's: {e}")))?;
        if !is_commit(&info.sha) {
            return Err(strange("with what is no commit"));
        }
        let mut files = BTreeMap::new();
        for Sibling { rfilename, size, lfs } in info.siblings {
            if !is_inside(&rfilename) {
                return Err(strange(&format!("with the file {:?}, which lies outside of the repository", escape(&rfilename))));
            }
            let sha256 = lfs.and_then(|lfs| lfs.sha256).map(|hex| hex.to_ascii_lowercase());
            files.insert(rfilename, Listed { size, sha256 });
        }
        self.cache.remember(revision, &info.sha)?;
        Ok(Revision { commit: info.sha, files })
    }

    /// The path of a file of `revision` on this machine, downloaded if it is not there yet and checked against the hash that the hub says.
    ///
    /// # Errors
    /// [`Error::Failed`] if the hub is away or refuses, if the bytes are others than it says, or if offline and the file is not in the cache.
    pub async fn file(&self, revision: &Revision, path: &str) -> Result<PathBuf> {
        if let Some(file) = self.cache.file(&revision.commit, path) {
            return Ok(file);
        }
        let name = format!("{}:{}", self.repo.id(), escape(path));
        if self.settings.offline {
            let cache = self.settings.cache.display();
            return Err(Error::failed(format_args!("{name} is not in {cache}, and HF_HUB_OFFLINE is set: pull it once online")));
        }
        let mut parts = vec![self.repo.owner.as_str(), &self.repo.name, "resolve", &revision.commit];
        parts.extend(path.split('/'));
        let url = self.url(&parts)?;
        let head = self.head(url.clone(), path, &revision.commit).await?;
        let listed = revision.files.get(path).cloned().unwrap_or_default();
        let sha256 = (head.etag.len() == 64).then(|| head.etag.clone());
        if let (Some(a), Some(b)) = (&sha256, &listed.sha256)
            && a != b
        {
            return Err(Error::failed(format_args!("{name}: the hub says two hashes, {a} and {b}; nothing was taken")));
        }
        let want = Want { sha256: sha256.or(listed.sha256), size: head.size.or(listed.size), ..Want::default() };
        if self.cache.blob(&head.etag).is_file() {
            // Another commit has the same bytes.
            self.cache.link(&head.etag, &revision.commit, path)?;
            if let Some(file) = self.cache.file(&revision.commit, path) {
                return Ok(file);
            }
        }
        let partial = self.cache.partial(&head.etag)?;
        let bar = Bar::start(path, want.size, self.quiet);
        download::download(&self.follow, &url, self.settings.token.as_deref(), &partial, &want, &name, &bar).await?;
        if want.sha256.is_none() && head.etag.len() == 40 {
            let is = git_name(&partial).context(format_args!("reading {}", partial.display()))?;
            if is.is_some_and(|is| is != head.etag) {
                let _ = std::fs::remove_file(&partial);
                return Err(Error::failed(format_args!("{name}: its bytes are others than the hub says, and were not kept")));
            }
        }
        self.cache.keep(&head.etag, &revision.commit, path)
    }

    async fn head(&self, mut url: Url, path: &str, commit: &str) -> Result<Head> {
        for _ in 0..=RENAMES {
            let response = self.request(&self.stay, reqwest::Method::HEAD, url.clone()).send().await;
            let response = self.answered(response, Some(path))?;
            let text = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
            // A renamed repository redirects within the hub; a large file to its store, and then the answer says all that is needed.
            if text("x-repo-commit").is_none()
                && let Some(to) = text(LOCATION.as_str()).filter(|to| to.starts_with('/') && !to.starts_with("//"))
            {
                url = url.join(to).map_err(|e| Error::failed(format_args!("{}: {e}", self.repo.id())))?;
                continue;
            }
            let strange = |what: &str| {
                Error::failed(format_args!("{}:{}: the hub's answer {what}; is HF_ENDPOINT right?", self.repo.id(), escape(path)))
            };
            if text("x-repo-commit").is_some_and(|is| is != commit) {
                return Err(strange("is of another commit"));
            }
            let etag = text("x-linked-etag").or_else(|| text(ETAG.as_str())).unwrap_or_default();
            let etag = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
            // It becomes the name of a file.
            if !matches!(etag.len(), 40 | 64) || !etag.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(strange("names no hash of the file"));
            }
            // The length of a redirect's own text says nothing.
            let own = if response.status().is_success() { text(CONTENT_LENGTH.as_str()) } else { None };
            let size = text("x-linked-size").or(own).and_then(|n| n.parse().ok());
            return Ok(Head { etag, size });
        }
        Err(Error::failed(format_args!("{}: the hub redirects in circles", self.repo.id())))
    }

    fn away(&self, error: &reqwest::Error) -> Error {
        Error::failed(format_args!("{} cannot be reached: {}", self.settings.endpoint, escape(&chain(error))))
    }

    /// An answer that is one, or what to do about it.
    fn answered(&self, response: reqwest::Result<Response>, path: Option<&str>) -> Result<Response> {
        let response = response.map_err(|e| self.away(&e.without_url()))?;
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(response);
        }
        let code = response.headers().get("x-error-code").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let (id, endpoint) = (self.repo.id(), self.settings.endpoint.as_str().trim_end_matches('/'));
        let with = if self.settings.token.is_some() {
            "the token that was sent may not read it"
        } else {
            "set HF_TOKEN to a token of your account"
        };
        let text = match (code, status) {
            ("GatedRepo", _) => format!("{id} is gated: accept its terms at {endpoint}/{id}, and {with}"),
            ("RevisionNotFound", _) => format!("{id} has no revision {}", self.repo.revision()),
            ("EntryNotFound", _) => format!("{id} has no file {}", escape(path.unwrap_or_default())),
            ("RepoNotFound", _) | (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                format!(
                    "there is no model {id} at {endpoint}, or it is private ({status}): see whether its name is right; if it is private, {with}"
                )
            }
            (_, StatusCode::NOT_FOUND) => {
                format!("there is no {id}{} at {endpoint}", path.map_or_else(String::new, |p| format!(":{}", escape(p))))
            }
            (_, StatusCode::TOO_MANY_REQUESTS) => {
                format!("{endpoint} asks for fewer requests ({status}): try again in some minutes, or set HF_TOKEN")
            }
            _ => format!("{id}: {endpoint} says {status}"),
        };
        Err(Error::failed(text))
    }
}

/// The name that git gives the bytes of a file; `None` if they are too many.
fn git_name(path: &std::path::Path) -> std::io::Result<Option<String>> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_GIT {
        return Ok(None);
    }
    let mut hash = Sha1::new();
    hash.update(format!("blob {length}\0"));
    hash.update(std::fs::read(path)?);
    Ok(Some(hash.finalize().iter().map(|b| format!("{b:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Settings> {
        Settings::of(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_environment_is_read_as_the_hubs_own_clients_do() {
        let plain = of(&[("HOME", "/home/me")]).unwrap();
        assert_eq!((plain.endpoint.as_str(), plain.cache.to_str()), ("https://huggingface.co/", Some("/home/me/.cache/huggingface/hub")));
        assert!(!plain.offline && plain.token.is_none());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_secret\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let set = of(&[("HF_HOME", home), ("HF_ENDPOINT", "https://mirror/hub/"), ("HF_HUB_OFFLINE", "ON")]).unwrap();
        assert_eq!((set.endpoint.as_str(), set.token.as_deref(), set.offline), ("https://mirror/hub", Some("hf_secret"), true));
        assert_eq!(of(&[("HF_HOME", home), ("HF_TOKEN", "other"), ("HF_HUB_CACHE", "/c")]).unwrap().token.as_deref(), Some("other"));
        for bad in ["huggingface.co", "file:///x", "https://me:hunter2@h"] {
            let error = of(&[("HF_ENDPOINT", bad)]).err().unwrap().to_string();
            assert!(error.contains("https://HOST") && !error.contains("hunter2"), "{error}");
        }
    }
}
