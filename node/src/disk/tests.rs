use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const QUIET: DiskHealth = DiskHealth { unfinished: None, recent: None, last_ended: None };

fn took(recent: u64, ago: u64) -> DiskHealth {
    DiskHealth { unfinished: None, recent: Some(ms(recent)), last_ended: Some(ms(ago)) }
}

fn hangs(age: u64) -> DiskHealth {
    DiskHealth { unfinished: Some(ms(age)), ..took(2, age) }
}

/// Rows of a script: when, what the disk shows, and what is made of it. The bound is 500 ms.
type Row = (u64, DiskHealth, Option<Turn>, &'static str);

fn run(rows: &[Row]) -> Monitor {
    let mut monitor = Monitor::new(ms(500));
    for (at_ms, health, want, what) in rows {
        let got = monitor.step(*health, Tick::from_ms(*at_ms));
        assert_eq!(got, *want, "{what} at {at_ms} ms");
    }
    monitor
}

#[test]
fn a_disk_that_stays_above_the_bound_is_slow_until_it_was_fast_for_long() {
    run(&[
        (0, QUIET, None, "nothing written yet"),
        (100, took(3, 10), None, "fast"),
        (1_000, hangs(490), None, "within the bound"),
        (1_020, hangs(510), None, "above it, not for long"),
        (1_519, hangs(1_009), None, "a moment before"),
        (1_520, hangs(1_010), Some(Turn::Slow { took: ms(1_010) }), "above it for a whole bound"),
        (9_000, hangs(8_490), None, "still"),
        (9_100, took(900, 5), None, "it finished, but the recent ones were slow"),
        (9_600, took(400, 5), None, "below the bound is not yet fast"),
        (10_000, took(200, 5), None, "fast"),
        (11_999, took(3, 5), None, "a moment before"),
        (12_000, took(3, 5), Some(Turn::Recovered), "fast for four bounds"),
        (12_010, took(3, 5), None, "no news"),
    ]);
}

#[test]
fn one_slow_write_among_fast_ones_is_no_slow_disk() {
    run(&[
        (0, hangs(600), None, "a single long flush"),
        (200, took(3, 5), None, "over"),
        (400, hangs(600), None, "another one"),
        (600, took(3, 5), None, "over"),
        (2_000, took(3, 5), None, "fast"),
    ]);
}

#[test]
fn a_relapse_begins_the_calm_anew() {
    run(&[
        (0, took(700, 5), None, "above"),
        (500, took(700, 5), Some(Turn::Slow { took: ms(700) }), "slow"),
        (1_000, took(3, 5), None, "calm begins"),
        (2_500, hangs(300), None, "a relapse, though within the bound"),
        (3_000, took(3, 5), None, "calm begins again"),
        (3_500, took(3, 5), None, "too early"),
        (5_000, took(3, 5), Some(Turn::Recovered), "calm for four bounds"),
    ]);
}

#[test]
fn old_slow_writes_say_nothing_about_now_unless_the_disk_is_slow_already() {
    run(&[
        (0, took(700, 5_001), None, "idle since: nobody knows"),
        (600, took(700, 5_601), None, "still idle"),
        (1_000, took(700, 5), None, "written just now"),
        (1_500, took(700, 505), Some(Turn::Slow { took: ms(700) }), "slow"),
        (9_000, took(700, 8_005), None, "idle, and not forgiven"),
    ]);
}

#[test]
fn an_idle_slow_disk_is_probed_once_per_bound_and_a_fast_one_never() {
    let mut fast = run(&[(0, took(3, 5), None, "fast")]);
    assert!(!fast.wants_probe(took(3, 60_000), Tick::from_ms(1)));
    let mut slow = run(&[
        (0, took(700, 5), None, "above"),
        (500, took(700, 5), Some(Turn::Slow { took: ms(700) }), "slow"),
    ]);
    assert!(!slow.wants_probe(hangs(10), Tick::from_ms(510)), "something is being written");
    assert!(!slow.wants_probe(took(700, 499), Tick::from_ms(990)), "written lately");
    assert!(slow.wants_probe(took(700, 500), Tick::from_ms(1_000)));
    assert!(!slow.wants_probe(took(700, 900), Tick::from_ms(1_400)), "the probe is on its way");
    assert!(slow.wants_probe(took(700, 1_000), Tick::from_ms(1_500)));
}

#[test]
fn profile_fast_is_refused_with_what_failed_the_figure_and_what_to_do() {
    // real-time, p99 in microseconds, words that must and must not stand there
    let rows: &[(bool, u64, &[&str], &[&str])] = &[
        (true, 4_999, &[], &[]),
        (false, 900, &["SCHED_FIFO", "CAP_SYS_NICE", "\"default\""], &["flushes"]),
        (true, 5_000, &["5.0 ms", "the bound is 5 ms", "\"default\""], &["SCHED_FIFO"]),
        (false, 21_340, &["SCHED_FIFO", "21.3 ms"], &[]),
    ];
    for (realtime, p99_us, must, must_not) in rows {
        let text = match verdict(*realtime, Duration::from_micros(*p99_us)) {
            Ok(()) => String::new(),
            Err(refused) => refused.to_string(),
        };
        assert_eq!(text.is_empty(), must.is_empty(), "{realtime} {p99_us}: {text}");
        assert!(must.iter().all(|w| text.contains(w)), "{realtime} {p99_us}: {text}");
        assert!(!must_not.iter().any(|w| text.contains(w)), "{realtime} {p99_us}: {text}");
    }
}

#[test]
fn flushes_are_measured_in_the_data_directory_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let flushes = measure(dir.path()).unwrap();
    assert!(!flushes.is_empty() && flushes.len() <= SAMPLES);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(measure(&dir.path().join("missing")).is_err());
    let mut sorted: Vec<Duration> = (1..=100).rev().map(ms).collect();
    assert_eq!(p99(&mut sorted), ms(99));
    assert_eq!(p99(&mut [ms(4), ms(9)]), ms(9));
    assert_eq!(p99(&mut []), Duration::MAX, "nothing measured is not fast");
}
