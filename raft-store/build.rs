//! Generates the Rust types of `proto/*.proto` with protox, so that no `protoc` is needed.

use std::io::{Error, Result};
use std::path::PathBuf;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir("proto")? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "proto") {
            files.push(path);
        }
    }
    // The order of a directory listing is the file system's choice; the generated code must not
    // depend on it.
    files.sort();
    let descriptors = protox::compile(&files, ["proto"]).map_err(Error::other)?;
    tonic_prost_build::configure().emit_rerun_if_changed(false).compile_fds(descriptors)
}
