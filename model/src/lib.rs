//! Plain domain types shared by every crate: ids, addresses, time, groups, pools, sessions, policy.
//!
//! Nothing here does I/O, reads a clock or depends on another crate of the workspace.

mod addr;
mod document;
mod domain;
mod id;
mod policy;
mod secret;
mod time;

pub use addr::{Ipv4Range, MacAddr, ParseMacError, ParseRangeError, PortId, Vlans};
pub use document::{Collection, CollectionLimits, WhenFull};
pub use domain::{
    ApiRole, ApiUser, Attachment, DhcpSession, DownReason, Fence, Group, GroupService, NatBlock,
    NatPool, Node, NodeRole, Pool, PppoeSession, Rate, Session, SessionKind, Subscriber, Totp,
};
pub use id::{ClusterId, Epoch, GroupId, NodeId, Revision, SessionId};
pub use policy::{Ban, BanScope, Ipv4Net, Line, ParseNetError, StaticSession};
pub use secret::Secret;
pub use time::{Tick, UnixMs};
