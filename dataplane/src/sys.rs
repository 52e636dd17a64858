//! System calls without a safe wrapper in our dependencies: packet socket options and messages,
//! interface and ethtool ioctls.

use libc::{c_int, c_void};
use nix::net::if_::if_nametoindex;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use tokio::io::unix::AsyncFd;

/// One instruction of a classic BPF socket filter: code, jump if true, jump if false, operand.
pub(crate) type CbpfInsn = (u16, u8, u8, u32);

/// `PACKET_IGNORE_OUTGOING` of `linux/if_packet.h`, Linux 4.20.
const PACKET_IGNORE_OUTGOING: c_int = 23;
// Constants that libc declares wider than the fields they go into.
const AF_PACKET: u16 = 17;
const ETH_P_ALL: u16 = 0x0003;
const ETH_P_8021Q: u16 = 0x8100;
const PACKET_MR_PROMISC: u16 = 1;
/// Octets of an 802.1Q tag.
pub(crate) const TAG_OCTETS: usize = 4;
/// Octets of the two Ethernet addresses, before the place of a tag.
pub(crate) const MACS_OCTETS: usize = 12;
/// Most frames given to one `recvmmsg` or `sendmmsg`.
pub(crate) const BATCH_MAX: usize = 64;

fn check(rc: c_int) -> io::Result<c_int> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

fn check_len(rc: isize) -> io::Result<usize> {
    usize::try_from(rc).map_err(|_| io::Error::last_os_error())
}

fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(mem::size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

/// Opens a raw packet socket that receives nothing until [`bind_packet`].
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it becomes an owned descriptor.
    let fd = check(unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0)
    })?;
    // SAFETY: `fd` is open and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Registers a descriptor with the runtime's reactor.
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, stays so until dropped and always gives the same descriptor.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Opens the datagram socket that interface ioctls need; it stays in the caller's network namespace.
pub(crate) fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it becomes an owned descriptor.
    let fd =
        check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: `fd` is open and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Starts delivery of every protocol of one interface to the socket.
pub(crate) fn bind_packet(fd: &OwnedFd, interface: &str) -> io::Result<u32> {
    let index = if_nametoindex(interface)?;
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut addr: libc::sockaddr_ll = unsafe { mem::zeroed() };
    addr.sll_family = AF_PACKET;
    addr.sll_protocol = ETH_P_ALL.to_be();
    addr.sll_ifindex = c_int::try_from(index).map_err(io::Error::other)?;
    // SAFETY: `addr` lives through the call and its length is given.
    check(unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const addr).cast(), socklen::<libc::sockaddr_ll>())
    })?;
    Ok(index)
}

fn set_option<T>(fd: RawFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is a live T and its size is given.
    check(unsafe {
        libc::setsockopt(fd, level, name, (value as *const T).cast::<c_void>(), socklen::<T>())
    })?;
    Ok(())
}

/// Sets an integer option of a packet socket.
pub(crate) fn set_packet_option(fd: &OwnedFd, option: PacketOption) -> io::Result<()> {
    let one: c_int = 1;
    let fd = fd.as_raw_fd();
    match option {
        PacketOption::Auxdata => set_option(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &one),
        PacketOption::IgnoreOutgoing => {
            set_option(fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &one)
        }
        PacketOption::Timestamps => set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &one),
        PacketOption::ReceiveBuffer(octets) => {
            set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &octets)
                .or_else(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &octets))
        }
        PacketOption::SendBuffer(octets) => {
            set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &octets)
                .or_else(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &octets))
        }
        PacketOption::Promiscuous(index) => {
            // SAFETY: all-zero is a valid packet_mreq.
            let mut req: libc::packet_mreq = unsafe { mem::zeroed() };
            req.mr_ifindex = c_int::try_from(index).map_err(io::Error::other)?;
            req.mr_type = PACKET_MR_PROMISC;
            set_option(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &req)
        }
    }
}

/// What may be set on a packet socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PacketOption {
    /// Report the stripped VLAN tag with each frame.
    Auxdata,
    /// Do not deliver frames this host sends.
    IgnoreOutgoing,
    /// Stamp frames with the wall time of their arrival.
    Timestamps,
    /// Receive queue, in octets.
    ReceiveBuffer(c_int),
    /// Send queue, in octets.
    SendBuffer(c_int),
    /// Promiscuous while the socket lives; carries the interface index.
    Promiscuous(u32),
}

/// Attaches a classic BPF filter.
pub(crate) fn attach_filter(fd: &OwnedFd, program: &[CbpfInsn]) -> io::Result<()> {
    let mut insns: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let program = libc::sock_fprog {
        len: u16::try_from(insns.len()).map_err(io::Error::other)?,
        filter: insns.as_mut_ptr(),
    };
    // The kernel copies the instructions during the call, while `insns` is alive.
    set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// What the kernel said about one received frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawReceived {
    /// Octets received, without the tag.
    pub len: usize,
    /// The stripped tag: TPID and TCI.
    pub tag: Option<(u16, u16)>,
    /// Wall time of arrival in ns, when stamps were asked for.
    pub realtime_ns: Option<u64>,
    /// Whether this host sent it.
    pub outgoing: bool,
}

/// Ancillary data of one frame: `tpacket_auxdata` and a `timespec`, with their headers.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Ancillary([u8; 128]);

struct Slot {
    addr: libc::sockaddr_ll,
    ancillary: Ancillary,
    iov: [libc::iovec; 2],
}

/// Points the two vectors of `slot` into `buf`, leaving room for a tag between them.
fn split(slot: &mut Slot, buf: &mut [u8]) {
    let (macs, rest) = buf.split_at_mut(MACS_OCTETS);
    let rest = &mut rest[TAG_OCTETS..];
    slot.iov = [
        libc::iovec { iov_base: macs.as_mut_ptr().cast(), iov_len: macs.len() },
        libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() },
    ];
}

fn empty_slot() -> Slot {
    Slot {
        // SAFETY: all-zero is a valid sockaddr_ll.
        addr: unsafe { mem::zeroed() },
        ancillary: Ancillary([0; 128]),
        iov: [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; 2],
    }
}

/// Fills `header` with pointers into `slot`, which must outlive its use.
fn point(header: &mut libc::msghdr, slot: &mut Slot) {
    header.msg_name = (&raw mut slot.addr).cast();
    header.msg_namelen = socklen::<libc::sockaddr_ll>();
    header.msg_iov = slot.iov.as_mut_ptr();
    header.msg_iovlen = slot.iov.len();
    header.msg_control = slot.ancillary.0.as_mut_ptr().cast();
    header.msg_controllen = slot.ancillary.0.len();
}

fn describe(header: &libc::msghdr, addr: &libc::sockaddr_ll, len: usize) -> RawReceived {
    let mut got = RawReceived {
        len,
        outgoing: addr.sll_pkttype == libc::PACKET_OUTGOING,
        ..RawReceived::default()
    };
    // SAFETY: `header` was filled by the kernel and its control buffer is alive; the CMSG macros
    // stay inside msg_controllen.
    let mut cmsg = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !cmsg.is_null() {
        // SAFETY: `cmsg` is not null and lies in the control buffer.
        let (level, kind, data) =
            unsafe { ((*cmsg).cmsg_level, (*cmsg).cmsg_type, libc::CMSG_DATA(cmsg)) };
        if level == libc::SOL_PACKET && kind == libc::PACKET_AUXDATA {
            // SAFETY: the kernel wrote a whole tpacket_auxdata; the read does not need alignment.
            let aux = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
            if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                let tpid = if aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
                    aux.tp_vlan_tpid
                } else {
                    ETH_P_8021Q
                };
                got.tag = Some((tpid, aux.tp_vlan_tci));
            }
        } else if level == libc::SOL_SOCKET && kind == libc::SCM_TIMESTAMPNS {
            // SAFETY: the kernel wrote a whole timespec; the read does not need alignment.
            let at = unsafe { data.cast::<libc::timespec>().read_unaligned() };
            let s = u64::try_from(at.tv_sec).unwrap_or(0);
            let ns = u64::try_from(at.tv_nsec).unwrap_or(0);
            got.realtime_ns = Some(s.saturating_mul(1_000_000_000).saturating_add(ns));
        }
        // SAFETY: both pointers come from this header.
        cmsg = unsafe { libc::CMSG_NXTHDR(header, cmsg) };
    }
    got
}

/// Receives one frame into `buf`, leaving octets 12 to 16 free for the tag that the kernel stripped.
pub(crate) fn receive(fd: RawFd, buf: &mut [u8]) -> io::Result<RawReceived> {
    let mut slot = empty_slot();
    split(&mut slot, buf);
    // SAFETY: all-zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    point(&mut header, &mut slot);
    // SAFETY: every pointer in `header` leads into `slot` and `buf`, alive and not otherwise used.
    let len = check_len(unsafe { libc::recvmsg(fd, &raw mut header, 0) })?;
    Ok(describe(&header, &slot.addr, len))
}

/// Receives up to [`BATCH_MAX`] frames, one into each buffer, with one system call.
pub(crate) fn receive_batch(fd: RawFd, bufs: &mut [Vec<u8>]) -> io::Result<Vec<RawReceived>> {
    let count = bufs.len().min(BATCH_MAX);
    let mut slots: Vec<Slot> = (0..count).map(|_| empty_slot()).collect();
    // SAFETY: all-zero is a valid mmsghdr.
    let mut headers: Vec<libc::mmsghdr> = vec![unsafe { mem::zeroed() }; count];
    for ((slot, header), buf) in slots.iter_mut().zip(&mut headers).zip(bufs) {
        split(slot, buf);
        point(&mut header.msg_hdr, slot);
    }
    let n = u32::try_from(count).map_err(io::Error::other)?;
    // SAFETY: every pointer leads into `slots` and `bufs`, which are not moved until after the call.
    let got = check(unsafe {
        libc::recvmmsg(fd, headers.as_mut_ptr(), n, libc::MSG_DONTWAIT, std::ptr::null_mut())
    })?;
    let got = usize::try_from(got).unwrap_or(0);
    Ok(headers
        .iter()
        .zip(&slots)
        .take(got)
        .map(|(h, s)| describe(&h.msg_hdr, &s.addr, usize::try_from(h.msg_len).unwrap_or(0)))
        .collect())
}

/// Sends one frame.
pub(crate) fn send(fd: RawFd, frame: &[u8]) -> io::Result<()> {
    // SAFETY: `frame` is alive and its length is given.
    check_len(unsafe { libc::send(fd, frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) })?;
    Ok(())
}

/// Sends up to [`BATCH_MAX`] frames with one system call; returns how many went out.
pub(crate) fn send_batch(fd: RawFd, frames: &[&[u8]]) -> io::Result<usize> {
    let frames = &frames[..frames.len().min(BATCH_MAX)];
    let mut iovs: Vec<libc::iovec> = frames
        .iter()
        .map(|f| libc::iovec { iov_base: f.as_ptr().cast_mut().cast(), iov_len: f.len() })
        .collect();
    // SAFETY: all-zero is a valid mmsghdr.
    let mut headers: Vec<libc::mmsghdr> = vec![unsafe { mem::zeroed() }; frames.len()];
    for (header, iov) in headers.iter_mut().zip(&mut iovs) {
        header.msg_hdr.msg_iov = iov;
        header.msg_hdr.msg_iovlen = 1;
    }
    let n = u32::try_from(headers.len()).map_err(io::Error::other)?;
    // SAFETY: the vectors point into `frames`, which the kernel only reads.
    let sent = check(unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), n, libc::MSG_DONTWAIT) })?;
    Ok(usize::try_from(sent).unwrap_or(0))
}

/// An interface request with its name set.
fn ifreq(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero is a valid ifreq.
    let mut req: libc::ifreq = unsafe { mem::zeroed() };
    if interface.len() >= req.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in req.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    Ok(req)
}

fn interface_ioctl(fd: &OwnedFd, request: libc::Ioctl, req: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: each request used in this file reads and writes one ifreq (and, for SIOCETHTOOL, the
    // structure its data pointer leads to, which the caller keeps alive).
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, req as *mut libc::ifreq) })?;
    Ok(())
}

/// Returns the `IFF_*` flags.
pub(crate) fn interface_flags(fd: &OwnedFd, interface: &str) -> io::Result<i32> {
    let mut req = ifreq(interface)?;
    interface_ioctl(fd, libc::SIOCGIFFLAGS, &mut req)?;
    // SAFETY: SIOCGIFFLAGS fills this member.
    Ok(i32::from(unsafe { req.ifr_ifru.ifru_flags }))
}

/// The flags of these ioctls are the low 16 bits, `IFF_DYNAMIC` being the highest.
fn short_flags(flags: i32) -> libc::c_short {
    let [low, high, ..] = flags.to_le_bytes();
    libc::c_short::from_le_bytes([low, high])
}

/// Sets the given `IFF_*` flags besides those already set.
pub(crate) fn add_interface_flags(fd: &OwnedFd, interface: &str, flags: i32) -> io::Result<()> {
    let old = interface_flags(fd, interface)?;
    if old & flags == flags {
        return Ok(());
    }
    let mut req = ifreq(interface)?;
    req.ifr_ifru.ifru_flags = short_flags(old | flags);
    interface_ioctl(fd, libc::SIOCSIFFLAGS, &mut req)
}

/// Clears the given `IFF_*` flags.
pub(crate) fn clear_interface_flags(fd: &OwnedFd, interface: &str, flags: i32) -> io::Result<()> {
    let old = interface_flags(fd, interface)?;
    let mut req = ifreq(interface)?;
    req.ifr_ifru.ifru_flags = short_flags(old & !flags);
    interface_ioctl(fd, libc::SIOCSIFFLAGS, &mut req)
}

/// Returns the MTU in octets.
pub(crate) fn interface_mtu(fd: &OwnedFd, interface: &str) -> io::Result<i32> {
    let mut req = ifreq(interface)?;
    interface_ioctl(fd, libc::SIOCGIFMTU, &mut req)?;
    // SAFETY: SIOCGIFMTU fills this member.
    Ok(unsafe { req.ifr_ifru.ifru_mtu })
}

/// Sets the MTU in octets.
pub(crate) fn set_interface_mtu(fd: &OwnedFd, interface: &str, mtu: i32) -> io::Result<()> {
    let mut req = ifreq(interface)?;
    req.ifr_ifru.ifru_mtu = mtu;
    interface_ioctl(fd, libc::SIOCSIFMTU, &mut req)
}

/// Returns the hardware address.
pub(crate) fn interface_mac(fd: &OwnedFd, interface: &str) -> io::Result<[u8; 6]> {
    let mut req = ifreq(interface)?;
    interface_ioctl(fd, libc::SIOCGIFHWADDR, &mut req)?;
    // SAFETY: SIOCGIFHWADDR fills this member.
    let data = unsafe { req.ifr_ifru.ifru_hwaddr.sa_data };
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(data) {
        *to = from.cast_unsigned();
    }
    Ok(mac)
}

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETHTOOL_SGRO: u32 = 0x2c;
/// `ETH_FLAG_*` bits: hardware VLAN insertion, VLAN stripping, large receive offload.
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_FLAG_LRO: u32 = 1 << 15;

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

fn ethtool(fd: &OwnedFd, interface: &str, value: &mut EthtoolValue) -> io::Result<()> {
    let mut req = ifreq(interface)?;
    req.ifr_ifru.ifru_data = (value as *mut EthtoolValue).cast();
    interface_ioctl(fd, SIOCETHTOOL, &mut req)
}

/// Switches off GRO and LRO, and VLAN stripping, which would hide the outer tag from XDP.
pub(crate) fn disable_receive_offloads(fd: &OwnedFd, interface: &str) -> io::Result<()> {
    ethtool(fd, interface, &mut EthtoolValue { cmd: ETHTOOL_SGRO, data: 0 })?;
    let mut flags = EthtoolValue { cmd: ETHTOOL_GFLAGS, data: 0 };
    ethtool(fd, interface, &mut flags)?;
    let wanted = flags.data & !(ETH_FLAG_RXVLAN | ETH_FLAG_LRO);
    if wanted == flags.data {
        return Ok(());
    }
    ethtool(fd, interface, &mut EthtoolValue { cmd: ETHTOOL_SFLAGS, data: wanted })
}
