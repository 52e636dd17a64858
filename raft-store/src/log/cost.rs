//! What encryption costs. As a test it makes sure that nothing changes on the way; as a measurement:
//! `COST_ROUNDS=20 cargo test -p raft-store --lib -- --nocapture --test-threads 1 cost`.
//!
//! The same frames go into the same engine, with and without the seal. Both sides take turns, so that other work on the
//! machine meets both.

use super::*;
use crate::vault::{Purpose, Vault};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const ENTRIES: u64 = 256;
const ENTRIES_PER_FLUSH: usize = 64;
const PAYLOADS_OCTETS: [usize; 3] = [100, 1000, 10_000];

fn rounds() -> u64 {
    std::env::var("COST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn frames(round: u64, octets: usize) -> Vec<(u64, Vec<u8>)> {
    let payload = Bytes::from(vec![0x5a; octets]);
    let entry = |index| {
        let position = Position { term: 1, index };
        let record = Record { position, kind: RecordKind::Normal, payload: payload.clone() };
        (index, frame::encode(&record))
    };
    (round * ENTRIES..(round + 1) * ENTRIES).map(entry).collect()
}

/// Writes and reads the entries of one round; returns how long each took.
fn round(engine: &dyn LogEngine, round: u64, octets: usize) -> [Duration; 2] {
    let frames = frames(round, octets);
    let start = Instant::now();
    for batch in frames.chunks(ENTRIES_PER_FLUSH) {
        engine.append_batch(batch).unwrap();
        engine.flush().unwrap();
    }
    let written = start.elapsed();
    let start = Instant::now();
    let mut expected = frames.iter();
    engine
        .range(round * ENTRIES, u64::MAX, &mut |index, octets| {
            assert_eq!(expected.next().map(|(i, f)| (*i, f.as_slice())), Some((index, octets)));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(expected.next(), None);
    [written, start.elapsed()]
}

/// Median, in microseconds for each entry.
fn each(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6 / ENTRIES as f64
}

#[test]
fn a_sealed_engine_returns_what_a_plain_one_does_and_shows_its_cost() {
    println!("payload | microseconds to write plain, sealed | to read plain, sealed");
    for octets in PAYLOADS_OCTETS {
        let dir = tempfile::tempdir().unwrap();
        let plain = SledEngine::open(&dir.path().join("plain")).unwrap();
        let sealed = SledEngine::open(&dir.path().join("sealed")).unwrap();
        let sealed = SealedEngine::open(sealed, Arc::new(Vault::new(&[7; 32]))).unwrap();
        let engines: [&dyn LogEngine; 2] = [&plain, &sealed];
        let mut times: [[Vec<Duration>; 2]; 2] = Default::default();
        for n in 0..rounds() {
            for (engine, times) in engines.iter().zip(&mut times) {
                for (time, times) in round(*engine, n, octets).into_iter().zip(times) {
                    times.push(time);
                }
            }
        }
        let [[write_plain, read_plain], [write_sealed, read_sealed]] = times.map(|t| t.map(each));
        println!(
            "{octets:7} | {write_plain:7.1} {write_sealed:7.1} | {read_plain:6.2} {read_sealed:6.2}"
        );
    }
}

#[test]
fn sealing_and_opening_show_their_cost_alone() {
    println!("payload | microseconds to seal, to open");
    let vault = Vault::new(&[7; 32]);
    for octets in PAYLOADS_OCTETS {
        let plain = vec![0x5a; octets];
        let (mut seal, mut open) = (vec![], vec![]);
        for _ in 0..rounds() {
            let mut sealed: Vec<Vec<u8>> = vec![vec![]; usize::try_from(ENTRIES).unwrap()];
            let start = Instant::now();
            for out in &mut sealed {
                vault.seal(Purpose::Entry, b"place", &plain, out).unwrap();
            }
            seal.push(start.elapsed());
            let start = Instant::now();
            for out in &mut sealed {
                assert_eq!(vault.open(Purpose::Entry, b"place", out), Ok(plain.as_slice()));
            }
            open.push(start.elapsed());
        }
        println!("{octets:7} | {:.2} {:.2}", each(seal), each(open));
    }
}
