//! How far a download is: a bar on a terminal, a line now and then where there is none.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// The progress of one file, shown until dropped.
pub struct Bar {
    bar: ProgressBar,
    /// When the last line was written; `None` where there is a bar, or nothing is shown.
    line: Cell<Option<Instant>>,
    name: String,
    size: Option<u64>,
}

impl Bar {
    /// Begins for the file `name`, which has `size` bytes if that is known.
    pub fn start(name: &str, size: Option<u64>, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal && !quiet { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(size, target);
        let template = if size.is_some() {
            "{msg}  {bar:30}  {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
        } else {
            "{msg}  {bytes}, {bytes_per_sec}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(name.to_owned());
        let line = Cell::new((!terminal && !quiet).then(Instant::now));
        Self { bar, line, name: name.to_owned(), size }
    }

    /// `bytes` of it are there.
    pub fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
        if self.line.get().is_some_and(|last| last.elapsed() >= EVERY) {
            self.line.set(Some(Instant::now()));
            let of = self.size.map_or_else(String::new, |size| format!(" of {}", HumanBytes(size)));
            tracing::info!("{}: {}{of}", self.name, HumanBytes(bytes));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
