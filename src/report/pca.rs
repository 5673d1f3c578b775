//! Principal components of some thousand embeddings: block power iteration with Rayleigh-Ritz steps, in double precision, the same on every machine
//! up to rounding.

use ndarray::{Array1, Array2, Axis, s};

use super::sample::mixed;

/// Columns that are iterated beside the wanted ones, by which those converge faster.
const EXTRA: usize = 8;
/// Most iterations. Ten to thirty are usual; what has not converged by then are directions that hardly differ in their variance.
const ITERATIONS: usize = 100;

/// Rows in the coordinates of their principal components.
#[derive(Debug)]
pub struct Pca {
    /// A row for each row, a column for each component: the one of the greatest variance first.
    pub coordinates: Array2<f64>,
    /// Each component's share of the variance.
    pub explained: Vec<f64>,
}

/// The first `wanted` components of `rows`, fewer where there are no more. The mean is subtracted in place.
pub fn pca(rows: &mut Array2<f64>, wanted: usize) -> Pca {
    let (count, dim) = rows.dim();
    if let Some(mean) = rows.mean_axis(Axis(0)) {
        *rows -= &mean;
    }
    // The smaller of the two has the same eigenvalues but for zeros.
    let by_rows = count <= dim;
    let matrix = if by_rows { rows.dot(&rows.t()) } else { rows.t().dot(&*rows) };
    let total = matrix.diag().sum();
    let wanted = wanted.min(matrix.nrows());
    if wanted == 0 || total <= 0.0 {
        return Pca { coordinates: Array2::zeros((count, wanted)), explained: vec![0.0; wanted] };
    }
    let (values, mut vectors) = leading(&matrix, wanted);
    if by_rows {
        for (mut column, value) in vectors.columns_mut().into_iter().zip(&values) {
            column *= value.max(0.0).sqrt();
        }
    } else {
        vectors = rows.dot(&vectors);
    }
    // A component has no direction of its own; so that pictures come out alike, its longest coordinate is positive.
    for mut column in vectors.columns_mut() {
        let longest = column.iter().fold(0.0f64, |longest, value| if value.abs() > longest.abs() { *value } else { longest });
        if longest < 0.0 {
            column *= -1.0;
        }
    }
    Pca { coordinates: vectors, explained: values.iter().map(|value| (value / total).clamp(0.0, 1.0)).collect() }
}

/// The greatest eigenvalues of a symmetric matrix without negative ones, and their vectors as columns.
fn leading(matrix: &Array2<f64>, wanted: usize) -> (Array1<f64>, Array2<f64>) {
    let size = matrix.nrows();
    let columns = (wanted + EXTRA).min(size);
    let mut basis = Array2::from_shape_fn((size, columns), |(i, j)| mixed((i * columns + j) as u64) as f64 / u64::MAX as f64 - 0.5);
    orthonormalise(&mut basis);
    let mut last = 0.0;
    let mut iteration = 0;
    loop {
        let image = matrix.dot(&basis);
        let (values, turn) = jacobi(basis.t().dot(&image));
        let (vectors, image) = (basis.dot(&turn), image.dot(&turn));
        // The map needs two exact ones, neighbours only the space that all of them span.
        let off = |i: usize| (&image.column(i) - &(&vectors.column(i) * values[i])).mapv(|v| v * v).sum().sqrt();
        let sum = values.slice(s![..wanted]).sum();
        iteration += 1;
        let converged = (0..wanted.min(2)).all(|i| off(i) <= 1e-9 * values[0]) && (sum - last).abs() <= 1e-6 * sum;
        if converged || iteration == ITERATIONS {
            return (values.slice(s![..wanted]).to_owned(), vectors.slice(s![.., ..wanted]).to_owned());
        }
        last = sum;
        basis = image;
        orthonormalise(&mut basis);
    }
}

/// Makes columns orthonormal by Gram-Schmidt, twice, since once is not enough for nearly parallel ones. A column that depends on earlier ones
/// becomes zero.
fn orthonormalise(basis: &mut Array2<f64>) {
    // Rows are contiguous.
    let mut rows = basis.t().as_standard_layout().into_owned();
    for i in 0..rows.nrows() {
        let (done, mut rest) = rows.view_mut().split_at(Axis(0), i);
        let mut row = rest.row_mut(0);
        let before = row.dot(&row).sqrt();
        for _ in 0..2 {
            for earlier in done.rows() {
                let along = earlier.dot(&row);
                row.scaled_add(-along, &earlier);
            }
        }
        let length = row.dot(&row).sqrt();
        if length > 1e-12 * before && length > 0.0 {
            row /= length;
        } else {
            row.fill(0.0);
        }
    }
    basis.assign(&rows.t());
}

/// All eigenvalues of a small symmetric matrix, the greatest first, and their vectors as columns, by Jacobi's rotations.
fn jacobi(mut matrix: Array2<f64>) -> (Array1<f64>, Array2<f64>) {
    let size = matrix.nrows();
    let mut vectors = Array2::eye(size);
    let scale = matrix.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    for _sweep in 0..60 {
        let mut off = 0.0f64;
        for p in 0..size {
            for q in p + 1..size {
                let at = matrix[(p, q)];
                off = off.max(at.abs());
                if at.abs() <= f64::EPSILON * 1e-3 * scale {
                    continue;
                }
                let theta = (matrix[(q, q)] - matrix[(p, p)]) / (2.0 * at);
                let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                let sine = tangent * cosine;
                rotate(&mut matrix, p, q, cosine, sine);
                rotate(&mut vectors, p, q, cosine, sine);
                matrix.swap_axes(0, 1);
                rotate(&mut matrix, p, q, cosine, sine);
                matrix.swap_axes(0, 1);
            }
        }
        if off <= f64::EPSILON * scale {
            break;
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|a, b| matrix[(*b, *b)].total_cmp(&matrix[(*a, *a)]));
    (order.iter().map(|i| matrix[(*i, *i)]).collect(), vectors.select(Axis(1), &order))
}

/// Rotates columns `p` and `q`.
fn rotate(matrix: &mut Array2<f64>, p: usize, q: usize, cosine: f64, sine: f64) {
    for mut row in matrix.rows_mut() {
        let (a, b) = (row[p], row[q]);
        row[p] = cosine * a - sine * b;
        row[q] = sine * a + cosine * b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(count: usize, dim: usize, seed: u64) -> Array2<f64> {
        let n = |i: usize| mixed(seed.wrapping_mul(1 << 20).wrapping_add(i as u64)) as f64 / u64::MAX as f64 - 0.5;
        // Columns of falling variance, as embeddings have.
        Array2::from_shape_fn((count, dim), |(i, j)| n(i * dim + j) / (1.0 + j as f64))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn components_are_uncorrelated_ordered_and_keep_distances(count in 1usize..40, dim in 1usize..40, seed in any::<u64>()) {
            let given = rows(count, dim, seed);
            let whole = pca(&mut given.clone(), count.min(dim));
            let products = whole.coordinates.t().dot(&whole.coordinates);
            let scale = products.diag().sum().max(1e-300);
            for ((i, j), value) in products.indexed_iter() {
                prop_assert!(i == j || value.abs() < 1e-6 * scale, "{i} {j} {value}");
            }
            prop_assert!(whole.explained.windows(2).all(|pair| pair[0] >= pair[1] - 1e-9));
            if count > 1 {
                prop_assert!((whole.explained.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            }
            let distance = |rows: &Array2<f64>, i, j| (&rows.row(i) - &rows.row(j)).mapv(|v| v * v).sum();
            for i in 0..count {
                for j in 0..i {
                    prop_assert!((distance(&given, i, j) - distance(&whole.coordinates, i, j)).abs() < 1e-6 * scale);
                }
            }
            // A few of them are the first of all of them, from either side.
            let few = pca(&mut given.clone(), 2);
            for (a, b) in few.explained.iter().zip(&whole.explained) {
                prop_assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
        }
    }

    #[test]
    fn a_line_has_one_component() {
        let mut line = Array2::from_shape_fn((50, 7), |(i, j)| i as f64 * (j as f64 + 1.0));
        let found = pca(&mut line, 3);
        assert!(found.explained[0] > 1.0 - 1e-9 && found.explained[1] < 1e-9, "{:?}", found.explained);
        let first = found.coordinates.column(0);
        let steps: Vec<f64> = first.windows(2).into_iter().map(|pair| (pair[1] - pair[0]).abs()).collect();
        assert!(steps.iter().all(|step| (step - steps[0]).abs() < 1e-6), "{steps:?}");
    }

    #[test]
    fn nothing_to_find_is_no_error() {
        for (count, dim) in [(0, 0), (0, 4), (1, 4), (3, 1)] {
            let found = pca(&mut Array2::ones((count, dim)), 2);
            assert_eq!(found.coordinates.nrows(), count);
            assert!(found.coordinates.iter().all(|value| value.is_finite() && value.abs() < 1e-9));
        }
    }
}
