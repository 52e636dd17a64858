//! Types generated from `proto/commands.proto` and `proto/snapshot.proto`.

#![allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    reason = "generated code: its documentation is the .proto file"
)]

include!(concat!(env!("OUT_DIR"), "/tandem.store.v1.rs"));
