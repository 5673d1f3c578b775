//! Files that are written under another name until they are whole.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// A file in `folder` that will be renamed, under a name that readers pass over. Like any new file it is readable as the umask says; those of
/// `tempfile` alone are their owner's only, and stay so when they are renamed.
pub(crate) fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(".lakelens-").suffix(".tmp").permissions(Permissions::from_mode(0o666)).tempfile_in(folder)
}
