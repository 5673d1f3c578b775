//! How each convolution is computed. Winograd's method multiplies less and reads more weights; where that pays, and memory allows it, it is taken.

use crate::ir::{Graph, Kind};
use crate::kernels::{Algorithm, candidates, cost, weight_bytes};
use crate::rewrite::Options;

/// A way to compute layer `at` that costs less than the one before.
struct Offer {
    at: usize,
    algorithm: Algorithm,
    saved: f64,
    bytes: usize,
}

/// Chooses for all layers together: what saves most for its bytes comes first, until the bytes are spent.
pub(crate) fn choose(graph: &mut Graph, options: &Options) {
    let plain: usize = graph.layers.iter().filter_map(|l| if let Kind::Conv(c) = &l.kind { Some(4 * c.weights.len()) } else { None }).sum();
    let mut left = (plain as f64 * (options.weights - 1.0).max(0.0)) as usize;
    let mut offers = Vec::new();
    for (at, layer) in graph.layers.iter().enumerate() {
        let Kind::Conv(conv) = &layer.kind else { continue };
        let bytes = layer.inputs.first().map_or(4, |&x| graph.values[x].dtype.bytes());
        let of = |algorithm| (cost(&conv.shape, algorithm, bytes, options.together), weight_bytes(&conv.shape, algorithm, bytes));
        let (direct, plain) = of(Algorithm::Direct);
        for algorithm in candidates(&conv.shape, bytes) {
            let (cost, bytes) = of(algorithm);
            if cost < direct {
                offers.push(Offer { at, algorithm, saved: direct - cost, bytes: bytes.saturating_sub(plain) });
            }
        }
    }
    let worth = |o: &Offer| o.saved / (o.bytes + 1) as f64;
    offers.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
    // What the layers save already: a better offer for the same layer replaces the one before.
    let mut taken: Vec<Option<(f64, usize)>> = vec![None; graph.layers.len()];
    for offer in offers {
        let (saved, bytes) = taken[offer.at].unwrap_or((0.0, 0));
        if offer.saved <= saved || offer.bytes > left + bytes {
            continue;
        }
        left = left + bytes - offer.bytes;
        taken[offer.at] = Some((offer.saved, offer.bytes));
        if let Kind::Conv(conv) = &mut graph.layers[offer.at].kind {
            conv.algorithm = offer.algorithm;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{ConvLayer, Layer};
    use crate::kernels::{Activation, ConvShape};

    fn graph() -> Graph {
        let mut graph = Graph::default();
        for channels in [64, 128, 256, 32] {
            let shape = ConvShape::square(28, channels, channels, 3, 1);
            let kind = Kind::Conv(ConvLayer::new(shape, vec![0.0; 9 * channels * channels], vec![0.0; channels]));
            graph.layers.push(Layer { name: String::new(), kind, activation: Activation::None, inputs: vec![], output: 0 });
        }
        graph
    }

    fn bytes(graph: &Graph) -> usize {
        graph.layers.iter().map(|l| if let Kind::Conv(c) = &l.kind { weight_bytes(&c.shape, c.algorithm, 4) } else { 0 }).sum()
    }

    #[test]
    fn memory_bounds_what_is_chosen() {
        let plain = bytes(&graph());
        let mut before = 0;
        for weights in [1.0, 1.2, 1.5, 2.0, 4.0] {
            let mut graph = graph();
            choose(&mut graph, &Options { weights, ..Options::default() });
            assert!(bytes(&graph) as f64 <= plain as f64 * weights);
            let fast = graph.layers.iter().filter(|l| matches!(&l.kind, Kind::Conv(c) if c.algorithm != Algorithm::Direct)).count();
            assert!(fast >= before && (weights > 1.0 || fast == 0));
            before = fast;
        }
        assert!(before > 0);
    }
}
