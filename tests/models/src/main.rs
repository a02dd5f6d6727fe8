//! Models of what threads and signal handlers share, checked by loom: it runs each one through every order of their
//! steps that the memory model allows, with `PREEMPTIONS_MAX` preemptions at most. A thread that waits for ever is an
//! error.
//!
//! The code under test is the product's own, included by path. The modules around it stand for those that it imports:
//! `sync` has the checker's locks and atomics, `sys::eventfd` a model of the one system call that matters.
//!
//! A model is a program of two or three threads that does as little as shows the fault it is there for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

// The names by which the included files import from other crates.
extern crate self as nix;
extern crate self as rgunicorn_io;

mod log;
pub mod sys;
mod worker;

/// How often a thread may be interrupted where it could have gone on. A fault of order needs one or two.
const PREEMPTIONS_MAX: usize = 3;

fn main() {
    sys::models::all();
    worker::models::all();
    log::models::all();
}

/// Runs one model through its orders, and says how many there were.
#[expect(clippy::disallowed_methods, reason = "the time that a model takes is only printed")]
pub(crate) fn check(name: &str, model: fn()) {
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    let start = Instant::now();
    eprint!("{name}: ");
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    eprintln!("{} orders, {} ms", orders.load(Ordering::Relaxed), start.elapsed().as_millis());
}
