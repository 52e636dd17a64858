//! A small file system of its own for a node's data, so that it can be filled and stalled without harm
//! to the machine: an ext4 image behind a loop device.

use super::netns::run;
use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Size of a node's file system: several runs of chaos fit.
const OCTETS: u64 = 256 << 20;
const FILLER: &str = "filler";
const PROBE: &str = "probe";
/// Times that the last free blocks are claimed: the daemon frees some in the meantime.
const FILL_ROUNDS: usize = 16;

/// Whether this machine can make such file systems.
///
/// # Errors
/// What is missing.
pub fn available() -> Result<()> {
    ensure!(Path::new("/dev/loop-control").exists(), "the kernel has no loop devices");
    let known = fs::read_to_string("/proc/filesystems")?;
    ensure!(known.split_whitespace().any(|fs| fs == "ext4"), "the kernel has no ext4");
    run("mkfs.ext4", &["-V"]).map(|_| ()).context("the package e2fsprogs is missing")
}

/// Makes the image `image` and mounts it at `data`.
///
/// # Errors
/// When a tool fails.
pub fn mount(image: &Path, data: &Path) -> Result<()> {
    File::create(image)?.set_len(OCTETS)?;
    let (image, at) = (text(image)?, text(data)?);
    // No blocks kept back for root, which the daemon is in a lab.
    run("mkfs.ext4", &["-q", "-F", "-m", "0", image])?;
    fs::create_dir_all(data)?;
    run("mount", &["-o", "loop", image, at]).map(|_| ())
}

/// Takes all free space of the file system at `data`, and proves it by a write that fails.
///
/// # Errors
/// When it cannot be filled.
pub fn fill(data: &Path) -> Result<()> {
    let mut filler = File::create(data.join(FILLER))?;
    let mut end = 0;
    for _ in 0..FILL_ROUNDS {
        let free = nix::sys::statvfs::statvfs(data)?;
        let octets = i64::try_from(free.blocks_available() * free.fragment_size())?;
        if octets > 0 && fallocate(&filler, FallocateFlags::empty(), end, octets).is_ok() {
            end += octets;
        }
        // What the metadata of a large piece left over goes block by block.
        let block = usize::try_from(free.fragment_size())?;
        while fallocate(&filler, FallocateFlags::empty(), end, i64::try_from(block)?).is_ok() {
            end += i64::try_from(block)?;
        }
        filler.flush()?;
        if is_full(data)? {
            return Ok(());
        }
    }
    bail!("{} could not be filled", data.display())
}

/// Whether a new file of two blocks finds no room.
///
/// # Errors
/// When it fails for another reason.
pub fn is_full(data: &Path) -> Result<bool> {
    let probe = data.join(PROBE);
    let written = File::create(&probe).and_then(|mut f| f.write_all(&[1; 8192]).and(f.sync_all()));
    let _ = fs::remove_file(&probe);
    match written {
        Ok(()) => Ok(false),
        Err(e) if e.kind() == ErrorKind::StorageFull => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Gives the space back.
///
/// # Errors
/// When there was no filler.
pub fn free(data: &Path) -> Result<()> {
    fs::remove_file(data.join(FILLER)).with_context(|| data.display().to_string())
}

/// A file system on which every write waits.
pub struct Stalled {
    data: PathBuf,
    probe: Child,
}

impl Stalled {
    /// Freezes the file system at `data` and starts a write to it, which proves that it is.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn begin(data: &Path) -> Result<Self> {
        run("fsfreeze", &["-f", text(data)?])?;
        let probe = Command::new("touch")
            .arg(data.join(PROBE))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { data: data.to_owned(), probe })
    }

    /// Thaws it; returns whether the write had waited until then.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn end(mut self) -> Result<bool> {
        let waited = self.probe.try_wait()?.is_none();
        run("fsfreeze", &["-u", text(&self.data)?])?;
        let written = self.probe.wait()?.success();
        Ok(waited && written)
    }
}

/// Thaws and unmounts everything below `dir`. Processes that still have files open there only delay the
/// end of the device.
///
/// # Errors
/// When something stays mounted.
pub fn unmount_below(dir: &Path) -> Result<()> {
    for line in fs::read_to_string("/proc/mounts")?.lines() {
        let Some(at) = line.split(' ').nth(1).filter(|at| Path::new(at).starts_with(dir)) else {
            continue;
        };
        // Refused unless it is frozen.
        let _ = run("fsfreeze", &["-u", at]);
        run("umount", &["-l", at])?;
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}
