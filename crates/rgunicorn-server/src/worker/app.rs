//! The contract between the reactor and what runs on top of it.

use super::{Reactor, Request, RequestId};

/// The exit status of a worker that leaves at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(pub i32);

/// The application, as the reactor runs it. Called with nothing borrowed; every method may call back into the
/// [`Reactor`].
pub trait App {
    /// Runs `wait`, which may block, with the interpreter lock released.
    fn blocking(&self, wait: &mut dyn FnMut());

    /// Lets pending signal handlers run. `arrived`: there may be some; without it none has come since the last call.
    ///
    /// # Errors
    /// [`ExitStatus`] when one of them asks the process to leave.
    fn check_signals(&self, arrived: bool) -> Result<(), ExitStatus>;

    /// Runs one request up to its first pause: it ends with [`Reactor::finish`], [`Reactor::abort`],
    /// [`Reactor::park`] or [`Reactor::await_body`].
    fn call(&self, reactor: &Reactor, request: Box<Request>);

    /// Goes on with a request: a parked response's queue is empty, or there is something to read of an awaited body.
    fn resume(&self, reactor: &Reactor, id: RequestId);

    /// Cleans up: the client of a request that was parked or awaited its body has left, or an earlier call for this
    /// request panicked. The request may be unknown to the application.
    fn abandon(&self, reactor: &Reactor, id: RequestId);

    /// Notes, for the access log, a request that the server has answered by itself. Its head may not be complete.
    fn refused(&self, _reactor: &Reactor, _request: Box<Request>, _status: u16) {}

    /// Takes back the oldest request for which `wanted` holds, of those that wait for a thread. `None`: there is none,
    /// or the application has no threads.
    fn take_back(&self, _wanted: &dyn Fn(&Request) -> bool) -> Option<Box<Request>> {
        None
    }

    /// Takes a request again that it has given back, as the one that waits for longest.
    fn put_back(&self, _reactor: &Reactor, _request: Box<Request>) {}

    /// Returns the memory of requests that were given to it and have not begun: they wait for a thread.
    fn waiting_bytes(&self) -> usize {
        0
    }

    /// Tells whether this process is a child that the application forked: nothing of the reactor may be used.
    fn is_forked_child(&self) -> bool {
        false
    }
}
