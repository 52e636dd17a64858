//! Quorum leases: until when the owner of a redundancy group may forward and answer for it.
//!
//! Raft orders *who* owns a group (node and epoch); this protocol says *until when* it may act. It
//! does not pass through the Raft leader, so neither a dead leader nor a slow election interrupts a
//! healthy owner. Three engines without I/O, clock or randomness:
//!
//! - [`Voter`], on every Raft member: promises a group to one node at a time, for [`Timing::lease`].
//! - [`Holder`], on every data node: renews the groups that it owns and computes the fence.
//! - [`Sealer`], on the Raft leader: makes a quorum refuse an old epoch, and waits for it to lapse.
//!
//! # Why two fences are never open at once
//!
//! 1. *No voter has two live promises.* It refuses every other node while one runs; it drops one
//!    only for a [`Message::Release`] that its holder sent after its last renewal, and that holder
//!    had shut its fence before. A restarted voter promises nothing until all it may have
//!    forgotten has lapsed ([`Timing::quarantine`]).
//! 2. *An open fence lies within a majority's live promises.* It is counted from before the
//!    renewals left, and is shorter than the promise by more than clocks may differ ([`Timing`]).
//! 3. *Two majorities share a voter* if they belong to the same membership or to neighbours in the
//!    log, since one of two neighbours is joint. Memberships further apart: let `T` be the time at
//!    which the successor of the older one was committed. From then on a majority of the older one
//!    knows of the successor and says so, and no holder that lacks it may count them; so what was
//!    counted before ends by `T + L`. And a holder learns the newer one only after `T`, and opens
//!    no shut fence within `L(1+d)` of learning a membership. (One that is open may go on: were
//!    another fence open too, it would have been so at `T`, when both needed the same majority.)
//!
//! The third point asks of the driver: a [`Holder`] is given *committed* memberships, a [`Voter`]
//! the index of the newest one *in its log*, committed or not, before it hears the leader's
//! acknowledgement of it; and the leader leaves `L(1+d)` between two changes of the voters.

mod config;
mod error;
mod holder;
mod membership;
mod sealer;
mod voter;
mod wire;

pub use config::Timing;
pub use error::{TimingError, WireError};
pub use holder::{Event, Holder, LostReason, SENT_MAX};
pub use membership::Membership;
pub use sealer::{SealState, Sealer};
pub use voter::{GROUPS_MAX, Promise, Voter};
pub use wire::{Answer, GRANTS_MAX, Message, SealOutcome, WIRE_VERSION};
