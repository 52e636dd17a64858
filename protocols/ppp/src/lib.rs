//! PPP engines for both roles, sans-IO.
