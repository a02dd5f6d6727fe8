//! The helper of a worker: a thread that gives connections to siblings while the worker's own is inside the application
//! ([`super::relief`]). It never touches Python.
//!
//! It sleeps while the worker does, and is woken with the first work after that; while there is work, it looks every
//! few milliseconds whether the application still does what it did before. Where it does, and a sibling waits, it
//! watches the idle connections for requests that come.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rgunicorn_io::sys::biased::Visitor;
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::readiness::ReadinessSet;
use rgunicorn_io::sys::shared::Slot;
use rgunicorn_io::sys::{atfork, process, signal};

use super::core::Core;
use super::ids::ConnId;
use super::relief::{IdleConn, LOOK_AGAIN, ReliefRules, Standing};
use crate::log::ErrorLog;

/// Looks without any work after which the helper sleeps.
const QUIET_LOOKS_MAX: u32 = 40;
/// Slots of the table of connections that it reads at a time, with the worker's thread locked out.
const SLOTS_AT_A_TIME: usize = 256;
/// The cost of watching a connection, as far as that decides when it is worth it: not before the application has worked
/// for as long as this takes.
const WATCH_COST: Duration = Duration::from_micros(2);
/// How long it watches at a time: a fork waits for its end.
const WATCHED_MAX: Duration = Duration::from_millis(10);
const STACK_BYTES: usize = 256 * 1024;

/// The loop's side of the helper.
pub(crate) struct Helper(Arc<HelperShared>);

/// The thread's work, and what the loop tells it.
struct HelperShared {
    /// The thread sleeps, or there is none.
    is_asleep: AtomicBool,
    is_over: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    core: Visitor<Core>,
    slot: Slot,
    errors: Arc<ErrorLog>,
    rules: ReliefRules,
    forks: u32,
}

impl Helper {
    /// Prepares a helper; its thread begins with the first work.
    pub(crate) fn new(core: Visitor<Core>, slot: Slot, errors: Arc<ErrorLog>, rules: ReliefRules) -> Self {
        let (is_over, thread) = Default::default();
        let shared = Arc::new(HelperShared {
            is_asleep: AtomicBool::new(true),
            is_over,
            thread,
            core,
            slot,
            errors,
            rules,
            forks: atfork::generation(),
        });
        // A child is to have one thread, as its parent would without a helper; and CPython warns where there are more.
        let weak = Arc::downgrade(&shared);
        atfork::set_before(Box::new(move || {
            if let Some(shared) = weak.upgrade() {
                shared.end();
            }
        }));
        Self(shared)
    }

    /// Says that there is work.
    ///
    /// # Errors
    /// There can be no further thread. It is not tried again.
    #[inline]
    pub(crate) fn wake(&self) -> io::Result<()> {
        // For the processor, the helper's membarrier stands here.
        compiler_fence(Ordering::SeqCst);
        if self.0.is_asleep.load(Ordering::Relaxed) { HelperShared::wake(&self.0) } else { Ok(()) }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl HelperShared {
    #[cold]
    fn wake(this: &Arc<Self>) -> io::Result<()> {
        // A lone worker has nobody to give anything to, and needs no thread.
        if this.slot.board().is_only_worker() || this.forks != atfork::generation() {
            return Ok(());
        }
        let mut thread = this.thread.lock().unwrap_or_else(PoisonError::into_inner);
        this.is_asleep.store(false, Ordering::SeqCst);
        if let Some(thread) = &*thread {
            thread.thread().unpark();
            return Ok(());
        }
        this.is_over.store(false, Ordering::SeqCst);
        let theirs = Arc::clone(this);
        // Signals are for the worker's thread.
        let _blocked = signal::block_all()?;
        let builder = thread::Builder::new().name("handoff".to_owned()).stack_size(STACK_BYTES);
        *thread = Some(builder.spawn(move || theirs.run_guarded())?);
        Ok(())
    }

    /// Ends the thread, and waits for that. The next work begins another one.
    fn end(&self) {
        if self.forks != atfork::generation() {
            return;
        }
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = thread.take() else { return };
        self.is_over.store(true, Ordering::SeqCst);
        thread.thread().unpark();
        let count = process::thread_count();
        let _ = thread.join();
        process::await_thread_count_below(count);
        self.is_asleep.store(true, Ordering::SeqCst);
    }

    /// Runs; a panic ends it with a log line, and connections stay where they are.
    fn run_guarded(&self) {
        if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            self.errors
                .error(format_args!("Internal error while giving connections away; what comes waits now"));
        }
    }

    fn run(&self) {
        let mut watch = Watch::default();
        let mut quiet = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            let standing = self.look(&mut watch.ready);
            match standing.and_then(|standing| Some((standing, standing.work?))) {
                Some((standing, (lasted, begun))) => {
                    quiet = 0;
                    if standing.has_taker && lasted >= self.rules.after {
                        watch.begin(self, lasted, begun);
                    }
                    watch.wait(if standing.has_more { LOOK_AGAIN } else { self.rules.after });
                }
                None => {
                    watch = Watch::default();
                    quiet += 1;
                    if quiet < QUIET_LOOKS_MAX {
                        thread::park_timeout(self.rules.after);
                    } else {
                        quiet = 0;
                        self.sleep();
                    }
                }
            }
        }
    }

    /// Looks at the worker, unless its thread is not in the application.
    fn look(&self, ready: &mut Vec<ConnId>) -> Option<Standing> {
        self.core.visit(|core| core.relieve(&self.slot, self.rules, ready))
    }

    /// Sleeps until there is work.
    fn sleep(&self) {
        self.is_asleep.store(true, Ordering::SeqCst);
        // Work that began before it could know. The look has the kernel order the two: work that begins while the core
        // is borrowed at this moment will see that the helper sleeps.
        let is_at_work = self.look(&mut Vec::new()).is_some_and(|standing| standing.work.is_some());
        if is_at_work {
            self.is_asleep.store(false, Ordering::SeqCst);
        }
        while self.is_asleep.load(Ordering::SeqCst) && !self.is_over.load(Ordering::SeqCst) {
            thread::park();
        }
    }
}

/// The idle connections of a worker at work, while they are watched.
#[derive(Default)]
struct Watch {
    set: Option<ReadinessSet>,
    /// The beginning of the piece of work for which that is so.
    begun: Option<Instant>,
    /// The connections on which something has come.
    ready: Vec<ConnId>,
}

impl Watch {
    /// Watches, unless that has begun for this piece of work.
    fn begin(&mut self, helper: &HelperShared, lasted: Duration, begun: Instant) {
        if self.begun == Some(begun) {
            return;
        }
        let mut next = Some(0);
        let mut all = Vec::new();
        while let Some(from) = next {
            let Some((idle, more)) = helper.core.visit(|core| core.idle_from(from, SLOTS_AT_A_TIME)) else {
                return;
            };
            all.extend(idle);
            next = more;
        }
        if lasted < WATCH_COST * u32::try_from(all.len()).unwrap_or(u32::MAX) {
            return;
        }
        let Ok(set) = ReadinessSet::new() else { return };
        let mut ready = Vec::new();
        for IdleConn { id, fd, has_input } in all {
            if has_input {
                ready.push(id);
            } else {
                // It fails where the worker has closed it meanwhile.
                let _ = set.add(fd, id.to_number());
            }
        }
        *self = Self { set: Some(set), begun: Some(begun), ready };
    }

    /// Waits until something comes on a connection that is watched, or the time is over.
    fn wait(&mut self, timeout: Duration) {
        let Some(set) = &self.set else { return thread::park_timeout(timeout) };
        let mut ready = Vec::new();
        set.wait(timeout.min(WATCHED_MAX), &mut ready);
        self.ready.extend(ready.into_iter().map(ConnId::from_number));
    }
}
