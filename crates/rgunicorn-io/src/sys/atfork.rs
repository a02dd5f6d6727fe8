//! Knowing that this process is a fork of the one that started something. Costs one relaxed load per look.

use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static WATCH: Once = Once::new();

/// The thing to be done before each fork.
static BEFORE: AtomicPtr<Before> = AtomicPtr::new(ptr::null_mut());

/// Something to do before a fork, on the thread that forks.
pub type Before = Box<dyn Fn() + Send + Sync>;

/// Has something done before each fork of this process and of its children, in the place of what was to be done before.
/// The one that was is never freed: a fork may be doing it.
pub fn set_before(before: Before) {
    generation();
    BEFORE.store(Box::into_raw(Box::new(before)), Ordering::Release);
}

extern "C" fn in_parent_before() {
    // SAFETY: `set_before` put it there, and it is never freed.
    if let Some(before) = unsafe { BEFORE.load(Ordering::Acquire).as_ref() } {
        before();
    }
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    super::inherited::let_go_in_child();
}

/// Returns how many forks lie between the first process that asked and this one. A value taken before differs from one
/// taken in a child.
pub fn generation() -> u32 {
    WATCH.call_once(|| {
        // SAFETY: `in_child` is async-signal-safe (atomics, and system calls that are so); the other one runs where the
        // process is as it was. Both stay loaded: they belong to this library, which Python never unloads. Failure (no
        // memory) leaves forks unnoticed, as without this module.
        unsafe { libc::pthread_atfork(Some(in_parent_before), None, Some(in_child)) };
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
