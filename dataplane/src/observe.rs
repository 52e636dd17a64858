//! A look at the fences of a node from outside its daemon, for checkers.

use crate::ebpf::{self, Fences, map_error};
use crate::error::DataplaneError;
use model::Tick;
use std::path::Path;

/// The pinned fences of one node, read without its daemon: they stand when it is killed or stopped.
pub struct FenceView {
    fences: Fences,
}

impl FenceView {
    /// Opens the fences that a daemon with this pin directory made. They stay the same map when the
    /// daemon starts anew.
    ///
    /// # Errors
    /// [`DataplaneError::Map`] when there are none of this layout.
    pub fn open(pin_dir: &Path) -> Result<Self, DataplaneError> {
        ebpf::pinned_fences(pin_dir).map(|fences| Self { fences })
    }

    /// Until when the kernel lets the group in `slot` pass; groups get slots in the order in which the
    /// daemon learns of them, from 0.
    ///
    /// # Errors
    /// [`DataplaneError::Map`] when there is no such slot.
    pub fn until(&self, slot: u8) -> Result<Tick, DataplaneError> {
        let read = self.fences.get(&u32::from(slot), 0);
        read.map(Tick::from_ns).map_err(map_error("fences"))
    }
}
