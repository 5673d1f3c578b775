//! Traces over OTLP (http/protobuf), by option. A thread of the library's sends them in batches from a bounded queue: where the collector is slow or away,
//! spans are dropped, and the worker goes on as it would without.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData};

use crate::config::Otlp;
use crate::flow::Tracing;
use crate::telemetry::escape;
use crate::{Error, Result, version};

/// Spans that wait to be sent.
const QUEUE: usize = 4096;
/// Time for one batch to be taken.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is said that they are not taken.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Time for the last ones at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// The running export; ends with [`Export::stop`].
pub struct Export(SdkTracerProvider);

impl Export {
    /// Starts it. Nothing is connected to yet.
    ///
    /// # Errors
    /// [`Error::Failed`] if the client cannot be made.
    pub fn start(config: &Otlp, name: &str, instance: &str) -> Result<Self> {
        let cannot = |error: &dyn std::fmt::Display| Error::failed(format!("traces cannot be sent to telemetry.otlp.endpoint: {error}"));
        let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter =
            exporter.with_endpoint(traces_url(&config.endpoint)).with_timeout(TIMEOUT).build().map_err(|error| cannot(&error))?;
        let queue = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_scheduled_delay(Duration::from_secs(2)).build();
        let about = Resource::builder_empty()
            .with_service_name("lakelens")
            .with_attributes([
                KeyValue::new("service.version", version::VERSION),
                KeyValue::new("service.namespace", name.to_owned()),
                KeyValue::new("service.instance.id", instance.to_owned()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(Telling::new(exporter)).with_batch_config(queue).build())
            // A message that names a trace has it as its sender decided.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample))))
            .with_resource(about)
            .build();
        Ok(Self(provider))
    }

    /// What begins traces.
    pub fn tracing(&self) -> Tracing {
        Tracing::new(&self.0)
    }

    /// Sends what is left, for a few seconds at most. Blocks.
    pub fn stop(self) {
        if let Err(error) = self.0.shutdown_with_timeout(FAREWELL) {
            tracing::warn!("the last traces were not sent: {error}");
        }
    }
}

/// Says when batches are not taken, at a bounded rate: the library itself is silent.
#[derive(Debug)]
struct Telling {
    exporter: SpanExporter,
    said: Mutex<Option<Instant>>,
}

impl Telling {
    fn new(exporter: SpanExporter) -> Self {
        Self { exporter, said: Mutex::new(None) }
    }

    fn tell(&self, error: &OTelSdkError) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            *said = Some(Instant::now());
            tracing::warn!(
                "traces are not taken by telemetry.otlp.endpoint, and are dropped; nothing else suffers: {}",
                escape(&error.to_string())
            );
        }
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.exporter.export(batch).await.inspect_err(|error| self.tell(error))
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// A bare address means the usual path, as in OTEL_EXPORTER_OTLP_ENDPOINT.
fn traces_url(endpoint: &str) -> String {
    match url::Url::parse(endpoint) {
        Ok(url) if url.path() == "/" && url.query().is_none() => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
        _ => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_address_gets_the_usual_path() {
        for (endpoint, url) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://collector/otlp/v1/traces", "https://collector/otlp/v1/traces"),
        ] {
            assert_eq!(traces_url(endpoint), url);
        }
    }
}
