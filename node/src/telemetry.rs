//! Logs to standard error, and traces to an OpenTelemetry collector when one is named.
//!
//! Only spans of [`raft_store::trace::TARGET`] are exported: a request, its proposal, its log entry on every node, and what the kernel
//! did for it. Everything else is log lines.

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use raft_store::trace::{TARGET, set_parent};
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;
use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, Registry};

/// How long the last spans may take at the end of the daemon.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How often spans are sent.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What to log, and where traces go.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Filter of log lines, such as `info`.
    pub filter: String,
    /// One JSON object per line.
    pub json: bool,
    /// OTLP over gRPC, such as `http://192.0.2.9:4317`.
    pub otlp: Option<String>,
    /// The name of this node in traces.
    pub node: String,
}

/// Why logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A filter that cannot be read.
    #[error("the log filter cannot be read: {0}")]
    Filter(#[from] ParseError),
    /// An endpoint that cannot be used.
    #[error("the OTLP endpoint cannot be used: {0}")]
    Otlp(#[from] ExporterBuildError),
    /// Set up before.
    #[error(transparent)]
    Twice(#[from] TryInitError),
}

/// Sends what is left when it is dropped.
#[derive(Debug)]
#[must_use = "spans are lost when this is dropped before the daemon ends"]
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_TIMEOUT)
        {
            eprintln!("bngd: the last spans were not sent: {error}");
        }
    }
}

/// Sets logs and traces up for the whole process. Runs in a tokio runtime.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(settings: &Settings) -> Result<Guard, TelemetryError> {
    let filter = EnvFilter::try_new(&settings.filter)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if settings.json { lines.json().boxed() } else { lines.boxed() };
    // Log lines do not repeat the spans around them.
    let lines = lines.with_filter(filter).with_filter(filter_fn(|meta| meta.target() != TARGET));
    let provider = settings.otlp.as_deref().map(|url| provider(url, &settings.node)).transpose()?;
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("tandem"))
            .with_location(false)
            .with_threads(false)
            .with_filter(filter_fn(|meta| meta.is_span() && meta.target() == TARGET))
    });
    Registry::default().with(lines).with(traces).try_init()?;
    Ok(Guard(provider))
}

fn provider(url: &str, node: &str) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter =
        opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(url).build()?;
    let batches = BatchConfigBuilder::default().with_scheduled_delay(EXPORT_INTERVAL).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let resource = Resource::builder()
        .with_service_name("bngd")
        .with_attributes([
            KeyValue::new("service.instance.id", node.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build();
    Ok(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build())
}

/// Middleware: the span of a request, part of the caller's trace when it sends `traceparent`.
///
/// The query is left out: it may hold credentials.
pub(crate) async fn traced(State(node): State<Arc<str>>, request: Request, next: Next) -> Response {
    let name = format!("{} {}", request.method(), request.uri().path());
    let span = tracing::info_span!(
        target: TARGET, "http.request",
        otel.name = name, otel.kind = "server", node = &*node,
        http.response.status_code = tracing::field::Empty,
    );
    let parent = request.headers().get("traceparent").map(HeaderValue::to_str);
    if let Some(Ok(parent)) = parent {
        set_parent(&span, parent);
    }
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}
