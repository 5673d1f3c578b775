//! Counters that stay small whatever is counted.

use std::collections::{BTreeMap, HashMap};

/// Counts by name of at most so many names; what has another name after that is counted together.
#[derive(Debug)]
pub struct Names<V> {
    limit: usize,
    counts: HashMap<String, V>,
    rest: V,
    beyond: bool,
}

/// Longest name that is told from others, in bytes.
pub const NAME: usize = 256;

impl<V: Default> Names<V> {
    /// Counts `limit` names apart.
    pub fn new(limit: usize) -> Self {
        Self { limit, counts: HashMap::new(), rest: V::default(), beyond: false }
    }

    /// What is counted under `name`, or under "the rest".
    pub fn of(&mut self, name: &str) -> &mut V {
        let name = shortened(name, NAME);
        if !self.counts.contains_key(name) {
            if self.counts.len() == self.limit {
                self.beyond = true;
                return &mut self.rest;
            }
            self.counts.insert(name.to_owned(), V::default());
        }
        self.counts.get_mut(name).unwrap_or(&mut self.rest)
    }

    /// All of them, the greatest `by` first; and the rest, if there is one.
    pub fn sorted<K: Ord>(self, by: impl Fn(&V) -> K) -> (Vec<(String, V)>, Option<V>) {
        let mut all: Vec<_> = self.counts.into_iter().collect();
        all.sort_by(|a, b| by(&b.1).cmp(&by(&a.1)).then_with(|| a.0.cmp(&b.0)));
        (all, self.beyond.then_some(self.rest))
    }
}

/// The beginning of `text`, of at most `limit` bytes.
pub fn shortened(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// How many things happened when: a histogram whose bars become wider as the time does.
#[derive(Debug)]
pub struct Times {
    width: i64,
    bars: BTreeMap<i64, u64>,
    /// First and last time, in milliseconds since 1970.
    pub range: Option<(i64, i64)>,
    /// What was counted.
    pub count: u64,
}

/// Most bars; beyond that two become one.
const BARS: i64 = 96;

impl Default for Times {
    fn default() -> Self {
        Self { width: 100, bars: BTreeMap::new(), range: None, count: 0 }
    }
}

impl Times {
    /// Counts one at `ms` since 1970.
    pub fn add(&mut self, ms: i64) {
        let (first, last) = self.range.map_or((ms, ms), |(first, last)| (first.min(ms), last.max(ms)));
        self.range = Some((first, last));
        self.count += 1;
        *self.bars.entry(ms.div_euclid(self.width)).or_default() += 1;
        while last.div_euclid(self.width) - first.div_euclid(self.width) >= BARS {
            self.width = self.width.saturating_mul(2);
            let mut wider = BTreeMap::new();
            for (bar, count) in std::mem::take(&mut self.bars) {
                *wider.entry(bar.div_euclid(2)).or_default() += count;
            }
            self.bars = wider;
        }
    }

    /// Milliseconds a bar, and all bars from the first to the last.
    pub fn bars(&self) -> (i64, Vec<u64>) {
        let Some((first, last)) = self.range else { return (self.width, Vec::new()) };
        let range = first.div_euclid(self.width)..=last.div_euclid(self.width);
        (self.width, range.map(|bar| self.bars.get(&bar).copied().unwrap_or(0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_are_bounded_and_lose_nothing(names in proptest::collection::vec(".{0,3}", 0..200), limit in 1usize..20) {
            let mut counts = Names::<u64>::new(limit);
            names.iter().for_each(|name| *counts.of(name) += 1);
            let (all, rest) = counts.sorted(|count| *count);
            prop_assert!(all.len() <= limit && all.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            prop_assert_eq!(all.iter().map(|(_, count)| count).sum::<u64>() + rest.unwrap_or(0), names.len() as u64);
            for (name, count) in all {
                prop_assert_eq!(count, names.iter().filter(|other| **other == name).count() as u64);
            }
        }

        #[test]
        fn times_are_bounded_and_lose_nothing(times in proptest::collection::vec(-62_135_596_800_000i64..253_402_300_800_000, 1..100)) {
            let mut counted = Times::default();
            times.iter().for_each(|ms| counted.add(*ms));
            let (width, bars) = counted.bars();
            prop_assert!(bars.len() as i64 <= BARS + 1 && width >= 100);
            prop_assert_eq!(bars.iter().sum::<u64>(), times.len() as u64);
            prop_assert!(bars[0] > 0 && bars[bars.len() - 1] > 0);
        }
    }

    #[test]
    fn a_name_is_cut_between_characters() {
        assert_eq!(shortened("aé", 2), "a");
        let mut counts = Names::<u64>::new(2);
        *counts.of(&"é".repeat(1000)) += 1;
        assert!(counts.sorted(|count| *count).0[0].0.len() <= NAME);
    }
}
