//! The driver of a loop: its own, or one that it shares with a worker.

use std::rc::Rc;

use crate::py::WrongOwner;
use rgunicorn_io::driver::Driver;
use rgunicorn_server::worker::LoopSource;

/// The driver of a loop.
pub(super) enum DriverRef {
    /// Its own.
    Own(Box<Driver>),
    /// The worker's.
    Shared(Rc<dyn LoopSource>),
}

impl DriverRef {
    /// Runs `work` on the driver.
    pub(super) fn with<R>(&mut self, work: impl FnOnce(&mut Driver) -> R) -> R {
        match self {
            Self::Own(driver) => work(driver),
            Self::Shared(source) => work(&mut source.driver()),
        }
    }

    /// Returns the source that wants turns, if there is one.
    pub(super) fn source(&self) -> Option<Rc<dyn LoopSource>> {
        match self {
            Self::Shared(source) if source.is_serving() => Some(source.clone()),
            Self::Shared(_) | Self::Own(_) => None,
        }
    }

    /// Lets go of a driver that is not used any more. What belongs to another thread or process is only closed.
    pub(super) fn release(self, owner: Result<(), WrongOwner>) {
        match (self, owner) {
            (Self::Own(driver), Ok(())) => drop(driver),
            (Self::Own(driver), Err(WrongOwner::Thread)) if driver.name() == "epoll" => drop(driver),
            (Self::Own(driver), Err(_)) => driver.forget_after_fork(),
            (Self::Shared(source), Ok(())) => drop(source),
            (Self::Shared(source), Err(_)) => std::mem::forget(source),
        }
    }
}
