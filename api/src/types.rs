//! Bodies of requests and answers.
//!
//! Requests refuse unknown fields, so that a typing error is not a silently ignored wish. Answers
//! do not: a client may be older than the node it asks.

mod auth;
mod cluster;
pub mod config;
mod envelope;
pub mod event;
mod init;
pub mod network;
pub mod policy;
pub mod purenas;
mod subscriber;
mod system;
pub mod webhook;

pub use auth::{
    ApiKeyCreated, ApiKeyInfo, ApiKeyList, ApiKeyRequest, AuditEntry, AuditList, AuditQuery,
    AuthSettings, AuthSettingsUpdate, ChallengeAnswer, CodeRequest, CredentialKind, Deleted,
    LoginAnswer, LoginRequest, LogoutRequest, Me, MessageAnswer, PermissionInfo, PermissionList,
    RefreshRequest, RegisterRequest, RoleCreate, RoleInfo, RoleList, RoleUpdate, StreamTicket,
    TokenAnswer, TokenPair, TotpLoginRequest, TotpSetup, UserCreate, UserInfo, UserList,
    UserUpdate,
};
pub use cluster::{
    AdmitRequest, AdmitResponse, ClusterStatus, FailoverRequest, FailoverResponse, GroupList,
    GroupNodeStatus, GroupStatus, InitResponse, JoinRequest, JoinResponse, JoinToken,
    JoinTokenRequest, Member, MemberList, NodeStatus, RaftState, RemovedMember, SessionCounts,
};
pub use config::Configuration;
pub use envelope::{Envelope, ErrorBody, ErrorStatus, FieldError, OkStatus};
pub use init::{
    AdminInit, GroupInit, GroupPlan, InitPlan, InitRequest, NatInit, PoolInit, RateInit,
    SubscriberInit,
};
pub use subscriber::{
    Disconnected, NatBlockInfo, RateChanged, RateRequest, SessionType, SubscriberDetail,
    SubscriberList, SubscriberQuery, SubscriberSummary, SubscriberTotals,
};
pub use system::{Health, HealthStatus, Version};

/// The largest rate that is accepted, in bits per second; more is a slip of the pen.
pub(crate) const RATE_BPS_MAX: u64 = 1_000_000_000_000;
