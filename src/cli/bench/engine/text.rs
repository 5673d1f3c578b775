//! The figures as tables.

use super::super::peers::Way;
use super::Figures;
use crate::model::bench::Loading;

/// For a terminal.
pub(super) fn text(figures: &Figures) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let or = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"));
    let _ = writeln!(out, "instructions: {}; peaks of loops that touch registers only, the best of several runs, pinned:", figures.isa);
    for peak in &figures.peaks {
        let unit = if peak.arithmetic == "int8" { "GOP/s" } else { "GFLOP/s" };
        let _ = writeln!(out, "  {:<5} {:>2} threads {:>9} {unit}", peak.arithmetic, peak.threads, or(peak.gflops, 1));
    }
    for n in &figures.networks {
        let Loading { read, parse, rewrite, optimise, first_answer } = n.loading;
        let _ = writeln!(
            out,
            "\n{}: {:.2} GFLOP an image; in {} {} nodes on the engine, {} on tract\n\
             loading {:.2} s: reading {read:.2}, parsing {parse:.2}, rewriting {rewrite:.2}, optimising {optimise:.2}, first answer {first_answer:.2}",
            n.model, n.gflop_per_image, n.loaded_in, n.nodes_on_engine, n.nodes_on_tract, n.loading_total,
        );
        let _ = if n.nodes_on_engine > 0 {
            let [weights, arena] = [n.weight_bytes, n.arena_bytes].map(|bytes| bytes as f64 / 1e6);
            writeln!(out, "weights {weights:.1} MB, {:.2} times the file; activations {arena:.1} MB an image", n.weights_over_file)
        } else {
            writeln!(out, "weights and activations are tract's, and not counted")
        };
        let heads = [
            "precision",
            "batch",
            "threads",
            "images/s",
            "GFLOP/s",
            "of peak",
            "stock tract",
            "x tract",
            "x peer",
            "x 1 thread",
            "peak's",
            "x batch",
        ];
        let _ = writeln!(out, "{}", heads.map(|h| format!("{h:>12}")).concat());
        for r in &n.runs {
            let cells = [
                r.precision.to_owned(),
                r.batch.to_string(),
                r.threads.to_string(),
                format!("{:.2}", r.images_per_s),
                format!("{:.1}", r.gflops),
                or(r.share_of_peak, 3),
                or(r.tract_images_per_s, 2),
                or(r.over_tract, 2),
                or(r.over_best_peer, 2),
                or(r.scaling, 2),
                or(r.peak_scaling, 2),
                or(r.over_smallest_batch, 2),
            ];
            let _ = writeln!(out, "{}", cells.map(|c| format!("{c:>12}")).concat());
        }
        for p in &n.peers {
            let share = or(p.share_of_peak, 3);
            let (rate, gflops) = (format!("{:.2}", p.images_per_s), format!("{:.1}", p.gflops));
            let Way { runtime, version, precision, setting } = &p.way;
            let _ =
                writeln!(out, "{precision:>12}{:>12}{:>12}{rate:>12}{gflops:>12}{share:>12}  {runtime} {version}, {setting}", 1, p.threads);
        }
        if !n.layers.is_empty() {
            let _ = writeln!(out, "\n{:>9} {:>8} {:>7}  layers on the engine, one image", "us", "GFLOP/s", "of peak");
        }
        for l in &n.layers {
            let gflops = if l.share_of_peak.is_some() { format!("{:.1}", l.gflops) } else { "-".into() };
            let share = or(l.share_of_peak, 3);
            let _ = writeln!(out, "{:>9.1} {gflops:>8} {share:>7}  {:<16} {:<44} {}", l.time.us, l.time.kind, l.time.shape, l.time.name);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::NetworkFigures;
    use super::*;

    #[test]
    fn what_runs_on_tract_alone_has_no_weights_on_the_engine() {
        let said = |nodes_on_engine, nodes_on_tract| {
            let network = NetworkFigures {
                model: "net@sha256:0123456789ab".into(),
                gflop_per_image: 1.0,
                file_bytes: 1_000_000,
                loaded_in: "f32",
                loading: Loading { read: 0.1, parse: 0.1, rewrite: 0.1, optimise: 0.1, first_answer: 0.1 },
                loading_total: 0.5,
                nodes_on_engine,
                nodes_on_tract,
                weight_bytes: nodes_on_engine * 100_000,
                weights_over_file: 1.0,
                arena_bytes: 0,
                runs: vec![],
                peers: vec![],
                layers: vec![],
            };
            text(&Figures { schema: "", isa: "avx512".into(), cores: 2, peaks: vec![], networks: vec![network] })
        };
        let (engine, tract) = (said(10, 2), said(0, 12));
        assert!(engine.contains("in f32 10 nodes on the engine, 2 on tract") && engine.contains("weights 1.0 MB, 1.00 times"), "{engine}");
        assert!(tract.contains("in f32 0 nodes on the engine, 12 on tract") && tract.contains("are tract's, and not counted"), "{tract}");
    }
}
