//! What a user may name: a model of the table, a repository of the hub, or a file at a URL.

use url::{Host, Url};

use super::known::{self, Known};
use crate::telemetry::escape;
use crate::{Error, Result};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// One of the table.
    Known(&'static Known),
    /// A repository of the hub.
    Hub(Repo),
    /// One file.
    Url(File),
}

/// `hf:OWNER/REPO[@REV][:FILE]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    /// Who it belongs to.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// Branch, tag or commit; `main` where not given.
    pub revision: Option<String>,
    /// Path of a file in it.
    pub file: Option<String>,
}

/// `https://HOST/PATH#sha256=HEX`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is, without the fragment.
    pub url: Url,
    /// What its bytes must have, 64 hex digits.
    pub sha256: String,
}

impl Source {
    /// Reads what the user typed.
    ///
    /// # Errors
    /// [`Error::Config`] saying what to type instead.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(repo) = text.strip_prefix("hf:") {
            return Repo::parse(repo).map(Self::Hub).map_err(|e| {
                Error::config(format_args!("{}: {e}; write hf:OWNER/REPO, hf:OWNER/REPO@REVISION or hf:OWNER/REPO:FILE", escape(text)))
            });
        }
        if text.contains("://") {
            return File::parse(text).map(Self::Url);
        }
        known::find(text).map(Self::Known).ok_or_else(|| unknown(text))
    }

    /// What its folder and the model in it are called: letters, digits, `.`, `_` and `-`.
    pub fn name(&self) -> String {
        match self {
            Self::Known(known) => known.name.to_owned(),
            Self::Hub(repo) => repo.name.clone(),
            Self::Url(file) => {
                let last = file.name();
                let stem = last.rsplit_once('.').map_or(last.as_str(), |(stem, _)| stem);
                let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
                if name.trim_matches('.').is_empty() { "model".to_owned() } else { name }
            }
        }
    }
}

fn unknown(text: &str) -> Error {
    let shown = escape(text);
    if text.matches('/').count() == 1 && Repo::parse(text).is_ok() && !std::path::Path::new(text).exists() {
        return Error::config(format_args!("{shown}: a repository of the hub is written hf:{shown}"));
    }
    let near = known::all().iter().map(|k| (strsim::jaro_winkler(k.name, text), k.name)).max_by(|a, b| a.0.total_cmp(&b.0));
    let near = near.filter(|(likeness, _)| *likeness > 0.7).map_or_else(String::new, |(_, name)| format!(" (did you mean {name}?)"));
    Error::config(format_args!(
        "no model is known as {shown}{near}: `lakelens model pull --list` names those that are; others are hf:OWNER/REPO or https://...#sha256=..."
    ))
}

impl Repo {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let (owner, rest) = text.split_once('/').ok_or("the owner is missing")?;
        let end = rest.find(['@', ':']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let (revision, file) = match rest.strip_prefix('@') {
            Some(rest) => match rest.split_once(':') {
                Some((revision, file)) => (Some(revision), Some(file)),
                None => (Some(rest), None),
            },
            None => (None, rest.strip_prefix(':')),
        };
        for (what, part) in [("owner", owner), ("repository", name)] {
            let allowed = part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            if part.is_empty() || part.len() > 96 || !allowed || part.contains("..") || part.starts_with(['.', '-']) {
                return Err(format!("the name of the {what} is not letters, digits, `.`, `_` and `-`"));
            }
        }
        if let Some(revision) = revision {
            let allowed = revision.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
            if !allowed || revision.len() > 200 || !is_inside(revision) {
                return Err("the revision is no branch, tag or commit".into());
            }
        }
        if file.is_some_and(|file| !is_inside(file)) {
            return Err("the file is no path within the repository".into());
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(Self { owner: owner.to_owned(), name: name.to_owned(), revision: owned(revision), file: owned(file) })
    }

    /// `OWNER/REPO`
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

/// Whether a path stays in the folder that it is put in, on any system.
pub(super) fn is_inside(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.len() <= 1024 && !path.contains(|c: char| c.is_control() || c == '\\' || c == ':') && path.split('/').all(part)
}

impl File {
    fn parse(text: &str) -> Result<Self> {
        let shown = escape(&without_secrets(text));
        let wrong = |why: &str| Error::config(format_args!("{shown}: {why}"));
        let mut url = Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => return Err(wrong("http is only for this machine (127.0.0.1); write https")),
            _ => return Err(wrong("only https is read; files that are here go to `lakelens model import`")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("a password in a URL is seen by others; none is sent"));
        }
        let fragment = url.fragment().map(str::to_owned);
        url.set_fragment(None);
        let sha256 = fragment.as_deref().and_then(|f| f.strip_prefix("sha256=")).map(str::to_ascii_lowercase);
        let Some(sha256) = sha256.filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())) else {
            let hub = if url.host_str() == Some("huggingface.co") {
                "; for the hub write hf:OWNER/REPO instead, which knows them itself"
            } else {
                ""
            };
            return Err(wrong(&format!(
                "add #sha256= and the 64 hex digits of the file, so that no other one is taken for it; whoever publishes it may state them, and \
                 `curl -L URL | sha256sum` prints them of a copy that you trust{hub}"
            )));
        };
        Ok(Self { url, sha256 })
    }

    /// The last part of its path.
    pub fn name(&self) -> String {
        let last = self.url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        percent_encoding::percent_decode_str(last).decode_utf8_lossy().into_owned()
    }
}

/// A URL for messages: without query and fragment, and without what stands before an `@`, wherever it is, since a password that is not
/// percent-encoded may hold `/`, `?` or `#`.
fn without_secrets(text: &str) -> String {
    let shown = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = shown.split_once("://").unwrap_or(("", shown));
    match rest.rsplit_once('@') {
        Some((_, rest)) => format!("{scheme}://...@{rest}"),
        None if text.contains('@') => format!("{scheme}://..."),
        None => shown.to_owned(),
    }
}

/// Whether a URL is of this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn repo(text: &str) -> Repo {
        match Source::parse(text).unwrap() {
            Source::Hub(repo) => repo,
            other => panic!("{other:?}"),
        }
    }

    fn error(text: &str) -> String {
        Source::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_three_forms_are_told_apart() {
        assert_eq!(repo("hf:timm/resnet50.a1_in1k").id(), "timm/resnet50.a1_in1k");
        let full = repo("hf:microsoft/resnet-50@refs/pr/3:onnx/model.onnx");
        assert_eq!((full.revision(), full.file.as_deref()), ("refs/pr/3", Some("onnx/model.onnx")));
        assert_eq!(repo("hf:a/b:c.onnx").revision(), "main");
        assert!(matches!(Source::parse("resnet50").unwrap(), Source::Known(k) if k.arch == "resnet50"));
        let Source::Url(file) = Source::parse(&format!("https://h/m/Net%20v2.onnx?x=1#sha256={}", HEX.to_uppercase())).unwrap() else {
            panic!()
        };
        assert_eq!((file.sha256.as_str(), file.url.as_str()), (HEX, "https://h/m/Net%20v2.onnx?x=1"));
        assert_eq!(Source::Url(file).name(), "Net_v2");
        assert!(Source::parse(&format!("http://127.0.0.1:80/a.onnx#sha256={HEX}")).is_ok());
    }

    #[test]
    fn a_mistake_is_told_what_to_type() {
        assert!(error("https://h/m.onnx").contains("#sha256="));
        assert!(error("https://h/m.onnx#sha256=12").contains("64 hex digits"));
        assert!(error("https://huggingface.co/a/b/resolve/main/m.onnx").contains("hf:OWNER/REPO"));
        assert!(error(&format!("http://example.com/m.onnx#sha256={HEX}")).contains("https"));
        assert!(error(&format!("ftp://h/m.onnx#sha256={HEX}")).contains("https"));
        let secret = error(&format!("https://me:hunter2@h/m.onnx?token=hunter2#sha256={HEX}"));
        assert!(secret.contains("password") && !secret.contains("hunter2"), "{secret}");
        for password in ["hunter2/hunter2", "hunter2?x", "hunter2#x"] {
            let broken = error(&format!("https://me:{password}@h/m.onnx"));
            assert!(!broken.contains("hunter2"), "{broken}");
        }
        assert!(error("resnet5O").contains("did you mean resnet50?"));
        assert!(error("timm/resnet50.a1_in1k").contains("hf:timm/resnet50.a1_in1k"));
        assert!(error("hf:resnet50").contains("hf:OWNER/REPO"));
        for bad in [
            "hf:a/b@",
            "hf:a/b:",
            "hf:a/..",
            "hf:../b",
            "hf:a/b:../c",
            "hf:a/b:/etc/passwd",
            "hf:a/b@../../x",
            "hf:a/b:c//d",
            "hf:a/b:c\\..\\d",
        ] {
            assert!(error(bad).contains("write hf:"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_safe_and_says_itself(text in "(hf:|https://h/|)[a-zA-Z0-9./@:_\\\\#=%-]{0,40}") {
            if let Ok(source) = Source::parse(&text) {
                let name = source.name();
                prop_assert!(!name.is_empty() && name != "." && name != ".." && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)));
                if let Source::Hub(repo) = source {
                    prop_assert!(is_inside(repo.revision()) && repo.file.as_deref().is_none_or(is_inside));
                    let revision = repo.revision.as_ref().map_or(String::new(), |r| format!("@{r}"));
                    let file = repo.file.as_ref().map_or(String::new(), |f| format!(":{f}"));
                    prop_assert_eq!(format!("hf:{}{revision}{file}", repo.id()), text);
                }
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = Source::parse(&text);
            let _ = Source::parse(&format!("hf:{text}"));
            let _ = Source::parse(&format!("https://{text}"));
        }
    }
}
