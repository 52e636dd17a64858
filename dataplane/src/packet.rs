use crate::clock::{boottime_now, realtime_ns};
use crate::sys::{self, CbpfInsn, MACS_OCTETS, PacketOption, RawReceived, TAG_OCTETS};
use model::Tick;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Receive queue of a socket, in octets: some 8,000 PADI at once after a power cut in a quarter.
const RECEIVE_BUFFER_OCTETS: i32 = 16 << 20;
/// Send queue of a socket, in octets.
const SEND_BUFFER_OCTETS: i32 = 4 << 20;
/// The smallest buffer that [`PacketSocket::recv`] takes: two addresses and a tag.
const BUFFER_OCTETS_MIN: usize = MACS_OCTETS + TAG_OCTETS;

/// A received frame: the octets lie at the start of the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Octets of the frame, its outer VLAN tag included; cut to the buffer.
    pub len: usize,
    /// When the kernel got it, on the clock of [`boottime_now`]; see [`PacketSocket::stamp`].
    pub at: Option<Tick>,
    /// Whether this host sent it.
    pub outgoing: bool,
}

/// A raw Ethernet socket on one interface, for the control frames that the daemon answers itself.
///
/// Frames go out through the egress program of the interface like any other, so a shut fence
/// also stops what is sent here.
#[derive(Debug)]
pub struct PacketSocket {
    fd: AsyncFd<OwnedFd>,
}

impl PacketSocket {
    /// Opens a socket for the control frames of an access port, at any VLAN depth: PPPoE discovery,
    /// PPPoE session frames with a control protocol (0x8000 and above, RFC 1661 §2), ARP, and UDP
    /// to port 67. All others stay in the kernel.
    ///
    /// # Errors
    /// When the interface does not exist, or the process lacks `CAP_NET_RAW`.
    pub fn open_access(interface: &str) -> io::Result<Self> {
        Self::open(interface, Some(&ACCESS_FILTER), Outgoing::Ignore)
    }

    /// Opens a socket for the ARP frames of a core interface.
    ///
    /// # Errors
    /// As [`open_access`](Self::open_access).
    pub fn open_core(interface: &str) -> io::Result<Self> {
        Self::open(interface, Some(&ARP_FILTER), Outgoing::Ignore)
    }

    /// Opens a socket for everything that arrives, promiscuous: for simulated subscribers.
    ///
    /// # Errors
    /// As [`open_access`](Self::open_access).
    pub fn open_all(interface: &str) -> io::Result<Self> {
        let socket = Self::open(interface, None, Outgoing::Ignore)?;
        socket.promiscuous(interface)?;
        Ok(socket)
    }

    /// Opens a socket for everything that arrives or leaves, promiscuous: for captures.
    ///
    /// # Errors
    /// As [`open_access`](Self::open_access).
    pub fn open_capture(interface: &str) -> io::Result<Self> {
        let socket = Self::open(interface, None, Outgoing::Deliver)?;
        socket.promiscuous(interface)?;
        Ok(socket)
    }

    fn open(interface: &str, filter: Option<&[CbpfInsn]>, outgoing: Outgoing) -> io::Result<Self> {
        // Protocol 0 keeps the socket deaf until the filter is in place.
        let fd = sys::packet_socket()?;
        sys::set_packet_option(&fd, PacketOption::Auxdata)?;
        sys::set_packet_option(&fd, PacketOption::ReceiveBuffer(RECEIVE_BUFFER_OCTETS))?;
        sys::set_packet_option(&fd, PacketOption::SendBuffer(SEND_BUFFER_OCTETS))?;
        if outgoing == Outgoing::Ignore {
            sys::set_packet_option(&fd, PacketOption::IgnoreOutgoing)?;
        }
        if let Some(filter) = filter {
            sys::attach_filter(&fd, filter)?;
        }
        sys::bind_packet(&fd, interface)?;
        Ok(Self { fd: sys::register(fd)? })
    }

    fn promiscuous(&self, interface: &str) -> io::Result<()> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        sys::set_packet_option(self.fd.get_ref(), PacketOption::Promiscuous(index))
    }

    /// Makes each [`Received::at`] carry the kernel's time of arrival.
    ///
    /// # Errors
    /// When the kernel refuses the socket option.
    pub fn stamp(&self) -> io::Result<()> {
        sys::set_packet_option(self.fd.get_ref(), PacketOption::Timestamps)
    }

    /// Receives one whole Ethernet frame, with the outer tag back in its place.
    ///
    /// # Errors
    /// The socket's error, such as `ENETDOWN` once after the interface went down; receiving can go on.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.fd.async_io(Interest::READABLE, |fd| receive(fd, buf)).await
    }

    /// As [`recv`](Self::recv), without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when no frame is queued, else as [`recv`](Self::recv).
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        receive(self.fd.get_ref(), buf)
    }

    /// Waits for frames and receives as many as are queued, one into each buffer, at most 64.
    /// Fills `out` and returns its length.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn recv_batch(
        &self,
        bufs: &mut [Vec<u8>],
        out: &mut Vec<Received>,
    ) -> io::Result<usize> {
        self.fd.async_io(Interest::READABLE, |fd| receive_batch(fd, bufs, out)).await
    }

    /// Sends one whole Ethernet frame, tags included, without waiting.
    ///
    /// The egress program may still drop it without an error here: a shut fence is silent.
    ///
    /// # Errors
    /// `WouldBlock` when the queue is full, `ENETDOWN`, `EMSGSIZE` above the interface's MTU.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        match sys::send(self.fd.as_raw_fd(), frame) {
            // The qdisc dropped it, as a wire may.
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            other => other,
        }
    }

    /// Sends one frame and waits while the queue is full.
    ///
    /// # Errors
    /// As [`send`](Self::send), without `WouldBlock`.
    pub async fn send_async(&self, frame: &[u8]) -> io::Result<()> {
        self.fd.async_io(Interest::WRITABLE, |_| self.send(frame)).await
    }

    /// Sends frames with few system calls, without waiting; returns how many the kernel took.
    ///
    /// # Errors
    /// When not even the first could be sent, as [`send`](Self::send).
    pub fn send_batch(&self, frames: &[&[u8]]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < frames.len() {
            match sys::send_batch(self.fd.as_raw_fd(), &frames[sent..]) {
                Ok(0) => break,
                Ok(n) => sent += n,
                // The qdisc dropped this frame, as a wire may.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => sent += 1,
                Err(e) if sent == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(sent)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outgoing {
    Ignore,
    Deliver,
}

fn too_small() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "buffer is too small for an Ethernet header")
}

fn receive(fd: &OwnedFd, buf: &mut [u8]) -> io::Result<Received> {
    if buf.len() <= BUFFER_OCTETS_MIN {
        return Err(too_small());
    }
    let raw = sys::receive(fd.as_raw_fd(), buf)?;
    Ok(finish(raw, buf))
}

fn receive_batch(fd: &OwnedFd, bufs: &mut [Vec<u8>], out: &mut Vec<Received>) -> io::Result<usize> {
    out.clear();
    if bufs.iter().any(|b| b.len() <= BUFFER_OCTETS_MIN) {
        return Err(too_small());
    }
    let raws = sys::receive_batch(fd.as_raw_fd(), bufs)?;
    out.extend(raws.into_iter().zip(bufs).map(|(raw, buf)| finish(raw, buf)));
    Ok(out.len())
}

/// Puts the tag into the gap that the receive left in `buf`, or closes the gap.
fn finish(raw: RawReceived, buf: &mut [u8]) -> Received {
    let len = match raw.tag {
        Some((tpid, tci)) => {
            buf[MACS_OCTETS..MACS_OCTETS + 2].copy_from_slice(&tpid.to_be_bytes());
            buf[MACS_OCTETS + 2..MACS_OCTETS + 4].copy_from_slice(&tci.to_be_bytes());
            raw.len + TAG_OCTETS
        }
        None if raw.len > MACS_OCTETS => {
            buf.copy_within(MACS_OCTETS + TAG_OCTETS..raw.len + TAG_OCTETS, MACS_OCTETS);
            raw.len
        }
        None => raw.len,
    };
    let at = raw.realtime_ns.map(|ns| {
        // Only the age is taken from the wall clock, so that a step of it matters for no longer.
        let (boottime, realtime) = clocks_together();
        boottime - Duration::from_nanos(realtime.saturating_sub(ns))
    });
    Received { len, at, outgoing: raw.outgoing }
}

/// Reads both clocks at nearly one time. A thread that loses the processor between the two reads would
/// shift the stamp by as long, so such a pair is read again, a few times.
fn clocks_together() -> (Tick, u64) {
    const TRIES: usize = 4;
    const APART_MAX: Duration = Duration::from_micros(5);
    let mut best = (Duration::MAX, Tick::ZERO, 0);
    for _ in 0..TRIES {
        let (before, realtime, after) = (boottime_now(), realtime_ns(), boottime_now());
        let apart = after.since(before);
        if apart < best.0 {
            best = (apart, before, realtime);
        }
        if apart <= APART_MAX {
            break;
        }
    }
    (best.1, best.2)
}

// Classic BPF, linux/filter.h: load half-word absolute and indexed, load octet, jumps, return.
const LDX_IMM: u16 = 0x01;
const LDH_ABS: u16 = 0x28;
const LDH_IND: u16 = 0x48;
const LDB_IND: u16 = 0x50;
const ALU_AND: u16 = 0x54;
const ALU_LSH: u16 = 0x64;
const ALU_ADD_X: u16 = 0x0c;
const TAX: u16 = 0x07;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;
/// Octets of a frame that pass the filter: all of it.
const WHOLE: u32 = 0x4_0000;

/// Passes ARP, at offset 12 of an untagged frame.
const ARP_FILTER: [CbpfInsn; 4] =
    [(LDH_ABS, 0, 0, 12), (JEQ, 0, 1, 0x0806), (RET, 0, 0, WHOLE), (RET, 0, 0, 0)];

/// Passes the control frames of an access port. X holds the octets of the tags still in the frame:
/// the kernel strips the outer one before it runs the filter.
const ACCESS_FILTER: [CbpfInsn; 31] = [
    (LDX_IMM, 0, 0, 0),
    (LDH_ABS, 0, 0, 12),
    (JEQ, 2, 0, 0x8100),
    (JEQ, 1, 0, 0x88a8),
    (JA, 0, 0, 7),
    (LDX_IMM, 0, 0, 4),
    (LDH_IND, 0, 0, 12),
    (JEQ, 2, 0, 0x8100),
    (JEQ, 1, 0, 0x88a8),
    (JA, 0, 0, 2),
    (LDX_IMM, 0, 0, 8),
    (LDH_IND, 0, 0, 12),
    // 12: A is the EtherType below the tags.
    (JEQ, 17, 0, 0x8863),
    (JEQ, 16, 0, 0x0806),
    (JEQ, 1, 0, 0x8864),
    (JEQ, 2, 13, 0x0800),
    // 16: PPP protocol after the PPPoE header.
    (LDH_IND, 0, 0, 20),
    (JGE, 12, 11, 0x8000),
    // 18: first fragment of UDP to port 67.
    (LDB_IND, 0, 0, 23),
    (JEQ, 0, 9, 17),
    (LDH_IND, 0, 0, 20),
    (JSET, 7, 0, 0x1fff),
    (LDB_IND, 0, 0, 14),
    (ALU_AND, 0, 0, 0x0f),
    (ALU_LSH, 0, 0, 2),
    (ALU_ADD_X, 0, 0, 0),
    (TAX, 0, 0, 0),
    (LDH_IND, 0, 0, 16),
    (JEQ, 1, 0, 67),
    // 29: refuse; 30: accept.
    (RET, 0, 0, 0),
    (RET, 0, 0, WHOLE),
];

#[cfg(test)]
mod tests;
