//! Exactly-once: records, dead letters and source offsets in one transaction (KIP-98, fenced by the group's metadata as KIP-447 has it).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use super::producer::Client;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::flow::CommitPoint;
use crate::kafka::lasting;
use crate::kafka::transaction::{Abort, Calls, End, Member, PATIENCE, REFUSALS, call, delivered};
use crate::telemetry::Stats;

/// Between a transaction that was aborted and the next one.
const PAUSE: Duration = Duration::from_millis(100);
/// The same after one of a kind that will not pass.
const REFUSED: Duration = Duration::from_secs(2);
/// One producer for all sinks of a pipeline, and the consumers whose offsets it commits.
pub struct Transactions {
    client: Arc<Client>,
    /// By the number of the source.
    members: Vec<Arc<dyn Member>>,
    stats: Arc<Stats>,
    /// Aborts in a row of a kind that will not pass.
    refusals: AtomicU32,
}

impl Transactions {
    /// Connects a transactional producer for `topics`, which must exist. Waits while no broker answers. `id` is this worker's alone: two that share one
    /// would fence each other for ever. Records name the `group`.
    ///
    /// # Errors
    /// [`Error::Config`] if a property is refused, [`Error::Failed`] if a topic is missing or the brokers allow no transactions.
    pub async fn start(brokers: &str, properties: &BTreeMap<String, String>, topics: &[String], id: &str, group: &str) -> Result<Self> {
        let client = Client::start(brokers, properties, topics, Some((id, group))).await?;
        let transactions = Self { client: Arc::new(client), members: Vec::new(), stats: Arc::default(), refusals: AtomicU32::default() };
        match transactions.step("preparing transactions", |producer| producer.init_transactions(PATIENCE)).await? {
            End::Committed => Ok(transactions),
            End::Aborted(abort) => Err(Error::failed(format!("Kafka at {brokers} allows no transactions: {}", abort.why))),
        }
    }

    /// The producer that the sinks write through.
    pub fn client(&self) -> Arc<Client> {
        self.client.clone()
    }

    /// The consumers, by the number of their source, and where ends are counted.
    pub fn with_members(self, members: Vec<Arc<dyn Member>>, stats: Arc<Stats>) -> Self {
        Self { members, stats, ..self }
    }

    /// Whether what was read under this assignment is still this worker's to write.
    pub fn owns(&self, point: &CommitPoint) -> bool {
        self.members.get(point.source).is_some_and(|member| member.owns(&point.partition, point.assignment))
    }

    /// Begins. What the sinks write from here on is seen by nobody until [`Self::commit`] says so.
    ///
    /// # Errors
    /// [`Error::Failed`] if the producer cannot go on.
    pub async fn begin(&self) -> Result<()> {
        failpoint::pass("txn.begin");
        while self.step("beginning a transaction", |producer| producer.begin_transaction()).await? != End::Committed {}
        Ok(())
    }

    /// Commits what was written since [`Self::begin`] together with the offsets. `false`: it was aborted, and what is still this worker's is to be
    /// written again.
    ///
    /// # Errors
    /// [`Error::Failed`] if the producer cannot go on; whether the last transaction took effect is then for its offsets to say.
    pub async fn commit(&self, points: &[CommitPoint]) -> Result<bool> {
        self.step("sending records", delivered).await?;
        failpoint::pass("txn.sent");
        for (source, member) in self.members.iter().enumerate() {
            let own: Vec<&CommitPoint> = points.iter().filter(|point| point.source == source).collect();
            if own.is_empty() {
                continue;
            }
            let Some((offsets, group)) = member.offsets(&own)? else {
                self.step("aborting a transaction", |producer| producer.abort_transaction(PATIENCE)).await?;
                return self.aborted(Abort { why: "a partition was taken away".into(), lasting: None }).await;
            };
            let sent = self.step("committing offsets", move |producer| producer.send_offsets_to_transaction(&offsets, &group, PATIENCE));
            if let End::Aborted(abort) = sent.await? {
                return self.aborted(abort).await;
            }
        }
        failpoint::pass("txn.offsets");
        match self.step("committing a transaction", |producer| producer.commit_transaction(PATIENCE)).await? {
            End::Committed => {
                self.stats.transactions.committed.fetch_add(1, Relaxed);
                self.refusals.store(0, Relaxed);
                failpoint::pass("txn.committed");
                Ok(true)
            }
            End::Aborted(abort) => self.aborted(abort).await,
        }
    }

    async fn aborted(&self, Abort { why, lasting }: Abort) -> Result<bool> {
        self.stats.transactions.aborted.fetch_add(1, Relaxed);
        tracing::warn!("a transaction was aborted, and what is still ours is written again: {why}");
        let Some(what) = lasting else {
            self.refusals.store(0, Relaxed);
            tokio::time::sleep(PAUSE).await;
            return Ok(false);
        };
        // One may be a broker's that knows no better yet.
        tokio::time::sleep(REFUSED).await;
        if self.refusals.fetch_add(1, Relaxed) + 1 < REFUSALS {
            return Ok(false);
        }
        let refused = self.client.inner()?.client().context().refused();
        Err(Error::failed(format!(
            "writing to Kafka at {}: {what} ({why}{}); nothing of it was committed, and it is read again at the next start",
            self.client.brokers,
            refused.map_or_else(String::new, |refused| format!("; {refused}"))
        )))
    }

    /// Makes one blocking call on a thread where it keeps nobody waiting.
    async fn step(
        &self,
        what: &'static str,
        make: impl Fn(&super::producer::Inner) -> rdkafka::error::KafkaResult<()> + Send + 'static,
    ) -> Result<End> {
        let (client, calls) = (self.client.clone(), Arc::new(Calls::default()));
        let (brokers, told) = (client.brokers.clone(), calls.clone());
        let step = tokio::task::spawn_blocking(move || client.inner().map(|inner| call(inner, &client.brokers, what, &told, make)));
        let result = tokio::select! {
            result = step => result.map_err(Error::failed)??,
            why = calls.stuck() => return Err(Error::failed(format!(
                "{what} at {brokers}: the producer cannot go on; start the worker again ({why}). What was not committed is read again"
            ))),
        };
        result.map_err(|error| {
            self.stats.transactions.fenced.fetch_add(u64::from(is_fenced(&error)), Relaxed);
            fatal(&brokers, what, &error)
        })
    }
}

fn is_fenced(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch))
}

fn fatal(brokers: &str, what: &str, error: &KafkaError) -> Error {
    match error.rdkafka_error_code() {
        _ if is_fenced(error) => Error::failed(format!(
            "{what} at {brokers}: the brokers have fenced this worker, which was silent for longer than its transaction may take ({error}); start it \
             again: what it had not committed is read again"
        )),
        code => {
            let why = code.and_then(lasting).unwrap_or("the producer cannot go on; start the worker again");
            Error::failed(format!("{what} at {brokers}: {why} ({error})"))
        }
    }
}
