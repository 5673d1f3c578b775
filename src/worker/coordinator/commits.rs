//! Offsets go to the source once every sink has what is below them for good. One commit is under way at a time for each source.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Coordinator;
use crate::flow::{CommitPoint, Partition};
use crate::source::Progress;
use crate::worker::deliver::Command;
use crate::worker::lane::Lane;
use crate::{Error, Result};

/// How long the last commit may take where nobody waits for the end. Brokers answer a member in the order of its requests: a commit comes after the
/// end of a rebalance, and that waits for members that died until their session is over (45 s unless set otherwise).
const LAST_COMMIT: Duration = Duration::from_secs(90);
/// How long it may take after a stop was asked for, and how long the farewell to the group may.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// The same where the sinks have kept the stop waiting already: whoever asked for it kills the worker 30 s afterwards.
pub(super) const HASTE: Duration = Duration::from_secs(2);

/// What a source answered, long after it was asked.
pub(super) enum Answer {
    Committed { source: usize, points: Vec<CommitPoint>, result: Result<()> },
    Progress { source: usize, result: Result<Option<Vec<Progress>>> },
}

impl Coordinator {
    pub(super) fn commit(&mut self) {
        for (source, feed) in self.feeds.iter().enumerate() {
            let points = due(&self.lanes, source, self.settings.transactional);
            if points.is_empty() || std::mem::replace(&mut self.committing[source], true) {
                continue;
            }
            self.lanes.values_mut().filter(|lane| lane.source == source).for_each(Lane::committing);
            let (control, answers) = (feed.control.clone(), self.answers.0.clone());
            tokio::spawn(async move {
                let result = control.commit(&points).await;
                let _ = answers.send(Answer::Committed { source, points, result });
            });
        }
    }

    /// A transaction of offsets only: a plain commit could come after the transaction that follows, and set it back.
    pub(super) fn pass_markers(&mut self) {
        if !self.settings.transactional || self.writes > 0 {
            return;
        }
        let points = before_markers(&mut self.lanes);
        if !points.is_empty() {
            self.writes += 1;
            self.command(Command::Write(Vec::new(), points));
        }
    }

    pub(super) fn on_answer(&mut self, answer: Answer) -> Result<()> {
        match answer {
            Answer::Committed { source, points, result } => {
                self.committing[source] = false;
                match result {
                    Ok(()) => self.committed(points),
                    Err(error) => tracing::warn!("offsets were not committed, will try again: {error}"),
                }
            }
            Answer::Progress { source, result } => {
                self.asking[source] = false;
                match result {
                    Ok(Some(progress)) => {
                        for seen in &progress {
                            if let Some(lane) = self.lanes.get_mut(&seen.partition) {
                                lane.seen(seen);
                            }
                        }
                        self.behind[source] = Some(progress.iter().map(|p| (p.end - p.position).max(0)).sum());
                    }
                    Ok(None) => self.behind[source] = None,
                    Err(error) => tracing::warn!("cannot see how far the source is: {error}"),
                }
                let known: Option<i64> = self.behind.iter().copied().sum();
                self.stats.lag.store(known.unwrap_or(-1), Relaxed);
                self.ends_checked = known == Some(0);
            }
        }
        Ok(())
    }

    pub(super) fn committed(&mut self, points: Vec<CommitPoint>) {
        for point in points {
            if let Some(lane) = self.lanes.get_mut(&point.partition).filter(|lane| lane.assignment == point.assignment) {
                lane.committed(point.next_offset);
            }
        }
    }

    pub(super) async fn last_commit_in_time(&mut self) -> Result<()> {
        let (stop, farewell) = (self.channels.stop.clone(), self.farewell);
        let limit = async move {
            // Whichever comes first; a stop may also come while this waits.
            tokio::select! {
                () = tokio::time::sleep(LAST_COMMIT) => {}
                () = async { stop.cancelled().await; tokio::time::sleep(farewell).await } => {}
            }
        };
        tokio::select! {
            result = self.last_commit() => result,
            () = limit => Err(Error::failed("the last offsets could not be committed in time; a replay may repeat them")),
        }
    }

    pub(super) async fn last_commit(&mut self) -> Result<()> {
        // A commit under way answers first, so that it cannot overtake this one.
        while self.committing.contains(&true) {
            match self.answers.1.recv().await {
                Some(answer) => self.on_answer(answer)?,
                None => break,
            }
        }
        for (source, feed) in self.feeds.iter().enumerate() {
            let points = due(&self.lanes, source, self.settings.transactional);
            if !points.is_empty() {
                feed.control.commit(&points).await?;
            }
        }
        Ok(())
    }
}

/// Partitions of which nothing but markers of transactions is left to commit.
fn before_markers(lanes: &mut HashMap<Partition, Lane>) -> Vec<CommitPoint> {
    let still = lanes.iter_mut().filter(|(_, lane)| !lane.is_revoking() && lane.is_before_markers());
    still
        .map(|(partition, lane)| {
            lane.committing();
            lane.point(partition, lane.committed)
        })
        .collect()
}

/// What is to be committed. Never where transactions do that: what such a batch held may have been let go of since it was handed over.
fn due(lanes: &HashMap<Partition, Lane>, source: usize, transactional: bool) -> Vec<CommitPoint> {
    if transactional {
        return Vec::new();
    }
    let own = lanes.iter().filter(|(_, lane)| lane.source == source && !lane.is_revoking());
    own.filter(|(_, lane)| lane.commit_point() > lane.committed || lane.is_before_markers())
        .map(|(partition, lane)| lane.point(partition, lane.commit_point()))
        .collect()
}
