//! The embeddings of the sample as the page needs them: a map in two dimensions, and vectors so small that a browser finds neighbours among them.
//!
//! Embeddings are scaled to length 1, so that distance and cosine similarity say the same; then 64 principal components are kept, a byte each, and a
//! byte for how much of the embedding those leave out. Of the ten nearest neighbours that whole embeddings of the demo's ResNet-50 give (196 pictures,
//! 2,048 values), these find 9.88 on average, and similarities are off by 0.003 on average, 0.012 at most: `tests/browser` measures it
//! anew with each run.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ndarray::{Array2, Axis};
use serde::Serialize;

use super::pca::pca;
use super::sample::Item;

/// Components that neighbours are found by.
const COMPONENTS: usize = 64;
/// Most values of all embeddings together, which bounds memory: 128 MiB in double precision.
const VALUES: usize = 16 << 20;

/// The sample's embeddings of one space.
#[derive(Debug, Serialize)]
pub struct Space {
    /// Its name.
    pub space: String,
    /// Length of its embeddings.
    pub dim: usize,
    /// Which items have one, by their place in the sample.
    pub items: Vec<usize>,
    /// Where they are on the map: two for each, from -1 to 1.
    pub map: Vec<f32>,
    /// Shares of the variance that the map's two axes have.
    pub explained: Vec<f32>,
    /// The share of all components that neighbours are found by.
    pub kept: f32,
    /// Their number.
    pub components: usize,
    /// What 127 stands for in `vectors`.
    pub scale: f32,
    /// What 255 stands for in `left_out`.
    pub left_out_scale: f32,
    /// `components` signed bytes for each item, in base64.
    pub vectors: String,
    /// The square of the distance from each item's embedding to that of its vector, a byte, in base64.
    pub left_out: String,
}

/// The space that most items have an embedding of; `None` where fewer than two have one.
pub fn space(items: &[Item]) -> Option<Space> {
    let named = |item: &Item| item.record.embedding.as_ref().map(|values| (item.record.space.clone(), values.len()));
    let mut counts = std::collections::BTreeMap::new();
    items.iter().filter_map(named).for_each(|key| *counts.entry(key).or_insert(0) += 1);
    let ((space, dim), _) = counts.into_iter().rev().max_by_key(|(_, count)| *count)?;
    let members = items.iter().enumerate().filter(|(_, item)| named(item).is_some_and(|key| key == (space.clone(), dim)));
    let members: Vec<(usize, &[f32])> =
        members.filter_map(|(n, item)| Some((n, item.record.embedding.as_deref()?))).take(VALUES / dim).collect();
    if members.len() < 2 {
        return None;
    }
    let mut rows = Array2::from_shape_fn((members.len(), dim), |(i, j)| f64::from(members[i].1[j]));
    for mut row in rows.rows_mut() {
        let length = row.dot(&row).sqrt();
        if length > 0.0 {
            row /= length;
        }
    }
    let found = pca(&mut rows, COMPONENTS);
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0f64, |most, value| most.max(value.abs())).max(f64::MIN_POSITIVE);
    let scale = most(&mut found.coordinates.iter().copied());
    let vectors: Vec<u8> = found.coordinates.iter().map(|value| (value / scale * 127.0).round() as i8 as u8).collect();
    // `rows` is without its mean now, as the coordinates are.
    let square = |row: ndarray::ArrayView1<f64>| row.dot(&row);
    let left_out: Vec<f64> =
        rows.rows().into_iter().zip(found.coordinates.rows()).map(|(whole, kept)| (square(whole) - square(kept)).max(0.0)).collect();
    let left_out_scale = most(&mut left_out.iter().copied());
    let shown = found.coordinates.columns().into_iter().take(2).collect::<Vec<_>>();
    let widest = most(&mut shown.iter().flat_map(|column| column.iter().copied()));
    let place = |i: usize, axis: usize| shown.get(axis).map_or(0.0, |column| ((column[i] / widest * 1e4).round() / 1e4) as f32);
    Some(Space {
        space: space.to_string(),
        dim,
        items: members.iter().map(|(n, _)| *n).collect(),
        map: (0..members.len()).flat_map(|i| [place(i, 0), place(i, 1)]).collect(),
        explained: found.explained.iter().take(2).map(|share| *share as f32).collect(),
        kept: found.explained.iter().sum::<f64>().min(1.0) as f32,
        components: found.coordinates.len_of(Axis(1)),
        scale: scale as f32,
        left_out_scale: left_out_scale as f32,
        vectors: STANDARD.encode(vectors),
        left_out: STANDARD.encode(left_out.iter().map(|value| (value / left_out_scale * 255.0).round() as u8).collect::<Vec<_>>()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::mixed;
    use super::super::tests::items_with;
    use super::*;

    /// Clusters of pictures whose values are noisy, none below zero and of falling variance, as those after a network's last pooling are.
    fn embeddings(count: usize, dim: usize) -> Vec<Vec<f32>> {
        let noise = |n: usize| (0..4).map(|k| mixed((n * 4 + k) as u64) as f64 / u64::MAX as f64 - 0.5).sum::<f64>();
        let value = |i: usize, j: usize| {
            let (centre, own) = (noise((i % 20) * dim + j + 7_000_000), noise(i * dim + j));
            ((centre + 0.6 * own) / (1.0 + j as f64 / 40.0)).max(0.0) as f32
        };
        (0..count).map(|i| (0..dim).map(|j| value(i, j)).collect()).collect()
    }

    /// As the page's script does it.
    fn neighbours(space: &Space, of: usize, count: usize) -> Vec<usize> {
        let vectors: Vec<f64> =
            STANDARD.decode(&space.vectors).unwrap().iter().map(|byte| f64::from(*byte as i8) / 127.0 * f64::from(space.scale)).collect();
        let left_out = STANDARD.decode(&space.left_out).unwrap();
        let row = |i: usize| &vectors[i * space.components..][..space.components];
        let distance = |i: usize| -> f64 {
            let kept: f64 = row(i).iter().zip(row(of)).map(|(a, b)| (a - b) * (a - b)).sum();
            kept + f64::from(left_out[i]) / 255.0 * f64::from(space.left_out_scale)
        };
        let mut order: Vec<usize> = (0..space.items.len()).filter(|i| *i != of).collect();
        order.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        order.truncate(count);
        order
    }

    #[test]
    fn nearly_all_neighbours_are_found_by_a_byte_a_component() {
        let all = embeddings(400, 512);
        let space = space(&items_with(all.clone())).unwrap();
        assert_eq!((space.components, space.items.len()), (64, 400));
        let cosine = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let mut found = 0;
        for i in 0..400 {
            let mut exact: Vec<usize> = (0..400).filter(|j| *j != i).collect();
            exact.sort_by(|a, b| cosine(&all[i], &all[*b]).total_cmp(&cosine(&all[i], &all[*a])));
            found += neighbours(&space, i, 10).iter().filter(|j| exact[..10].contains(j)).count();
        }
        assert!(found > 3200, "{found} of 4000");
    }

    #[test]
    fn only_embeddings_of_the_most_frequent_space_are_compared() {
        let mut items = items_with(embeddings(9, 6));
        for item in &mut items[..4] {
            std::sync::Arc::make_mut(&mut item.record).space = "other".into();
        }
        std::sync::Arc::make_mut(&mut items[8].record).embedding = None;
        let found = space(&items[..]).unwrap();
        // Four of each: the first by name, whatever the order.
        assert_eq!((found.space.as_str(), found.items.len()), ("c0ffee12d41b", 4));
        assert!(found.map.iter().all(|place| place.abs() <= 1.0) && found.map.len() == 8);
        assert!(space(&items[3..5]).is_none() && space(&[]).is_none());
    }

    #[test]
    fn equal_embeddings_are_one_place() {
        let found = space(&items_with(vec![vec![1.0, 2.0]; 5])).unwrap();
        assert!(found.map.iter().all(|place| *place == 0.0 || place.abs() <= 1.0));
        assert_eq!(neighbours(&found, 0, 10).len(), 4);
        assert!(space(&items_with(vec![vec![0.0; 3]; 3])).is_some());
    }
}
