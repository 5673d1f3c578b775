//! How large tiles are, and into how many rows and columns are cut.

use super::super::Isa;

/// Most vectors of a tile: as many as leave registers for the weights of a step and a broadcast value.
pub(in super::super) fn most_vectors(isa: Isa) -> usize {
    if isa == Isa::Avx512 { 4 } else { 2 }
}

/// Most rows of a tile of so many vectors. Narrow tiles are high, for each has to be set up, and its sums must be many enough that none is waited for.
pub(in super::super) fn most_rows(isa: Isa, vectors: usize) -> usize {
    match vectors {
        1 => 12,
        2 if isa == Isa::Avx512 => 12,
        // 8 by 3 is slower than 6 by 3, if by 5% only.
        _ => 6,
    }
}

/// Splits `vectors` into panels of at most [`most_vectors`], as evenly as they go: (first vector, vectors) of each.
pub(in super::super) fn panels(isa: Isa, vectors: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    split(vectors, vectors.div_ceil(most_vectors(isa)))
}

/// Splits `whole` into `parts` as evenly as they go: (first, count) of each.
pub(in super::super) fn split(whole: usize, parts: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    (0..parts).map(move |i| {
        let first = whole * i / parts;
        (first, whole * (i + 1) / parts - first)
    })
}

/// How many rows each tile of a matmul has: as even as they go, the first ones one more.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Tiles {
    pub count: usize,
    each: usize,
    longer: usize,
}

impl Tiles {
    /// For `rows` rows, at least one, of which a tile has `most` at most.
    pub(in super::super) fn new(rows: usize, most: usize) -> Self {
        let count = rows.div_ceil(most);
        Self { count, each: rows / count, longer: rows % count }
    }

    /// Rows of the highest.
    pub(in super::super) fn most(self) -> usize {
        self.each + usize::from(self.longer > 0)
    }

    #[inline(always)]
    pub(in super::super) fn rows(self, index: usize) -> usize {
        self.each + usize::from(index < self.longer)
    }

    /// How many tiles from `index` on, of those before `end`, have as many rows.
    #[inline(always)]
    pub(in super::super) fn alike(self, index: usize, end: usize) -> usize {
        (if index < self.longer { self.longer.min(end) } else { end }) - index
    }

    /// The heights that there are: rows, tiles of so many.
    pub(in super::super) fn heights(self) -> impl Iterator<Item = (usize, usize)> {
        [(self.each + 1, self.longer), (self.each, self.count - self.longer)].into_iter().filter(|(_, tiles)| *tiles > 0)
    }

    pub(in super::super) fn first_row(self, index: usize) -> usize {
        index * self.each + index.min(self.longer)
    }
}
