//! How many workers a lake needs. Pure, so that `lakelens plan`, which measures this machine, and a running worker, which knows its own rate, answer
//! alike; [`calibrate`] measures.

pub mod calibrate;

use std::time::Duration;

use serde::Serialize;

use crate::telemetry::eta::{seconds_for, workers_for};

/// Rows of a table without a goal.
const ROWS: usize = 10;

/// What one worker can do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Worker {
    /// Cores that it computes on.
    pub cores: f64,
    /// Seconds of a core that the network takes for an image.
    pub infer_s: f64,
    /// Seconds of a core that decoding and resizing take.
    pub decode_s: f64,
    /// Images a second that it can fetch; `None` where that was not measured, and is taken for enough.
    pub fetch_per_s: Option<f64>,
}

/// What keeps a worker from doing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bottleneck {
    /// The network, in the sense of the model.
    Inference,
    /// Decoding and resizing.
    Decode,
    /// Fetching.
    Network,
}

impl Worker {
    /// Images a second that the cores can do.
    pub fn computed_per_s(&self) -> f64 {
        self.cores / (self.infer_s + self.decode_s)
    }

    /// Images a second.
    pub fn per_s(&self) -> f64 {
        self.fetch_per_s.map_or(f64::INFINITY, |fetched| fetched).min(self.computed_per_s())
    }

    /// What more of would help most.
    pub fn bottleneck(&self) -> Bottleneck {
        match () {
            () if self.per_s() < self.computed_per_s() => Bottleneck::Network,
            () if self.decode_s > self.infer_s => Bottleneck::Decode,
            () => Bottleneck::Inference,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Goal {
    /// Images that wait.
    pub images: f64,
    /// Images that come each second meanwhile, and afterwards.
    pub arriving_per_s: f64,
    /// In how many seconds what waits is to be done.
    pub within_s: Option<f64>,
    /// Price of one worker for an hour, in whatever currency.
    pub price_per_h: Option<f64>,
}

/// What so many workers come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fleet {
    /// Workers.
    pub workers: u64,
    /// Their cores.
    pub cores: f64,
    /// Images a second that they can do.
    pub per_s: f64,
    /// Seconds until nothing waits any more; `None`: never.
    pub seconds: Option<f64>,
    /// Whether that is in time, or, where nothing waits or there is no time to keep, whether they keep up with what comes.
    pub enough: bool,
    /// What they cost until then.
    pub cost: Option<f64>,
    /// What they cost in an hour.
    pub cost_per_h: Option<f64>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The fewest workers that reach the goal; `None` where it sets no bound (images, and no time), or cannot be reached.
    pub needed: Option<u64>,
    /// That many, and others to choose from: ascending.
    pub fleets: Vec<Fleet>,
}

/// What `goal` takes of such workers.
pub fn plan(worker: &Worker, goal: &Goal) -> Plan {
    let (rate, arriving) = (worker.per_s(), goal.arriving_per_s);
    let needed = match goal.within_s {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok().and_then(|left| workers_for(goal.images, arriving, rate, left)),
        None if arriving > 0.0 => {
            let keeping_up = workers_for(0.0, arriving, rate, Duration::ZERO);
            // Those that only keep up leave what waits where it is.
            let gains = |n: u64| goal.images == 0.0 || seconds_for(goal.images, arriving, n as f64 * rate).is_some();
            keeping_up.map(|n| if gains(n) { n } else { n + 1 })
        }
        None => None,
    };
    let counts: Vec<u64> = match needed {
        Some(n) => {
            let mut counts = vec![n.div_ceil(2), n, n.saturating_mul(2), n.saturating_mul(4)];
            counts.dedup();
            counts
        }
        None if goal.images > 0.0 && goal.within_s.is_none() => {
            let day = |n: &u64| seconds_for(goal.images, 0.0, *n as f64 * rate).is_some_and(|s| s < 86_400.0);
            let mut counts: Vec<u64> = Vec::new();
            while counts.len() < ROWS && !counts.last().is_some_and(day) {
                counts.push(counts.last().map_or(1, |n| n * 2));
            }
            counts
        }
        None => Vec::new(),
    };
    Plan { needed, fleets: counts.into_iter().map(|n| fleet(n, worker, goal)).collect() }
}

fn fleet(workers: u64, worker: &Worker, goal: &Goal) -> Fleet {
    let count = workers as f64;
    let per_s = count * worker.per_s();
    let seconds = seconds_for(goal.images, goal.arriving_per_s, per_s);
    let cost_per_h = goal.price_per_h.map(|price| price * count);
    Fleet {
        workers,
        cores: count * worker.cores,
        per_s,
        seconds,
        enough: seconds.is_some_and(|seconds| goal.within_s.is_none_or(|within| seconds <= within * (1.0 + 1e-9))),
        cost: cost_per_h.zip(seconds).filter(|_| goal.images > 0.0).map(|(per_h, seconds)| per_h * seconds / 3600.0),
        cost_per_h,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::eta::MOST;

    fn worker(infer_s: f64, decode_s: f64, fetch_per_s: Option<f64>) -> Worker {
        Worker { cores: 4.0, infer_s, decode_s, fetch_per_s }
    }

    #[test]
    fn the_slowest_part_is_named() {
        assert_eq!(worker(0.02, 0.005, None).bottleneck(), Bottleneck::Inference);
        assert_eq!(worker(0.02, 0.05, Some(1e6)).bottleneck(), Bottleneck::Decode);
        let starved = worker(0.02, 0.005, Some(70.0));
        assert_eq!((starved.bottleneck(), starved.per_s(), starved.computed_per_s()), (Bottleneck::Network, 70.0, 160.0));
    }

    #[test]
    fn two_hundred_million_beside_five_hundred_a_second_in_two_days() {
        let goal = Goal { images: 200e6, arriving_per_s: 500.0, within_s: Some(172_800.0), price_per_h: Some(1.5) };
        let answer = plan(&worker(0.02, 0.005, None), &goal);
        // (200e6 / 172,800 s + 500) / 160 = 10.36
        assert_eq!(answer.needed, Some(11));
        let fleet = answer.fleets.iter().find(|fleet| fleet.workers == 11).unwrap();
        let hours = 200e6 / (11.0 * 160.0 - 500.0) / 3600.0;
        assert!(fleet.enough && fleet.cores == 44.0 && (fleet.cost.unwrap() - 11.0 * 1.5 * hours).abs() < 1e-6);
        assert_eq!(
            answer.fleets.iter().map(|f| (f.workers, f.enough)).collect::<Vec<_>>(),
            [(6, false), (11, true), (22, true), (44, true)]
        );
    }

    #[test]
    fn what_cannot_be_done_is_no_number() {
        assert_eq!(workers_for(10.0, 0.0, 0.0, Duration::from_secs(9)), None);
        assert_eq!(workers_for(10.0, 0.0, f64::NAN, Duration::from_secs(9)), None);
        assert_eq!(workers_for(10.0, 0.0, 5.0, Duration::ZERO), None);
        assert_eq!(workers_for(0.0, 0.0, 5.0, Duration::ZERO), Some(1));
        assert_eq!(workers_for(0.0, 50.0, 5.0, Duration::ZERO), Some(10));
        assert_eq!((seconds_for(1.0, 5.0, 5.0), seconds_for(0.0, 5.0, 5.0), seconds_for(0.0, 6.0, 5.0)), (None, Some(0.0), None));
        let late = Goal { images: 5.0, within_s: Some(0.0), ..Goal::default() };
        assert_eq!(plan(&worker(0.1, 0.1, None), &late), Plan { needed: None, fleets: Vec::new() });
    }

    proptest! {
        #[test]
        fn the_number_is_enough_and_one_less_is_not(
            lag in prop_oneof![Just(0.0), 1.0..1e9f64],
            arriving in prop_oneof![Just(0.0), 0.01..1e5f64],
            rate in 0.1..1e4f64,
            seconds in 1.0..1e7f64,
        ) {
            if let Some(n) = workers_for(lag, arriving, rate, Duration::from_secs_f64(seconds)) {
                let done = |n: u64| n as f64 * rate * seconds;
                let wanted = lag + arriving * seconds;
                prop_assert!(done(n) >= wanted * (1.0 - 1e-6));
                prop_assert!(n == 1 || done(n - 1) < wanted);
            } else {
                prop_assert!((lag / seconds + arriving) / rate > MOST * 0.9);
            }
        }

        #[test]
        fn a_plan_keeps_its_word(
            images in prop_oneof![Just(0.0), 1.0..1e9f64],
            arriving in prop_oneof![Just(0.0), 0.01..1e4f64],
            within in proptest::option::of(60.0..1e7f64),
            infer in 1e-4..1.0f64,
            decode in 1e-4..1.0f64,
            fetch in proptest::option::of(1.0..1e4f64),
            price in proptest::option::of(0.0..100.0f64),
        ) {
            let worker = worker(infer, decode, fetch);
            let goal = Goal { images, arriving_per_s: arriving, within_s: within, price_per_h: price };
            let answer = plan(&worker, &goal);
            prop_assert!(answer.fleets.windows(2).all(|pair| pair[0].workers < pair[1].workers && pair[0].per_s < pair[1].per_s));
            if let Some(needed) = answer.needed {
                for fleet in &answer.fleets {
                    prop_assert!(fleet.workers < needed || fleet.enough, "{fleet:?}");
                    prop_assert!(fleet.workers >= needed || !fleet.enough || needed == 1, "{fleet:?}");
                }
                // More workers are done sooner, and never for less than their time costs.
                let sooner = |pair: &[Fleet]| pair[0].seconds.is_none_or(|before| pair[1].seconds.is_some_and(|now| now <= before));
                prop_assert!(answer.fleets.windows(2).all(sooner));
            }
            // A faster part changes nothing unless it is the bottleneck.
            let faster = match worker.bottleneck() {
                Bottleneck::Network => Worker { infer_s: infer / 2.0, decode_s: decode / 2.0, ..worker },
                _ => Worker { fetch_per_s: fetch.map(|f| f * 2.0), ..worker },
            };
            prop_assert!((faster.per_s() - worker.per_s()).abs() <= 1e-9 * worker.per_s());
        }
    }
}
