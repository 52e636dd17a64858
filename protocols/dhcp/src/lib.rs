//! DHCPv4 server and client engines, sans-IO.
