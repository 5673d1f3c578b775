//! Files of a folder or of a glob, by a walk whose order is that of the paths, component by component.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::{DirEntry, WalkDir};

use super::{Batches, Entry, Mark, absolute, file_uri, is_image_name, other_image};
use crate::{Context, Error, Result};

/// A glob below a folder. `*` and `?` stay within a component, `**` crosses them; a folder that matches means all below it, as in a shell.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    /// The part of the text before the first component with a wildcard, as given.
    prefix: String,
    root: PathBuf,
    matches: GlobMatcher,
    below: GlobMatcher,
    /// Components of the pattern, where `**` does not leave them open.
    depth: Option<usize>,
    /// The pattern spells out how the name ends, so that every match is meant.
    any_name: bool,
    hidden: bool,
}

impl Pattern {
    /// Whether the text has a wildcard.
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '{'])
    }

    /// Reads a pattern, and makes sure that something matches it.
    ///
    /// # Errors
    /// [`Error::Config`] if it is malformed, its folder is missing, or nothing matches.
    pub fn new(text: &str) -> Result<Self> {
        let first = text.find(['*', '?', '[', '{', '\\']).unwrap_or(text.len());
        let (prefix, rest) = text.split_at(text[..first].rfind('/').map_or(0, |slash| slash + 1));
        let folder = Path::new(if prefix.is_empty() { "." } else { prefix });
        if !folder.is_dir() {
            return Err(Error::config(format!("nothing matches `{text}`: there is no folder `{}`", folder.display())));
        }
        let glob = |pattern: &str| {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            glob.map(|g| g.compile_matcher())
                .map_err(|e| Error::config(format!("`{text}` is not a pattern that can be matched: {}", e.kind())))
        };
        let rest = rest.trim_end_matches('/');
        let pattern = Self {
            text: text.to_owned(),
            prefix: prefix.to_owned(),
            root: absolute(folder)?,
            matches: glob(rest)?,
            below: glob(&format!("{rest}/**"))?,
            depth: (!rest.contains("**")).then(|| rest.split('/').count()),
            any_name: !rest.ends_with('*'),
            hidden: rest.split('/').any(|c| c.starts_with('.')),
        };
        let mut found = false;
        walk(&pattern.root, Some(&pattern), None, |_, _| {
            found = true;
            Ok(false)
        })?;
        if found { Ok(pattern) } else { Err(Error::config(format!("nothing matches `{text}`"))) }
    }

    /// The folder that is walked.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn takes(&self, relative: &Path) -> bool {
        (self.any_name && self.matches.is_match(relative))
            || (is_image_name(relative) && (self.matches.is_match(relative) || self.below.is_match(relative)))
    }

    fn enters(&self, relative: &Path) -> bool {
        match self.depth {
            Some(depth) if relative.components().count() == depth => self.matches.is_match(relative),
            _ => true,
        }
    }
}

/// What a walk passed over, for the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    links: u64,
    other_names: u64,
    /// Images of other formats, by extension.
    unreadable: BTreeMap<&'static str, u64>,
}

pub(super) fn list(root: &Path, pattern: Option<&Pattern>, after: Option<Mark>, out: &mut Batches) -> Result<()> {
    let resumed = after.is_some();
    let after = after.map(|mark| path_of(&mark)).transpose()?;
    let mut taken = 0u64;
    let passed = walk(root, pattern, after.as_deref(), |path, relative| {
        let uri = file_uri(path)?;
        let key = format!("{}{}", pattern.map_or("", |p| p.prefix.as_str()), relative.to_string_lossy());
        taken += 1;
        Ok(out.push(Entry::of_uri(uri.clone(), key, Mark::File(uri))).is_ok())
    })?;
    let name = pattern.map_or_else(|| root.display().to_string(), |p| p.text.clone());
    if !passed.unreadable.is_empty() {
        let kinds: Vec<String> = passed.unreadable.iter().map(|(extension, count)| format!("{count} .{extension}")).collect();
        tracing::warn!("{name}: passed over images in formats that are not supported: {}", kinds.join(", "));
    }
    if passed.other_names > 0 || passed.links > 0 {
        tracing::info!(
            "{name}: passed over {} files that are no images by their names and {} symbolic links",
            passed.other_names,
            passed.links
        );
    }
    if taken == 0 && !resumed {
        tracing::warn!("{name}: there is no image");
    }
    Ok(())
}

pub(super) fn single(path: &Path, after: Option<Mark>, out: &mut Batches) -> Result<()> {
    if after.is_none() {
        let uri = file_uri(path)?;
        // Fails only when nobody takes the entry, and then nobody misses it.
        let _ = out.push(Entry::of_uri(uri.clone(), path.to_string_lossy().into_owned(), Mark::File(uri)));
    }
    Ok(())
}

fn path_of(mark: &Mark) -> Result<PathBuf> {
    let wrong = || Error::config("the state file is not of a folder; delete it to begin anew");
    let Mark::File(uri) = mark else { return Err(wrong()) };
    uri.parse::<url::Url>().ok().and_then(|u| u.to_file_path().ok()).ok_or_else(wrong)
}

/// Calls `each` with path and relative path of every file that is taken and lies behind `after`, until it answers `false`.
fn walk(
    root: &Path,
    pattern: Option<&Pattern>,
    after: Option<&Path>,
    mut each: impl FnMut(&Path, &Path) -> Result<bool>,
) -> Result<Passed> {
    let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_path_buf();
    let hidden = pattern.is_some_and(|p| p.hidden);
    let wanted = |e: &DirEntry| {
        if e.depth() == 0 {
            return true;
        }
        if !hidden && e.file_name().as_encoded_bytes().starts_with(b".") {
            return false;
        }
        // Sorted by name in every folder, the walk goes through the paths in `Path`'s own order.
        let path = e.path();
        if after.is_some_and(|a| path <= a && !(e.file_type().is_dir() && a.starts_with(path))) {
            return false;
        }
        !e.file_type().is_dir() || pattern.is_none_or(|p| p.enters(&relative(path)))
    };
    let mut passed = Passed::default();
    for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(wanted) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) if e.depth() > 0 && e.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) => {
                tracing::warn!("{e}: it went away while the folder was listed");
                continue;
            }
            Err(e) => return Err(e).context(format!("cannot list `{}`", root.display())),
        };
        let kind = entry.file_type();
        let relative = relative(entry.path());
        if kind.is_symlink() {
            passed.links += 1;
        } else if kind.is_file() {
            if pattern.map_or_else(|| is_image_name(&relative), |p| p.takes(&relative)) {
                if !each(entry.path(), &relative)? {
                    break;
                }
            } else if pattern.is_none() {
                match other_image(&relative) {
                    Some(extension) => *passed.unreadable.entry(extension).or_default() += 1,
                    None => passed.other_names += 1,
                }
            }
        }
    }
    Ok(passed)
}
