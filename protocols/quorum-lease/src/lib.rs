//! Quorum lease engines: voter, holder, sealer, sans-IO.
