use super::verify::LogError;
use super::*;
use crate::metrics::Counters;
use crate::vault::Vault;
use model::{ClusterId, NodeId};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

fn cluster() -> ClusterId {
    ClusterId("lab".to_owned())
}

fn vault() -> Arc<Vault> {
    Arc::new(Vault::new(&[7; 32]))
}

fn engine_at(dir: &Path) -> Result<SealedEngine<SledEngine>, LogError> {
    SealedEngine::open(SledEngine::open(&dir.join("log"))?, vault())
}

fn open_at(dir: &Path) -> Result<Opened, LogError> {
    let engine = engine_at(dir)?;
    open(Arc::new(engine), dir, &cluster(), NodeId(1))
}

fn record(term: u64, index: u64) -> Record {
    let payload = Bytes::from(format!("entry {index} of term {term} {}", "x".repeat(300)));
    Record { position: Position { term, index }, kind: RecordKind::Normal, payload }
}

fn waiter() -> (Done, oneshot::Receiver<io::Result<()>>) {
    let (tx, rx) = oneshot::channel();
    (Box::new(move |r| drop(tx.send(r))), rx)
}

/// Runs `script` against a writer and returns when all of it is durable and the store is closed.
async fn written(dir: &Path, script: impl AsyncFnOnce(&WriterHandle)) {
    let opened = open_at(dir).unwrap();
    let (writer, handle) =
        Writer::start(opened, Arc::new(Counters::default()), Box::new(|e| panic!("{e}"))).unwrap();
    script(&handle).await;
    drop(handle);
    tokio::task::spawn_blocking(|| writer.join()).await.unwrap();
}

async fn append(handle: &WriterHandle, term: u64, range: std::ops::Range<u64>) {
    for index in range {
        let (done, rx) = waiter();
        let op = Op::Append { records: vec![record(term, index)], queued: Instant::now(), done };
        handle.send(op).await.unwrap();
        if index % 7 == 0 {
            rx.await.unwrap().unwrap();
        }
    }
    let (done, rx) = waiter();
    handle.send(Op::Append { records: vec![], queued: Instant::now(), done }).await.unwrap();
    rx.await.unwrap().unwrap();
}

async fn vote(handle: &WriterHandle, term: u64) {
    let (done, rx) = waiter();
    let vote = StoredVote { term, node: 1, committed: true };
    handle.send(Op::Vote { vote, done }).await.unwrap();
    rx.await.unwrap().unwrap();
}

fn indexes(opened: &Opened) -> Vec<u64> {
    let mut out = vec![];
    opened
        .engine
        .range(0, u64::MAX, &mut |key, octets| {
            assert_eq!(frame::decode(key, octets).unwrap().position.index, key);
            out.push(key);
            ControlFlow::Continue(())
        })
        .unwrap();
    out
}

#[tokio::test]
async fn a_closed_log_opens_with_all_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), async |w| {
        vote(w, 3).await;
        append(w, 3, 0..50).await;
        w.send(Op::Committed(Some(Position { term: 3, index: 40 }))).await.unwrap();
        let (done, rx) = waiter();
        w.send(Op::Truncate { after: Some(Position { term: 3, index: 44 }), done }).await.unwrap();
        rx.await.unwrap().unwrap();
        append(w, 4, 45..48).await;
        let (done, rx) = waiter();
        w.send(Op::Purge { upto: Position { term: 3, index: 9 }, done }).await.unwrap();
        rx.await.unwrap().unwrap();
        assert_eq!(w.written_end(), 48);
    })
    .await;
    let opened = open_at(dir.path()).unwrap();
    assert_eq!(opened.vote, Some(StoredVote { term: 3, node: 1, committed: true }));
    assert_eq!(opened.committed, Some(Position { term: 3, index: 40 }));
    assert_eq!(opened.purged, Some(Position { term: 3, index: 9 }));
    assert_eq!(opened.last, Some(Position { term: 4, index: 47 }));
    assert_eq!(indexes(&opened), (10..48).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_purge_beyond_the_end_leaves_an_empty_log_that_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), async |w| {
        append(w, 1, 0..5).await;
        let (done, rx) = waiter();
        w.send(Op::Purge { upto: Position { term: 2, index: 99 }, done }).await.unwrap();
        rx.await.unwrap().unwrap();
        append(w, 2, 100..103).await;
    })
    .await;
    let opened = open_at(dir.path()).unwrap();
    assert_eq!(indexes(&opened), [100, 101, 102]);
}

#[tokio::test]
async fn a_store_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), async |w| vote(w, 1).await).await;
    let engine = engine_at(dir.path()).unwrap();
    let refused = open(Arc::new(engine), dir.path(), &cluster(), NodeId(2));
    assert!(matches!(refused.err(), Some(LogError::Owner { .. })));
}

/// Changes something behind the log's back and closes the engine.
fn tamper(engine: impl LogEngine, change: impl FnOnce(&dyn LogEngine)) {
    change(&engine);
    engine.flush().unwrap();
    drop(engine);
}

/// A log of 20 entries and a vote, closed.
async fn sample() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), async |w| {
        vote(w, 2).await;
        append(w, 2, 0..20).await;
    })
    .await;
    dir
}

#[tokio::test]
async fn damage_that_the_engine_does_not_notice_is_found() {
    type Damage = fn(&dyn LogEngine);
    let rows: [(&str, Damage); 7] = [
        ("a flipped bit", |e| {
            let mut octets = frame::encode(&record(2, 10));
            octets[40] ^= 1;
            e.append_batch(&[(10, octets)]).unwrap();
        }),
        ("an entry under another's key", |e| {
            e.append_batch(&[(10, frame::encode(&record(2, 11)))]).unwrap();
        }),
        ("a term that falls", |e| e.append_batch(&[(10, frame::encode(&record(1, 10)))]).unwrap()),
        ("a lost tail", |e| e.truncate(18).unwrap()),
        ("a lost head", |e| e.purge(3).unwrap()),
        ("an old vote", |e| {
            let vote = StoredVote { term: 1, node: 3, committed: false };
            e.meta_put(verify::KEY_VOTE, &verify::encode_vote(vote)).unwrap();
        }),
        ("a damaged vote", |e| e.meta_put(verify::KEY_VOTE, b"nonsense").unwrap()),
    ];
    for (name, damage) in rows {
        let dir = sample().await;
        tamper(engine_at(dir.path()).unwrap(), damage);
        let found = open_at(dir.path()).map(drop);
        assert!(matches!(found, Err(LogError::Corrupt(_))), "{name}: {found:?}");
    }
}

#[tokio::test]
async fn damage_below_the_encryption_is_found() {
    type Damage = fn(&dyn LogEngine);
    fn entry(e: &dyn LogEngine, index: u64) -> Vec<u8> {
        let mut found = vec![];
        e.range(index, index + 1, &mut |_, octets| {
            found = octets.to_vec();
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }
    let rows: [(&str, Damage); 5] = [
        ("a flipped bit", |e| {
            let mut octets = entry(e, 10);
            octets[60] ^= 1;
            e.append_batch(&[(10, octets)]).unwrap();
        }),
        ("an entry under another's key", |e| {
            e.append_batch(&[(10, entry(e, 11))]).unwrap();
        }),
        ("an entry in the clear", |e| {
            e.append_batch(&[(10, frame::encode(&record(2, 10)))]).unwrap();
        }),
        ("a value under another's name", |e| {
            let vote = e.meta_get(verify::KEY_VOTE).unwrap().unwrap();
            e.meta_put(verify::KEY_PURGED, &vote).unwrap();
        }),
        ("a damaged format", |e| e.meta_put("format", b"nonsense").unwrap()),
    ];
    for (name, damage) in rows {
        let dir = sample().await;
        tamper(SledEngine::open(&dir.path().join("log")).unwrap(), damage);
        let found = open_at(dir.path()).map(drop);
        assert!(matches!(found, Err(LogError::Corrupt(_))), "{name}: {found:?}");
    }
}

#[tokio::test]
async fn another_key_and_another_format_are_told_from_damage() {
    let dir = sample().await;
    let sled = || SledEngine::open(&dir.path().join("log")).unwrap();
    let other = SealedEngine::open(sled(), Arc::new(Vault::new(&[8; 32])));
    assert!(matches!(other.err(), Some(LogError::WrongKey)));
    assert!(open_at(dir.path()).is_ok(), "nothing was changed by the try");
    let newer = frame::encode_value(&[&[9][..], &vault().check_value()].concat());
    tamper(sled(), |e| e.meta_put("format", &newer).unwrap());
    assert!(matches!(open_at(dir.path()).err(), Some(LogError::Format(9))));

    let old = tempfile::tempdir().unwrap();
    let engine = SledEngine::open(&old.path().join("log")).unwrap();
    drop(open(Arc::new(engine), old.path(), &cluster(), NodeId(1)).unwrap());
    assert!(matches!(open_at(old.path()).err(), Some(LogError::Unencrypted)));
}

#[tokio::test]
async fn nothing_of_an_entry_shows_on_disk() {
    let dir = sample().await;
    let mut files = vec![dir.path().to_owned()];
    let mut octets = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let content = std::fs::read(&path).unwrap();
        octets += content.len();
        for secret in [&b"of term"[..], b"xxxxxxxx", b"of cluster"] {
            let shows = content.windows(secret.len()).any(|window| window == secret);
            assert!(!shows, "{} in {}", String::from_utf8_lossy(secret), path.display());
        }
    }
    assert!(octets > 20 * 300, "the entries are somewhere: {octets}");
}

#[tokio::test]
async fn a_wiped_engine_is_not_taken_for_a_new_node() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), async |w| vote(w, 2).await).await;
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    assert!(matches!(open_at(dir.path()).err(), Some(LogError::Corrupt(_))));
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A crash image holds all that was acknowledged before it was taken, or is refused.
fn check_image(name: &str, dir: &Path, acknowledged: u64) {
    match open_at(dir) {
        Ok(opened) => {
            let last = opened.last.map_or(0, |p| p.index);
            assert!(last >= acknowledged, "{name}: {last} of {acknowledged} acknowledged entries");
            assert_eq!(indexes(&opened), (0..=last).collect::<Vec<_>>(), "{name}");
            assert!(opened.vote.is_some(), "{name}");
        }
        Err(LogError::Corrupt(_) | LogError::Io(_)) => {}
        Err(
            e @ (LogError::Owner { .. }
            | LogError::WrongKey
            | LogError::Unencrypted
            | LogError::Format(_)),
        ) => panic!("{name}: {e}"),
    }
}

#[tokio::test]
async fn a_copy_taken_under_load_has_every_acknowledged_entry() {
    let dir = tempfile::tempdir().unwrap();
    let images = tempfile::tempdir().unwrap();
    let mut taken = vec![];
    written(dir.path(), async |w| {
        vote(w, 1).await;
        for round in 0..6 {
            append(w, 1, round * 40..(round + 1) * 40).await;
            // More are on their way while the copy is taken.
            let (done, rx) = waiter();
            let records = ((round + 1) * 40..(round + 1) * 40 + 1).map(|i| record(1, i)).collect();
            w.send(Op::Append { records, queued: Instant::now(), done }).await.unwrap();
            let image = images.path().join(round.to_string());
            copy_dir(dir.path(), &image);
            taken.push((image, (round + 1) * 40 - 1));
            rx.await.unwrap().unwrap();
        }
    })
    .await;
    let mut opened = 0;
    for (image, acknowledged) in taken {
        opened += u64::from(open_at(&image).is_ok());
        check_image(&image.display().to_string(), &image, acknowledged);
    }
    assert!(opened > 0, "no image could be opened at all");
}

#[tokio::test]
async fn a_cut_file_is_recovered_in_full_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), async |w| {
        vote(w, 1).await;
        append(w, 1, 0..200).await;
    })
    .await;
    let whole = std::fs::metadata(dir.path().join("log/db")).unwrap().len();
    let mut refused = 0;
    for step in 1..10 {
        let image = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), image.path());
        let file =
            std::fs::OpenOptions::new().write(true).open(image.path().join("log/db")).unwrap();
        file.set_len(whole * step / 10).unwrap();
        drop(file);
        refused += u64::from(open_at(image.path()).is_err());
        check_image(&format!("cut to {step} tenths"), image.path(), 199);
    }
    assert!(refused > 0, "cutting the file was never noticed");
}

/// An engine whose flush does what the test wants.
struct OddEngine {
    inner: SledEngine,
    flush: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
}

impl LogEngine for OddEngine {
    fn append_batch(&self, frames: &[(u64, Vec<u8>)]) -> io::Result<()> {
        self.inner.append_batch(frames)
    }
    fn range(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        self.inner.range(from, to, each)
    }
    fn truncate(&self, from: u64) -> io::Result<()> {
        self.inner.truncate(from)
    }
    fn purge(&self, upto: u64) -> io::Result<()> {
        self.inner.purge(upto)
    }
    fn meta_get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.meta_get(key)
    }
    fn meta_put(&self, key: &str, value: &[u8]) -> io::Result<()> {
        self.inner.meta_put(key, value)
    }
    fn flush(&self) -> io::Result<()> {
        (self.flush)()
    }
    fn size_octets(&self) -> io::Result<u64> {
        self.inner.size_octets()
    }
}

fn odd(dir: &Path, flush: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Opened {
    let mut opened = open_at(dir).unwrap();
    let inner = SledEngine::open(&dir.join("other")).unwrap();
    opened.engine = Arc::new(OddEngine { inner, flush: Box::new(flush) });
    opened
}

#[tokio::test]
async fn after_a_failed_flush_nothing_is_acknowledged_any_more() {
    type Flush = fn() -> io::Result<()>;
    let rows: [(Flush, &str); 2] = [
        (|| Err(io::Error::other("no space left")), "no space left"),
        (|| panic!("planted: the engine gives up"), "the storage engine panicked"),
    ];
    for (flush, want) in rows {
        let dir = tempfile::tempdir().unwrap();
        let opened = odd(dir.path(), flush);
        let (tx, failed) = oneshot::channel();
        let failing = Box::new(move |text| tx.send(text).unwrap());
        let (writer, handle) =
            Writer::start(opened, Arc::new(Counters::default()), failing).unwrap();
        for index in 0..3 {
            let (done, rx) = waiter();
            let op = Op::Append { records: vec![record(1, index)], queued: Instant::now(), done };
            handle.send(op).await.unwrap();
            assert!(rx.await.unwrap().is_err(), "{want}: entry {index} was acknowledged");
        }
        let reason = failed.await.unwrap();
        assert!(reason.contains(want) && reason.contains("start bngd again"), "{reason}");
        drop(handle);
        tokio::task::spawn_blocking(|| writer.join()).await.unwrap();
        assert_eq!(open_at(dir.path()).unwrap().last, None, "{want}");
    }
}

#[tokio::test]
async fn a_flush_that_hangs_is_seen_without_waiting_for_it_and_probes_show_that_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (let_go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    // Hangs until it is let go; all flushes after that are quick.
    let opened = odd(dir.path(), move || {
        let _ = gate.lock().unwrap().recv();
        Ok(())
    });
    let counters = Arc::new(Counters::default());
    let (writer, handle) =
        Writer::start(opened, Arc::clone(&counters), Box::new(|e| panic!("{e}"))).unwrap();
    let (done, rx) = waiter();
    let op = Op::Append { records: vec![record(1, 0)], queued: Instant::now(), done };
    handle.send(op).await.unwrap();
    let wanted = std::time::Duration::from_millis(30);
    while counters.disk.read(Instant::now()).unfinished.is_none_or(|age| age < wanted) {
        tokio::task::yield_now().await;
    }
    assert_eq!(counters.disk.read(Instant::now()).recent, None);
    drop(let_go);
    rx.await.unwrap().unwrap();
    while counters.disk.read(Instant::now()).recent.is_none_or(|took| took >= wanted) {
        writer.probe();
        tokio::task::yield_now().await;
    }
    assert_eq!(handle.written_end(), 1, "a probe is no entry");
    drop(handle);
    tokio::task::spawn_blocking(|| writer.join()).await.unwrap();
}
