//! Where state may live while greenlets switch: the stack rule (docs/architecture.md, "The stack rule") as types.
//!
//! # What can go wrong
//!
//! All greenlets of a thread run on one C stack. `greenlet` keeps them apart by copying: a greenlet owns the bytes from
//! its stack pointer up to the place where it was first entered, and when another one is resumed, whatever lies below
//! *that* one's place is copied to the heap and its own bytes are copied back to where they were. So while a greenlet
//! runs, the memory of a Rust frame that belongs to a suspended one may hold anything. Three things follow for code
//! that calls Python, where every call (and every drop of an object) may switch:
//!
//! 1. A reference into a suspended frame, held by the kernel, a thread-local, a ring or another greenlet, reads and
//!    writes another greenlet's variables.
//! 2. A borrow or a lock guard in a suspended frame is alive all the same: the greenlet that runs meanwhile on this
//!    thread finds the cell borrowed or, with a lock, waits for itself.
//! 3. A frame may never be resumed (its greenlet leaks), or be resumed by an exception: what it was about to repair
//!    stays as it was.
//!
//! # Why this module prevents it
//!
//! - State that outlives a call into Python is on the heap, in a [`GilCell`] inside a Python object, and is found again
//!   by a handle. Nothing gives a pointer to a frame away (1).
//! - A [`GilCell`] can be looked into only by [`GilCell::with`], whose borrow ends when the closure returns; a guard
//!   cannot be carried over a call (2), and state is whole before each call, because the closure that changes it has
//!   returned (3).
//! - What is left to discipline, calling Python from inside such a closure, is checked: [`assert_no_borrow`] stands at
//!   every place where this crate hands control to Python code of a gevent program, and where that code comes in, and
//!   in builds with debug assertions it panics if any closure is open on this thread. The black-box suite runs such a
//!   build, and `tests/apps/stress_greenlets.py` tries to get there.
//! - Objects that the closures take out are returned from them and dropped after.
//!
//! # Threads
//!
//! A [`GilCell`] is guarded by the interpreter lock: a closure runs on the thread that holds it and does not give it up
//! (it makes no Python call). The module declares that it needs the lock (`gil_used`), so a free-threaded interpreter
//! switches it on. What only one thread may touch at all, because the kernel says so or because a wait holds it with
//! the lock released, is a [`ThreadBound`].

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;

use rgunicorn_io::sys::atfork;

/// State in a Python object, reached with the interpreter lock held. See the module's text.
#[derive(Debug, Default)]
pub struct GilCell<T>(RefCell<T>);

// SAFETY: all access goes through `with`, which wants the token of the interpreter lock; the closure makes no Python
// call (asserted by `assert_no_borrow`), so the lock is not given up inside, and no two threads are inside at a time.
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    /// Makes a cell with this content.
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Looks into the cell. Nothing in `look` may run Python: not a call, not the drop of a Python object.
    ///
    /// # Panics
    /// When the cell is open already: `look` has run Python all the same.
    #[inline]
    pub fn with<R>(&self, _py: Python<'_>, look: impl FnOnce(&mut T) -> R) -> R {
        let mut inside = self.0.borrow_mut();
        let _open = Open::count();
        look(&mut inside)
    }

    /// Looks into the cell for the collector, which may come at any moment: `None` while the cell is open.
    pub fn peek<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.try_borrow().ok().map(|inside| look(&inside))
    }
}

#[cfg(debug_assertions)]
thread_local! {
    static OPEN: Cell<u32> = const { Cell::new(0) };
}

/// Counts open closures in builds with debug assertions.
struct Open;

impl Open {
    #[inline]
    fn count() -> Self {
        #[cfg(debug_assertions)]
        OPEN.set(OPEN.get() + 1);
        Self
    }
}

impl Drop for Open {
    #[inline]
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        OPEN.set(OPEN.get() - 1);
    }
}

/// Asserts that nothing is open on this thread. Stands where control goes to Python code that may switch greenlets, or
/// comes from there. Costs nothing in release builds.
#[inline]
#[track_caller]
pub fn assert_no_borrow() {
    #[cfg(debug_assertions)]
    assert_eq!(OPEN.get(), 0, "the stack rule: a cell is open while Python runs");
}

/// A value that belongs to one thread of one process. Others get an error (or nothing); they may drop it only through
/// [`ThreadBound::take`], which says whose value it is.
#[derive(Debug)]
pub struct ThreadBound<T> {
    owner: GilCell<Owner>,
    value: RefCell<Option<T>>,
}

/// A thread of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    thread: usize,
    forks: u32,
}

impl Owner {
    fn here() -> Self {
        thread_local! {
            /// Its address is this thread's name: no two living threads share it, and reading it is free.
            static HERE: Cell<u8> = const { Cell::new(0) };
        }
        Self { thread: HERE.with(|here| std::ptr::from_ref(here).addr()), forks: atfork::generation() }
    }
}

/// Why a [`ThreadBound`] is not for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongOwner {
    /// The value belongs to another thread.
    Thread,
    /// The value was made before a fork, by the parent.
    Fork,
}

// SAFETY: `value` is reached only on the owner's thread (`check`), with two exceptions, `take` and `replace`, which
// need the interpreter lock and are for values whose thread is over, or whose process is another's; see there.
unsafe impl<T> Send for ThreadBound<T> {}
// SAFETY: `value` is reached only on the owner's thread, with the two exceptions that are named above.
unsafe impl<T> Sync for ThreadBound<T> {}

impl<T> ThreadBound<T> {
    /// Binds a value to this thread.
    pub fn new(value: T) -> Self {
        Self { owner: GilCell::new(Owner::here()), value: RefCell::new(Some(value)) }
    }

    /// Checks that the caller may use the value.
    ///
    /// # Errors
    /// [`WrongOwner`].
    #[inline]
    pub fn check(&self, py: Python<'_>) -> Result<(), WrongOwner> {
        let (owner, here) = (self.owner.with(py, |owner| *owner), Owner::here());
        match (owner.forks == here.forks, owner.thread == here.thread) {
            (true, true) => Ok(()),
            (true, false) => Err(WrongOwner::Thread),
            (false, _) => Err(WrongOwner::Fork),
        }
    }

    /// Uses the value on its own thread; `None` if it was taken. Nothing in `work` may run Python, but the interpreter
    /// lock may be released in there (a wait): no other thread reaches the value meanwhile.
    ///
    /// # Errors
    /// [`WrongOwner`].
    #[inline]
    pub fn with<R>(&self, py: Python<'_>, work: impl FnOnce(&mut T) -> R) -> Result<Option<R>, WrongOwner> {
        self.check(py)?;
        let mut value = self.value.borrow_mut();
        let _open = Open::count();
        Ok(value.as_mut().map(work))
    }

    /// Takes the value out for good, and says whether it belongs to the caller. On another thread than the owner's this
    /// is `None` while the owner is using it; what is not the caller's own may be used only in ways that are safe
    /// anywhere.
    pub fn take(&self, py: Python<'_>) -> Option<(T, Result<(), WrongOwner>)> {
        let owner = self.check(py);
        let mut value = self.value.try_borrow_mut().ok()?;
        value.take().map(|value| (value, owner))
    }

    /// Puts a new value in the place of one that was taken, and binds it to this thread.
    pub fn replace(&self, py: Python<'_>, value: T) {
        self.owner.with(py, |owner| *owner = Owner::here());
        let mut place = self.value.borrow_mut();
        debug_assert!(place.is_none(), "the former value was to be taken first");
        *place = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn crossing_with_an_open_cell_is_found() {
        Python::initialize();
        Python::attach(|py| {
            let cell = GilCell::new(1);
            assert_no_borrow();
            cell.with(py, |value| *value += 1);
            assert_no_borrow();
            assert_eq!(cell.peek(|value| *value), Some(2));
            let found = catch_unwind(AssertUnwindSafe(|| cell.with(py, |_| assert_no_borrow())));
            assert_eq!(found.is_err(), cfg!(debug_assertions));
            // The panic has closed it again.
            assert_no_borrow();
            cell.with(py, |_| assert_eq!(cell.peek(|value| *value), None));
        });
    }

    #[test]
    fn another_thread_is_told_so() {
        Python::initialize();
        let bound = Arc::new(ThreadBound::new(1));
        let theirs = bound.clone();
        let answer =
            std::thread::spawn(move || Python::attach(|py| (theirs.with(py, |v| *v), theirs.take(py))));
        assert_eq!(answer.join().ok(), Some((Err(WrongOwner::Thread), Some((1, Err(WrongOwner::Thread))))));
        Python::attach(|py| {
            assert_eq!(bound.with(py, |v| *v), Ok(None));
            bound.replace(py, 2);
            assert_eq!(bound.with(py, |v| *v), Ok(Some(2)));
        });
    }
}
