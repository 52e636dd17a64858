use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 2, 0xc1]);

/// A DISCOVER up to and with the cookie.
fn fixed() -> Vec<u8> {
    let mut octets = Message::from_client(MessageType::Discover, 0x1234_5678, MAC).encode();
    octets.truncate(OPTIONS_AT);
    octets
}

fn with_options(options: &[u8]) -> Vec<u8> {
    [&fixed(), options].concat()
}

#[test]
fn every_field_stands_where_rfc_2131_puts_it() {
    let mut message = Message::from_client(MessageType::Request, 0x0102_0304, MAC);
    message.hops = 5;
    message.secs = 0x0607;
    message.set_broadcast();
    message.ciaddr = [10, 0, 0, 1].into();
    message.yiaddr = [10, 0, 0, 2].into();
    message.siaddr = [10, 0, 0, 3].into();
    message.giaddr = [10, 0, 0, 4].into();
    message.options.push(code::HOST_NAME, b"cpe1");
    let octets = message.encode();
    let start = [
        1, 1, 6, 5, 1, 2, 3, 4, 6, 7, 0x80, 0, 10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 3, 10, 0, 0,
        4, //
        2, 0, 0, 0, 2, 0xc1, 0, 0,
    ];
    assert_eq!(octets[..start.len()], start);
    assert_eq!(octets[236..240], [0x63, 0x82, 0x53, 0x63]);
    assert_eq!(octets[240..250], [53, 1, 3, 12, 4, b'c', b'p', b'e', b'1', 255]);
    assert_eq!(octets.len(), 300, "short messages are padded to a BOOTP message");
    assert!(message.wants_broadcast());
    assert_eq!(Message::decode(&octets), Ok(message));
}

#[test]
fn broken_messages_are_refused_with_the_values_that_broke_them() {
    let patched = |at: usize, octet: u8| {
        let mut octets = with_options(&[53, 1, 1, 255]);
        octets[at] = octet;
        octets
    };
    let rows: &[(Vec<u8>, WireError)] = &[
        (vec![], WireError::Truncated { have: 0, need: 240 }),
        (fixed()[..239].to_vec(), WireError::Truncated { have: 239, need: 240 }),
        (patched(0, 3), WireError::Op(3)),
        (patched(1, 6), WireError::Hardware { htype: 6, hlen: 6 }),
        (patched(2, 16), WireError::Hardware { htype: 1, hlen: 16 }),
        (patched(239, 0), WireError::Cookie([0x63, 0x82, 0x53, 0])),
        (with_options(&[]), WireError::NoMessageType),
        (with_options(&[255, 53, 1, 1]), WireError::NoMessageType),
        (with_options(&[53, 1, 0]), WireError::MessageType(0)),
        (with_options(&[53, 1, 9]), WireError::MessageType(9)),
        (with_options(&[53, 2, 1, 1]), WireError::OptionLength { code: 53, len: 2 }),
        (with_options(&[53, 0]), WireError::OptionLength { code: 53, len: 0 }),
        (with_options(&[53]), WireError::OptionTruncated { code: 53, have: 0, need: 1 }),
        (
            with_options(&[53, 1, 1, 12, 3, b'a']),
            WireError::OptionTruncated { code: 12, have: 1, need: 3 },
        ),
        (with_options(&[53, 1, 1, 52, 1, 4]), WireError::Overload(4)),
        (with_options(&[53, 1, 1, 52, 0]), WireError::OptionLength { code: 52, len: 0 }),
    ];
    for (octets, want) in rows {
        assert_eq!(Message::decode(octets).as_ref(), Err(want), "{:02x?}", &octets[..]);
    }
}

#[test]
fn pads_are_skipped_and_a_missing_end_is_forgiven() {
    let message = Message::decode(&with_options(&[0, 0, 53, 1, 1, 0, 12, 1, b'x'])).unwrap();
    assert_eq!(message.options.get(code::HOST_NAME), Some(&b"x"[..]));
}

#[test]
fn options_go_on_in_file_then_in_sname_when_option_52_says_so() {
    let rows: &[(u8, &[u8])] = &[(1, b"ab"), (2, b"ac"), (3, b"abc")];
    for &(overload, want) in rows {
        let mut octets = with_options(&[53, 1, 1, 52, 1, overload, 12, 1, b'a', 255]);
        octets[FILE][..4].copy_from_slice(&[12, 1, b'b', 255]);
        octets[SNAME][..4].copy_from_slice(&[12, 1, b'c', 255]);
        let message = Message::decode(&octets).unwrap();
        assert_eq!(message.options.get(code::HOST_NAME), Some(want), "overload {overload}");
        assert_eq!(message.options.get(code::OVERLOAD), None);
    }
}

#[test]
fn a_long_option_is_split_and_joined_again() {
    for len in [0, 1, 255, 256, 510, 511] {
        let data: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut message = Message::from_client(MessageType::Inform, 1, MAC);
        message.options.push(code::RELAY_INFO, &data);
        let octets = message.encode();
        let read = Message::decode(&octets).unwrap();
        assert_eq!(read.options.get(code::RELAY_INFO), Some(&data[..]), "{len} octets");
        let used = OPTIONS_AT + 3 + Options::encoded_octets(len) + 1;
        assert_eq!(octets.len(), used.max(MESSAGE_OCTETS_MIN), "{len} octets");
    }
}

#[test]
fn relay_agent_information_survives_octet_by_octet() {
    // Sub-options out of order, one of them twice, one of no known kind, one of length zero.
    let raw = [2, 1, 9, 1, 2, b'd', b'0', 2, 1, 8, 200, 0, 151, 3, 1, 2, 3];
    let mut options = vec![53, 1, 1, 82, 17];
    options.extend(raw);
    let message = Message::decode(&with_options(&options)).unwrap();
    assert_eq!(message.options.get(code::RELAY_INFO), Some(&raw[..]));
    let again = Message::decode(&message.encode()).unwrap();
    assert_eq!(again.options.get(code::RELAY_INFO), Some(&raw[..]));
}

#[test]
fn options_of_fixed_length_refuse_others() {
    let mut options = Options::default();
    options.push(1, &[255, 255, 0]);
    options.push(3, &[10, 0, 0, 1, 10, 0, 0, 2]);
    assert_eq!(options.ipv4(1), Err(WireError::OptionLength { code: 1, len: 3 }));
    assert_eq!(options.ipv4(3), Err(WireError::OptionLength { code: 3, len: 8 }));
    assert_eq!(options.ipv4s(3), Ok(vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]));
    assert_eq!(options.ipv4s(1), Err(WireError::OptionLength { code: 1, len: 3 }));
    assert_eq!((options.ipv4(9), options.ipv4s(9)), (Ok(None), Ok(vec![])));
}

#[test]
fn only_a_clients_discover_may_be_shed() {
    for kind in MessageType::ALL {
        let message = Message::from_client(kind, 1, MAC);
        assert_eq!(is_discover(&message.encode()), kind == MessageType::Discover, "{kind:?}");
    }
    let reply = Message { op: Op::Reply, ..Message::from_client(MessageType::Discover, 1, MAC) };
    assert!(!is_discover(&reply.encode()));
    assert!(!is_discover(b"not a message"));
}
