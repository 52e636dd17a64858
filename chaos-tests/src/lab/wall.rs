//! A wall clock of its own for a node: Debian's libfaketime between the daemon and the C library, told
//! by a file what to add to `CLOCK_REALTIME`. The monotonic clocks stay those of the kernel.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
/// How long the library may go by the old content of the file, in seconds; the least that it takes.
const CACHE_S: &str = "1";

/// The library, where Debian puts it for this architecture.
///
/// # Errors
/// When it is not installed.
pub fn library() -> Result<PathBuf> {
    let dirs = std::fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path().join(LIBRARY));
    dirs.into_iter().find(|path| path.exists()).context("the package libfaketime is missing")
}

/// Lets `command` run by the wall clock of `file`.
///
/// # Errors
/// When the library is not installed.
pub fn preload(command: &mut Command, file: &Path) -> Result<()> {
    command
        .env("LD_PRELOAD", library()?)
        .env("FAKETIME_TIMESTAMP_FILE", file)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("FAKETIME_CACHE_DURATION", CACHE_S)
        .env("NO_FAKE_STAT", "1");
    Ok(())
}

/// Sets what the clock of `file` shows beyond the true time.
///
/// # Errors
/// When the file cannot be written.
pub fn set(file: &Path, offset_s: i64) -> Result<()> {
    let next = file.with_extension("next");
    std::fs::write(&next, format!("{offset_s:+}\n"))?;
    // In one step: the daemon may read it at any time.
    Ok(std::fs::rename(&next, file)?)
}

/// Removes what the library leaves in shared memory for each process that was killed.
///
/// # Errors
/// When the directory cannot be read.
pub fn clean_up() -> Result<()> {
    for entry in std::fs::read_dir("/dev/shm")?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let parts = ["faketime_shm_", "sem.faketime_sem_"];
        let pid = parts.iter().find_map(|p| name.strip_prefix(p));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another clean-up may have been faster.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}
