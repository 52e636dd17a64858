//! VRRPv3 wire format, announcer and listener, sans-IO.
