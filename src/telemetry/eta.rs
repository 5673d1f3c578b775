//! How long the rest takes, and how many workers would do it in time. Pure arithmetic, which `lakelens plan` and a running worker share.

use std::time::Duration;

/// More workers than this are no plan.
pub const MOST: f64 = 1e9;

/// Workers that are done with `lag` images after `time_left`, while `arriving` more come each second; each does `rate_per_worker` images a second. At
/// least 1. `None` where no number of them is enough, or what is known is not a number: nothing is known of the rate, or no time is left.
pub fn workers_for(lag: f64, arriving: f64, rate_per_worker: f64, time_left: Duration) -> Option<u64> {
    let lag = lag.max(0.0);
    let catching_up = if lag == 0.0 { 0.0 } else { lag / time_left.as_secs_f64() };
    // A hair less than a whole number is one that division made.
    let workers = ((catching_up + arriving.max(0.0)) / rate_per_worker - 1e-9).ceil();
    (rate_per_worker > 0.0 && workers <= MOST).then_some(workers.max(1.0) as u64)
}

/// Seconds in which `rate` images a second are done with `lag`, while `arriving` come each second; `None`: never.
pub fn seconds_for(lag: f64, arriving: f64, rate: f64) -> Option<f64> {
    let surplus = rate - arriving.max(0.0);
    match lag > 0.0 {
        false => (surplus >= -1e-9).then_some(0.0),
        true => (surplus > 0.0).then(|| lag / surplus),
    }
}

/// What can be said of the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outlook {
    /// Until this worker's partitions are at their ends; `None` while not known, or nothing moves.
    pub eta: Option<Duration>,
    /// Workers like this one with which the whole is done by the deadline; `None` without one.
    pub workers: Option<usize>,
    /// More would be needed than there are partitions, and no more than one a partition can work.
    pub short_of_partitions: bool,
}

/// Looks ahead. `left` are items to come of the partitions that are this worker's, `rate` is in items a second, `share` is how many of how many
/// partitions are its own (the others are taken to be as full), and `deadline` the time in which all of it is to be done, from now.
pub fn outlook(left: Option<f64>, rate: Option<f64>, share: Option<(usize, usize)>, deadline: Option<Duration>) -> Outlook {
    let Some(left) = left.map(|left| left.max(0.0)) else { return Outlook::default() };
    // With nothing left nothing need be known of the rate.
    let Some(rate) = rate.or((left == 0.0).then_some(0.0)) else { return Outlook::default() };
    let seconds = if left == 0.0 { 0.0 } else { left / rate };
    // A rate of zero gives infinity, which no duration can hold.
    let Ok(eta) = Duration::try_from_secs_f64(seconds) else { return Outlook::default() };
    let Some(deadline) = deadline.filter(|deadline| !deadline.is_zero()) else { return Outlook { eta: Some(eta), ..Outlook::default() } };
    let (own, all) = share.filter(|(own, all)| *own > 0 && own <= all).unwrap_or((1, 1));
    let needed = if left == 0.0 { Some(1) } else { workers_for(left * all as f64 / own as f64, 0.0, rate, deadline) };
    let most = share.map_or(u64::MAX, |(_, all)| all.max(1) as u64);
    // More than any plan has are as many as there can be.
    let workers = needed.unwrap_or(most).min(most);
    Outlook { eta: Some(eta), workers: usize::try_from(workers).ok(), short_of_partitions: needed.is_none_or(|needed| needed > most) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn of_a_quarter_of_the_partitions_and_four_hours_for_it_eight_workers_are_done_in_two() {
        let outlook = outlook(Some(14_400.0), Some(1.0), Some((2, 8)), Some(HOUR * 2));
        assert_eq!(outlook, Outlook { eta: Some(HOUR * 4), workers: Some(8), short_of_partitions: false });
    }

    #[test]
    fn nothing_is_said_of_what_is_not_known() {
        assert_eq!(outlook(None, Some(1.0), None, Some(HOUR)), Outlook::default());
        assert_eq!(outlook(Some(1.0), None, None, Some(HOUR)), Outlook::default());
        assert_eq!(outlook(Some(1.0), Some(0.0), None, Some(HOUR)), Outlook::default(), "nothing moves");
        let done = Outlook { eta: Some(Duration::ZERO), workers: Some(1), short_of_partitions: false };
        assert_eq!(outlook(Some(0.0), None, Some((1, 4)), Some(HOUR)), done, "nothing is left, whatever the rate");
        assert_eq!(outlook(Some(0.0), Some(0.0), None, None).eta, Some(Duration::ZERO), "nothing is left");
    }

    proptest! {
        #[test]
        fn so_many_workers_are_enough_and_one_fewer_is_not(left in 1.0f64..1e9, rate in 0.1f64..1e4, own in 1usize..50, more in 0usize..50, hours in 1u32..200) {
            let deadline = HOUR * hours;
            let all = own + more;
            let seen = outlook(Some(left), Some(rate), Some((own, all)), Some(deadline));
            let workers = seen.workers.unwrap() as f64;
            let whole = left * all as f64 / own as f64;
            let done = |workers: f64| whole / (rate * workers) <= deadline.as_secs_f64() * (1.0 + 1e-9);
            prop_assert!(seen.short_of_partitions || done(workers));
            prop_assert!(workers <= all as f64);
            if !seen.short_of_partitions && workers > 1.0 {
                prop_assert!(whole / (rate * (workers - 1.0)) >= deadline.as_secs_f64() * (1.0 - 1e-9));
            }
        }
    }
}
