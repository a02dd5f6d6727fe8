//! The worker floor as a black box: clients on one side, an application written in Rust on the other, in between a
//! simulated network with virtual time (real sockets where the kernel's own behaviour is the subject).
//!
//! Nothing here sleeps: a test lets the worker run until a condition holds, and a bound on the turns turns a worker
//! that spins or hangs into a failure. `RGUNICORN_SEED=n` replays one seed of the random runs, `RGUNICORN_SEEDS=n` runs
//! n of them.
#![allow(clippy::unwrap_used, reason = "test code, though outside of test functions")]

#[path = "worker/app.rs"]
mod app;
#[path = "worker/bounds.rs"]
mod bounds;
#[path = "worker/broken.rs"]
mod broken;
#[path = "worker/client.rs"]
mod client;
#[path = "worker/failures.rs"]
mod failures;
#[path = "worker/fair.rs"]
mod fair;
#[path = "worker/handoff.rs"]
mod handoff;
#[path = "worker/limits.rs"]
mod limits;
#[path = "worker/moves.rs"]
mod moves;
#[path = "worker/output.rs"]
mod output;
#[path = "worker/owner.rs"]
mod owner;
#[path = "worker/panics.rs"]
mod panics;
#[path = "worker/proxy_header.rs"]
mod proxy_header;
#[path = "worker/queue.rs"]
mod queue;
#[path = "worker/random.rs"]
mod random;
#[path = "worker/relief.rs"]
mod relief;
#[path = "worker/requests.rs"]
mod requests;
#[path = "worker/siblings.rs"]
mod siblings;
#[path = "worker/sockets.rs"]
mod sockets;
#[path = "worker/spread.rs"]
mod spread;
#[path = "worker/stage.rs"]
mod stage;
#[path = "worker/steps.rs"]
mod steps;
#[path = "worker/stop.rs"]
mod stop;
#[path = "worker/streaming.rs"]
mod streaming;
#[path = "worker/timers.rs"]
mod timers;
