//! The trace of one item, where it has one: whoever works on the item adds spans to it.

use std::fmt;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Span as _, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use super::Header;

/// Header of W3C's trace context, version 0.
pub const TRACEPARENT: &str = "traceparent";
/// Its length.
const LENGTH: usize = 55;

/// Begins traces; cheap to clone.
#[derive(Clone)]
pub struct Tracing(SdkTracer);

impl Tracing {
    /// Of what `provider` samples.
    pub fn new(provider: &SdkTracerProvider) -> Self {
        Self(provider.tracer("lakelens"))
    }

    /// The trace of an item whose message has `headers`: a part of the trace that they name, else a new one. `None` if it is not sampled.
    pub fn begin(&self, headers: &[Header]) -> Option<Trace> {
        let parent = parent(headers).map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let root = self.0.span_builder("item").start_with_context(&self.0, &parent);
        root.is_recording().then(|| Trace { tracer: self.0.clone(), item: Context::new().with_span(root) })
    }
}

/// The last header of the name, as readers of Kafka's headers have it; one that is not of the form counts as none.
fn parent(headers: &[Header]) -> Option<opentelemetry::trace::SpanContext> {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
    let value = headers.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(TRACEPARENT))?.1.as_deref()?;
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() == LENGTH)?;
    let lower = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<&str> = text.split('-').collect();
    let ["00", trace, span, flags] = parts[..] else { return None };
    if [trace, span, flags].map(str::len) != [32, 16, 2] || ![trace, span, flags].into_iter().all(lower) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context = SpanContext::new(TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

/// The trace of one item. Its own span ends when it is dropped.
pub struct Trace {
    tracer: SdkTracer,
    item: Context,
}

impl Trace {
    /// Adds a span for a piece of work that took `time` and ends now. Never waits: what the exporter has no room for is dropped.
    pub fn span(&self, name: &'static str, time: Duration, facts: impl IntoIterator<Item = (&'static str, Value)>) {
        let end = SystemTime::now();
        let begun = end.checked_sub(time).unwrap_or(end);
        let facts = facts.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect();
        let builder = self.tracer.span_builder(name).with_start_time(begun).with_attributes::<Vec<KeyValue>>(facts);
        builder.start_with_context(&self.tracer, &self.item).end_with_timestamp(end);
    }

    /// Says of the item what is known of it.
    pub fn fact(&self, name: &'static str, value: impl Into<Value>) {
        self.item.span().set_attribute(KeyValue::new(name, value));
    }

    /// The item was rejected.
    pub fn rejected(&self, reason: &'static str) {
        self.fact("lakelens.rejected", reason);
        self.item.span().set_status(Status::error(reason));
    }

    /// What a message made of this item has as its header [`TRACEPARENT`].
    pub fn traceparent(&self) -> String {
        let span = self.item.span();
        let context = span.span_context();
        format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8() & 1)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({})", self.traceparent())
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::Sampler;
    use proptest::prelude::*;

    use super::*;

    fn header(value: &str) -> Vec<Header> {
        vec![("traceparent".into(), Some(bytes::Bytes::copy_from_slice(value.as_bytes())))]
    }

    fn tracing(share: f64) -> Tracing {
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)));
        Tracing::new(&SdkTracerProvider::builder().with_sampler(sampler).build())
    }

    #[test]
    fn a_trace_goes_on_where_the_message_names_one() {
        let sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = tracing(0.0).begin(&header(sampled)).expect("its sender samples it");
        let out = trace.traceparent();
        assert!(out.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && out.ends_with("-01") && out != sampled, "{out}");
        assert!(tracing(1.0).begin(&header("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")).is_none(), "its sender does not");
        assert!(tracing(0.0).begin(&[]).is_none() && tracing(1.0).begin(&[]).is_some());
    }

    proptest! {
        #[test]
        fn a_header_that_is_none_begins_a_new_trace(value in "\\PC{0,80}|00-[0-9a-fA-F]{30,33}-[0-9a-g]{16}-.{2}|00-0{32}-0{16}-01") {
            let trace = tracing(1.0).begin(&header(&value));
            let named = value.get(3..35).filter(|_| parent(&header(&value)).is_some());
            if let (Some(trace), Some(named)) = (&trace, named) {
                prop_assert!(trace.traceparent().contains(named));
            }
            prop_assert!(named.is_some() || trace.is_some());
        }
    }
}
