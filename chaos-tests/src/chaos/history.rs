//! Histories of registers, and whether they are linearizable.
//!
//! The rate of a session is a register: REST writes and linearizable reads of it, through random nodes,
//! are recorded with the times of their invocation and response. Every write has a value of its own,
//! and for such histories there is an exact test in polynomial time (Gibbons and Korach, "Testing shared
//! memories", 1997): take all operations of one value together; value *a* has to come before value *b*
//! when an operation of *a* had returned before one of *b* was invoked; the history is linearizable
//! unless two values each have to come before the other, or a read returned before its write began.
//! `stateright`'s tester, which tries orders one by one, judges the same in the tests of this module;
//! on histories of a whole run it would not come to an end.

use model::{SessionId, Tick};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What an operation did to its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Wrote a value that no other operation writes.
    Write,
    /// Read a value.
    Read,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) kind: Kind,
    pub(super) value: u64,
    pub(super) invoked: Tick,
    /// `None`: the outcome is unknown. A write may have been done, at any time since; a read tells nothing.
    pub(super) returned: Option<Tick>,
}

/// Why no order of the operations explains what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anomaly {
    /// A value was read that nobody wrote.
    NeverWritten {
        value: u64,
    },
    /// A value was read before it was written.
    FromTheFuture {
        value: u64,
    },
    /// Two values each have to come before the other: one was lost, or came back.
    Crossed {
        values: (u64, u64),
    },
    DoublyWritten {
        value: u64,
    },
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverWritten { value } => write!(f, "{value} was read, and nobody wrote it"),
            Self::FromTheFuture { value } => write!(f, "{value} was read before it was written"),
            Self::Crossed { values: (a, b) } => write!(
                f,
                "{a} was there before {b} and {b} before {a}: an acknowledged write was lost, or an old value came back"
            ),
            Self::DoublyWritten { value } => {
                write!(f, "{value} was written twice: the checker's own fault")
            }
        }
    }
}

/// All operations of one value.
#[derive(Clone, Copy)]
struct Zone {
    value: u64,
    /// When the first of them had returned.
    settled: Tick,
    /// When the last of them was invoked.
    renewed: Tick,
}

impl Zone {
    fn comes_before(&self, other: &Self) -> bool {
        self.settled < other.renewed
    }
}

/// Judges one register that held `initial` before all operations.
///
/// # Errors
/// The first anomaly.
pub(super) fn judge(initial: u64, ops: &[Op]) -> Result<(), Anomaly> {
    let mut writes = BTreeMap::from([(initial, (Tick::ZERO, Some(Tick::ZERO)))]);
    for op in ops.iter().filter(|op| op.kind == Kind::Write) {
        if writes.insert(op.value, (op.invoked, op.returned)).is_some() {
            return Err(Anomaly::DoublyWritten { value: op.value });
        }
    }
    // A read without an answer tells nothing.
    let reads = || {
        let read = |op: &Op| Some((op.value, op.invoked, op.returned?));
        ops.iter().filter(|op| op.kind == Kind::Read).filter_map(read)
    };
    let mut zones: BTreeMap<u64, Zone> = BTreeMap::new();
    for (value, (invoked, returned)) in &writes {
        // A write with unknown outcome that nobody has seen need not have happened. One that was seen
        // happened before the first answer that showed it.
        if let Some(settled) = *returned {
            zones.insert(*value, Zone { value: *value, settled, renewed: *invoked });
        }
    }
    for (value, invoked, returned) in reads() {
        let (written, _) = writes.get(&value).ok_or(Anomaly::NeverWritten { value })?;
        if returned < *written {
            return Err(Anomaly::FromTheFuture { value });
        }
        let fresh = Zone { value, settled: returned, renewed: *written };
        let zone = zones.entry(value).or_insert(fresh);
        zone.settled = zone.settled.min(returned);
        zone.renewed = zone.renewed.max(invoked);
    }
    let zones: Vec<Zone> = zones.into_values().collect();
    for (i, a) in zones.iter().enumerate() {
        if let Some(b) = zones[i + 1..].iter().find(|b| a.comes_before(b) && b.comes_before(a)) {
            return Err(Anomaly::Crossed { values: (a.value, b.value) });
        }
    }
    Ok(())
}

/// Registers and what was done to them.
#[derive(Debug, Default)]
pub(super) struct History {
    registers: BTreeMap<SessionId, Register>,
}

#[derive(Debug, Default)]
struct Register {
    initial: u64,
    ops: Vec<Op>,
}

/// How much a history holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) registers: usize,
    pub(super) writes: usize,
    pub(super) reads: usize,
    /// Writes with unknown outcome.
    pub(super) unknown: usize,
}

impl History {
    /// Begins a register.
    pub(super) fn begin(&mut self, register: SessionId, initial: u64) {
        self.registers.insert(register, Register { initial, ops: Vec::new() });
    }

    /// The registers.
    pub(super) fn keys(&self) -> Vec<SessionId> {
        self.registers.keys().copied().collect()
    }

    /// Adds an operation of a register that was begun; returns its place.
    pub(super) fn add(&mut self, register: SessionId, op: Op) -> usize {
        let ops = &mut self.registers.entry(register).or_default().ops;
        ops.push(op);
        ops.len() - 1
    }

    /// Notes the answer to an operation.
    pub(super) fn answer(&mut self, register: SessionId, place: usize, at: Tick) {
        let ops = self.registers.get_mut(&register).map(|r| &mut r.ops);
        if let Some(op) = ops.and_then(|ops| ops.get_mut(place)) {
            op.returned = Some(at);
        }
    }

    /// Judges every register.
    ///
    /// # Errors
    /// The first register with an anomaly, and the operations of the values in it.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        for (id, register) in &self.registers {
            if let Err(anomaly) = judge(register.initial, &register.ops) {
                anyhow::bail!(
                    "the rate of session {id} is not linearizable: {anomaly}{}",
                    register.told(anomaly)
                );
            }
        }
        Ok(())
    }

    /// Counts.
    pub(super) fn size(&self) -> Size {
        let mut size = Size { registers: self.registers.len(), ..Size::default() };
        for op in self.registers.values().flat_map(|r| &r.ops) {
            match (op.kind, op.returned) {
                (Kind::Write, Some(_)) => size.writes += 1,
                (Kind::Write, None) => size.unknown += 1,
                (Kind::Read, Some(_)) => size.reads += 1,
                (Kind::Read, None) => {}
            }
        }
        size
    }
}

impl Register {
    fn told(&self, anomaly: Anomaly) -> String {
        let (a, b) = match anomaly {
            Anomaly::NeverWritten { value }
            | Anomaly::FromTheFuture { value }
            | Anomaly::DoublyWritten { value } => (value, value),
            Anomaly::Crossed { values } => values,
        };
        let seconds = |at: Tick| Duration::from_nanos(at.as_ns()).as_secs_f64();
        let mut text = String::new();
        for op in self.ops.iter().filter(|op| op.value == a || op.value == b) {
            let returned = op.returned.map_or("?".into(), |at| format!("{:.4}", seconds(at)));
            text += &format!(
                "\n  {:?} {} from {:.4} to {returned} s",
                op.kind,
                op.value,
                seconds(op.invoked)
            );
        }
        text
    }
}

#[cfg(test)]
mod tests;
