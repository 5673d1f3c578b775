use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::flow::{Position, Reason, Rejection, Stage};
use crate::sink::conformance::{What, delivery};

/// A sink that writes down what is asked of it, refuses one offset, holds from one on, and fails where it is told to.
#[derive(Clone, Default)]
struct Noting {
    name: &'static str,
    refuses: Option<i64>,
    holds: Option<i64>,
    fails: Option<&'static str>,
    panics: Option<&'static str>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Noting {
    fn note(&self, what: &'static str, more: &str) -> Result<()> {
        self.notes.lock().unwrap().push(format!("{} {what}{more}", self.name));
        assert!(self.panics != Some(what), "as told");
        if self.fails == Some(what) { Err(Error::failed(format!("{} cannot {what}", self.name))) } else { Ok(()) }
    }
}

#[async_trait]
impl Sink for Noting {
    fn name(&self) -> &str {
        self.name
    }

    fn check(&mut self, delivery: &Delivery) -> Result<(), Rejection> {
        match &delivery.outcome {
            Outcome::Record(_) if Some(delivery.item.position.offset) == self.refuses => {
                Err(Rejection::new(Stage::Deliver, Reason::RecordTooLarge, "too large"))
            }
            _ => Ok(()),
        }
    }

    async fn write(&mut self, deliveries: &[Delivery]) -> Result<()> {
        let kinds: Vec<&str> = deliveries.iter().map(|d| if matches!(d.outcome, Outcome::Record(_)) { "+" } else { "-" }).collect();
        self.note("write", &kinds.concat())
    }

    async fn flush(&mut self, how: Flush) -> Result<()> {
        self.note("flush", &format!(" {how:?}"))
    }

    fn held(&self, _: &Partition) -> Option<i64> {
        self.holds
    }

    async fn begin(&mut self, _: &Partition, next_offset: i64) -> Result<()> {
        self.note("begin", &format!(" {next_offset}"))
    }

    async fn release(&mut self, _: &Partition) -> Result<()> {
        self.note("release", "")
    }
}

fn refs() -> Partition {
    Partition::new("refs", 0)
}

fn records(offsets: std::ops::Range<i64>) -> Command {
    let at = |offset| Position { partition: refs(), offset, item: 0 };
    Command::Write(offsets.map(|offset| delivery(at(offset), true, What::Record)).collect(), Vec::new())
}

/// Obeys the commands one after another; gives the reports, what was noted, and the error that ended it.
async fn obeyed(sinks: &[Noting], commands: Vec<Command>) -> (Vec<Report>, Vec<String>, Option<String>) {
    let (to, from) = mpsc::unbounded_channel();
    let (reports_to, mut reports) = mpsc::unbounded_channel();
    let (fatal_to, mut fatal) = mpsc::unbounded_channel();
    commands.into_iter().for_each(|command| to.send(command).ok().unwrap());
    drop(to);
    let notes = Arc::new(Mutex::new(Vec::new()));
    let boxed = sinks.iter().map(|sink| Box::new(Noting { notes: notes.clone(), ..sink.clone() }) as Box<dyn Sink>).collect();
    let _ = tokio::spawn(run(boxed, None, from, reports_to, fatal_to, Arc::default())).await;
    let mut all = Vec::new();
    while let Some(report) = reports.recv().await {
        all.push(report);
    }
    let notes = notes.lock().unwrap().clone();
    (all, notes, fatal.recv().await.map(|e| e.to_string()))
}

#[tokio::test]
async fn a_record_that_one_sink_refuses_is_a_rejection_for_all_of_them() {
    let sinks = [Noting { name: "a", ..Noting::default() }, Noting { name: "b", refuses: Some(1), ..Noting::default() }];
    let (reports, notes, error) = obeyed(&sinks, vec![Command::Begin(refs(), 0), records(0..3)]).await;
    assert_eq!(notes, ["a begin 0", "b begin 0", "a write+-+", "b write+-+", "a flush Ready", "b flush Ready"]);
    let fates: Vec<(i64, Fate)> = reports[1].written.iter().map(|w| (w.offset, w.fate)).collect();
    assert_eq!(fates, [(0, Fate::Published), (1, Fate::Rejected(Reason::RecordTooLarge)), (2, Fate::Published)]);
    assert_eq!(error, None);
}

#[tokio::test]
async fn held_is_what_the_slowest_sink_holds() {
    let holding = |name, holds| Noting { name, holds, ..Noting::default() };
    for (holds, expected) in [([None, None], None), ([Some(7), None], Some(7)), ([Some(7), Some(4)], Some(4))] {
        let sinks = [holding("a", holds[0]), holding("b", holds[1])];
        let commands =
            vec![Command::Begin(refs(), 0), Command::Flush(Flush::Ready), Command::Release(vec![refs()]), Command::Flush(Flush::All)];
        let (reports, ..) = obeyed(&sinks, commands).await;
        let held: Vec<_> = reports.iter().map(|r| r.held.clone()).collect();
        let one = vec![(refs(), expected)];
        assert_eq!(held, [one.clone(), one.clone(), one, vec![]], "of a partition that is gone nothing is said any more");
        assert_eq!(reports[2].released, [refs()]);
        assert_eq!((reports[1].flushed, reports[3].flushed), (Some(Flush::Ready), Some(Flush::All)));
    }
}

#[tokio::test]
async fn an_error_of_a_sink_ends_it_and_nothing_more_is_written_or_reported() {
    for what in ["begin", "write", "flush"] {
        let sinks = [Noting { name: "a", ..Noting::default() }, Noting { name: "b", fails: Some(what), ..Noting::default() }];
        let (reports, notes, error) = obeyed(&sinks, vec![Command::Begin(refs(), 0), records(0..2), records(2..4)]).await;
        assert_eq!(error, Some(format!("b cannot {what}")));
        assert_eq!(reports.len(), usize::from(what != "begin"));
        assert!(reports.iter().all(|report| report.written.is_empty()), "nothing of it can be committed");
        assert!(notes.last().unwrap().starts_with(&format!("b {what}")));
    }
}

#[tokio::test]
async fn a_panic_of_a_sink_stops_the_worker_and_does_not_hang_it() {
    for what in ["begin", "write", "flush", "release"] {
        let sink = Noting { name: "a", panics: Some(what), ..Noting::default() };
        let commands = vec![Command::Begin(refs(), 0), records(0..2), Command::Release(vec![refs()])];
        let (reports, _, error) = obeyed(&[sink], commands).await;
        assert!(error.unwrap().contains("a sink panicked"));
        assert!(what == "release" || reports.iter().all(|report| report.written.is_empty()));
    }
}
