//! Which ways there are to compute a convolution, and what each costs.

use super::ConvShape;

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Multiply by multiply.
    Direct,
    /// Winograd's F(2x2, 3x3): weights 1.78 times as large, as exact as `Direct`.
    Winograd2,
    /// Winograd's F(4x4, 3x3): weights 4 times as large, errors near 2e-6 of the largest value.
    Winograd4,
}

/// The algorithms that a shape can be computed with over numbers of so many bytes (4 for f32, 2 for bf16, 1), the one of the smallest weights first. What
/// Winograd's sums and differences lose by rounding is twice what rounded weights lose with small tiles in bf16, and too much with large ones.
pub fn candidates(shape: &ConvShape, bytes: usize) -> Vec<Algorithm> {
    let fits = shape.kernel == [3, 3] && shape.stride == [1, 1] && shape.dilation == [1, 1] && shape.groups == 1;
    match bytes {
        4 if fits => vec![Algorithm::Direct, Algorithm::Winograd2, Algorithm::Winograd4],
        2 if fits => vec![Algorithm::Direct, Algorithm::Winograd2],
        _ => vec![Algorithm::Direct],
    }
}

/// Bytes of the packed weights over numbers of so many bytes, but for the rounding of channels to whole vectors.
pub fn weight_bytes(shape: &ConvShape, algorithm: Algorithm, bytes: usize) -> usize {
    let channels = shape.in_channels / shape.groups * shape.out_channels;
    let taps = match algorithm {
        Algorithm::Direct => shape.kernel[0] * shape.kernel[1],
        Algorithm::Winograd2 => 16,
        Algorithm::Winograd4 => 36,
    };
    bytes * channels * taps
}

/// About how long a shape takes over numbers of so many bytes for `images` images in one call, in multiply-adds at the peak of a core, so that algorithms can
/// be compared: what they multiply or, where that takes longer, what their weights take to come from memory, and the transformations of tiles.
///
/// The constants fit a ResNet-50's layers on a Zen 4 within 10%; on a core that multiplies faster beside the same memory, large weights cost more.
pub fn cost(shape: &ConvShape, algorithm: Algorithm, bytes: usize, images: usize) -> f64 {
    // Multiply-adds of f32 in the time that a byte of weights takes from memory, and that a tile's transformations take for each channel.
    const OF_A_BYTE: f64 = 2.4;
    const OF_A_SMALL_TILE: f64 = 105.0;
    const OF_A_LARGE_TILE: f64 = 350.0;
    let (size, points, of_a_tile) = match algorithm {
        Algorithm::Direct => (1, shape.kernel[0] * shape.kernel[1], 0.0),
        Algorithm::Winograd2 => (2, 16, OF_A_SMALL_TILE),
        Algorithm::Winograd4 => (4, 36, OF_A_LARGE_TILE),
    };
    // Half as wide, twice as many are multiplied in the same time.
    let faster = 4.0 / bytes as f64;
    let tiles = (images * shape.output().iter().map(|side| side.div_ceil(size)).product::<usize>()) as f64;
    let multiplied = tiles * (points * shape.in_channels / shape.groups * shape.out_channels) as f64;
    let transformed = tiles * (shape.in_channels + shape.out_channels) as f64 * of_a_tile * faster;
    multiplied.max(weight_bytes(shape, algorithm, bytes) as f64 * OF_A_BYTE * faster) + transformed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least cost is the least time measured on a ResNet-50's 3x3 layers, one image at a time.
    #[test]
    fn the_cheapest_is_what_was_measured_fastest() {
        let cheapest = |size: usize, channels: usize| {
            let shape = ConvShape::square(size, channels, channels, 3, 1);
            candidates(&shape, 4).into_iter().min_by(|a, b| cost(&shape, *a, 4, 1).total_cmp(&cost(&shape, *b, 4, 1)))
        };
        assert_eq!([(56, 64), (28, 128), (14, 256)].map(|(size, channels)| cheapest(size, channels)), [Some(Algorithm::Winograd4); 3]);
        assert_eq!(cheapest(7, 512), Some(Algorithm::Winograd2));
        assert_eq!(cheapest(224, 3), Some(Algorithm::Direct));
    }

    #[test]
    fn only_dense_3x3_of_stride_1_have_a_choice() {
        let shape = ConvShape::square(8, 4, 4, 3, 1);
        assert_eq!([4, 2, 1].map(|bytes| candidates(&shape, bytes).len()), [3, 2, 1]);
        for other in [
            ConvShape { kernel: [3, 1], ..shape },
            ConvShape { stride: [1, 2], ..shape },
            ConvShape { dilation: [2, 1], ..shape },
            ConvShape { groups: 2, ..shape },
        ] {
            assert_eq!(candidates(&other, 4), [Algorithm::Direct]);
        }
    }
}
