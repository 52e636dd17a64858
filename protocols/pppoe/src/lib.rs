//! PPPoE discovery and session framing, sans-IO.
