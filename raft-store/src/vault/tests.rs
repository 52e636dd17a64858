use super::key_file::{KeyFileError, load};
use super::*;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

fn vault(n: u8) -> Vault {
    Vault::new(&[n; KEY_OCTETS])
}

fn sealed(vault: &Vault, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    vault.seal(Purpose::Entry, b"7", plain, &mut out).unwrap();
    out
}

#[test]
fn what_was_sealed_can_be_opened_only_with_its_key_purpose_and_place() {
    let (mine, other) = (vault(1), vault(2));
    for plain in [&b""[..], b"x", &[9; 70_000]] {
        let out = sealed(&mine, plain);
        assert_eq!(out.len(), plain.len() + SEAL_OCTETS);
        let open = |vault: &Vault, purpose, place: &[u8]| {
            vault.open(purpose, place, &mut out.clone()).map(<[u8]>::to_vec)
        };
        assert_eq!(open(&mine, Purpose::Entry, b"7").as_deref(), Ok(plain));
        assert_eq!(open(&other, Purpose::Entry, b"7"), Err(Unreadable), "another key");
        assert_eq!(open(&mine, Purpose::Value, b"7"), Err(Unreadable), "another purpose");
        assert_eq!(open(&mine, Purpose::Entry, b"8"), Err(Unreadable), "another place");
    }
}

#[test]
fn every_changed_octet_and_every_cut_is_noticed() {
    let vault = vault(1);
    let good = sealed(&vault, b"a password");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(vault.open(Purpose::Entry, b"7", &mut bad), Err(Unreadable), "octet {at}");
        let mut short = good[..at].to_vec();
        assert_eq!(vault.open(Purpose::Entry, b"7", &mut short), Err(Unreadable), "cut to {at}");
    }
}

#[test]
fn sealing_the_same_octets_twice_shows_nothing_of_it() {
    let vault = vault(1);
    let drawn: BTreeSet<_> =
        (0..1000).map(|_| sealed(&vault, b"same")[..SELECTOR_OCTETS].to_vec()).collect();
    assert_eq!(drawn.len(), 1000);
}

/// The layout is on disks: another KDF or order would make them unreadable.
#[test]
fn sealed_octets_of_older_builds_can_be_opened() {
    let frozen = include_str!("tests/frozen.txt").trim();
    let mut octets = hex::decode(frozen).unwrap_or_default();
    let vault = vault(1);
    let Ok(plain) = vault.open(Purpose::Entry, b"7", &mut octets) else {
        panic!("expected something like {}", hex::encode(sealed(&vault, b"frozen")));
    };
    assert_eq!(plain, b"frozen");
    let check = hex::encode(vault.check_value());
    assert_eq!(check, "0e2d52941c18817863e26931d20ce56a", "stored beside each log");
}

#[test]
fn blocks_of_a_file_cannot_be_moved_left_out_or_cut_off() {
    let key = vault(1).file_key().unwrap();
    let mut writer = Blocks::new(&key);
    let mut blocks: Vec<_> = [&b"one"[..], b"two"].map(<[u8]>::to_vec).into();
    for block in &mut blocks {
        writer.seal(Place::Middle, block).unwrap();
    }
    let mut end = vec![];
    writer.seal(Place::End, &mut end).unwrap();
    let read = |order: &[&Vec<u8>]| {
        let mut reader = Blocks::new(&key);
        let (last, middle) = order.split_last().unwrap();
        for block in middle {
            reader.open(Place::Middle, &mut (*block).clone())?;
        }
        reader.open(Place::End, &mut (*last).clone())
    };
    assert_eq!(read(&[&blocks[0], &blocks[1], &end]), Ok(()));
    assert_eq!(read(&[&blocks[1], &blocks[0], &end]), Err(Unreadable), "moved");
    assert_eq!(read(&[&blocks[0], &end]), Err(Unreadable), "left out");
    assert_eq!(read(&[&blocks[0], &blocks[1]]), Err(Unreadable), "cut off");
    assert!(
        Blocks::new(&vault(1).file_key().unwrap()).open(Place::Middle, &mut blocks[0]).is_err()
    );
}

#[test]
fn a_key_is_made_once_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let made = load(&path, false).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for store_exists in [false, true] {
        assert_eq!(load(&path, store_exists).unwrap().check_value(), made.check_value());
    }
    let other = load(&dir.path().join("other"), false).unwrap();
    assert_ne!(other.check_value(), made.check_value());
}

#[test]
fn a_key_that_a_store_needs_is_never_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    assert!(matches!(load(&path, true), Err(KeyFileError::Missing)));
    assert!(!path.exists());
    load(&path, false).unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    // Cut short by a crash: made anew only when nothing can have been sealed with it.
    for length in [0, 5, 40] {
        write(&good[..length]);
        assert!(matches!(load(&path, true), Err(KeyFileError::Unusable(_))), "{length}");
        assert!(load(&path, false).is_ok(), "{length}");
        assert_eq!(std::fs::read_to_string(&path).unwrap().len(), good.len());
    }
    let other = "something else";
    write(other);
    assert!(matches!(load(&path, false), Err(KeyFileError::Unusable(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), other, "not ours to remove");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    load(&path, false).unwrap();
    for (mode, good) in [(0o400, true), (0o600, true), (0o640, false), (0o604, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(load(&path, true).is_ok(), good, "{mode:o}");
    }
}
