//! The messages of ctnetlink (`linux/netfilter/nfnetlink_conntrack.h`) that listing and deleting need.

use std::net::Ipv4Addr;

/// `NFNL_SUBSYS_CTNETLINK` in the high octet, the operation in the low one.
const CT_GET: u16 = 1 << 8 | 1;
const CT_DELETE: u16 = 1 << 8 | 2;

const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const NLA_TYPE_MASK: u16 = 0x3fff;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_MARK: u16 = 8;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: u16 = 4;

/// Octets of `nlmsghdr` and of `nfgenmsg`, and the alignment of messages and attributes.
const HEADER_OCTETS: usize = 16;
const GENERIC_OCTETS: usize = 4;
const ALIGN_OCTETS: usize = 4;
const AF_INET: u8 = 2;

/// A flow, as far as it matters whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Who opened it, as seen inside.
    pub(crate) source: Ipv4Addr,
    /// Where answers go to: the public address of a translated flow.
    pub(crate) answers_to: Ipv4Addr,
    /// The port or ICMP identifier that answers go to, if the protocol has such.
    pub(crate) answers_port: Option<u16>,
    pub(crate) mark: u32,
    /// Names exactly this entry to the kernel.
    pub(crate) name: Name,
}

/// Attributes that name an entry, as the kernel gave them: tuple, zone and id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Name(Vec<u8>);

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A flow.
    Entry(Entry),
    /// A flow of no interest: not IPv4, or without what makes it one.
    Other,
    /// The list is complete.
    Done,
    /// The answer to a deletion, or to a list that cannot be had: 0, or an error number of the system.
    Answer(i32),
}

/// The octets do not form messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ctnetlink message is cut short at octet {0}")]
pub(crate) struct Malformed(usize);

/// Asks for all IPv4 flows.
pub(crate) fn list(sequence: u32) -> Vec<u8> {
    message(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, sequence, &[])
}

/// Asks for the end of one flow.
pub(crate) fn delete(sequence: u32, name: &Name) -> Vec<u8> {
    message(CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, sequence, &name.0)
}

fn message(kind: u16, flags: u16, sequence: u32, attributes: &[u8]) -> Vec<u8> {
    let len = HEADER_OCTETS + GENERIC_OCTETS + attributes.len();
    let mut m = Vec::with_capacity(len);
    m.extend(u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes());
    m.extend(kind.to_ne_bytes());
    m.extend(flags.to_ne_bytes());
    m.extend(sequence.to_ne_bytes());
    m.extend([0; 4]); // the kernel fills in the port
    m.extend([AF_INET, 0, 0, 0]); // family, version, resource id
    m.extend(attributes);
    m
}

/// Reads what one `recv` gave: for each message, the number of its request and its content.
pub(crate) fn read(mut octets: &[u8], mut each: impl FnMut(u32, Message)) -> Result<(), Malformed> {
    let total = octets.len();
    while !octets.is_empty() {
        let malformed = Malformed(total - octets.len());
        let header = octets.first_chunk::<HEADER_OCTETS>().ok_or(malformed)?;
        let len = usize::try_from(word(&header[..4]).ok_or(malformed)?).unwrap_or(usize::MAX);
        let body = octets.get(HEADER_OCTETS..len).ok_or(malformed)?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let message = match kind {
            NLMSG_DONE => Message::Done,
            NLMSG_ERROR => {
                Message::Answer(word(body).ok_or(malformed)?.cast_signed().saturating_neg())
            }
            _ => entry(body).map_or(Message::Other, Message::Entry),
        };
        each(word(&header[8..]).ok_or(malformed)?, message);
        octets = octets.get(aligned(len)..).unwrap_or_default();
    }
    Ok(())
}

fn entry(body: &[u8]) -> Option<Entry> {
    if *body.first()? != AF_INET {
        return None;
    }
    let attributes = body.get(GENERIC_OCTETS..)?;
    let (mut source, mut answers_to, mut answers_port) = (None, None, None);
    let (mut mark, mut name) = (0, Vec::new());
    for (kind, value, whole) in Attributes(attributes) {
        match kind {
            CTA_TUPLE_ORIG => {
                source = address(find(find(value, CTA_TUPLE_IP)?, CTA_IP_V4_SRC)?);
                name.extend(whole);
            }
            CTA_TUPLE_REPLY => {
                answers_to = address(find(find(value, CTA_TUPLE_IP)?, CTA_IP_V4_DST)?);
                let proto = find(value, CTA_TUPLE_PROTO)?;
                answers_port = find(proto, CTA_PROTO_DST_PORT)
                    .or_else(|| find(proto, CTA_PROTO_ICMP_ID))
                    .and_then(|p| Some(u16::from_be_bytes(*p.first_chunk()?)));
            }
            CTA_MARK => mark = u32::from_be_bytes(*value.first_chunk()?),
            CTA_ID | CTA_ZONE => name.extend(whole),
            _ => {}
        }
    }
    let (source, answers_to) = (source?, answers_to?);
    Some(Entry { source, answers_to, answers_port, mark, name: Name(name) })
}

fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attributes).find(|(kind, _, _)| *kind == wanted).map(|(_, value, _)| value)
}

fn address(octets: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*octets.first_chunk::<4>()?))
}

fn word(octets: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*octets.first_chunk()?))
}

fn aligned(len: usize) -> usize {
    len.next_multiple_of(ALIGN_OCTETS)
}

/// Type, value, and the whole with header and padding, of each attribute; ends at the first broken one.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [l0, l1, t0, t1] = *self.0.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(4..len)?;
        // The kernel pads each attribute, the last one of a message too.
        let whole = self.0.get(..aligned(len)).unwrap_or(self.0);
        self.0 = self.0.get(aligned(len)..).unwrap_or_default();
        Some((u16::from_ne_bytes([t0, t1]) & NLA_TYPE_MASK, value, whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NLA_F_NESTED: u16 = 0x8000;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut a = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        a.extend(kind.to_ne_bytes());
        a.extend(value);
        a.resize(aligned(a.len()), 0);
        a
    }

    fn tuple(kind: u16, source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
        let ip =
            [attribute(CTA_IP_V4_SRC, &source), attribute(CTA_IP_V4_DST, &destination)].concat();
        let proto = [
            attribute(1, &[17]),
            attribute(2, &ports.0.to_be_bytes()),
            attribute(CTA_PROTO_DST_PORT, &ports.1.to_be_bytes()),
        ];
        let nested = [
            attribute(CTA_TUPLE_IP | NLA_F_NESTED, &ip),
            attribute(CTA_TUPLE_PROTO | NLA_F_NESTED, &proto.concat()),
        ];
        attribute(kind | NLA_F_NESTED, &nested.concat())
    }

    fn flow() -> Vec<u8> {
        let inside = tuple(CTA_TUPLE_ORIG, [100, 64, 0, 9], [198, 51, 100, 7], (4000, 53));
        let outside = tuple(CTA_TUPLE_REPLY, [198, 51, 100, 7], [203, 0, 113, 5], (53, 2049));
        let mark = attribute(CTA_MARK, &0x4000_0001_u32.to_be_bytes());
        let id = attribute(CTA_ID, &[1, 2, 3, 4]);
        [inside, outside, mark, id].concat()
    }

    fn read_all(octets: &[u8]) -> Result<Vec<(u32, Message)>, Malformed> {
        let mut all = Vec::new();
        read(octets, |sequence, m| all.push((sequence, m)))?;
        Ok(all)
    }

    #[test]
    fn a_flow_is_read_and_named_by_its_tuple_and_id() {
        let listed = [message(1 << 8, 0, 7, &flow()), message(NLMSG_DONE, 0, 7, &[])].concat();
        let all = read_all(&listed).unwrap();
        let (7, Message::Entry(entry)) = &all[0] else { panic!("{all:?}") };
        assert_eq!(entry.source, Ipv4Addr::new(100, 64, 0, 9));
        assert_eq!(entry.answers_to, Ipv4Addr::new(203, 0, 113, 5));
        assert_eq!((entry.answers_port, entry.mark), (Some(2049), 0x4000_0001));
        let inside = tuple(CTA_TUPLE_ORIG, [100, 64, 0, 9], [198, 51, 100, 7], (4000, 53));
        assert_eq!(entry.name.0, [inside, attribute(CTA_ID, &[1, 2, 3, 4])].concat());
        assert_eq!(all[1], (7, Message::Done));
    }

    #[test]
    fn an_answer_carries_its_request_and_error() {
        let mut refused = message(NLMSG_ERROR, 0, 9, &[]);
        refused[16..20].copy_from_slice(&(-2_i32).to_ne_bytes());
        assert_eq!(read_all(&refused).unwrap(), [(9, Message::Answer(2))]);
    }

    #[test]
    fn octets_cut_anywhere_are_refused_or_read_without_harm() {
        let whole = message(1 << 8, 0, 7, &flow());
        for cut in 1..whole.len() {
            assert!(read_all(&whole[..cut]).is_err(), "cut at {cut}");
        }
        // Each attribute cut short in turn, in a message whose own length is right.
        for cut in 0..flow().len() {
            let all = read_all(&message(1 << 8, 0, 7, &flow()[..cut])).unwrap();
            assert_eq!(all.len(), 1, "cut at {cut}");
        }
        assert_eq!(read_all(&[0; 16]), Err(Malformed(0)), "a length of zero would never end");
    }
}
