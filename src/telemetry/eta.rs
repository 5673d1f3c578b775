//! How long the rest takes, and how many workers would do it in time. Pure arithmetic.

use std::time::Duration;

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
    let (Some(left), Some(rate)) = (left, rate) else { return Outlook::default() };
    let seconds = if left <= 0.0 { 0.0 } else { left / rate };
    // A rate of zero gives infinity, which no duration can hold.
    let Ok(eta) = Duration::try_from_secs_f64(seconds) else { return Outlook::default() };
    let Some(deadline) = deadline.filter(|deadline| !deadline.is_zero()) else { return Outlook { eta: Some(eta), ..Outlook::default() } };
    let (own, all) = share.filter(|(own, all)| *own > 0 && own <= all).unwrap_or((1, 1));
    let needed = (seconds * (all as f64 / own as f64) / deadline.as_secs_f64()).ceil().max(1.0);
    let most = share.map_or(usize::MAX, |(_, all)| all.max(1));
    // A float beyond what the type holds becomes its largest.
    let workers = (needed as usize).min(most);
    Outlook { eta: Some(eta), workers: Some(workers), short_of_partitions: needed > most as f64 }
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
