use super::*;
use Sighting::{Conflict, LateRelease, New, Released, Same};

const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const MS: fn(u64) -> Duration = Duration::from_millis;

fn run(script: &[(u64, IpAddr, u8, Sighting)]) {
    let mut listener = Listener::new(51);
    for &(at_ms, src, priority, want) in script {
        let advert = Advert { vrid: 51, priority, max_advert_interval_cs: 10, addresses: vec![A] };
        let got = listener.advert(src, &advert, Tick::from_ms(at_ms));
        assert_eq!(got, Some(want), "{src} priority {priority} at {at_ms} ms");
    }
}

#[test]
fn a_takeover_sooner_than_the_interval_is_no_conflict() {
    run(&[
        (1000, A, 255, New { silence: None }),
        (1100, A, 255, Same),
        (1180, B, 255, New { silence: Some(MS(80)) }),
        (1280, B, 255, Same),
    ]);
}

#[test]
fn a_replaced_router_that_speaks_again_is_a_conflict() {
    run(&[
        (1000, A, 255, New { silence: None }),
        (1080, B, 255, New { silence: Some(MS(80)) }),
        (1100, A, 255, Conflict { active: B, since: MS(20) }),
        (1180, B, 255, Conflict { active: A, since: MS(80) }),
    ]);
}

#[test]
fn a_router_that_released_may_come_back() {
    run(&[
        (1000, A, 255, New { silence: None }),
        (1050, A, 0, Released),
        (1052, B, 255, New { silence: Some(MS(2)) }),
        (1060, A, 0, LateRelease),
        (1100, B, 0, Released),
        (1102, A, 255, New { silence: Some(MS(2)) }),
    ]);
}

#[test]
fn a_silent_router_is_forgotten() {
    run(&[
        (1000, A, 255, New { silence: None }),
        (1250, B, 255, New { silence: Some(MS(250)) }),
        (1350, B, 255, Same),
        (1400, A, 255, New { silence: Some(MS(50)) }),
    ]);
    let mut listener = Listener::new(51);
    let advert = Advert { vrid: 51, priority: 255, max_advert_interval_cs: 10, addresses: vec![A] };
    listener.advert(A, &advert, Tick::from_ms(1000));
    assert_eq!(listener.active(Tick::from_ms(1300)), Some(A));
    assert_eq!(listener.active(Tick::from_ms(1301)), None);
}

#[test]
fn adverts_of_other_virtual_routers_are_not_its_business() {
    let advert = Advert { vrid: 52, priority: 1, max_advert_interval_cs: 10, addresses: vec![A] };
    assert_eq!(Listener::new(51).advert(A, &advert, Tick::from_ms(1)), None);
}

#[test]
fn a_flood_of_speakers_does_not_grow_the_memory() {
    let mut listener = Listener::new(51);
    for n in 0..1000 {
        let src = IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n));
        let advert =
            Advert { vrid: 51, priority: 1, max_advert_interval_cs: 10, addresses: vec![A] };
        listener.advert(src, &advert, Tick::from_ms(1));
    }
    assert_eq!(listener.speakers.len(), SPEAKERS_MAX);
}
