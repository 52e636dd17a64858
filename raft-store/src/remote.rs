//! A tool's way into a running cluster, in the name of a member whose keys it may read.

use crate::command::{Command, Reply};
use crate::identity::Identity;
use crate::net::{Lane, Peers, was_never_sent, within};
use crate::raft::wire::proto::{self, propose_result::Outcome};
use crate::store::{CallError, Committed, ProposeError, RaftTiming};
use model::{NodeId, Revision};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// Pause before all nodes are asked again for the leader.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Proposes and asks without a store of its own. It holds no state and takes no part in Raft.
#[derive(Debug)]
pub struct Remote {
    peers: Peers,
    nodes: Vec<(NodeId, SocketAddr)>,
    retry_after: Duration,
}

impl Remote {
    /// Speaks to `nodes` as the member that `identity` names.
    ///
    /// # Errors
    /// What of the identity cannot be sent.
    pub fn new(
        identity: Identity,
        timing: &RaftTiming,
        nodes: Vec<(NodeId, SocketAddr)>,
    ) -> Result<Self, String> {
        let peers = Peers::new(identity, timing)?;
        Ok(Self { peers, nodes, retry_after: timing.election_max })
    }

    /// Proposes a command to whichever node leads.
    ///
    /// `client` makes the tries one: the command is applied once, however often the leader changes.
    ///
    /// # Errors
    /// [`ProposeError::NoLeader`] when no node took it in time, [`ProposeError::Timeout`] when one did
    /// and gave no answer.
    pub async fn propose(
        &self,
        command: &Command,
        client: (u64, u64),
        limit: Duration,
    ) -> Result<Committed, ProposeError> {
        let deadline = Instant::now() + limit;
        let mut perhaps = false;
        loop {
            for (node, addr) in &self.nodes {
                match self.try_one(*node, *addr, command, client, deadline).await {
                    Some(Outcome::Committed(done)) => return committed(&done),
                    Some(Outcome::Invalid(text)) => {
                        let reply = Reply::Refused(crate::Refusal::Invalid(text));
                        return Ok(Committed { revision: Revision(0), reply });
                    }
                    Some(Outcome::Unknown(_)) => perhaps = true,
                    Some(Outcome::NotLeader(_)) | None => {}
                }
            }
            if Instant::now() + RETRY_PAUSE >= deadline {
                let retry_after = self.retry_after;
                let nobody = ProposeError::NoLeader { retry_after };
                return Err(if perhaps { ProposeError::Timeout } else { nobody });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// One try; `None` when the node was surely not reached.
    async fn try_one(
        &self,
        node: NodeId,
        addr: SocketAddr,
        command: &Command,
        (id, sequence): (u64, u64),
        deadline: Instant,
    ) -> Option<Outcome> {
        let left = deadline.saturating_duration_since(Instant::now());
        let proposal = proto::Proposal {
            command: command.encode(),
            client: Some(proto::Client { id, sequence }),
            trace: None,
        };
        let deadline_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let request = proto::ProposeRequest { proposals: vec![proposal], deadline_ms };
        let mut client = self.peers.client(node.0, &addr.to_string(), Lane::Forward).ok()?;
        match within(left, client.propose(request)).await {
            Ok(reply) => reply.results.into_iter().next()?.outcome,
            Err(status) if was_never_sent(&status) => None,
            Err(_) => Some(Outcome::Unknown(true)),
        }
    }

    /// Asks the request handler of one node.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(
        &self,
        node: NodeId,
        kind: &str,
        payload: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let addr = self.nodes.iter().find(|(id, _)| *id == node).map(|(_, addr)| addr);
        let addr = addr.ok_or(CallError::UnknownNode(node))?.to_string();
        let failed = |status: Status| CallError::Unreachable { node, reason: status.to_string() };
        let mut client = self.peers.client(node.0, &addr, Lane::Forward).map_err(failed)?;
        let request = proto::CallRequest { kind: kind.to_owned(), payload };
        let reply = within(limit, client.call(request)).await.map_err(failed)?;
        match reply.outcome {
            Some(proto::call_reply::Outcome::Payload(octets)) => Ok(octets),
            Some(proto::call_reply::Outcome::Error(text)) => Err(CallError::Refused(text)),
            None => Err(CallError::Refused("an answer without content".to_owned())),
        }
    }
}

fn committed(done: &proto::Committed) -> Result<Committed, ProposeError> {
    match Reply::decode(&done.reply) {
        Ok(reply) => Ok(Committed { revision: Revision(done.revision), reply }),
        Err(error) => {
            tracing::error!(%error, "the leader's reply cannot be read");
            Err(ProposeError::Timeout)
        }
    }
}
