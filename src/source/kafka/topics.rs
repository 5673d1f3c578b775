//! Whether the brokers have the topics: before the first message, and when one of them says that it does not know one.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::poller::{End, Poller};
use crate::error::Error;
use crate::kafka::{SAY_EVERY, TopicState, lock, missing_topic, topic_state};
use crate::telemetry::{On, Wait};

/// How long a topic that was just created may stay unknown to a broker.
const SPREAD: Duration = Duration::from_secs(5);

impl Poller {
    /// Waits until the brokers answer and have all topics.
    pub(super) fn wait_for_topics(&mut self, topics: &[String]) -> Result<(), End> {
        let mut missing_since: Option<Instant> = None;
        let mut said: Option<Instant> = None;
        let mut waiting: Option<Wait> = None;
        let mut partitions = topics.iter().all(|t| !t.starts_with('^')).then_some(0);
        // A name that begins with ^ is a pattern, which may match nothing yet.
        for topic in topics.iter().filter(|t| !t.starts_with('^')) {
            loop {
                self.obey()?;
                match topic_state(&self.consumer, topic, Duration::from_secs(2)) {
                    TopicState::Partitions(count) => {
                        partitions = partitions.map(|all| all + count);
                        break;
                    }
                    TopicState::Refused(what) => {
                        return Err(End::Failed(Error::failed(format!("topic `{topic}` on {}: {what}", self.config.brokers))));
                    }
                    TopicState::Missing => {
                        if missing_since.get_or_insert_with(Instant::now).elapsed() > SPREAD {
                            return Err(End::Failed(Error::failed(missing_topic(topic, &self.config.brokers))));
                        }
                        std::thread::sleep(Duration::from_millis(250));
                    }
                    TopicState::Away(what) => {
                        let consumer = self.consumer.clone();
                        if let Some(Err(error)) = consumer.poll(Duration::from_millis(100)) {
                            self.trouble(error)?;
                        }
                        // Before there was any answer a failing handshake is a wrong certificate, later it may be a broker that is starting.
                        if let Some((Code::SSL, reason)) = self.consumer.context().logger.last_error() {
                            return Err(End::Failed(Error::failed(format!("no TLS with Kafka at {}: {reason}", self.config.brokers))));
                        }
                        if said.is_none_or(|at| at.elapsed() > SAY_EVERY) {
                            said = Some(Instant::now());
                            waiting.get_or_insert_with(|| Wait::on(On::Broker, format!("Kafka at {}", self.config.brokers)));
                            let because = self.consumer.context().logger.because();
                            tracing::warn!("waiting for Kafka at {}: {what}{because}", self.config.brokers);
                        }
                    }
                }
            }
        }
        lock(&self.shared).of_partitions = partitions;
        Ok(())
    }

    /// Some topic is unknown to a broker: stops if one that is subscribed to is gone.
    pub(super) fn look_for_topics(&mut self) -> Result<(), End> {
        if self.looked_for_topics.is_some_and(|at| at.elapsed() < SPREAD) {
            return Ok(());
        }
        self.looked_for_topics = Some(Instant::now());
        for topic in self.topics().iter().filter(|t| !t.starts_with('^')) {
            if topic_state(&self.consumer, topic, Duration::from_secs(2)) == TopicState::Missing {
                return Err(End::Failed(Error::failed(missing_topic(topic, &self.config.brokers))));
            }
        }
        Ok(())
    }
}
