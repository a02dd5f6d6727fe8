//! Bodies that belong to somebody else, as those of a Python application do: letting go of one may run any code, so it
//! must happen where nothing of the reactor is borrowed, and for every body once.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};

use bytes::Bytes;
use rgunicorn_server::worker::Reactor;

thread_local! {
    static REACTORS: RefCell<Vec<Weak<Reactor>>> = const { RefCell::new(Vec::new()) };
    static ALIVE: Cell<usize> = const { Cell::new(0) };
    static BORROWED: Cell<bool> = const { Cell::new(false) };
}

struct Owner(Vec<u8>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        ALIVE.set(ALIVE.get() - 1);
        // Needs the whole state, as foreign code might. The end of the reactor itself is no violation.
        let reactors: Vec<_> = REACTORS.with_borrow(|all| all.iter().filter_map(Weak::upgrade).collect());
        for reactor in reactors {
            let free = catch_unwind(AssertUnwindSafe(|| reactor.buffer())).is_ok();
            BORROWED.set(BORROWED.get() || !free);
        }
    }
}

/// From now on, bodies of this thread look at this reactor when they go.
pub(crate) fn watch(reactor: &Rc<Reactor>) {
    REACTORS.set(vec![Rc::downgrade(reactor)]);
    ALIVE.set(0);
    BORROWED.set(false);
}

/// They look at this one as well.
pub(crate) fn watch_too(reactor: &Rc<Reactor>) {
    REACTORS.with_borrow_mut(|all| {
        // Those of earlier histories would be looked at in each of the later ones.
        all.retain(|other| other.strong_count() > 0);
        all.push(Rc::downgrade(reactor));
    });
}

/// A body with an owner, even if it is empty.
pub(crate) fn owned(bytes: Vec<u8>) -> Bytes {
    ALIVE.set(ALIVE.get() + 1);
    Bytes::from_owner(Owner(bytes))
}

/// Bodies that are still held by somebody.
pub(crate) fn alive() -> usize {
    ALIVE.get()
}

/// Whether one was let go of while the reactor was borrowed.
pub(crate) fn dropped_while_borrowed() -> bool {
    BORROWED.get()
}
