//! Which position asked for something, and what came of it: two bits an offset for the input and for each destination.

use std::collections::HashMap;

/// What an item of an input message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A record or a dead letter.
    Outcome,
    /// Nothing: a deletion, a test event, a null value.
    Nothing,
}

/// What a record or dead letter turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// It belongs to an item.
    Known,
    /// No item asked for it.
    Unasked,
    /// Its message is older than the oldest one left on the topic.
    Expired,
    /// Its message came after the audit had begun.
    Later,
}

/// What an item has: none, one, or several of a kind; `u8` and two bits alike.
const MANY: u8 = 3;

/// A vector of two-bit numbers.
#[derive(Debug)]
struct Pairs(Vec<u8>);

impl Pairs {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(4)])
    }

    fn get(&self, at: usize) -> u8 {
        self.0[at / 4] >> (at % 4 * 2) & 3
    }

    fn set(&mut self, at: usize, value: u8) {
        let byte = &mut self.0[at / 4];
        *byte = *byte & !(3 << (at % 4 * 2)) | value << (at % 4 * 2);
    }
}

const NOTHING_THERE: u8 = 0;
const ONE_ASKED: u8 = 1;
const ONE_SKIPPED: u8 = 2;
const SEVERAL: u8 = 3;

/// The items of a message that has several.
#[derive(Debug)]
struct Items {
    asked: Vec<Asked>,
    /// For each item one count for each destination.
    counts: Vec<u8>,
}

/// One partition of the input.
#[derive(Debug)]
pub(super) struct Ledger {
    low: i64,
    high: i64,
    /// Record topics; the dead letters are one destination more.
    outputs: usize,
    messages: Pairs,
    /// For each destination its counts.
    counts: Vec<Pairs>,
    several: HashMap<i64, Items>,
}

/// One item that asked for an outcome, as one record topic sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) offset: i64,
    pub(super) item: u32,
    pub(super) records: u8,
    pub(super) dead_letters: u8,
}

impl Ledger {
    /// A ledger of the offsets `low..high` for `outputs` record topics and the dead letters.
    pub(super) fn new(low: i64, high: i64, outputs: usize) -> Self {
        let len = usize::try_from(high - low).unwrap_or(0);
        let counts = (0..=outputs).map(|_| Pairs::new(len)).collect();
        Self { low, high, outputs, messages: Pairs::new(len), counts, several: HashMap::new() }
    }

    /// The offset of the first message, and the one after the last.
    pub(super) fn span(&self) -> (i64, i64) {
        (self.low, self.high)
    }

    fn at(&self, offset: i64) -> Option<usize> {
        (self.low..self.high).contains(&offset).then(|| (offset - self.low) as usize)
    }

    /// Notes an input message.
    pub(super) fn message(&mut self, offset: i64, items: Vec<Asked>) {
        let Some(at) = self.at(offset) else { return };
        let kind = match items[..] {
            [] => NOTHING_THERE,
            [Asked::Outcome] => ONE_ASKED,
            [Asked::Nothing] => ONE_SKIPPED,
            _ => {
                let counts = vec![0; items.len() * (self.outputs + 1)];
                self.several.insert(offset, Items { asked: items, counts });
                SEVERAL
            }
        };
        self.messages.set(at, kind);
    }

    /// Notes a record on topic number `destination`, or a dead letter, whose number is the one after those.
    pub(super) fn came(&mut self, destination: usize, offset: i64, item: u32) -> Came {
        let Some(at) = self.at(offset) else { return if offset < self.low { Came::Expired } else { Came::Later } };
        let stride = self.outputs + 1;
        match self.messages.get(at) {
            ONE_ASKED if item == 0 => {
                let counts = &mut self.counts[destination];
                counts.set(at, (counts.get(at) + 1).min(MANY));
                Came::Known
            }
            SEVERAL => {
                let Some(items) = self.several.get_mut(&offset) else { return Came::Unasked };
                if items.asked.get(item as usize) != Some(&Asked::Outcome) {
                    return Came::Unasked;
                }
                let count = &mut items.counts[item as usize * stride + destination];
                *count = (*count + 1).min(MANY);
                Came::Known
            }
            _ => Came::Unasked,
        }
    }

    /// Whether the item asked for an outcome and has none anywhere.
    pub(super) fn is_bare(&self, offset: i64, item: u32) -> bool {
        let Some(at) = self.at(offset) else { return false };
        match (self.messages.get(at), self.several.get(&offset)) {
            (ONE_ASKED, _) => item == 0 && self.counts.iter().all(|c| c.get(at) == 0),
            (SEVERAL, Some(items)) => {
                let (item, stride) = (item as usize, self.outputs + 1);
                items.asked.get(item) == Some(&Asked::Outcome) && items.counts[item * stride..][..stride].iter().all(|c| *c == 0)
            }
            _ => false,
        }
    }

    /// Whether any item is bare.
    pub(super) fn has_bare(&self) -> bool {
        let mut found = false;
        self.fates(0, |fate| found |= fate.records == 0 && fate.dead_letters == 0 && self.is_bare(fate.offset, fate.item));
        found
    }

    /// The item asks for nothing after all.
    pub(super) fn release(&mut self, offset: i64, item: u32) {
        let Some(at) = self.at(offset) else { return };
        if let Some(asked) = self.several.get_mut(&offset).and_then(|items| items.asked.get_mut(item as usize)) {
            *asked = Asked::Nothing;
        } else if self.messages.get(at) == ONE_ASKED {
            self.messages.set(at, ONE_SKIPPED);
        }
    }

    /// Calls `each` for every item that asked for an outcome, as record topic number `output` sees it, in order.
    pub(super) fn fates(&self, output: usize, mut each: impl FnMut(Fate)) {
        for (at, offset) in (self.low..self.high).enumerate() {
            match self.messages.get(at) {
                ONE_ASKED => {
                    let (records, dead_letters) = (self.counts[output].get(at), self.counts[self.outputs].get(at));
                    each(Fate { offset, item: 0, records, dead_letters });
                }
                SEVERAL => {
                    let Some(items) = self.several.get(&offset) else { continue };
                    for (item, counts) in items.counts.chunks(self.outputs + 1).enumerate() {
                        if items.asked[item] == Asked::Outcome {
                            each(Fate { offset, item: item as u32, records: counts[output], dead_letters: counts[self.outputs] });
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_counts_as_a_table_would(
            low in -5i64..5,
            messages in prop::collection::vec(prop::collection::vec(any::<bool>(), 0..4), 1..12),
            came in prop::collection::vec((0usize..3, -8i64..20, 0u32..4), 0..80),
        ) {
            let high = low + messages.len() as i64;
            let mut ledger = Ledger::new(low, high, 2);
            let mut table: BTreeMap<(i64, u32), [u8; 3]> = BTreeMap::new();
            for (offset, items) in (low..).zip(&messages) {
                let asked = |a: &bool| if *a { Asked::Outcome } else { Asked::Nothing };
                ledger.message(offset, items.iter().map(asked).collect());
                for (item, _) in items.iter().enumerate().filter(|i| *i.1) {
                    table.insert((offset, item as u32), [0; 3]);
                }
            }
            for (destination, offset, item) in came {
                let answer = ledger.came(destination, offset, item);
                let expected = match table.get_mut(&(offset, item)) {
                    Some(counts) => { counts[destination] = (counts[destination] + 1).min(3); Came::Known }
                    None if offset < low => Came::Expired,
                    None if offset >= high => Came::Later,
                    None => Came::Unasked,
                };
                prop_assert_eq!(answer, expected);
            }
            for output in 0..2 {
                let mut fates = Vec::new();
                ledger.fates(output, |f| fates.push(f));
                let expected: Vec<Fate> = table.iter()
                    .map(|(&(offset, item), c)| Fate { offset, item, records: c[output], dead_letters: c[2] }).collect();
                prop_assert_eq!(fates, expected);
            }
        }
    }
}
