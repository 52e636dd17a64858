//! Renewals as QUIC datagrams under the node certificates.
//!
//! Datagrams, since one lost TCP segment costs a retransmission longer than a lease. Each node dials
//! each other one; a message leaves on the connection that was heard from last, so the death of one
//! direction's connection never delays an answer.

use crate::clock;
use bytes::Bytes;
use model::{ClusterId, NodeId};
use quinn::congestion::{Controller, ControllerFactory};
use raft_store::Identity;
use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// Datagrams waiting for the actor; a flood beyond it is dropped, as on a full socket.
const INBOX_MAX: usize = 1024;
/// A connection silent for this long is dialled anew.
const IDLE: Duration = Duration::from_millis(1500);
/// How long one dial may take, and the pause before the next.
const DIAL_TIMEOUT: Duration = Duration::from_millis(400);
const DIAL_PAUSE: Duration = Duration::from_millis(50);

/// Who is to be dialled: id and lease address of every other voter.
pub type Peers = BTreeMap<NodeId, SocketAddr>;

/// The node's end of all lease connections.
pub(super) struct Transport {
    endpoint: quinn::Endpoint,
    links: Arc<Links>,
    inbox: mpsc::Receiver<(NodeId, Bytes)>,
    dialers: BTreeMap<NodeId, (SocketAddr, tokio::task::JoinHandle<()>)>,
    me: NodeId,
}

struct Links {
    cluster: ClusterId,
    latest: Mutex<BTreeMap<NodeId, quinn::Connection>>,
    inbox: mpsc::Sender<(NodeId, Bytes)>,
}

impl Transport {
    /// Binds `listen`; must run inside the runtime that will drive it.
    pub(super) fn bind(listen: SocketAddr, identity: &Identity) -> std::io::Result<Self> {
        let bad = |e: &dyn std::fmt::Display| std::io::Error::other(e.to_string());
        let tls = identity.rustls_server().map_err(|e| bad(&e))?;
        let server_tls = quinn::crypto::rustls::QuicServerConfig::try_from(with_alpn_server(&tls))
            .map_err(|e| bad(&e))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(server_tls));
        server.transport_config(transport_config());
        let client_tls = quinn::crypto::rustls::QuicClientConfig::try_from(with_alpn_client(
            &identity.rustls_client().map_err(|e| bad(&e))?,
        ))
        .map_err(|e| bad(&e))?;
        let mut client = quinn::ClientConfig::new(Arc::new(client_tls));
        client.transport_config(transport_config());
        let mut endpoint = quinn::Endpoint::server(server, listen)?;
        endpoint.set_default_client_config(client);
        let (tx, inbox) = mpsc::channel(INBOX_MAX);
        let links = Arc::new(Links {
            cluster: identity.cluster_id.clone(),
            latest: Mutex::new(BTreeMap::new()),
            inbox: tx,
        });
        tokio::spawn(accept(endpoint.clone(), links.clone()));
        Ok(Self { endpoint, links, inbox, dialers: BTreeMap::new(), me: identity.node })
    }

    /// Dials those that are new, forgets those that left.
    pub(super) fn set_peers(&mut self, peers: &Peers) {
        self.dialers.retain(|id, (addr, task)| {
            let keep = peers.get(id) == Some(addr);
            if !keep {
                task.abort();
            }
            keep
        });
        for (&id, &addr) in peers.iter().filter(|(id, _)| **id != self.me) {
            if !self.dialers.contains_key(&id) {
                let task = tokio::spawn(dial(self.endpoint.clone(), id, addr, self.links.clone()));
                self.dialers.insert(id, (addr, task));
            }
        }
    }

    /// Sends if a connection is up; a lost datagram is no error here.
    pub(super) fn send(&self, to: NodeId, message: Vec<u8>) {
        let link = self.links.latest().get(&to).cloned();
        if let Some(link) = link
            && let Err(error) = link.send_datagram(Bytes::from(message))
        {
            debug!(%to, %error, "lease datagram not sent");
        }
    }

    pub(super) async fn recv(&mut self) -> Option<(NodeId, Bytes)> {
        self.inbox.recv().await
    }
}

impl Links {
    fn latest(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, quinn::Connection>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one connection until it ends.
    async fn serve(&self, peer: NodeId, link: &quinn::Connection) {
        self.latest().insert(peer, link.clone());
        while let Ok(datagram) = link.read_datagram().await {
            {
                let mut latest = self.latest();
                if latest.get(&peer).is_none_or(|l| l.stable_id() != link.stable_id()) {
                    latest.insert(peer, link.clone());
                }
            }
            if self.inbox.try_send((peer, datagram)).is_err() {
                debug!(%peer, "lease inbox full, datagram dropped");
            }
        }
        let mut latest = self.latest();
        if latest.get(&peer).is_some_and(|l| l.stable_id() == link.stable_id()) {
            latest.remove(&peer);
        }
    }

    /// The peer's id from its certificate, `None` when it belongs to another cluster.
    fn peer_of(&self, link: &quinn::Connection) -> Option<NodeId> {
        let certs = link
            .peer_identity()?
            .downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>()
            .ok()?;
        let (cluster, node) = raft_store::peer_node_id(certs.first()?)?;
        (cluster == self.cluster).then_some(node)
    }
}

async fn accept(endpoint: quinn::Endpoint, links: Arc<Links>) {
    while let Some(incoming) = endpoint.accept().await {
        let links = links.clone();
        tokio::spawn(async move {
            let Ok(link) = incoming.await else { return };
            match links.peer_of(&link) {
                Some(peer) => links.serve(peer, &link).await,
                None => {
                    warn!(from = %link.remote_address(), "lease connection from no member of this cluster")
                }
            }
        });
    }
}

async fn dial(endpoint: quinn::Endpoint, peer: NodeId, addr: SocketAddr, links: Arc<Links>) {
    let name = raft_store::node_name(&links.cluster, peer);
    loop {
        let attempt = async {
            match endpoint.connect(addr, &name) {
                Ok(connecting) => connecting.await.map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            }
        };
        match tokio::time::timeout(DIAL_TIMEOUT, attempt).await {
            Ok(Ok(link)) if links.peer_of(&link) == Some(peer) => {
                info!(%peer, %addr, "lease connection up");
                links.serve(peer, &link).await;
                info!(%peer, %addr, "lease connection down");
            }
            Ok(Ok(_)) => warn!(%peer, %addr, "another node answers at the peer's lease address"),
            Ok(Err(error)) => debug!(%peer, %addr, error, "lease dial failed"),
            Err(_) => debug!(%peer, %addr, "lease dial timed out"),
        }
        clock::until(Some(clock::now() + DIAL_PAUSE)).await;
    }
}

fn transport_config() -> Arc<quinn::TransportConfig> {
    let mut t = quinn::TransportConfig::default();
    t.max_idle_timeout(Some(IDLE.try_into().expect("1.5 s fits a QUIC varint")))
        .keep_alive_interval(Some(Duration::from_millis(300)))
        .initial_rtt(Duration::from_millis(20))
        .datagram_receive_buffer_size(Some(256 * 1024))
        .datagram_send_buffer_size(64 * 1024)
        .max_concurrent_bidi_streams(0u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .congestion_controller_factory(Arc::new(NoWindow));
    Arc::new(t)
}

/// Lets every datagram out at once.
///
/// A renewal is a hundred octets each 25 ms, and useless when it waits: after an outage a real
/// controller would hold renewals back until the lost ones are declared lost.
struct NoWindow;

impl ControllerFactory for NoWindow {
    fn build(self: Arc<Self>, _now: Instant, _mtu: u16) -> Box<dyn Controller> {
        Box::new(OpenWindow)
    }
}

#[derive(Clone, Debug)]
struct OpenWindow;

impl Controller for OpenWindow {
    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        _persistent: bool,
        _lost: u64,
    ) {
    }

    fn on_mtu_update(&mut self, _mtu: u16) {}

    fn window(&self) -> u64 {
        1 << 24
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        1 << 24
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

const ALPN: &[u8] = b"tandem-lease/1";

fn with_alpn_server(tls: &Arc<rustls::ServerConfig>) -> rustls::ServerConfig {
    let mut tls = tls.as_ref().clone();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.max_early_data_size = u32::MAX;
    tls
}

fn with_alpn_client(tls: &Arc<rustls::ClientConfig>) -> rustls::ClientConfig {
    let mut tls = tls.as_ref().clone();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls
}
