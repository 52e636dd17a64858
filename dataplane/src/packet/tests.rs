use super::*;

/// Runs a filter over a frame as the kernel would; `None` when it reads past the end.
fn run(program: &[CbpfInsn], frame: &[u8]) -> Option<u32> {
    let (mut a, mut x, mut pc) = (0_u32, 0_u32, 0_usize);
    let octet = |at: u32| frame.get(at as usize).map(|&b| u32::from(b));
    let half = |at: u32| Some(octet(at)? << 8 | octet(at + 1)?);
    loop {
        let (code, jt, jf, k) = program[pc];
        pc += 1;
        let mut jump = |taken: bool| pc += usize::from(if taken { jt } else { jf });
        match code {
            LDX_IMM => x = k,
            LDH_ABS => a = half(k)?,
            LDH_IND => a = half(x + k)?,
            LDB_IND => a = octet(x + k)?,
            ALU_AND => a &= k,
            ALU_LSH => a <<= k,
            ALU_ADD_X => a += x,
            TAX => x = a,
            JA => pc += k_usize(k),
            JEQ => jump(a == k),
            JGE => jump(a >= k),
            JSET => jump(a & k != 0),
            RET => return Some(k),
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

fn k_usize(k: u32) -> usize {
    usize::try_from(k).unwrap()
}

fn frame(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut f = vec![0; 12];
    for tag in tags {
        f.extend(tag.to_be_bytes());
        f.extend([0, 7]);
    }
    f.extend(ethertype.to_be_bytes());
    f.extend(payload);
    f
}

fn udp(dst_port: u16, fragment: u16, options: usize) -> Vec<u8> {
    let mut p = vec![0; 20 + 4 * options + 8];
    p[0] = 0x45 + u8::try_from(options).unwrap();
    p[6..8].copy_from_slice(&fragment.to_be_bytes());
    p[9] = 17;
    let at = 20 + 4 * options;
    p[at + 2..at + 4].copy_from_slice(&dst_port.to_be_bytes());
    p
}

/// Name, tags, EtherType, payload, whether it passes.
type Row<'a> = (&'a str, &'a [u16], u16, &'a [u8], bool);

#[test]
fn the_access_filter_passes_control_frames_and_nothing_else() {
    let discovery = [0x11, 0x09, 0, 0, 0, 4, 0, 0, 0, 0];
    let lcp = [0x11, 0, 0, 7, 0, 6, 0xc0, 0x21, 9, 1];
    let ipcp = [0x11, 0, 0, 7, 0, 6, 0x80, 0x21, 1, 1];
    let ppp_ipv4 = [0x11, 0, 0, 7, 0, 6, 0x00, 0x21, 0x45, 0];
    let c = 0x8100;
    let s = 0x88a8;
    let rows: &[Row<'_>] = &[
        ("padi", &[], 0x8863, &discovery, true),
        ("padi, one tag", &[c], 0x8863, &discovery, true),
        ("padi, two tags", &[s, c], 0x8863, &discovery, true),
        ("lcp", &[], 0x8864, &lcp, true),
        ("ipcp, one tag", &[c], 0x8864, &ipcp, true),
        ("ipcp, two tags", &[c, c], 0x8864, &ipcp, true),
        ("pppoe data", &[], 0x8864, &ppp_ipv4, false),
        ("pppoe data, one tag", &[c], 0x8864, &ppp_ipv4, false),
        ("arp", &[c], 0x0806, &[0; 28], true),
        ("dhcp", &[], 0x0800, &udp(67, 0, 0), true),
        ("dhcp, two tags", &[s, c], 0x0800, &udp(67, 0, 0), true),
        ("dhcp, ip options", &[c], 0x0800, &udp(67, 0, 3), true),
        ("to the client port", &[], 0x0800, &udp(68, 0, 0), false),
        ("don't fragment", &[], 0x0800, &udp(67, 0x4000, 0), true),
        ("later fragment", &[], 0x0800, &udp(67, 0x0010, 0), false),
        ("ipv6", &[], 0x86dd, &[0; 40], false),
        ("three tags", &[c, c, c], 0x0806, &[0; 28], false),
    ];
    for &(name, tags, ethertype, payload, want) in rows {
        let got = run(&ACCESS_FILTER, &frame(tags, ethertype, payload)).unwrap_or(0);
        assert_eq!(got != 0, want, "{name}");
    }
    let tcp = {
        let mut p = udp(67, 0, 0);
        p[9] = 6;
        p
    };
    assert_eq!(run(&ACCESS_FILTER, &frame(&[], 0x0800, &tcp)), Some(0));
    assert_eq!(run(&ACCESS_FILTER, &frame(&[], 0x8864, &[0x11])), None, "a cut frame is refused");
}

#[test]
fn the_core_filter_passes_arp_only() {
    assert_ne!(run(&ARP_FILTER, &frame(&[], 0x0806, &[0; 28])), Some(0));
    assert_eq!(run(&ARP_FILTER, &frame(&[], 0x0800, &udp(67, 0, 0))), Some(0));
}

#[test]
fn the_stripped_tag_returns_to_its_place() {
    // As received: addresses, a gap of four octets, EtherType and payload.
    let mut buf = [0_u8; 32];
    buf[..12].copy_from_slice(&[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    buf[16..20].copy_from_slice(&[0x88, 0x63, 0xaa, 0xbb]);
    let mut plain = buf;

    let raw = RawReceived { len: 16, tag: Some((0x88a8, 0x2064)), ..RawReceived::default() };
    assert_eq!(finish(raw, &mut buf).len, 20);
    assert_eq!(buf[12..20], [0x88, 0xa8, 0x20, 0x64, 0x88, 0x63, 0xaa, 0xbb]);

    assert_eq!(finish(RawReceived { tag: None, ..raw }, &mut plain).len, 16);
    assert_eq!(plain[12..16], [0x88, 0x63, 0xaa, 0xbb]);
}
