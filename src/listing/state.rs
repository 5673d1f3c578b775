//! Small files that remember how far something was done.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Error, Result};

/// Reads the JSON of a state file; `None` if there is no file yet.
///
/// # Errors
/// [`Error::Config`] if it cannot be read or is something else.
pub fn load_state<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::config(format!("cannot read the state file `{}`: {e}", path.display()))),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Error::config(format!("`{}` is not a state file of this command ({e}); name another, or delete it to begin anew", path.display()))
    })
}

/// Writes a state file such that after a crash the old or the new one is there whole.
///
/// # Errors
/// [`Error::Failed`] if it cannot be written.
pub fn save_state<T: Serialize>(path: &Path, state: &T) -> Result<()> {
    let what = || format!("cannot write the state file `{}`", path.display());
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = crate::temporary::temporary_in(folder).context(what())?;
    serde_json::to_writer(&mut file, state).context(what())?;
    file.write_all(b"\n").context(what())?;
    file.as_file().sync_all().context(what())?;
    file.persist(path).context(what())?;
    // The new name lasts only once the folder is written too.
    std::fs::File::open(folder).and_then(|f| f.sync_all()).context(what())
}
