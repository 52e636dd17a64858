//! One trace from the request to the kernels, as an OpenTelemetry collector gets it.

use crate::events::dial;
use crate::trio::{Trio, eventually};
use api::types::RateRequest;
use node::telemetry;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(|r| r.scope_spans);
        self.0.lock().unwrap().extend(spans.flat_map(|s| s.spans));
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(self.clone()))
            .serve_with_incoming(incoming);
        tokio::spawn(server);
        url
    }

    fn named(&self, name: &str) -> Vec<Span> {
        let spans = self.0.lock().unwrap();
        spans.iter().filter(|s| s.name == name).cloned().collect()
    }
}

/// The number in the attribute `node`.
fn node(span: &Span) -> u64 {
    let found = span.attributes.iter().find(|a| a.key == "node").unwrap();
    let value = found.value.as_ref().and_then(|v| v.value.as_ref());
    // OTLP has no unsigned numbers.
    let Some(Value::StringValue(node)) = value else { panic!("{value:?}") };
    node.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_holds_the_request_the_leader_every_member_and_the_kernels() {
    let collector = Collector::default();
    let otlp = Some(collector.listen().await);
    let settings =
        telemetry::Settings { filter: "error".into(), json: false, otlp, node: "test".into() };
    let _guard = telemetry::init(&settings).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let trio = Trio::start(dir.path()).await;
    let id = dial(&trio, 1..2).await[0];

    // Asked is a node that does not lead, so that the proposal travels.
    let leader = eventually("a leader", || trio.leader()).await;
    let asked = trio.members().position(|m| m.local.me != leader).unwrap();
    let request = RateRequest { rate_down: 1_000_000, rate_up: 1_000_000 };
    trio.client(asked).set_rate(id, &request).await.unwrap();

    let name = format!("PUT /api/v1/subscribers/{id}/rate");
    let root = eventually("the span of the request", || collector.named(&name).pop()).await;
    assert!(root.parent_span_id.is_empty());
    let part = |name: &'static str, count: usize| {
        let collector = collector.clone();
        let trace = root.trace_id.clone();
        async move {
            let of_trace = || {
                let spans: Vec<Span> =
                    collector.named(name).into_iter().filter(|s| s.trace_id == trace).collect();
                (spans.len() >= count).then_some(spans)
            };
            let spans = eventually(name, of_trace).await;
            assert_eq!(spans.len(), count, "{name}");
            spans
        }
    };
    let number = |n: model::NodeId| n.0;
    let propose = part("raft.propose", 1).await.remove(0);
    let asked = trio.members().nth(asked).unwrap().local.me;
    assert_eq!((&propose.parent_span_id, node(&propose)), (&root.span_id, number(asked)));
    let replicate = part("raft.replicate", 1).await.remove(0);
    assert_eq!((&replicate.parent_span_id, node(&replicate)), (&propose.span_id, number(leader)));
    let nodes = |spans: &[Span]| spans.iter().map(node).collect::<BTreeSet<u64>>();
    let all: BTreeSet<u64> = trio.members().map(|m| number(m.local.me)).collect();
    let applied = part("raft.apply", 3).await;
    assert_eq!(nodes(&applied), all);
    let data = trio.members().filter(|m| m.local.programmed.is_some());
    let data: BTreeSet<u64> = data.map(|m| number(m.local.me)).collect();
    let programmed = part("kernel.program", 2).await;
    assert_eq!(nodes(&programmed), data);
    for span in applied.iter().chain(&programmed) {
        assert_eq!(span.parent_span_id, replicate.span_id, "{}", span.name);
    }
    let dials = collector.0.lock().unwrap().iter().any(|s| {
        s.name == "raft.propose"
            && s.attributes.iter().any(|a| {
                let text = a.value.as_ref().and_then(|v| v.value.as_ref());
                a.key == "command" && text == Some(&Value::StringValue("sessions".into()))
            })
    });
    assert!(!dials, "a dial-in belongs to no request and is not traced");
}
