//! bngctl.
fn main() {}
