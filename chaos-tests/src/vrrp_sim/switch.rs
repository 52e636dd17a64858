//! A learning switch: the part of an access network that gratuitous frames are for.

use ether::{Frame, WireError};
use model::MacAddr;
use std::collections::BTreeMap;

/// What hangs on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Port {
    Speaker(usize),
    Host,
    Trunk,
}

#[derive(Clone, Debug)]
pub(super) struct Switch {
    ports: Vec<Port>,
    learned: BTreeMap<MacAddr, Port>,
}

impl Switch {
    pub(super) fn new(ports: Vec<Port>) -> Self {
        Self { ports, learned: BTreeMap::new() }
    }

    /// Learns the source and returns the ports that the frame leaves by.
    pub(super) fn forward(&mut self, from: Port, octets: &[u8]) -> Result<Vec<Port>, WireError> {
        let frame = Frame::parse(octets)?;
        self.learned.insert(frame.src, from);
        let known = self.learned.get(&frame.dst).copied().filter(|_| !frame.dst.is_multicast());
        Ok(match known {
            Some(port) if port == from => vec![],
            Some(port) => vec![port],
            None => self.ports.iter().copied().filter(|port| *port != from).collect(),
        })
    }

    /// Forgets what was learned on a port that lost its carrier.
    pub(super) fn carrier_lost(&mut self, port: Port) {
        self.learned.retain(|_, learned| *learned != port);
    }
}
