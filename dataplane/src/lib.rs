//! EBPF programs and their control, tc, nftables, routes, reconciler.
