//! Lines of a file or of standard input as a source: the offset is the line's number from 0, the key of the listing its number from 1.

use super::listing::{Numbering, launch};
use super::{ListingOptions, Source};
use crate::listing::Input;
use crate::{Result, config};

pub use crate::listing::{MAX_LINE, as_reference};

/// Starts reading the lines of `config.path` (`-` is standard input), each a reference in any form; paths of existing files become `file://` URIs.
/// Empty lines are passed over; longer ones than [`MAX_LINE`] are cut.
///
/// # Errors
/// [`crate::Error::Config`] if there is no such file, or the state is that of another one.
pub fn start(config: &config::Listing, options: ListingOptions) -> Result<Source> {
    launch(vec![(Input::of_lines(&config.path)?, config.path.clone())], config.state.as_deref(), None, options, Numbering::Lines)
}
