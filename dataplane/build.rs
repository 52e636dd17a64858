//! Compiles the eBPF programs with clang and leaves the object in `OUT_DIR`.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const PACKAGES: &str = "the Debian packages clang, libbpf-dev and linux-libc-dev are needed \
                        (apt-get install clang libbpf-dev linux-libc-dev)";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("cargo::error=eBPF programs: {why}; {PACKAGES}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let arch = env::var("CARGO_CFG_TARGET_ARCH").map_err(|e| e.to_string())?;
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let ran = Command::new(&clang)
        .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-mcpu=v3"])
        // Debian keeps asm/types.h in a folder per architecture, which -target bpf does not search.
        .arg(format!("-I/usr/include/{arch}-linux-gnu"))
        // Keep paths of the build machine out of the debug information.
        .arg(
            "-fdebug-prefix-map=".to_owned()
                + &env::var("CARGO_MANIFEST_DIR").unwrap_or_default()
                + "=.",
        )
        .args(["-c", "bpf/tandem.bpf.c", "-o"])
        .arg(out.join("tandem.bpf.o"))
        .output()
        .map_err(|e| format!("cannot run {clang}: {e}"))?;
    if ran.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    for line in text.lines() {
        println!("cargo::warning={line}");
    }
    Err(format!("{clang} failed"))
}
