//! A biased lock: a value that one thread uses all the time, and another now and then.
//!
//! The owner's side costs a few plain loads and stores. The visitor pays for both: it makes its wish known and has the
//! kernel pass a barrier through all threads of the process (membarrier(2), 4.14), after which either it sees that the
//! owner is inside, and goes away again, or the owner will see the wish before its next borrow, and waits.
//!
//! ```text
//!   owner                                visitor
//!   in_use = true                        wanted = true
//!   (no barrier)                         membarrier
//!   if wanted: wait, begin again         if in_use: wanted = false, give up
//!   ... use it ...                       ... use it ...
//!   in_use = false                       wanted = false
//! ```

use std::cell::UnsafeCell;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use std::sync::{Arc, Mutex, PoisonError};

/// The owner's side. It belongs to the thread that made it.
pub struct Biased<T> {
    shared: Arc<Shared<T>>,
    not_send: PhantomData<*const ()>,
}

/// The side of another thread.
pub struct Visitor<T>(Arc<Shared<T>>);

struct Shared<T> {
    in_use: AtomicBool,
    wanted: AtomicBool,
    /// Held by a visitor for as long as `wanted` is set, so that the owner has something to sleep on.
    visit: Mutex<()>,
    /// `None` when the owner has gone.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is reached by one thread at a time (`Biased::borrow`, `Visitor::visit`), and dropped by the owner.
// `T: Send`, because a visitor uses it on its own thread.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above. A visitor that outlives the owner finds no value.
unsafe impl<T: Send> Send for Shared<T> {}

/// The owner's exclusive access, until it is dropped.
pub struct Borrowed<'a, T> {
    value: &'a mut T,
    in_use: InUse<'a>,
}

/// Ends the owner's access when it is dropped.
struct InUse<'a>(&'a AtomicBool);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Ends a visitor's access, or its wish, when it is dropped.
struct Wanted<'a>(&'a AtomicBool);

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> Biased<T> {
    /// Takes the value in.
    pub fn new(value: T) -> Self {
        let (in_use, wanted, visit) = Default::default();
        let shared = Shared { in_use, wanted, visit, value: UnsafeCell::new(Some(value)) };
        Self { shared: Arc::new(shared), not_send: PhantomData }
    }

    /// Borrows the value; a visitor that has it is waited for.
    ///
    /// # Panics
    /// If it is borrowed already.
    #[inline]
    pub fn borrow(&self) -> Borrowed<'_, T> {
        let in_use = &self.shared.in_use;
        assert!(!in_use.load(Ordering::Relaxed), "borrowed already");
        in_use.store(true, Ordering::Relaxed);
        // For the processor, the visitor's membarrier stands here.
        compiler_fence(Ordering::SeqCst);
        if self.shared.wanted.load(Ordering::Acquire) {
            self.await_visitor();
        }
        let in_use = InUse(in_use);
        // SAFETY: `in_use` was not set, so no other `Borrowed` is alive (this type stays on one thread); it is set now
        // and no visitor is inside: see `Visitor::visit`. The value is there until this owner is dropped.
        let value = unsafe { (&mut *self.shared.value.get()).as_mut().unwrap_unchecked() };
        Borrowed { value, in_use }
    }

    #[cold]
    fn await_visitor(&self) {
        let Shared { in_use, wanted, visit, .. } = &*self.shared;
        while wanted.load(Ordering::Acquire) {
            in_use.store(false, Ordering::Release);
            drop(visit.lock().unwrap_or_else(PoisonError::into_inner));
            in_use.store(true, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
        }
    }

    /// Makes a way to the value for another thread.
    ///
    /// # Errors
    /// Those of membarrier(2): the kernel, or a filter of system calls, does not have it.
    pub fn visitor(&self) -> io::Result<Visitor<T>>
    where
        T: Send,
    {
        membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)?;
        Ok(Visitor(Arc::clone(&self.shared)))
    }
}

impl<T> Drop for Biased<T> {
    fn drop(&mut self) {
        let value = {
            let Self { shared, .. } = self;
            let _visit = shared.visit.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: no `Borrowed` is alive, for it would borrow `self`, and no visitor is inside, for it would hold
            // the lock.
            unsafe { &mut *shared.value.get() }.take()
        };
        drop(value);
    }
}

impl<'a, T> Borrowed<'a, T> {
    /// Goes on with a part of the value.
    pub fn map<U>(self, part: impl FnOnce(&'a mut T) -> &'a mut U) -> Borrowed<'a, U> {
        let Self { value, in_use } = self;
        Borrowed { value: part(value), in_use }
    }
}

impl<T> Deref for Borrowed<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for Borrowed<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}

impl<T: Send> Visitor<T> {
    /// Uses the value, unless the owner has it borrowed at this moment, or has gone.
    pub fn visit<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> Option<R> {
        let Shared { in_use, wanted, visit, value } = &*self.0;
        let _visit = visit.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.store(true, Ordering::SeqCst);
        let _wanted = Wanted(wanted);
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED).ok()?;
        if in_use.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: the owner is not inside, and sees `wanted` before it is the next time: its stores and loads are in
        // order around the barrier. Other visitors wait for the lock, and so does the owner's end.
        unsafe { &mut *value.get() }.as_mut().map(use_it)
    }
}

/// Calls membarrier(2).
fn membarrier(command: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_owner_and_a_visitor_take_turns() {
        const ROUNDS: usize = 20_000;
        let owned = Biased::new((0_usize, 0_usize));
        let visitor = owned.visitor().unwrap();
        let visits = thread::spawn(move || {
            let mut visits = 0;
            for _ in 0..ROUNDS {
                let visited = visitor.visit(|(first, second)| {
                    assert_eq!(first, second);
                    *first += 1;
                    std::hint::spin_loop();
                    *second += 1;
                });
                visits += usize::from(visited.is_some());
            }
            visits
        });
        let mut own = 0;
        while !visits.is_finished() {
            let mut value = owned.borrow();
            value.0 += 1;
            std::hint::spin_loop();
            value.1 += 1;
            own += 1;
        }
        let visits = visits.join().unwrap();
        assert_eq!(*owned.borrow(), (own + visits, own + visits));
    }

    #[test]
    fn a_visitor_goes_away_while_it_is_borrowed() {
        let owned = Biased::new(1);
        let visitor = owned.visitor().unwrap();
        let borrowed = owned.borrow();
        thread::scope(|scope| {
            assert_eq!(scope.spawn(|| visitor.visit(|value| *value)).join().unwrap(), None);
        });
        drop(borrowed);
        assert_eq!(visitor.visit(|value| *value), Some(1));
    }

    #[test]
    fn a_part_is_borrowed_as_the_whole_is() {
        let owned = Biased::new((1, 2));
        let visitor = owned.visitor().unwrap();
        let mut part = owned.borrow().map(|value| &mut value.1);
        *part += 1;
        assert_eq!(visitor.visit(|_| ()), None);
        drop(part);
        assert_eq!(visitor.visit(|value| *value), Some((1, 3)));
    }

    #[test]
    #[should_panic(expected = "borrowed already")]
    fn no_two_borrows_at_a_time() {
        let owned = Biased::new(());
        let _first = owned.borrow();
        let _second = owned.borrow();
    }

    #[test]
    fn a_panic_ends_the_access() {
        let owned = Biased::new(0);
        let visitor = owned.visitor().unwrap();
        thread::scope(|scope| {
            assert!(scope.spawn(|| visitor.visit(|_| panic!("a visitor"))).join().is_err());
        });
        assert_eq!(*owned.borrow(), 0);
        assert_eq!(visitor.visit(|value| *value), Some(0));
    }

    #[test]
    fn what_has_gone_with_its_owner_is_not_visited() {
        let owned = Biased::new(Arc::new(()));
        let (visitor, inside) = (owned.visitor().unwrap(), Arc::downgrade(&owned.borrow()));
        drop(owned);
        assert!(inside.upgrade().is_none() && visitor.visit(|_| ()).is_none());
    }
}
