//! One trace across the cluster: spans of this target are exported, and their context travels with a proposal and stands in its log
//! entry, so that what other nodes and the kernel do for it is part of it.
//!
//! The context is a W3C `traceparent`. Where nobody exports spans there is none, and nothing of this costs anything.

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of all spans that make up a trace.
pub const TARGET: &str = "tandem::trace";
/// The header of W3C Trace Context; `tracestate` is not passed on.
const HEADER: &str = "traceparent";
/// The length of a `traceparent` of version 00.
const OCTETS: usize = 55;

/// The one header.
#[derive(Default)]
struct Header(Option<String>);

impl Injector for Header {
    fn set(&mut self, key: &str, value: String) {
        if key == HEADER {
            self.0 = Some(value);
        }
    }
}

impl Extractor for Header {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == HEADER)
    }

    fn keys(&self) -> Vec<&str> {
        vec![HEADER]
    }
}

/// The `traceparent` of a span; `None` when nobody records it.
#[must_use]
pub fn parent_of(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let sampled = context.span().span_context().is_sampled();
    let mut header = Header::default();
    TraceContextPropagator::new().inject_context(&context, &mut header);
    header.0.filter(|_| sampled)
}

/// Makes a span part of the trace of a `traceparent`; one that cannot be read is left alone.
pub fn set_parent(span: &Span, traceparent: &str) {
    if span.is_disabled() || traceparent.len() != OCTETS {
        return;
    }
    let header = Header(Some(traceparent.to_owned()));
    let context = TraceContextPropagator::new().extract(&header);
    if context.span().span_context().is_valid() {
        // An error means that the span has begun without it.
        let _began_already = span.set_parent(context);
    }
}

/// A span of this target under a `traceparent`; nothing without one.
#[macro_export]
macro_rules! span_under {
    ($traceparent:expr, $name:expr $(, $($fields:tt)*)?) => {
        match $traceparent {
            Some(traceparent) => {
                let span = ::tracing::info_span!(target: $crate::trace::TARGET, $name $(, $($fields)*)?);
                $crate::trace::set_parent(&span, traceparent);
                span
            }
            None => ::tracing::Span::none(),
        }
    };
}
