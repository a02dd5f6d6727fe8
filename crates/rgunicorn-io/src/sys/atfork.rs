//! Knowing that this process is a fork of the one that started something. Costs one relaxed load per look.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static WATCH: Once = Once::new();

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    super::inherited::let_go_in_child();
}

/// Returns how many forks lie between the first process that asked and this one. A value taken before differs from one
/// taken in a child.
pub fn generation() -> u32 {
    WATCH.call_once(|| {
        // SAFETY: `in_child` is async-signal-safe (atomics, and system calls that are so) and stays loaded: it belongs
        // to this library, which Python never unloads. Failure (no memory) leaves forks unnoticed, as without this
        // module.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    GENERATION.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_sees_another_generation() {
        let before = generation();
        // SAFETY: the child only compares a number and leaves.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let status = i32::from(generation() != before + 1);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(status) };
        }
        let mut status = -1;
        // SAFETY: waits for the child made above.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(generation(), before);
    }
}
