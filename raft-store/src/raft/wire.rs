//! Raft's messages as protobuf, and back. Whatever arrives is checked; a missing field is an error, never a default.

use super::{
    CommittedLeaderId, LogEntry, LogId, LogPayload, Membership, Payload, StoredMembership, Vote,
};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId as _;
use openraft::{BasicNode, EntryPayload};
use std::collections::{BTreeMap, BTreeSet};

/// Generated from `proto/raft.proto`.
pub(crate) mod proto {
    #![allow(
        clippy::all,
        clippy::too_many_lines,
        missing_docs,
        unreachable_pub,
        reason = "generated code: its documentation is the .proto file"
    )]

    tonic::include_proto!("tandem.raft.v1");
}

type StreamResult = Result<Option<LogId>, StreamAppendError<super::TypeConfig>>;

/// A message lacks something, or contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the message has no {0}")]
    Missing(&'static str),
    #[error("membership: {0}")]
    Membership(String),
    #[error("message: {0}")]
    Decode(#[from] prost::DecodeError),
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderId { term }, index }
}

impl From<LogId> for proto::LogId {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

impl From<proto::LogId> for LogId {
    fn from(id: proto::LogId) -> Self {
        log_id(id.term, id.index)
    }
}

impl From<Vote> for proto::Vote {
    fn from(vote: Vote) -> Self {
        let leader = vote.leader_id;
        Self { term: leader.term, node: leader.voted_for, committed: vote.committed }
    }
}

impl From<proto::Vote> for Vote {
    fn from(vote: proto::Vote) -> Self {
        let leader_id = super::LeaderId::new(vote.term, vote.node);
        Self { leader_id, committed: vote.committed }
    }
}

pub(crate) fn need_vote(vote: Option<proto::Vote>) -> Result<Vote, WireError> {
    vote.map(Into::into).ok_or(WireError::Missing("vote"))
}

impl From<&Membership> for proto::Membership {
    fn from(m: &Membership) -> Self {
        let ids = |set: &BTreeSet<u64>| proto::VoterSet { ids: set.iter().copied().collect() };
        Self {
            configs: m.get_joint_config().iter().map(ids).collect(),
            members: m
                .nodes()
                .map(|(id, node)| proto::Member { id: *id, addr: node.addr.clone() })
                .collect(),
        }
    }
}

impl TryFrom<proto::Membership> for Membership {
    type Error = WireError;

    fn try_from(m: proto::Membership) -> Result<Self, WireError> {
        if m.configs.is_empty() && m.members.is_empty() {
            return Ok(Self::default());
        }
        let nodes: BTreeMap<u64, BasicNode> =
            m.members.into_iter().map(|n| (n.id, BasicNode::new(n.addr))).collect();
        let configs = m.configs.into_iter().map(|set| set.ids.into_iter().collect()).collect();
        Self::new(configs, nodes).map_err(|e| WireError::Membership(e.to_string()))
    }
}

impl From<&StoredMembership> for proto::StoredMembership {
    fn from(m: &StoredMembership) -> Self {
        Self { id: m.log_id().map(Into::into), membership: Some(m.membership().into()) }
    }
}

impl TryFrom<proto::StoredMembership> for StoredMembership {
    type Error = WireError;

    fn try_from(m: proto::StoredMembership) -> Result<Self, WireError> {
        let membership = m.membership.ok_or(WireError::Missing("membership"))?.try_into()?;
        Ok(Self::new(m.id.map(Into::into), membership))
    }
}

impl From<LogEntry> for proto::LogEntry {
    fn from(entry: LogEntry) -> Self {
        let payload = match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(Payload(octets)) => {
                Some(proto::log_entry::Payload::Normal(octets.to_vec()))
            }
            EntryPayload::Membership(m) => Some(proto::log_entry::Payload::Membership((&m).into())),
        };
        Self { id: Some(entry.log_id.into()), payload }
    }
}

impl proto::LogEntry {
    /// The entry for openraft. Not `TryFrom`: openraft's entry type has a blanket conversion.
    pub(crate) fn into_entry(self) -> Result<LogEntry, WireError> {
        let entry = self;
        let log_id = entry.id.ok_or(WireError::Missing("log id"))?.into();
        let payload = match entry.payload {
            None => LogPayload::Blank,
            Some(proto::log_entry::Payload::Normal(octets)) => {
                LogPayload::Normal(Payload(octets.into()))
            }
            Some(proto::log_entry::Payload::Membership(m)) => LogPayload::Membership(m.try_into()?),
        };
        Ok(LogEntry { log_id, payload })
    }
}

impl From<AppendEntriesRequest<super::TypeConfig>> for proto::AppendRequest {
    fn from(request: AppendEntriesRequest<super::TypeConfig>) -> Self {
        Self {
            vote: Some(request.vote.into()),
            prev: request.prev_log_id.map(Into::into),
            entries: request.entries.into_iter().map(Into::into).collect(),
            commit: request.leader_commit.map(Into::into),
        }
    }
}

impl TryFrom<proto::AppendRequest> for AppendEntriesRequest<super::TypeConfig> {
    type Error = WireError;

    fn try_from(request: proto::AppendRequest) -> Result<Self, WireError> {
        Ok(Self {
            vote: need_vote(request.vote)?,
            prev_log_id: request.prev.map(Into::into),
            entries: request
                .entries
                .into_iter()
                .map(proto::LogEntry::into_entry)
                .collect::<Result<_, _>>()?,
            leader_commit: request.commit.map(Into::into),
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is an argument of map")]
pub(crate) fn append_reply(result: StreamResult) -> proto::AppendReply {
    use proto::append_reply::Result as R;
    let result = match result {
        Ok(id) => R::Matched(proto::Matched { id: id.map(Into::into) }),
        Err(StreamAppendError::Conflict(id)) => R::Conflict(id.into()),
        Err(StreamAppendError::HigherVote(vote)) => R::HigherVote(vote.into()),
    };
    proto::AppendReply { result: Some(result) }
}

pub(crate) fn append_result(reply: proto::AppendReply) -> Result<StreamResult, WireError> {
    use proto::append_reply::Result as R;
    Ok(match reply.result.ok_or(WireError::Missing("result"))? {
        R::Matched(m) => Ok(m.id.map(Into::into)),
        R::Conflict(id) => Err(StreamAppendError::Conflict(id.into())),
        R::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
    })
}

impl From<VoteRequest<super::TypeConfig>> for proto::VoteRequest {
    fn from(request: VoteRequest<super::TypeConfig>) -> Self {
        Self {
            vote: Some(request.vote.into()),
            last: request.last_log_id.map(Into::into),
            leadership_transfer: request.leadership_transfer,
        }
    }
}

impl TryFrom<proto::VoteRequest> for VoteRequest<super::TypeConfig> {
    type Error = WireError;

    fn try_from(request: proto::VoteRequest) -> Result<Self, WireError> {
        let vote = need_vote(request.vote)?;
        let mut out = Self::new(vote, request.last.map(Into::into));
        out.leadership_transfer = request.leadership_transfer;
        Ok(out)
    }
}

impl From<VoteResponse<super::TypeConfig>> for proto::VoteReply {
    fn from(reply: VoteResponse<super::TypeConfig>) -> Self {
        Self {
            vote: Some(reply.vote.into()),
            granted: reply.vote_granted,
            last: reply.last_log_id.map(Into::into),
        }
    }
}

impl TryFrom<proto::VoteReply> for VoteResponse<super::TypeConfig> {
    type Error = WireError;

    fn try_from(reply: proto::VoteReply) -> Result<Self, WireError> {
        let vote = need_vote(reply.vote)?;
        Ok(Self::new(vote, reply.last.map(Into::into), reply.granted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn an_append_request_survives_the_wire() {
        let voters = BTreeSet::from([1, 2, 3]);
        let nodes: BTreeMap<u64, BasicNode> =
            (1..=4).map(|n| (n, BasicNode::new(format!("10.0.0.{n}:7000")))).collect();
        let joint = Membership::new(vec![voters, BTreeSet::from([1, 2, 4])], nodes).unwrap();
        let entries: Vec<LogEntry> = vec![
            LogEntry { log_id: log_id(2, 5), payload: LogPayload::Blank },
            LogEntry {
                log_id: log_id(3, 6),
                payload: LogPayload::Normal(Payload(b"octets".as_slice().into())),
            },
            LogEntry { log_id: log_id(3, 7), payload: LogPayload::Membership(joint) },
        ];
        let request = AppendEntriesRequest::<super::super::TypeConfig> {
            vote: Vote::new_committed(3, 1),
            prev_log_id: Some(log_id(2, 4)),
            entries: entries.clone(),
            leader_commit: None,
        };
        let octets = proto::AppendRequest::from(request.clone()).encode_to_vec();
        let back: AppendEntriesRequest<_> =
            proto::AppendRequest::decode(octets.as_slice()).unwrap().try_into().unwrap();
        assert_eq!(back.vote, request.vote);
        assert_eq!(back.prev_log_id, request.prev_log_id);
        assert_eq!(back.leader_commit, None);
        assert_eq!(format!("{:?}", back.entries), format!("{entries:?}"));
    }

    #[test]
    fn a_message_without_what_it_needs_is_refused() {
        let empty = proto::AppendRequest::default();
        let refused = AppendEntriesRequest::try_from(empty).unwrap_err();
        assert_eq!(refused, WireError::Missing("vote"));
        let stranger = proto::Membership {
            configs: vec![proto::VoterSet { ids: vec![1, 2] }],
            members: vec![proto::Member { id: 1, addr: String::new() }],
        };
        assert!(matches!(Membership::try_from(stranger), Err(WireError::Membership(_))));
        assert!(append_result(proto::AppendReply::default()).is_err());
    }
}
