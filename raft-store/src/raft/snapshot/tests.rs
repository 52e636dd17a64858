use super::*;
use crate::raft::wire::log_id;
use crate::state::Section;

fn cluster() -> ClusterId {
    ClusterId("lab".to_owned())
}

fn vault() -> Arc<Vault> {
    Arc::new(Vault::new(&[7; 32]))
}

fn open_dir(dir: PathBuf) -> SnapshotDir {
    SnapshotDir::open(dir, cluster(), vault()).unwrap()
}

fn meta_at(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(log_id(3, index)),
        last_membership: StoredMembership::default(),
    }
}

fn sections(seed: u8) -> Vec<Section> {
    let large = vec![seed; BLOCK_OCTETS + 1];
    vec![
        Section { kind: 1, records: vec![] },
        Section { kind: 2, records: (0..5000_u32).map(|n| n.to_le_bytes().repeat(40)).collect() },
        Section { kind: 3, records: vec![vec![], large, vec![seed]] },
    ]
}

#[test]
fn a_snapshot_reads_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_dir(dir.path().join("s"));
    let handle = store.save(&meta_at(10), &sections(7)).unwrap();
    let contents = read(&handle, &cluster()).unwrap();
    assert_eq!(contents.meta, meta_at(10));
    let plain = |s: &[Section]| s.iter().map(|s| (s.kind, s.records.clone())).collect::<Vec<_>>();
    assert_eq!(plain(&contents.sections), plain(&sections(7)));
    let other = ClusterId("other".to_owned());
    assert!(matches!(read(&handle, &other), Err(SnapshotError::Cluster { .. })));
}

#[test]
fn every_flipped_octet_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let small = vec![Section { kind: 2, records: vec![b"one".to_vec(), b"two".to_vec()] }];
    write(&path, &vault(), &cluster(), &meta_at(5), &small).unwrap();
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        let read =
            SnapshotHandle::open(&path, &vault()).and_then(|handle| read(&handle, &cluster()));
        assert!(read.is_err(), "octet {at}");
    }
    for length in 0..good.len() {
        std::fs::write(&path, &good[..length]).unwrap();
        let read =
            SnapshotHandle::open(&path, &vault()).and_then(|handle| read(&handle, &cluster()));
        assert!(read.is_err(), "cut to {length}");
    }
}

#[test]
fn two_are_kept_and_a_damaged_newest_one_gives_way_to_the_older() {
    let dir = tempfile::tempdir().unwrap();
    let open = || open_dir(dir.path().to_owned());
    let store = open();
    for index in [10, 20, 30] {
        store.save(&meta_at(index), &sections(1)).unwrap();
    }
    let files = store.list(PREFIX).unwrap();
    assert_eq!(files.len(), KEEP);
    assert_eq!(open().current().unwrap().meta, meta_at(30));
    let mut octets = std::fs::read(&files[1]).unwrap();
    octets[200] ^= 1;
    std::fs::write(&files[1], octets).unwrap();
    assert_eq!(open().current().unwrap().meta, meta_at(20));
    assert_eq!(open().current().unwrap().meta, meta_at(20), "the damaged file is set aside");
}

#[test]
fn an_installed_file_of_another_directory_is_copied() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sender = open_dir(from.path().to_owned());
    let own_key = Arc::new(Vault::new(&[8; 32]));
    let receiver =
        SnapshotDir::open(to.path().to_owned(), cluster(), Arc::clone(&own_key)).unwrap();
    let handle = sender.save(&meta_at(8), &sections(2)).unwrap();
    receiver.install(&handle, &meta_at(8)).unwrap();
    assert!(handle.path.exists());
    let current = receiver.current().unwrap();
    assert_eq!(current.meta, meta_at(8));
    assert_eq!(current.handle.digest, handle.digest);
    let contents = read(&current.handle, &cluster()).unwrap();
    assert_eq!(contents.sections, sections(2));
    let again = SnapshotDir::open(to.path().to_owned(), cluster(), own_key).unwrap();
    assert_eq!(again.current().unwrap().meta, meta_at(8), "it is sealed under the new owner's key");
}

#[test]
fn a_file_of_another_node_is_set_aside_and_none_of_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let secret = b"correct horse battery staple";
    let sections = vec![Section { kind: 1, records: vec![secret.to_vec()] }];
    let handle = open_dir(dir.path().to_owned()).save(&meta_at(10), &sections).unwrap();
    let octets = std::fs::read(&handle.path).unwrap();
    assert!(!octets.windows(secret.len()).any(|window| window == secret));
    let other = Arc::new(Vault::new(&[8; 32]));
    let store = SnapshotDir::open(dir.path().to_owned(), cluster(), other).unwrap();
    assert!(store.current().is_none());
    assert!(!handle.path.exists());
}
