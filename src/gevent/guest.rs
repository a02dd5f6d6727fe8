//! What shares the loop's driver and its turns: the worker's reactor. The loop knows no more of it than this.

use std::cell::RefMut;
use std::time::Duration;

use rgunicorn_io::driver::{Completion, Driver};

/// A guest of the loop. Every method is called on the loop's thread with nothing of the loop open. Those of one turn come in
/// the order in which they stand here.
pub trait Guest {
    /// The driver that both use. The borrow is over before anything else is called.
    fn driver(&self) -> RefMut<'_, Driver>;

    /// A turn begins. May run Python, and may switch to another greenlet for good (the end of a worker).
    fn begin_turn(&self);

    /// Whether the guest still wants turns; otherwise only its driver is used.
    fn is_serving(&self) -> bool;

    /// Application code is about to run in this turn (callbacks and watchers of the loop).
    fn before_work(&self);

    /// Now and then, between two pieces of such work.
    fn after_work(&self);

    /// The loop is about to wait: how long it may, as far as the guest is concerned.
    fn before_wait(&self) -> Duration;

    /// The wait is over. Takes its own completions out; leaves the loop's, in their order.
    fn after_wait(&self, completions: &mut Vec<Completion>);

    /// Runs what has become ready. Python runs, greenlets switch.
    fn work(&self);
}
