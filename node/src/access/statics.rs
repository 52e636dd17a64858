//! Sources without a protocol: where static subscribers are, and who waits to be let in.

use super::engine::{Counters, Pending, Wire};
use crate::proposer::OpOutcome;
use crate::waiting::WaitingList;
use model::{Attachment, SessionKind, StaticSession, Tick, UnixMs};
use raft_store::{OpReply, SessionOp, State};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// An address moves at most this often: two stations that both claim it must not fill the log.
const MOVE_PAUSE: Duration = Duration::from_secs(5);
/// Moves remembered; beyond it nobody moves until the oldest is forgotten.
const MOVES_MAX: usize = 4096;
/// Places proposed at one time; more are learnt from later frames.
const PENDING_MAX: usize = 256;

/// Learns where static subscribers are, and notes sources that are nobody's.
pub(super) struct StaticAccess {
    waiting: Arc<WaitingList>,
    counters: Arc<Counters>,
    /// Addresses whose place is on its way into the log.
    pending: BTreeMap<Ipv4Addr, Attachment>,
    /// When an address last moved from one place to another.
    moved: BTreeMap<Ipv4Addr, Tick>,
}

impl StaticAccess {
    pub(super) fn new(waiting: Arc<WaitingList>, counters: Arc<Counters>) -> Self {
        Self { waiting, counters, pending: BTreeMap::new(), moved: BTreeMap::new() }
    }

    /// Consumes a source address with where it was heard.
    pub(super) fn on_source(
        &mut self,
        wire: &mut Wire,
        address: Ipv4Addr,
        from: Attachment,
        state: &State,
        now: Tick,
        wall: UnixMs,
    ) {
        if from.mac.is_multicast() || !from.is_known() || from.mac == wire.vmac {
            return self.counters.add("source_refused", "not_a_station");
        }
        let Some(session) = state.session_by_address(address) else {
            let here = state.ipoe_pool_of(address).is_some_and(|pool| pool.group == wire.group);
            if here && state.reserved_for(address).is_none() {
                self.waiting.note(wire.group, address, from, now, wall);
            } else {
                self.counters.add("source_refused", "outside");
            }
            return;
        };
        if session.group == wire.group && session.attachment == from {
            return;
        }
        let SessionKind::Static(fixed) = session.kind else {
            return self.counters.add("source_refused", "held_by_another");
        };
        if session.group != wire.group {
            return self.counters.add("source_refused", "other_group");
        }
        self.learn(wire, address, from, session.attachment, fixed, now);
    }

    fn learn(
        &mut self,
        wire: &mut Wire,
        address: Ipv4Addr,
        from: Attachment,
        was: Attachment,
        fixed: StaticSession,
        now: Tick,
    ) {
        if !fixed.admits(&from) {
            return self.counters.add("source_refused", "bound_elsewhere");
        }
        if self.pending.contains_key(&address) {
            return;
        }
        if self.pending.len() >= PENDING_MAX {
            return self.counters.add("source_refused", "busy");
        }
        if was.is_known() && !self.may_move(address, now) {
            return self.counters.add("source_refused", "moves_too_often");
        }
        self.pending.insert(address, from);
        let op = SessionOp::StaticSeen { address, attachment: from };
        wire.propose(Pending::StaticSeen { address }, op);
    }

    /// Whether an address may move now; if so, it has.
    fn may_move(&mut self, address: Ipv4Addr, now: Tick) -> bool {
        if self.moved.get(&address).is_some_and(|at| now.since(*at) < MOVE_PAUSE) {
            return false;
        }
        if self.moved.len() >= MOVES_MAX {
            self.moved.retain(|_, at| now.since(*at) < MOVE_PAUSE);
            if self.moved.len() >= MOVES_MAX {
                return false;
            }
        }
        self.moved.insert(address, now);
        true
    }

    /// Consumes what became of a place that was proposed. When it did not get into the log, a later
    /// frame proposes it again.
    pub(super) fn on_outcome(&mut self, address: Ipv4Addr, outcome: &OpOutcome) {
        self.pending.remove(&address);
        match outcome {
            OpOutcome::Committed(OpReply::Session(_)) => self.counters.add("static", "learnt"),
            OpOutcome::Committed(OpReply::Refused(refusal)) => {
                self.counters.add("session_refused", refusal.label());
            }
            OpOutcome::Committed(OpReply::Done) | OpOutcome::Unknown => {
                self.counters.add("static", "unknown");
            }
        }
    }
}
