//! What the application returned, pulled as fast as the client reads.

use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::py::catch_panic;
use rgunicorn_server::response::Outgoing;
use rgunicorn_server::worker::{Flow, RequestId};

use super::app::{Exchange, ExchangeState, WsgiApp};
use super::file_wrapper::FileWrapper;
use super::link::Link;
use super::response::Pieces;

/// Items pulled from one response before the others get their turn.
const ITEMS_PER_TURN_MAX: usize = 64;
/// The same for the items of a list, which cost no application code.
const LISTED_ITEMS_PER_TURN_MAX: usize = 1024;
/// Output that is queued and larger than this is waited for before the request counts as over.
const PARK_BYTES_MIN: usize = 64 * 1024;

impl WsgiApp {
    /// The application returned `iterable`.
    pub(super) fn iterate(
        &self,
        py: Python<'_>,
        link: Link<'_>,
        mut call: Exchange,
        iterable: Bound<'_, PyAny>,
    ) {
        call.iterable = Some(iterable.clone().unbind());
        if let Ok(list) = iterable.cast_exact::<PyList>() {
            call.is_sized = true;
            if list.len() == 1
                && let Ok(item) = list.get_item(0)
            {
                return self.single(py, link, call, &item);
            }
        } else if let Ok(wrapper) = iterable.cast_exact::<FileWrapper>() {
            let wrapper = wrapper.clone();
            match self.send_file(py, link, call, &wrapper) {
                None => return,
                Some(unsent) => call = unsent,
            }
        } else {
            call.is_sized = iterable.is_exact_instance_of::<PyTuple>();
        }
        match iterable.try_iter() {
            Ok(items) => {
                call.state = ExchangeState::Items(items.unbind());
                // Its end may wait, and the next request begins when this one is complete.
                drop(iterable);
                self.pump(py, link, call);
            }
            Err(error) => self.fail(py, link, call, &error),
        }
    }

    /// The whole response is one item: head, body and end leave together.
    fn single(&self, py: Python<'_>, link: Link<'_>, call: Exchange, item: &Bound<'_, PyAny>) {
        match checked(item) {
            Ok(item) => self.end(py, link, call, Pieces::new(link.buffer()), item),
            Err(error) => self.fail(py, link, call, &error),
        }
    }

    /// Pulls items until the response ends, its reader is slower, or others should run.
    pub(super) fn pump(&self, py: Python<'_>, link: Link<'_>, mut call: Exchange) {
        while let Some(rest) = self.pump_some(py, link, call) {
            call = rest;
        }
    }

    /// The same for one turn; gives the call back if it can go on at once.
    fn pump_some(&self, py: Python<'_>, link: Link<'_>, mut call: Exchange) -> Option<Exchange> {
        let ExchangeState::Items(items) = &call.state else {
            self.complete(py, link, call);
            return None;
        };
        let mut items = items.bind(py).clone();
        let conn = call.request.id;
        let mut pieces = Pieces::new(link.buffer());
        let items_max = if call.is_sized { LISTED_ITEMS_PER_TURN_MAX } else { ITEMS_PER_TURN_MAX };
        for count in 1..=items_max {
            let item = catch_panic(|| items.next().transpose()).transpose();
            if self.is_forked_copy() {
                self.leave_child(py, link, item.and_then(Result::err).as_ref());
                return None;
            }
            let Some(item) = item else {
                drop(items);
                self.end(py, link, call, pieces, None);
                return None;
            };
            if let Err(error) = item.and_then(|item| append(link, &call, &mut pieces, &item)) {
                pieces.send(link, conn, false);
                self.fail(py, link, call, &error);
                return None;
            }
            // The items of a list exist already: those that are small leave together.
            if pieces.is_empty() || (call.is_sized && count < items_max && !pieces.is_large()) {
                continue;
            }
            let flow = std::mem::replace(&mut pieces, Pieces::new(link.buffer())).send(link, conn, false);
            call = self.after_sending(py, link, call, flow)?;
        }
        match (link, &self.greenlets) {
            // The interpreter lets other threads run by itself.
            (Link::Thread(_), _) => Some(call),
            (Link::Loop(reactor), Some(greenlets)) => match greenlets.give_way(py, reactor, conn) {
                Ok(()) => Some(call),
                Err(error) => {
                    self.fail(py, link, call, &error);
                    None
                }
            },
            (Link::Loop(reactor), None) => {
                self.keep(conn, call);
                reactor.yield_turn(conn);
                None
            }
        }
    }

    /// Some output was given to the link; gives the call back if it can go on.
    fn after_sending(&self, py: Python<'_>, link: Link<'_>, call: Exchange, flow: Flow) -> Option<Exchange> {
        let conn = call.request.id;
        let drained = match flow {
            Flow::Sent | Flow::Gone => Some(Ok(flow)),
            Flow::Queued => self.drained(py, link, conn),
        };
        match drained {
            Some(Ok(Flow::Gone)) => {
                self.close_call(py, link, call);
                None
            }
            Some(Ok(Flow::Sent | Flow::Queued)) => Some(call),
            Some(Err(error)) => {
                self.fail(py, link, call, &error);
                None
            }
            None if park(link, conn) => {
                self.keep(conn, call);
                None
            }
            None => Some(call),
        }
    }

    fn keep(&self, conn: RequestId, call: Exchange) {
        let before = self.parked.borrow_mut().insert(conn, call);
        debug_assert!(before.is_none(), "one response per connection");
    }

    /// The application has produced everything (`item`: together with the last item).
    fn end(
        &self,
        py: Python<'_>,
        link: Link<'_>,
        call: Exchange,
        mut pieces: Pieces,
        item: Option<&Bound<'_, PyBytes>>,
    ) {
        let started = {
            let mut progress = call.response.get().progress();
            if let Some(item) = item {
                progress.append(link, &mut pieces, item);
            }
            progress.end(link, &mut pieces)
        };
        if !started {
            return self.fail(py, link, call, &not_started());
        }
        call.response.get().close();
        let conn = call.request.id;
        // An application object's close() may take its time: nothing of the response waits for it.
        let batch = call.is_sized;
        let large = item.is_some_and(|item| item.as_bytes().len() > PARK_BYTES_MIN);
        let flow = pieces.send(link, conn, batch && !large);
        // A thread has better things to do than to wait for a reader.
        let patient = flow == Flow::Queued && (large || !batch) && !link.is_thread();
        if patient { self.finish_sent(py, link, call) } else { self.complete(py, link, call) }
    }

    /// Everything was produced: the call is complete when its last bytes have left.
    fn finish_sent(&self, py: Python<'_>, link: Link<'_>, mut call: Exchange) {
        let conn = call.request.id;
        if link.is_thread() {
            return self.complete(py, link, call);
        }
        match self.drained(py, link, conn) {
            Some(Err(error)) => return self.fail(py, link, call, &error),
            None if park(link, conn) => {
                call.state = ExchangeState::Ending;
                return self.keep(conn, call);
            }
            Some(Ok(_)) | None => {}
        }
        self.complete(py, link, call);
    }

    /// Sends a wrapped file by sendfile(2) if that can be done; otherwise gives the call back, to be read in blocks.
    fn send_file(
        &self,
        py: Python<'_>,
        link: Link<'_>,
        call: Exchange,
        wrapper: &Bound<'_, FileWrapper>,
    ) -> Option<Exchange> {
        let started = call.response.get().progress().started;
        if !self.sendfile || !started {
            return Some(call);
        }
        let part = file_part(wrapper.get().wrapped(py));
        // Files of /proc say that they are empty; reading tells.
        let Some((file, offset, rest)) = part.filter(|(_, _, rest)| *rest > 0) else {
            return Some(call);
        };
        let conn = call.request.id;
        let mut pieces = Pieces::new(link.buffer());
        let (len, suffix) = call.response.get().progress().append_file(link, &mut pieces, rest);
        call.response.get().close();
        pieces.send(link, conn, false);
        if len > 0 {
            link.send(conn, Outgoing::File { file, offset, len }, false);
        }
        if !suffix.is_empty() {
            link.send(conn, Outgoing::from(suffix), false);
        }
        self.finish_sent(py, link, call);
        None
    }
}

/// Direct mode: asks for the call to be resumed when the output has left. `false`: it can go on at once.
fn park(link: Link<'_>, conn: RequestId) -> bool {
    matches!(link, Link::Loop(reactor) if reactor.park(conn))
}

/// Adds an item to what leaves next; an empty one does nothing.
fn append(link: Link<'_>, call: &Exchange, pieces: &mut Pieces, item: &Bound<'_, PyAny>) -> PyResult<()> {
    match checked(item)? {
        Some(item) if !call.response.get().append(link, pieces, item) => Err(not_started()),
        _ => Ok(()),
    }
}

fn not_started() -> PyErr {
    PyAssertionError::new_err("the application returned without calling start_response")
}

/// A body item: `None` if it is empty (and does nothing), an error if it is not bytes.
fn checked<'a, 'py>(item: &'a Bound<'py, PyAny>) -> PyResult<Option<&'a Bound<'py, PyBytes>>> {
    match item.cast::<PyBytes>() {
        Ok(bytes) if bytes.as_bytes().is_empty() => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Err(PyTypeError::new_err(format!("{} is not a byte", item.repr()?))),
    }
}

/// Whether the descriptor of a file object leads to the bytes that `read` gives. Not so with the standard library's
/// decompressing files, which are neither raw nor buffered files; wrappers that are no `io` classes are believed.
fn is_plain_file(filelike: &Bound<'_, PyAny>) -> PyResult<bool> {
    let io = filelike.py().import("io")?;
    if !filelike.is_instance(&io.getattr("IOBase")?)? {
        return Ok(true);
    }
    for name in ["BufferedReader", "FileIO", "BufferedRandom", "TextIOWrapper"] {
        if filelike.is_instance(&io.getattr(name)?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is left of a file that the kernel can send by itself: a descriptor of our own, the present offset, the bytes
/// from there to the end. `None` for anything else (no `fileno`, no `seek`, a pipe, an in-memory file).
fn file_part(filelike: &Bound<'_, PyAny>) -> Option<(std::fs::File, u64, u64)> {
    if !is_plain_file(filelike).ok()? {
        return None;
    }
    let fd: i32 = filelike.call_method0("fileno").ok()?.extract().ok()?;
    filelike.getattr("seek").ok()?;
    // The object's own idea of its position: a buffered file has read ahead of the descriptor.
    let offset: u64 = filelike.call_method0("tell").ok()?.extract().ok()?;
    let file = rgunicorn_io::sys::file::duplicate_regular_file(fd).ok()?;
    let len = file.metadata().ok()?.len();
    Some((file, offset, len.saturating_sub(offset)))
}
