//! Random octets and random adverts.

use model::MacAddr;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};
use vrrp::{Advert, ChecksumForm, frame, frame_with, parse_frame};

fn any_advert() -> impl Strategy<Value = Advert> {
    let addresses = prop::collection::vec(any::<Ipv4Addr>().prop_map(IpAddr::from), 1..=255);
    (any::<u8>(), any::<u8>(), 1..=4095_u16, addresses).prop_map(
        |(vrid, priority, max_advert_interval_cs, addresses)| Advert {
            vrid,
            priority,
            max_advert_interval_cs,
            addresses,
        },
    )
}

proptest! {
    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_frame(&octets);
        let v4 = IpAddr::from([10, 0, 0, 1]);
        let v6 = IpAddr::from([1_u16; 8]);
        for (src, dst) in [(v4, v4), (v6, v6), (v4, v6)] {
            let _ = Advert::parse(&octets, src, dst);
        }
    }

    #[test]
    fn what_is_written_is_read_back(advert in any_advert(), src in any::<Ipv4Addr>()) {
        let received = parse_frame(&frame(&advert, src)).unwrap().unwrap();
        prop_assert_eq!(received.src_mac, MacAddr::virtual_router(advert.vrid));
        prop_assert_eq!(received.src_ip, IpAddr::from(src));
        prop_assert_eq!(&received.advert, &advert);
        prop_assert_eq!(received.form, ChecksumForm::Rfc9568);
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let octets = frame_with(&advert, src, mac, ChecksumForm::PseudoHeader);
        let received = parse_frame(&octets).unwrap().unwrap();
        prop_assert_eq!((received.src_mac, received.advert), (mac, advert));
    }

    #[test]
    fn a_cut_frame_is_an_error_or_nothing(advert in any_advert(), cut in 0..1100_usize) {
        let whole = frame(&advert, Ipv4Addr::new(10, 0, 0, 1));
        let sent = 14 + 20 + 8 + 4 * advert.addresses.len();
        if let Some(part) = whole.get(..cut) && cut < sent {
            prop_assert!(!matches!(parse_frame(part), Ok(Some(_))));
        }
    }
}
