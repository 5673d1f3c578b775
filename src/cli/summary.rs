//! What a run says at its end, on stderr, and the exit code that it earns.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use crate::pipeline::Summary;
use crate::telemetry::escape;
use crate::{Error, Result};

/// Prints the ledger, the reasons, the best labels, the throughput and the time by stage.
pub fn print(summary: &Summary) {
    let total = summary.ledger.total();
    let stats = &summary.stats;
    let seconds = summary.elapsed.as_secs_f64().max(1e-9);
    let mut text = format!("\n{}", summary.ledger);
    for (title, counts) in [("rejected", &total.rejected), ("skipped", &total.skipped)] {
        if !counts.is_empty() {
            let list: Vec<String> = counts.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
            let _ = writeln!(text, "{title}: {}", list.join(", "));
        }
    }
    let mut labels: Vec<_> = summary.top_labels.iter().collect();
    labels.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    if !labels.is_empty() {
        let list: Vec<String> = labels.iter().take(10).map(|(label, n)| format!("{} {n}", escape(label))).collect();
        let _ = writeln!(text, "most frequent labels: {}", list.join(", "));
    }
    let images = stats.batches.images();
    let _ = writeln!(
        text,
        "{} items in {seconds:.1} s; {images} images labelled, {:.1} images/s, {:.1} MB fetched",
        total.received,
        images as f64 / seconds,
        stats.bytes.load(Relaxed) as f64 / 1e6
    );
    if images > 0 {
        let each = |time: std::time::Duration| time.as_secs_f64() * 1e3 / images as f64;
        let _ = writeln!(
            text,
            "time by stage, ms an image (all threads): fetch {:.2} (waiting included), decode {:.2}, infer {:.2}, deliver {:.2}; {:.1} images a micro-batch",
            each(stats.fetch.total()),
            each(stats.decode.total()),
            each(stats.infer.total()),
            each(stats.deliver.total()),
            stats.batches.mean()
        );
    }
    eprint!("{text}");
}

/// The error that a finished run earns, in the order of the contract's exit codes.
pub fn verdict(summary: Summary, fail_on_rejected: bool, bounded: bool) -> Result<()> {
    if let Some(error) = summary.error {
        return Err(error);
    }
    if summary.stopped && bounded {
        return Err(Error::failed("stopped by a signal before the input was at its end; start again to go on from here"));
    }
    match summary.ledger.total().rejections() {
        n if n > 0 && fail_on_rejected => Err(Error::Rejected(n)),
        _ => Ok(()),
    }
}
