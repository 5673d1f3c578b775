//! Whether the worker lives, whether it is ready, and what it is about, as JSON for machines and people. Nothing in here is a secret: addresses and
//! reasons are those of the log.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;

use super::eta::outlook;
use super::snapshot::{Snapshot, State};
use super::waits::{On, waits};
use super::{Stats, escape};
use crate::version;

/// The coordinator never waits for anything; one that has shown nothing for so long hangs.
const SILENT: Duration = Duration::from_secs(60);
/// Reasons and waits beyond so many are left out: strangers may name any number of hosts.
const MOST_WAITS: usize = 20;

/// What the pipeline file says that health goes by.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The pipeline's name.
    pub name: String,
    /// This worker's name.
    pub instance: String,
    /// After this long without movement a restart is due; zero: never.
    pub watchdog: Duration,
    /// When the rest is to be done.
    pub deadline: Option<SystemTime>,
}

/// One part of the world that is waited for.
#[derive(Debug, Clone, Serialize)]
pub struct Waited {
    /// Which part.
    pub on: &'static str,
    /// What exactly, and why.
    pub what: String,
    /// For how long.
    pub seconds: u64,
}

/// Everything that is waited for.
pub fn waited_for(stats: &Stats) -> Vec<Waited> {
    let places = stats.facts.get().map(|facts| (facts.places)()).unwrap_or_default();
    let of_places = places.into_iter().map(|wait| Waited {
        on: On::Store.name(),
        what: escape(&format!("{}: {}", wait.place.0, wait.detail)),
        seconds: wait.for_.as_secs(),
    });
    let others = waits().into_iter().map(|(on, what, time)| Waited { on: on.name(), what: escape(&what), seconds: time.as_secs() });
    others.chain(of_places).take(MOST_WAITS).collect()
}

/// One reason for a 503.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Reason {
    /// From a closed list, for machines.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

fn reason(code: &'static str, detail: impl Into<String>) -> Reason {
    Reason { code, detail: detail.into() }
}

/// Why a restart would help; nothing if it would not.
pub fn sick(stats: &Stats, about: &About) -> Vec<Reason> {
    let (state, seen) = {
        let board = stats.board.borrow();
        (board.state, board.seen)
    };
    let mut reasons = Vec::new();
    // The end has time limits of its own.
    if let Some(age) = seen.map(|at| at.elapsed()).filter(|age| *age >= SILENT && state != State::Closing) {
        reasons.push(reason("coordinator_silent", format!("the coordinator has shown nothing for {} s; this is a bug", age.as_secs())));
    }
    let still = Duration::from_millis(stats.still_ms.load(Relaxed));
    if !about.watchdog.is_zero() && still >= about.watchdog {
        reasons.push(reason("nothing_moves", format!("nothing has moved for {} s though there is work", still.as_secs())));
    }
    reasons
}

/// Why the worker is not at work; nothing if it is.
pub fn unready(stats: &Stats) -> Vec<Reason> {
    let state = stats.board.borrow().state;
    let detail = match state {
        State::LoadingModel => "the model is being loaded",
        State::Connecting => "not every server has answered yet",
        State::Joining => "the group has given no assignment yet, or the listing is not open",
        State::Draining => "it was asked to stop: what is under way is finished, the rest handed back",
        State::Closing => "it is ending",
        State::Running | State::Finishing => "",
    };
    let mut reasons: Vec<Reason> = (!detail.is_empty()).then(|| reason(state.name(), detail)).into_iter().collect();
    reasons.extend(waited_for(stats).into_iter().map(|wait| {
        let code = match wait.on {
            "store" => "waiting_for_store",
            "broker" => "waiting_for_broker",
            _ => "waiting_for_disk",
        };
        reason(code, format!("{}, for {} s now", wait.what, wait.seconds))
    }));
    reasons
}

/// Everything that one wants to know at night.
pub fn status(stats: &Stats, about: &About) -> Value {
    let seen = stats.board.borrow().clone();
    let time_left = about.deadline.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
    let waiting = waited_for(stats);
    // What waits for a store or a broker moves at no pace that one could reckon with.
    let pace = seen.pace.filter(|_| waiting.is_empty());
    let outlook = outlook(seen.left, pace, seen.of_partitions.map(|all| (seen.assigned, all)), time_left);
    let facts = stats.facts.get();
    json!({
        "name": about.name,
        "instance": about.instance,
        "version": version::VERSION,
        "revision": version::REVISION,
        "state": seen.state.name(),
        "ready": unready(stats).is_empty(),
        "model": facts.and_then(|facts| facts.model.as_ref()).map(|model| json!({
            "id": &*model.id, "space": &*model.space, "precision": &*model.precision, "preprocess": &*model.preprocess,
        })),
        "ledger": ledger(&seen),
        "assignment": { "assigned": seen.assigned, "of": seen.of_partitions, "partitions": partitions(&seen) },
        "lag": lag(&seen),
        "rate_per_second": seen.rate,
        "eta_seconds": outlook.eta.map(|eta| eta.as_secs()),
        "deadline_seconds": time_left.map(|left| left.as_secs()),
        "workers_recommended": outlook.workers,
        "short_of_partitions": outlook.workers.map(|_| outlook.short_of_partitions),
        "last_progress": seen.moved.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs_f64()),
        "now": SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64()),
        "waiting": waiting,
        "compute": {
            "threads": facts.map(|facts| facts.threads),
            "busy_seconds": stats.busy().as_secs_f64(),
            "mean_batch": stats.batches.mean(),
        },
        "memory": { "budget_bytes": facts.map(|facts| facts.memory), "reserved_bytes": facts.map(super::facts::Facts::reserved) },
    })
}

fn ledger(seen: &Snapshot) -> Value {
    let total = &seen.total;
    json!({
        "received": total.received,
        "published": total.published,
        "rejected": total.rejected,
        "skipped": total.skipped,
        "handed_back": total.handed_back,
        "in_flight": total.in_flight(),
    })
}

/// Of all partitions that are its own; `null` while the end of one is not known.
pub(super) fn lag(seen: &Snapshot) -> Option<u64> {
    let known = seen.partitions.iter().map(|status| status.lag).sum();
    if seen.seen.is_some() && seen.assigned <= seen.partitions.len() { known } else { None }
}

fn partitions(seen: &Snapshot) -> Vec<Value> {
    let one = |status: &super::snapshot::PartitionStatus| {
        json!({
            "topic": escape(&status.partition.topic),
            "partition": status.partition.partition,
            "committed": status.committed,
            "lag": status.lag,
            "drain_seconds": status.drain.map(|drain| drain.as_secs()),
            "in_flight": status.open,
        })
    };
    seen.partitions.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn codes(reasons: &[Reason]) -> Vec<&str> {
        reasons.iter().map(|reason| reason.code).collect()
    }

    #[test]
    fn a_worker_is_ready_while_it_works_and_says_why_before_and_after() {
        let stats = Stats::default();
        for (state, code) in [
            (State::LoadingModel, Some("loading_model")),
            (State::Connecting, Some("connecting")),
            (State::Joining, Some("joining")),
            (State::Running, None),
            (State::Finishing, None),
            (State::Draining, Some("draining")),
            (State::Closing, Some("closing")),
        ] {
            stats.board.send_modify(|board| board.state = state);
            let reasons = unready(&stats);
            let own: Vec<&str> = codes(&reasons).into_iter().filter(|code| !code.starts_with("waiting_for")).collect();
            assert_eq!(own, code.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn it_is_sick_only_if_nothing_moves_amid_work_or_its_coordinator_hangs() {
        let stats = Stats::default();
        let about = About { watchdog: Duration::from_secs(10), ..About::default() };
        assert!(sick(&stats, &about).is_empty(), "it has not begun");
        let long_ago = Instant::now().checked_sub(SILENT);
        stats.board.send_modify(|board| (board.seen, board.state) = (long_ago, State::Running));
        assert_eq!(codes(&sick(&stats, &about)), ["coordinator_silent"]);
        stats.board.send_modify(|board| board.state = State::Closing);
        assert!(sick(&stats, &about).is_empty(), "the end may take longer");
        stats.still_ms.store(9_999, Relaxed);
        assert!(sick(&stats, &about).is_empty());
        stats.still_ms.store(10_000, Relaxed);
        assert_eq!(codes(&sick(&stats, &about)), ["nothing_moves"]);
        assert!(sick(&stats, &About::default()).is_empty(), "a watchdog of zero never barks");
    }
}
