use ether::{Arp, Frame, Ipv4, Udp4, checksum};

pub(crate) fn frame(data: &[u8]) {
    let Ok(frame) = Frame::parse(data) else { return };
    let octets = frame.emit();
    let mut again = Frame::parse(&octets).expect("an emitted frame is sound");
    assert!(again.payload.starts_with(frame.payload), "{frame:?} became {again:?}");
    // Short frames are padded.
    again.payload = &again.payload[..frame.payload.len()];
    assert_eq!(again, frame);
}

pub(crate) fn arp(data: &[u8]) {
    let Ok(arp) = Arp::parse(data) else { return };
    assert_eq!(Arp::parse(&arp.emit()).as_ref(), Ok(&arp));
    let answer = arp.answer(model::MacAddr::virtual_router(51));
    assert_eq!(Arp::parse(&answer.emit()), Ok(answer));
}

pub(crate) fn ipv4(data: &[u8]) {
    for packet in [data.to_vec(), mended(data)] {
        let Ok(ip) = Ipv4::parse(&packet) else { continue };
        let octets = ip.emit();
        let again = Ipv4::parse(&octets).expect("an emitted packet is sound");
        let fits = ip.payload.len().min(Ipv4::PAYLOAD_OCTETS_MAX);
        assert_eq!(again, Ipv4 { payload: &ip.payload[..fits], ..ip });
    }
}

pub(crate) fn udp(data: &[u8]) {
    for packet in [data.to_vec(), mended(data), mended(&without_udp_checksum(data))] {
        let Ok(Some(udp)) = Udp4::parse(&packet) else { continue };
        let octets = udp.emit();
        let again = Udp4::parse(&octets).expect("an emitted datagram is sound").expect("it is UDP");
        let fits = udp.payload.len().min(Udp4::PAYLOAD_OCTETS_MAX);
        assert_eq!(again, Udp4 { payload: &udp.payload[..fits], ..udp });
    }
}

/// The packet with a good header checksum, without which mutations would end there.
pub(crate) fn mended(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let Some(first) = packet.first() else { return packet };
    let header_octets = usize::from(first & 0x0f) * 4;
    if let Some(header) = packet.get_mut(..header_octets).filter(|h| h.len() >= 20) {
        header[10..12].fill(0);
        let sum = checksum(&[header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// RFC 768: zero says that there is none.
fn without_udp_checksum(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let Some(first) = packet.first() else { return packet };
    let at = usize::from(first & 0x0f) * 4 + 6;
    if let Some(field) = packet.get_mut(at..at + 2) {
        field.fill(0);
    }
    packet
}
