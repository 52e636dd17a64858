use super::*;
use crate::parse_frame;
use StateName::{Active, Backup, Initialize};

const LOW: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
const MINE: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 2);
const HIGH: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 3);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 100);

#[derive(Clone, Copy, Debug)]
enum In {
    Up,
    Down,
    Late,
    From(Ipv4Addr, u8),
}

/// Priority 100, interval 100 ms: skew 60.9375 ms, active down 360.9375 ms.
fn router(priority: u8, preempt: bool) -> Router {
    let mut cfg = RouterConfig::new(51, MINE, vec![VIP]);
    (cfg.priority, cfg.interval_cs, cfg.preempt) = (priority, 10, preempt);
    Router::new(cfg)
}

fn word(action: &Action) -> String {
    match action {
        Action::Became(state) => format!("{state:?}"),
        Action::Send(octets) => match parse_frame(octets).unwrap() {
            Some(received) => format!("advert {}", received.advert.priority),
            None => "garp".to_owned(),
        },
    }
}

fn run(mut router: Router, script: &[(u64, In, &[&str], StateName)]) {
    for (row, &(at_us, input, want, state)) in script.iter().enumerate() {
        let priority = if let In::From(_, priority) = input { priority } else { 0 };
        let advert =
            Advert { vrid: 51, priority, max_advert_interval_cs: 10, addresses: vec![VIP.into()] };
        let event = match input {
            In::Up => Event::Startup,
            In::Down => Event::Shutdown,
            In::Late => Event::Deadline,
            In::From(src_ip, _) => Event::Advert { src_ip, advert: &advert },
        };
        let got = router.step(&event, Tick::from_ns(at_us * 1000));
        let got: Vec<String> = got.iter().map(word).collect();
        assert_eq!(got, want, "row {row}: {input:?} at {at_us} us");
        assert_eq!(router.state(), state, "row {row}: {input:?} at {at_us} us");
    }
}

#[test]
fn a_backup_takes_over_after_three_intervals_and_the_skew() {
    run(
        router(100, true),
        &[
            (0, In::Late, &[], Initialize),
            (1_000_000, In::Up, &["Backup"], Backup),
            (1_300_000, In::From(LOW, 150), &[], Backup),
            (1_660_937, In::Late, &[], Backup),
            (1_660_938, In::Late, &["advert 100", "garp", "Active"], Active),
            (1_760_937, In::Late, &[], Active),
            (1_760_938, In::Late, &["advert 100"], Active),
        ],
    );
}

#[test]
fn a_farewell_shortens_the_wait_to_the_skew() {
    run(
        router(100, true),
        &[
            (1_000_000, In::Up, &["Backup"], Backup),
            (1_100_000, In::From(LOW, 150), &[], Backup),
            (1_150_000, In::From(LOW, 0), &[], Backup),
            (1_210_937, In::Late, &[], Backup),
            (1_210_938, In::Late, &["advert 100", "garp", "Active"], Active),
        ],
    );
}

#[test]
fn a_stronger_backup_ignores_a_weaker_active_router() {
    run(
        router(100, true),
        &[
            (1_000_000, In::Up, &["Backup"], Backup),
            (1_300_000, In::From(HIGH, 99), &[], Backup),
            (1_360_938, In::Late, &["advert 100", "garp", "Active"], Active),
        ],
    );
}

#[test]
fn without_preemption_a_stronger_backup_waits() {
    run(
        router(100, false),
        &[
            (1_000_000, In::Up, &["Backup"], Backup),
            (1_300_000, In::From(HIGH, 99), &[], Backup),
            (1_360_938, In::Late, &[], Backup),
        ],
    );
}

#[test]
fn an_active_router_yields_to_the_stronger_and_answers_the_weaker() {
    let start: &[(u64, In, &[&str], StateName)] = &[
        (1_000_000, In::Up, &["Backup"], Backup),
        (1_400_000, In::Late, &["advert 100", "garp", "Active"], Active),
    ];
    let cases: &[(In, &[&str], StateName)] = &[
        (In::From(LOW, 101), &["Backup"], Backup),
        (In::From(HIGH, 100), &["Backup"], Backup), // the higher address wins a draw
        (In::From(LOW, 100), &["advert 100"], Active),
        (In::From(HIGH, 99), &["advert 100"], Active),
        (In::From(HIGH, 0), &["advert 100"], Active),
        (In::Down, &["advert 0", "Initialize"], Initialize),
    ];
    for &(input, want, state) in cases {
        let mut script = start.to_vec();
        script.push((1_450_000, input, want, state));
        run(router(100, true), &script);
    }
}

#[test]
fn an_address_owner_is_active_at_once_and_listens_to_nobody() {
    run(
        router(255, true),
        &[
            (1_000_000, In::Up, &["advert 255", "garp", "Active"], Active),
            (1_050_000, In::From(HIGH, 255), &[], Active),
            (1_100_000, In::Late, &["advert 255"], Active),
        ],
    );
}

#[test]
fn a_backup_that_stops_says_nothing() {
    run(
        router(100, true),
        &[
            (1_000_000, In::Up, &["Backup"], Backup),
            (1_100_000, In::Down, &["Initialize"], Initialize),
            (9_000_000, In::Late, &[], Initialize),
        ],
    );
}

#[test]
fn adverts_of_other_virtual_routers_are_ignored() {
    let mut router = router(100, true);
    let _ = router.step(&Event::Startup, Tick::from_ms(1000));
    let before = router.deadline();
    let advert =
        Advert { vrid: 52, priority: 200, max_advert_interval_cs: 10, addresses: vec![VIP.into()] };
    let event = Event::Advert { src_ip: HIGH, advert: &advert };
    assert_eq!(router.step(&event, Tick::from_ms(1100)), []);
    assert_eq!(router.deadline(), before);
}

#[test]
fn a_backup_adopts_the_interval_of_the_active_router() {
    let mut router = router(100, true);
    let _ = router.step(&Event::Startup, Tick::from_ms(1000));
    let advert = Advert {
        vrid: 51,
        priority: 200,
        max_advert_interval_cs: 100,
        addresses: vec![VIP.into()],
    };
    let event = Event::Advert { src_ip: HIGH, advert: &advert };
    let _ = router.step(&event, Tick::from_ms(1000));
    // 3 s and a skew of 156/256 s.
    assert_eq!(router.deadline(), Some(Tick::from_ms(1000) + Duration::from_micros(3_609_375)));
}
