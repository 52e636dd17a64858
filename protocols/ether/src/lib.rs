//! Ethernet II, VLAN tags, ARP, IPv4 and UDP framing, sans-IO.
