//! The application's response, pulled as fast as the client reads.

use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction, PyList, PyTuple};

use crate::py::catch_panic;
use rgunicorn_io::sys::clock;
use rgunicorn_server::response::{BodyItem, Outgoing, Pieces};
use rgunicorn_server::worker::{Flow, Responded, Whole};

use super::app::WsgiApp;
use super::exchange::{Exchange, ExchangeState};
use super::file_wrapper::FileWrapper;
use super::responder::{Waited, send_pieces};
use super::shared::PyItem;

/// The number of items pulled from one response before the others get their turn.
const ITEMS_PER_TURN_MAX: usize = 64;
/// The number for the items of a list, which cost no application code.
const LISTED_ITEMS_PER_TURN_MAX: usize = 1024;

impl WsgiApp {
    /// Sends the application's return value.
    pub(super) fn iterate(&self, py: Python<'_>, mut exchange: Exchange, iterable: Bound<'_, PyAny>) {
        if let Ok(list) = iterable.cast_exact::<PyList>() {
            exchange.is_sized = true;
            if list.len() == 1
                && let Ok(item) = list.get_item(0)
            {
                exchange.iterable = Some(iterable.unbind());
                return self.single(py, exchange, &item);
            }
        } else if let Ok(wrapper) = iterable.cast_exact::<FileWrapper>() {
            let wrapper = wrapper.clone();
            exchange.iterable = Some(iterable.clone().unbind());
            match self.send_file(py, exchange, &wrapper) {
                None => return,
                Some(unsent) => exchange = unsent,
            }
        } else {
            exchange.is_sized = iterable.is_exact_instance_of::<PyTuple>();
        }
        exchange.iterable = Some(iterable.clone().unbind());
        match iterable.try_iter() {
            Ok(items) => {
                exchange.state = ExchangeState::Items(items.unbind());
                // Its end may wait, and the next request begins when this one is complete.
                drop(iterable);
                self.pump(py, exchange);
            }
            Err(error) => self.fail(py, exchange, &error),
        }
    }

    /// Sends a response of one item: head, body and end leave together.
    fn single(&self, py: Python<'_>, exchange: Exchange, item: &Bound<'_, PyAny>) {
        match checked(item) {
            Ok(item) => self.end(py, exchange, None, item),
            Err(error) => self.fail(py, exchange, &error),
        }
    }

    /// Pulls items until the response ends, its reader is slower, or others should run.
    pub(super) fn pump(&self, py: Python<'_>, mut exchange: Exchange) {
        while let Some(rest) = self.pump_some(py, exchange) {
            exchange = rest;
        }
    }

    /// Pulls items for one turn; gives the exchange back if it can go on at once.
    fn pump_some(&self, py: Python<'_>, mut exchange: Exchange) -> Option<Exchange> {
        let ExchangeState::Items(items) = &exchange.state else {
            self.complete(py, exchange);
            return None;
        };
        let mut items = items.bind(py).clone();
        let mut pieces = Pieces::new(self.responder().buffer());
        let begun = clock::now();
        let items_max = if exchange.is_sized { LISTED_ITEMS_PER_TURN_MAX } else { ITEMS_PER_TURN_MAX };
        for count in 1..=items_max {
            let item = catch_panic(|| items.next().transpose()).transpose();
            if self.is_forked_copy() {
                self.leave_child(py, item.and_then(Result::err).as_ref());
                return None;
            }
            let Some(item) = item else {
                drop(items);
                self.end(py, exchange, Some(pieces), None);
                return None;
            };
            if let Err(error) = item.and_then(|item| self.append(&exchange, &mut pieces, &item)) {
                send_pieces(self.responder(), exchange.id(), pieces);
                self.fail(py, exchange, &error);
                return None;
            }
            // The items of a list exist already: those that are small leave together.
            if exchange.is_sized && (pieces.is_empty() || count < items_max && !pieces.is_large()) {
                continue;
            }
            if !pieces.is_empty() {
                let sent = std::mem::replace(&mut pieces, Pieces::new(self.responder().buffer()));
                let flow = send_pieces(self.responder(), exchange.id(), sent);
                exchange = self.after_sending(py, exchange, flow)?;
            }
            if self.responder().is_turn_over(begun) {
                break;
            }
        }
        let waited = self.responder().give_way(py, exchange.id());
        self.after_waiting(py, exchange, waited)
    }

    /// Waits as `flow` tells after some output; gives the exchange back if it can go on.
    fn after_sending(&self, py: Python<'_>, exchange: Exchange, flow: Flow) -> Option<Exchange> {
        let waited = match flow {
            Flow::Sent => return Some(exchange),
            Flow::Gone => Ok(Waited::Closed),
            Flow::Queued => self.responder().wait_sent(py, exchange.id()),
        };
        self.after_waiting(py, exchange, waited)
    }

    /// Gives the exchange back if it can go on after a wait.
    fn after_waiting(
        &self,
        py: Python<'_>,
        exchange: Exchange,
        waited: PyResult<Waited>,
    ) -> Option<Exchange> {
        match waited {
            Ok(Waited::Ready) => return Some(exchange),
            Ok(Waited::Parked) => self.park(exchange),
            Ok(Waited::Closed) => self.close_exchange(py, exchange),
            Err(error) => self.fail(py, exchange, &error),
        }
        None
    }

    /// Ends a response whose application has produced everything (`item`: together with the last item).
    fn end(
        &self,
        py: Python<'_>,
        exchange: Exchange,
        pieces: Option<Pieces>,
        item: Option<&Bound<'_, PyBytes>>,
    ) {
        let responder = self.responder();
        let item = item.map(PyItem);
        let mut has_foreign = pieces.as_ref().is_some_and(Pieces::has_foreign);
        has_foreign |= item.as_ref().is_some_and(Pieces::shares);
        let frees = responder.frees_before_close();
        let (responded, keeps_alive) = exchange.response(py, |response| {
            let responded = responder.respond(
                exchange.id(),
                Whole {
                    response: &mut *response,
                    pieces,
                    item: item.as_ref().map(|item| item as &dyn BodyItem),
                    // An application object's close() may take its time: nothing of the response waits for
                    // it.
                    batch: exchange.is_sized,
                    waits: responder.waits_for_reader(),
                    frees,
                },
            );
            (responded, response.keeps_alive())
        });
        exchange.objects.shared.end_hints();
        if !keeps_alive {
            // A client that waits for the end of the connection does not wait for the application's close().
            responder.flush();
        }
        if has_foreign {
            responder.run_deferred_drops();
        }
        match responded {
            Responded::NotStarted => self.fail(py, exchange, &not_started()),
            Responded::Waiting => self.finish_sent(py, exchange),
            Responded::Done => self.completed(py, exchange, !frees),
        }
    }

    /// Completes an exchange whose bytes have all been produced, when the last ones have left.
    fn finish_sent(&self, py: Python<'_>, mut exchange: Exchange) {
        if self.responder().waits_for_reader() {
            match self.responder().wait_sent(py, exchange.id()) {
                Err(error) => return self.fail(py, exchange, &error),
                Ok(Waited::Parked) => {
                    exchange.state = ExchangeState::Ending;
                    return self.park(exchange);
                }
                Ok(Waited::Ready | Waited::Closed) => {}
            }
        }
        self.complete(py, exchange);
    }

    /// Sends a wrapped file by sendfile(2) if that can be done; otherwise gives the exchange back, to be read
    /// in blocks.
    fn send_file(
        &self,
        py: Python<'_>,
        exchange: Exchange,
        wrapper: &Bound<'_, FileWrapper>,
    ) -> Option<Exchange> {
        let started = exchange.response(py, |response| response.is_started());
        if !self.sendfile || !started {
            return Some(exchange);
        }
        let part = FilePart::of(wrapper.get().wrapped(py));
        // Files of /proc say that they are empty; reading tells.
        let Some(FilePart { file, offset, rest }) = part.filter(|part| part.rest > 0) else {
            return Some(exchange);
        };
        let (id, responder) = (exchange.id(), self.responder());
        let mut pieces = Pieces::new(responder.buffer());
        let (len, suffix) = exchange
            .response(py, |response| response.append_file(|| responder.head_context(id), &mut pieces, rest));
        exchange.objects.shared.close_response(py);
        send_pieces(responder, id, pieces);
        if len > 0 {
            responder.send(id, Outgoing::File { file, offset, len });
        }
        if !suffix.is_empty() {
            responder.send(id, Outgoing::from(suffix));
        }
        self.finish_sent(py, exchange);
        None
    }

    /// Adds an item to what leaves next; an empty one does nothing.
    fn append(&self, exchange: &Exchange, pieces: &mut Pieces, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let shared = &exchange.objects.shared;
        match checked(item)? {
            Some(item) if !shared.append(self.responder(), exchange.id(), pieces, item) => Err(not_started()),
            _ => Ok(()),
        }
    }
}

fn not_started() -> PyErr {
    PyAssertionError::new_err("the application returned without calling start_response")
}

/// Returns a body item: `None` if it is empty (and does nothing), an error if it is not bytes.
fn checked<'a, 'py>(item: &'a Bound<'py, PyAny>) -> PyResult<Option<&'a Bound<'py, PyBytes>>> {
    match item.cast::<PyBytes>() {
        Ok(bytes) if bytes.as_bytes().is_empty() => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Err(PyTypeError::new_err(format!("{} is not a byte", item.repr()?))),
    }
}

/// Returns whether the descriptor of a file object leads to the bytes that its `read` gives: where that is the method
/// of one of the standard library's plain files, be it the object's own or that of a file which it passes on. Whatever
/// has a `read` of its own (decompressing, counting, limiting) means that to be called. An object without one has
/// nothing but its descriptor.
fn is_plain_file(filelike: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(read) = filelike.getattr_opt("read")? else { return Ok(true) };
    // From CPython 3.12 on, that of a raw file is of a subtype, which no class of the application's can be.
    if !read.is_instance_of::<PyCFunction>() {
        return Ok(false);
    }
    let io = filelike.py().import("io")?;
    let mut file = read.getattr("__self__")?;
    // A text file is over a buffered one, and that over one of a descriptor; or over anything else that can be read.
    for (classes, below) in
        [(&["TextIOWrapper"][..], "buffer"), (&["BufferedReader", "BufferedRandom"], "raw")]
    {
        let is_of =
            |class: &&str| io.getattr(*class).map(|class| file.get_type().is(&class)).unwrap_or(false);
        if classes.iter().any(is_of) {
            file = file.getattr(below)?;
        }
    }
    Ok(file.get_type().is(&io.getattr("FileIO")?))
}

/// The rest of a file that the kernel can send by itself.
struct FilePart {
    /// A descriptor of our own.
    file: std::fs::File,
    /// The present offset.
    offset: u64,
    /// The bytes from there to the end.
    rest: u64,
}

impl FilePart {
    /// Returns the rest of a file object; `None` for anything else (no `fileno`, no `seek`, a pipe, an
    /// in-memory file).
    fn of(filelike: &Bound<'_, PyAny>) -> Option<Self> {
        if !is_plain_file(filelike).ok()? {
            return None;
        }
        let fd: i32 = filelike.call_method0("fileno").ok()?.extract().ok()?;
        filelike.getattr("seek").ok()?;
        // The object's own idea of its position: a buffered file has read ahead of the descriptor.
        let offset: u64 = filelike.call_method0("tell").ok()?.extract().ok()?;
        let file = rgunicorn_io::sys::file::duplicate_regular_file(fd).ok()?;
        let len = file.metadata().ok()?.len();
        Some(Self { file, offset, rest: len.saturating_sub(offset) })
    }
}
