use super::speaker::source_of;
use super::*;
use Fault::{
    HandOver, Isolate, Kill, LinkDown, LinkUp, Pause, PowerOff, Rejoin, Resume, Start, TrunkDown,
    TrunkUp,
};
use std::net::IpAddr;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 0..30;
const TANDEM: Kind = Kind::Tandem(None);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn each_seed(scenario: &Scenario, check: impl Fn(&Report, u64)) {
    for seed in SEEDS {
        check(&run(scenario, seed), seed);
    }
}

/// What must hold whenever Raft decides.
fn one_master(report: &Report, seed: u64) {
    assert_eq!(report.two_masters, Duration::ZERO, "seed {seed}: {report:#?}");
    assert_eq!(report.doubled_probes, 0, "seed {seed}: {report:#?}");
    assert_eq!(report.conflicts, [0, 0], "seed {seed}: {report:#?}");
}

fn speaker(n: usize) -> Option<IpAddr> {
    Some(source_of(n).into())
}

#[test]
fn without_faults_both_kinds_have_one_master_and_reach_both_sides() {
    for kind in [TANDEM, Kind::Stock] {
        each_seed(&Scenario::new(kind), |report, seed| {
            if kind == TANDEM {
                one_master(report, seed);
            }
            // Stock: a backup that started first may be master until the stronger one's advert.
            assert!(report.two_masters < ms(2), "{kind:?} seed {seed}: {report:#?}");
            assert_eq!(report.active_at_end, [speaker(0); 2], "{kind:?} seed {seed}");
            assert!(report.probes_accepted.iter().all(|n| *n > 240), "{kind:?}: {report:#?}");
            assert!(report.gap_max.iter().all(|gap| *gap <= ms(12)), "{kind:?}: {report:#?}");
        });
    }
}

#[test]
fn a_partition_of_the_access_network_leaves_one_master_when_raft_decides() {
    let scenario = Scenario::new(TANDEM).at_ms(1000, TrunkDown).at_ms(2000, TrunkUp);
    each_seed(&scenario, |report, seed| {
        one_master(report, seed);
        assert_eq!(report.active_at_end, [speaker(0); 2], "seed {seed}");
        // The price: the side without the owner is without service, and nobody hides it.
        assert!(report.gap_max[0] <= ms(12) && report.gap_max[1] >= ms(990), "{report:#?}");
    });
}

#[test]
fn a_partition_of_the_access_network_gives_stock_vrrp_two_masters() {
    let scenario = Scenario::new(Kind::Stock).at_ms(1000, TrunkDown).at_ms(2000, TrunkUp);
    each_seed(&scenario, |report, seed| {
        assert!(report.two_masters > ms(500), "seed {seed}: {report:#?}");
        assert_eq!(report.active_at_end, [speaker(0); 2], "seed {seed}");
    });
}

#[test]
fn a_killed_daemon_is_replaced_without_overlap_and_a_stock_backup_never_notices() {
    let scenario = Scenario::new(TANDEM).at_ms(1000, Kill(0));
    each_seed(&scenario, |report, seed| {
        one_master(report, seed);
        assert_eq!(report.active_at_end, [speaker(1); 2], "seed {seed}");
        assert_eq!(report.takeovers, [1, 1], "seed {seed}");
        assert_eq!(report.stock_listener_rose, [0, 0], "seed {seed}: {report:#?}");
        // The kernel forwards until its deadline, which the last acknowledgement may have missed:
        // renewal 25, margin 10, way 4, look 5, commit 30, next probe 12.
        assert!(report.gap_max.iter().all(|gap| *gap <= ms(86)), "seed {seed}: {report:#?}");
    });
}

#[test]
fn a_killed_stock_daemon_leaves_its_address_behind() {
    let scenario = Scenario::new(Kind::Stock).at_ms(1000, Kill(0));
    each_seed(&scenario, |report, seed| {
        assert!(report.two_masters > ms(1000), "seed {seed}: {report:#?}");
    });
}

#[test]
fn after_a_power_loss_the_gap_is_about_a_lease() {
    let scenario = Scenario::new(TANDEM).at_ms(1000, PowerOff(0));
    each_seed(&scenario, |report, seed| {
        one_master(report, seed);
        let longest = LEASE + ms(5 + 4 + 30 + 12);
        assert!(report.gap_max.iter().all(|gap| *gap > ms(120) && *gap < longest), "{report:#?}");
    });
}

#[test]
fn a_paused_owner_speaks_into_its_fence_when_it_wakes_up() {
    let scenario = Scenario::new(TANDEM).at_ms(1000, Pause(0)).at_ms(1700, Resume(0));
    each_seed(&scenario, |report, seed| {
        one_master(report, seed);
        assert!(report.frames_fenced > 0, "seed {seed}: the late advert was never tried");
        assert_eq!(report.active_at_end, [speaker(1); 2], "seed {seed}");
    });
}

#[test]
fn the_checker_finds_a_missing_kernel_fence() {
    let scenario = Scenario::new(Kind::Tandem(Some(Bug::NoKernelFence)))
        .at_ms(1000, Pause(0))
        .at_ms(1700, Resume(0));
    each_seed(&scenario, |report, seed| {
        assert!(report.two_masters > ms(400), "seed {seed}: {report:#?}");
        assert!(report.conflicts.iter().any(|n| *n > 0), "seed {seed}: {report:#?}");
    });
}

#[test]
fn the_checker_finds_a_takeover_before_the_promise_ends() {
    let scenario = Scenario::new(Kind::Tandem(Some(Bug::EarlyTakeover))).at_ms(1000, Isolate(0));
    each_seed(&scenario, |report, seed| {
        assert!(report.two_masters > Duration::ZERO, "seed {seed}: {report:#?}");
    });
}

#[test]
fn a_planned_switch_costs_a_few_milliseconds_and_raises_no_stock_backup() {
    let scenario = Scenario::new(TANDEM).at_ms(1000, HandOver(1)).at_ms(2000, HandOver(0));
    each_seed(&scenario, |report, seed| {
        one_master(report, seed);
        assert_eq!((report.takeovers, report.stock_listener_rose), ([2, 2], [0, 0]), "seed {seed}");
        assert_eq!(report.active_at_end, [speaker(0); 2], "seed {seed}");
        assert!(report.gap_max.iter().all(|gap| *gap <= ms(22)), "seed {seed}: {report:#?}");
    });
}

#[test]
fn an_owner_without_carrier_gives_the_group_up() {
    let scenario = Scenario::new(TANDEM).at_ms(1000, LinkDown(0)).at_ms(2000, LinkUp(0));
    each_seed(&scenario, |report, seed| {
        one_master(report, seed);
        assert_eq!(report.active_at_end, [speaker(1); 2], "seed {seed}");
        assert!(report.gap_max.iter().all(|gap| *gap <= ms(22)), "seed {seed}: {report:#?}");
    });
}

#[test]
fn loss_delays_and_many_faults_never_make_two_masters() {
    let mut scenario = Scenario::new(TANDEM)
        .at_ms(400, TrunkDown)
        .at_ms(700, Kill(0))
        .at_ms(1300, TrunkUp)
        .at_ms(1500, Start(0))
        .at_ms(1800, Isolate(1))
        .at_ms(2300, Rejoin(1))
        .at_ms(2500, HandOver(1))
        .at_ms(2900, Pause(1))
        .at_ms(3600, Resume(1))
        .at_ms(3900, HandOver(2))
        .at_ms(4300, PowerOff(2))
        .at_ms(4900, Start(2));
    scenario.speakers.push(Side::Right);
    (scenario.lost_per_mille, scenario.length) = (100, Duration::from_secs(6));
    each_seed(&scenario, |report, seed| {
        one_master(report, seed);
        assert!(report.probes_accepted.iter().all(|n| *n > 200), "seed {seed}: {report:#?}");
    });
}

#[test]
fn equal_seeds_give_equal_reports() {
    let mut scenario = Scenario::new(TANDEM).at_ms(1000, Kill(0));
    scenario.lost_per_mille = 100;
    assert_eq!(run(&scenario, 7), run(&scenario, 7));
    assert_ne!(run(&scenario, 7), run(&scenario, 8));
}
