//! The driver: sockets, clock, tasks, ownership, takeover; binary bngd.
