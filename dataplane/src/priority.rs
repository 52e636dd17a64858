//! Scheduling of the thread that renews quorum leases.

/// The lowest real-time priority: above every ordinary thread, below the kernel's own.
const PRIORITY: libc::c_int = 1;

/// Asks for real-time scheduling of the calling thread, so that a busy machine does not delay a
/// renewal past the lease. Returns whether the kernel agreed; without `CAP_SYS_NICE` it does not,
/// and the thread goes on as it is.
pub fn raise_thread_priority() -> bool {
    let param = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: `param` lives through the call, which only reads it; 0 names the calling thread.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const param)
            == 0
    }
}
