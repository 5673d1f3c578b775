//! The progress bar on a terminal, plain lines where there is none.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::Stats;
use super::health::lag;

/// Shows progress until dropped.
pub struct Progress {
    task: JoinHandle<()>,
    bar: ProgressBar,
}

impl Progress {
    /// Starts showing; a bar on a terminal, else a line every 10 seconds.
    pub fn start(stats: Arc<Stats>, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let bar = ProgressBar::with_draw_target(
            None,
            if terminal { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() },
        );
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}") {
            bar.set_style(style);
        }
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let (mut last, mut since) = (0, Instant::now());
            let mut rate = 0.0;
            let mut ticks = 0u32;
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                ticks += 1;
                let finished = stats.finished.load(Relaxed);
                if since.elapsed() >= Duration::from_secs(2) {
                    rate = (finished - last) as f64 / since.elapsed().as_secs_f64();
                    (last, since) = (finished, Instant::now());
                }
                let lag = lag(&stats.board.borrow()).map_or_else(String::new, |lag| format!(", lag {lag}"));
                let text = format!("{rate:.1} images/s, {finished} done, {} rejected{lag}", stats.rejected.load(Relaxed));
                if terminal {
                    shown.set_message(text);
                    shown.tick();
                } else if !quiet && ticks.is_multiple_of(50) {
                    tracing::info!("{text}");
                }
            }
        });
        Self { task, bar }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}
