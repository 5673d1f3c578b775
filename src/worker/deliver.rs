//! The task that speaks to the sinks. It gets outcomes in order, hands them to every sink, and reports what is durable; only then does the
//! coordinator commit.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::ledger::Fate;
use crate::flow::{CommitPoint, Delivery, Outcome, Partition};
use crate::sink::kafka::Transactions;
use crate::sink::{Flush, Sink};
use crate::telemetry::Stats;
use crate::{Error, Result, failpoint};

/// What the coordinator asks for, in order.
pub enum Command {
    /// A partition begins at this offset.
    Begin(Partition, i64),
    /// Outcomes, in order for each partition, and how far each partition is done with them.
    Write(Vec<Delivery>, Vec<CommitPoint>),
    /// Let go of partitions that are going away.
    Release(Vec<Partition>),
    /// Drop what is not durable of partitions that are another worker's already.
    Forget(Vec<Partition>),
    /// Make durable what can be (`Flush::Ready`), or everything.
    Flush(Flush),
}

/// One item that every sink has taken.
#[derive(Debug)]
pub struct Written {
    /// Its partition.
    pub partition: Partition,
    /// The assignment that it belongs to.
    pub epoch: u64,
    /// Its offset.
    pub offset: i64,
    /// What became of it.
    pub fate: Fate,
}

/// The answer to each command.
#[derive(Default)]
pub struct Report {
    /// Whether the command was a `Write`.
    pub wrote: bool,
    /// What the command wrote; not what another worker owns by now.
    pub written: Vec<Written>,
    /// What was committed with it, where that is one transaction.
    pub committed: Vec<CommitPoint>,
    /// For each partition asked about or written, the lowest offset that some sink still holds.
    pub held: Vec<(Partition, Option<i64>)>,
    /// The partitions that a `Release` let go of.
    pub released: Vec<Partition>,
    /// Whether the command was a `Flush`.
    pub flushed: Option<Flush>,
}

/// Runs until the command channel closes; with `transactions`, each write is one of them. An error of a sink is final: it is sent to `fatal` and nothing more is written.
pub async fn run(
    mut sinks: Vec<Box<dyn Sink>>,
    transactions: Option<Transactions>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    reports: mpsc::UnboundedSender<Report>,
    fatal: mpsc::UnboundedSender<Error>,
    stats: Arc<Stats>,
) {
    let mut owned: Vec<Partition> = Vec::new();
    while let Some(mut command) = commands.recv().await {
        let begun = Instant::now();
        // What a command holds is dropped after its failure was told: the dropped tokens would otherwise be taken for the cause.
        let _panics = Panics(&fatal);
        match obey(&mut sinks, transactions.as_ref(), &mut owned, &mut command).await {
            Ok(report) => {
                if report.wrote {
                    stats.deliver.add(begun.elapsed());
                }
                if reports.send(report).is_err() {
                    return;
                }
            }
            Err(error) => {
                let _ = fatal.send(error);
                return;
            }
        }
    }
}

/// Tells of a panic in a sink, without which the worker would wait for its report for ever.
struct Panics<'a>(&'a mpsc::UnboundedSender<Error>);

impl Drop for Panics<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ =
                self.0.send(Error::failed("a sink panicked; this is a bug, please report it. Nothing that it was given is acknowledged"));
        }
    }
}

async fn obey(
    sinks: &mut [Box<dyn Sink>],
    transactions: Option<&Transactions>,
    owned: &mut Vec<Partition>,
    command: &mut Command,
) -> Result<Report> {
    let mut report = Report::default();
    match command {
        Command::Begin(partition, next_offset) => {
            for sink in sinks.iter_mut() {
                sink.begin(partition, *next_offset).await?;
            }
            if !owned.contains(partition) {
                owned.push(partition.clone());
            }
        }
        Command::Write(deliveries, points) => {
            report.wrote = true;
            let begun = Instant::now();
            failpoint::tamper(deliveries);
            for delivery in deliveries.iter_mut() {
                if let Some(rejection) = sinks.iter_mut().find_map(|sink| sink.check(delivery).err()) {
                    delivery.item.trace.iter().for_each(|trace| trace.rejected(rejection.reason.name()));
                    delivery.outcome = Outcome::Rejected(rejection);
                }
            }
            match transactions {
                Some(transactions) => {
                    write_in_transaction(sinks, transactions, deliveries, points).await?;
                    report.committed = std::mem::take(points);
                }
                None => write(sinks, deliveries).await?,
            }
            report.written.reserve(deliveries.len());
            let time = begun.elapsed();
            for delivery in deliveries.drain(..) {
                if let Some(trace) = &delivery.item.trace {
                    trace.span("deliver", time, []);
                }
                report.written.push(Written {
                    partition: delivery.item.position.partition.clone(),
                    epoch: delivery.token.epoch(),
                    offset: delivery.item.position.offset,
                    fate: Fate::from(&delivery.outcome),
                });
                delivery.token.settle();
            }
        }
        Command::Release(partitions) => {
            for partition in partitions.iter() {
                for sink in sinks.iter_mut() {
                    sink.release(partition).await?;
                }
            }
            report.held = partitions.iter().map(|p| (p.clone(), held(sinks, p))).collect();
            owned.retain(|p| !partitions.contains(p));
            report.released = std::mem::take(partitions);
        }
        Command::Forget(partitions) => {
            for partition in partitions.iter() {
                sinks.iter_mut().for_each(|sink| sink.forget(partition));
            }
            owned.retain(|p| !partitions.contains(p));
        }
        Command::Flush(how) => {
            for sink in sinks.iter_mut() {
                sink.flush(*how).await?;
            }
            report.flushed = Some(*how);
        }
    }
    report.held.extend(owned.iter().map(|p| (p.clone(), held(sinks, p))));
    Ok(report)
}

async fn write(sinks: &mut [Box<dyn Sink>], deliveries: &[Delivery]) -> Result<()> {
    for sink in sinks.iter_mut() {
        sink.write(deliveries).await?;
    }
    for sink in sinks.iter_mut() {
        sink.flush(Flush::Ready).await?;
    }
    Ok(())
}

/// Writes and commits until that worked for all that is still this worker's; what is not is let go of.
async fn write_in_transaction(
    sinks: &mut [Box<dyn Sink>],
    transactions: &Transactions,
    deliveries: &mut Vec<Delivery>,
    points: &mut Vec<CommitPoint>,
) -> Result<()> {
    loop {
        points.retain(|point| transactions.owns(point));
        let ours = |delivery: &Delivery| points.iter().any(|point| point.partition == delivery.item.position.partition);
        for delivery in deliveries.extract_if(.., |delivery| !ours(delivery)) {
            delivery.token.settle();
        }
        if points.is_empty() {
            return Ok(());
        }
        transactions.begin().await?;
        write(sinks, deliveries).await?;
        if transactions.commit(points).await? {
            return Ok(());
        }
    }
}

fn held(sinks: &[Box<dyn Sink>], partition: &Partition) -> Option<i64> {
    sinks.iter().filter_map(|sink| sink.held(partition)).min()
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
