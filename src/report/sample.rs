//! The records that are shown one by one: a bounded number of all, the same ones every time.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use super::tally::{NAME, shortened};
use crate::flow::{Label, Record};

/// One part in so many of the sample is for the pictures that the model is least sure of.
const UNSURE_SHARE: usize = 5;
/// What is kept of a record's text, in bytes, and of its lists.
const URI: usize = 2048;
const TEXT: usize = 512;
const TAGS: usize = 32;
const LABELS: usize = 20;
const HEADS: usize = 8;
/// Longest embedding that is looked at, in values.
pub const DIM: usize = 16_384;

/// One record of the sample.
#[derive(Debug, Clone)]
pub struct Item {
    /// Where it stood among all records.
    pub number: u64,
    /// Drawn at random, and so a stand-in for all; else it is here because the model is unsure of it.
    pub random: bool,
    /// Decides what is left out first.
    pub priority: u64,
    /// The record, its text cut to a bounded length.
    pub record: Arc<Record>,
}

/// Chooses while records stream by. Memory is that of the records chosen.
#[derive(Debug)]
pub struct Sample {
    size: usize,
    seen: u64,
    random: BinaryHeap<Candidate<u64>>,
    unsure: BinaryHeap<Candidate<Unsure>>,
}

#[derive(Debug)]
struct Candidate<K> {
    key: K,
    number: u64,
    record: Arc<Record>,
}

/// The best label's score, and chance among equals.
#[derive(Debug, Clone, Copy)]
struct Unsure(f32, u64);

impl Ord for Unsure {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

macro_rules! ordered {
    ($type:ty, $($generic:tt)*) => {
        impl $($generic)* PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl $($generic)* PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other) == Ordering::Equal
            }
        }
        impl $($generic)* Eq for $type {}
    };
}
ordered!(Unsure,);
ordered!(Candidate<K>, <K: Ord>);

impl<K: Ord> Ord for Candidate<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

/// Keeps the `size` smallest.
fn keep<K: Ord>(heap: &mut BinaryHeap<Candidate<K>>, size: usize, candidate: Candidate<K>) {
    heap.push(candidate);
    if heap.len() > size {
        heap.pop();
    }
}

fn has_room<K: Ord>(heap: &BinaryHeap<Candidate<K>>, size: usize, key: &K) -> bool {
    heap.len() < size || heap.peek().is_some_and(|last| *key < last.key)
}

impl Sample {
    /// A sample of at most `size`.
    pub fn new(size: usize) -> Self {
        Self { size, seen: 0, random: BinaryHeap::new(), unsure: BinaryHeap::new() }
    }

    /// Looks at the next record.
    pub fn offer(&mut self, record: Box<Record>) {
        let (number, priority) = (self.seen, mixed(self.seen));
        self.seen += 1;
        let unsure = best(&record).map(|label| Unsure(label.score, priority));
        let is_random = has_room(&self.random, self.size, &priority);
        let unsure = unsure.filter(|key| has_room(&self.unsure, self.size / UNSURE_SHARE, key));
        if !is_random && unsure.is_none() {
            return;
        }
        let record: Arc<Record> = trimmed(record).into();
        if is_random {
            keep(&mut self.random, self.size, Candidate { key: priority, number, record: record.clone() });
        }
        if let Some(key) = unsure {
            keep(&mut self.unsure, self.size / UNSURE_SHARE, Candidate { key, number, record });
        }
    }

    /// The sample, in the order of the records.
    pub fn finish(self) -> Vec<Item> {
        let random = self.random.into_sorted_vec();
        let all_are_in = self.seen <= random.len() as u64;
        let unsure: Vec<_> = if all_are_in { Vec::new() } else { self.unsure.into_vec() };
        // Those that chance would have taken anyway stand for all the same.
        let places = self.size.saturating_sub(unsure.len()).max(if all_are_in { random.len() } else { 0 });
        let chosen: HashSet<u64> = random.iter().take(places).map(|candidate| candidate.number).collect();
        let item = |number: u64, random, record| Item { number, random, priority: mixed(number), record };
        let mut items: Vec<Item> = random.into_iter().take(places).map(|c| item(c.number, true, c.record)).collect();
        items.extend(unsure.into_iter().filter(|c| !chosen.contains(&c.number)).map(|c| item(c.number, false, c.record)));
        items.sort_by_key(|item| item.number);
        items
    }
}

/// The best label of a record.
pub fn best(record: &Record) -> Option<&Label> {
    record.labels.as_ref()?.first()
}

/// A number that looks drawn (SplitMix64), always the same for the same `n`.
pub fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Text with its end cut off is marked with an ellipsis.
fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
        text.shrink_to_fit();
    }
}

fn trimmed(mut record: Box<Record>) -> Box<Record> {
    cut(&mut record.uri, URI);
    for text in [&mut record.id, &mut record.etag, &mut record.version, &mut record.event_time].into_iter().flatten() {
        cut(text, TEXT);
    }
    for text in [&mut record.format, &mut record.sha256, &mut record.processed_at] {
        cut(text, TEXT);
    }
    let short = |(mut name, mut value): (String, String)| {
        cut(&mut name, TEXT);
        cut(&mut value, TEXT);
        (name, value)
    };
    record.tags = std::mem::take(&mut record.tags).into_iter().take(TAGS).map(short).collect();
    if let Some(labels) = &mut record.labels {
        few(labels);
    }
    if let Some(heads) = &mut record.heads {
        *heads = std::mem::take(heads).into_iter().take(HEADS).map(|(name, labels)| (short((name, String::new())).0, labels)).collect();
        heads.values_mut().for_each(few);
    }
    let unusable = |values: &Vec<f32>| values.is_empty() || values.len() > DIM || values.iter().any(|value| !value.is_finite());
    if record.embedding.as_ref().is_some_and(unusable) {
        record.embedding = None;
    }
    record
}

fn few(labels: &mut Vec<Label>) {
    labels.truncate(LABELS);
    labels.shrink_to_fit();
    // As they are counted, so that the page finds the pictures of a label.
    for label in labels.iter_mut().filter(|label| label.label.len() > NAME) {
        label.label = shortened(&label.label, NAME).into();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;
    use proptest::prelude::*;

    fn sample(size: usize, scores: &[f32]) -> Vec<Item> {
        let mut sample = Sample::new(size);
        scores.iter().enumerate().for_each(|(n, score)| sample.offer(record(n, "a", *score)));
        sample.finish()
    }

    proptest! {
        #[test]
        fn a_sample_is_bounded_without_doubles_in_order_and_the_same_each_time(
            scores in proptest::collection::vec(0f32..1.0, 0..300), size in 1usize..100
        ) {
            let items = sample(size, &scores);
            prop_assert!(items.len() <= size && items.len() >= size.min(scores.len()) * 4 / 5);
            prop_assert!(items.windows(2).all(|pair| pair[0].number < pair[1].number));
            if scores.len() <= size {
                prop_assert!(items.len() == scores.len() && items.iter().all(|item| item.random));
            } else {
                // The least sure ones are in it.
                let mut sorted = scores.clone();
                sorted.sort_by(f32::total_cmp);
                let mut shown: Vec<f32> = items.iter().map(|item| item.record.labels.as_ref().unwrap()[0].score).collect();
                shown.sort_by(f32::total_cmp);
                let least = size / UNSURE_SHARE;
                prop_assert_eq!(&shown[..least], &sorted[..least]);
            }
            let numbers = |items: Vec<Item>| items.iter().map(|item| item.number).collect::<Vec<_>>();
            prop_assert_eq!(numbers(items), numbers(sample(size, &scores)));
        }
    }

    #[test]
    fn the_random_part_stands_for_all() {
        let scores: Vec<f32> = (0..20_000).map(|n| n as f32 / 20_000.0).collect();
        let items = sample(1000, &scores);
        let random: Vec<f64> = items.iter().filter(|item| item.random).map(|item| item.number as f64 / 20_000.0).collect();
        let mean = random.iter().sum::<f64>() / random.len() as f64;
        assert!((mean - 0.5).abs() < 0.04, "{mean}");
    }

    #[test]
    fn long_text_and_long_lists_are_cut() {
        let mut long = record(0, &"é".repeat(5000), 0.5);
        long.uri = "x".repeat(1 << 20);
        long.tags = (0..1000).map(|n| (n.to_string(), "y".repeat(5000))).collect();
        long.embedding = Some(vec![f32::NAN; 8]);
        let mut sample = Sample::new(1);
        sample.offer(long);
        let item = sample.finish().remove(0);
        assert!(item.record.uri.len() < 2100 && item.record.tags.len() == TAGS && item.record.embedding.is_none());
        assert!(item.record.tags.values().all(|value| value.len() < 600) && best(&item.record).unwrap().label.len() < 600);
    }
}
