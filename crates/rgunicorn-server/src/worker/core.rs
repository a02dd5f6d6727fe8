//! The parts of a worker that change, together.

use rgunicorn_io::driver::Driver;

use super::accept::Acceptor;
use super::conn::io::ConnIo;
use super::conn::table::Connections;
use super::handoff::Handoff;
use super::lifecycle::Lifecycle;
use super::memory::Memory;
use super::setup::WorkerSetup;
use super::spread::Spread;
use super::turn::Turn;
use super::wakes::Wakes;

/// The parts that change; behind one lock of the loop's thread, borrowed briefly.
pub(crate) struct Core {
    pub(crate) driver: Driver,
    pub(crate) conns: Connections,
    pub(crate) acceptor: Acceptor,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) turn: Turn,
    pub(crate) memory: Memory,
    pub(crate) wakes: Wakes,
    pub(crate) handoff: Handoff,
    pub(crate) spread: Spread,
}

/// The parts of the core, borrowed for one step.
pub(crate) struct Parts<'a> {
    pub(crate) lifecycle: &'a mut Lifecycle,
    pub(crate) acceptor: &'a mut Acceptor,
    pub(crate) wakes: &'a mut Wakes,
    pub(crate) handoff: &'a mut Handoff,
    pub(crate) spread: &'a mut Spread,
    pub(crate) io: ConnIo<'a>,
}

impl Core {
    /// Borrows each part by itself, those together that connections need.
    #[inline]
    pub(crate) fn parts<'a>(&'a mut self, setup: &'a WorkerSetup) -> Parts<'a> {
        let Self { driver, conns, acceptor, lifecycle, turn, memory, wakes, handoff, spread } = self;
        let draining = lifecycle.is_draining();
        Parts {
            lifecycle,
            acceptor,
            wakes,
            handoff,
            spread,
            io: ConnIo { conns, driver, memory, turn, draining, setup },
        }
    }
}
