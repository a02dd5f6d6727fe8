//! How a request ends: complete, failed, abandoned, or in a child that was forked in the middle.

use std::time::Duration;

use pyo3::exceptions::{PyConnectionError, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::py::{catch_panic, exit_status, format_exception, is_stop_iteration};
use rgunicorn_http::HttpError;
use rgunicorn_io::sys::clock;
use rgunicorn_server::log::{Escaped, Level, RepeatedLine};
use rgunicorn_server::response::{ErrorPage, Response};
use rgunicorn_server::worker::{AccessFacts, Request};

use super::app::WsgiApp;
use super::exchange::Exchange;
use super::hooks::{self, ResponseFlags};
use super::input::RequestBodyError;
use super::log_line;

/// The line for a killed greenlet. The code that kills one knows it: debug level is enough.
const KILLED: &str = "A request's greenlet was killed";

impl WsgiApp {
    /// Ends an exchange whose bytes have all been given to the kernel (or are small and about to be).
    pub(super) fn complete(&self, py: Python<'_>, exchange: Exchange) {
        let keep = exchange.response(py, |response| response.keeps_alive());
        // The next request on this connection waits for the application's close(), which may take its time,
        // where that can wait; a client that waits for the end of the connection does not.
        let frees = !keep || self.responder().frees_before_close();
        if frees {
            self.responder().finish(exchange.id(), keep);
        }
        self.completed(py, exchange, !frees);
    }

    /// Writes the log lines, frees the request's objects, and then, if its connection still waits for that,
    /// goes on to the next request.
    pub(super) fn completed(&self, py: Python<'_>, exchange: Exchange, frees_now: bool) {
        let id = exchange.id();
        let (keep, fault) = exchange.response(py, |response| (response.keeps_alive(), response.fault()));
        if let Some(fault) = fault {
            let uri = Escaped(exchange.request.head.target());
            self.worker.errors.repeated(
                RepeatedLine::ResponseFault,
                Level::Warning,
                clock::now(),
                format_args!("Response to {uri}: {fault}"),
            );
        }
        self.close_exchange(py, exchange);
        if frees_now && keep {
            self.responder().finish(id, true);
        }
    }

    /// Writes the access line and closes the application's iterable.
    pub(super) fn close_exchange(&self, py: Python<'_>, exchange: Exchange) {
        self.log_access(py, &exchange, None);
        self.release(py, exchange);
    }

    /// Writes the access line, if one is kept. `instead`: the status of an answer that is not the
    /// application's.
    fn log_access(&self, py: Python<'_>, exchange: &Exchange, instead: Option<u16>) {
        let logger = self.hooks.as_ref().filter(|hooks| hooks.access.is_some());
        if !self.worker.logs_access && logger.is_none() {
            return;
        }
        let elapsed = clock::now().since(exchange.request.received);
        let (head, sent) = exchange.response(py, |response| (response.take_head(), response.sent_bytes()));
        let status = instead.unwrap_or_else(|| head.status_code());
        let bytes_sent = if instead.is_some() { 0 } else { sent };
        let facts = AccessFacts { bytes_sent, elapsed, ..log_line::without_application(status) };
        log_line::write(self.responder(), &exchange.request, &exchange.environ, facts, &head);
        if let (Some(hooks), Some(req)) = (logger, &exchange.req) {
            let flags = ResponseFlags { head_sent: true, chunked: false, must_close: false };
            let resp = instead.map_or_else(
                || hooks::response_object(py, &head, bytes_sent, flags, req.bind(py)),
                |status| hooks::refusal_object(py, status, req.bind(py)),
            );
            let logged =
                resp.and_then(|resp| hooks.log_access(py, &resp, req.bind(py), &exchange.environ, elapsed));
            self.report(py, "The access logger failed", logged);
        }
        exchange.response(py, |response| response.put_head(head));
    }

    /// Closes the application's iterable and keeps the objects that can be used again.
    fn release(&self, py: Python<'_>, exchange: Exchange) {
        let Exchange { request, environ, input, objects, iterable, req, state, is_sized } = exchange;
        if let Some(input) = &input {
            input.get().close();
        }
        drop(state);
        if let Some(iterable) = iterable
            && !is_sized
            && let Ok(close) = iterable.bind(py).getattr(intern!(py, "close"))
        {
            // It may take its time.
            self.responder().flush();
            if let Err(error) = close.call0() {
                self.log_close_error(py, &request, &error);
            }
        }
        if let Some(req) = req {
            self.after_request(py, req.bind(py), environ.bind(py), &objects.shared.response);
        }
        objects.shared.close_response(py);
        drop((environ, input));
        self.put_back(py, objects);
    }

    /// Runs `post_request`.
    fn after_request(
        &self,
        py: Python<'_>,
        req: &Bound<'_, PyAny>,
        environ: &Bound<'_, PyDict>,
        response: &crate::py::GilCell<Response>,
    ) {
        let Some(hooks) = self.hooks.as_ref().filter(|hooks| hooks.post.is_some()) else { return };
        self.responder().flush();
        let (head, sent, flags) = response.with(py, |response| {
            let flags = ResponseFlags {
                head_sent: response.is_head_sent(),
                chunked: response.is_chunked(),
                must_close: !response.keeps_alive(),
            };
            (response.take_head(), response.sent_bytes(), flags)
        });
        let ran = catch_panic(|| {
            let resp = hooks::response_object(py, &head, sent, flags, req)?;
            hooks.after(py, req, environ, &resp)
        });
        self.report(py, "Exception in post_request hook", ran);
        response.with(py, |response| response.put_head(head));
    }

    /// Logs an exception that code of the configuration has raised.
    fn report(&self, py: Python<'_>, what: &str, done: PyResult<()>) {
        if let Err(error) = done {
            let text = format_exception(py, &error);
            self.worker.errors.log(Level::Error, format_args!("{what}\n{text}"));
        }
    }

    /// Answers a request with 500 whose `pre_request` has failed.
    pub(super) fn reject_pre_request(
        &self,
        py: Python<'_>,
        request: &Request,
        req: Option<&Bound<'_, PyAny>>,
        error: &PyErr,
    ) {
        self.log_exception(py, &describe(request), error);
        self.refuse(py, request, req, None);
    }

    /// Answers a request that does not come to the application (`None`: its call could not be made), and
    /// tells the hooks: with an empty environ and without a response, as Gunicorn does.
    pub(super) fn refuse(
        &self,
        py: Python<'_>,
        request: &Request,
        req: Option<&Bound<'_, PyAny>>,
        error: Option<HttpError>,
    ) {
        let page = error.map_or(ErrorPage::Internal, ErrorPage::Http);
        self.responder().refuse(request, page);
        self.responder().log_access(request, &log_line::without_application(page.status()));
        let (Some(hooks), Some(req)) = (&self.hooks, req) else { return };
        self.responder().flush();
        let logged = catch_panic(|| {
            let resp = hooks::refusal_object(py, page.status(), req)?;
            let environ = hooks::bare_environ(py, request, req)?;
            hooks.log_access(py, &resp, req, &environ.unbind(), Duration::ZERO)
        });
        let ran = catch_panic(|| hooks.after(py, req, PyDict::new(py).as_any(), py.None().bind(py)));
        self.report(py, "The access logger failed", logged);
        self.report(py, "Exception in post_request hook", ran);
    }

    /// Has the configuration's logger, if it writes access records, write that of a request which the server has
    /// answered by itself.
    pub(super) fn record_refused(&self, py: Python<'_>, request: &Request, status: u16) {
        let Some(hooks) = self.hooks.as_ref().filter(|hooks| hooks.access.is_some()) else { return };
        let logged = catch_panic(|| {
            let req = hooks.request_object(py, request)?;
            let resp = hooks::refusal_object(py, status, &req)?;
            let environ = hooks::bare_environ(py, request, &req)?;
            hooks.log_access(py, &resp, &req, &environ.unbind(), Duration::ZERO)
        });
        self.report(py, "The access logger failed", logged);
    }

    fn log_close_error(&self, py: Python<'_>, request: &Request, error: &PyErr) {
        let errors = &self.worker.errors;
        if self.responder().is_killed(py, error) {
            return errors.log(Level::Debug, format_args!("{KILLED}"));
        }
        let text = format_exception(py, error);
        let uri = Escaped(request.head.target());
        errors.log(Level::Error, format_args!("Error handling request {uri}\n{text}"));
    }

    /// Logs an exception of the application's: by Python's logger, where that writes, for it has ideas of its
    /// own about tracebacks.
    fn log_exception(&self, py: Python<'_>, message: &str, error: &PyErr) {
        match &self.listener {
            Some(listener) => listener.exception(py, message, error),
            None => {
                let text = format_exception(py, error);
                self.worker.errors.log(Level::Error, format_args!("{message}\n{text}"));
            }
        }
    }

    /// Ends an exchange whose application raised, or gave something that cannot be sent.
    pub(super) fn fail(&self, py: Python<'_>, exchange: Exchange, error: &PyErr) {
        exchange.objects.shared.close_response(py);
        let (id, responder) = (exchange.id(), self.responder());
        if responder.is_killed(py, error) {
            self.worker.errors.log(Level::Debug, format_args!("{KILLED}"));
            responder.abort(id);
            return self.close_exchange(py, exchange);
        }
        let taken = self.is_taken(py, &exchange);
        if taken && is_stop_iteration(py, error) {
            responder.abort(id);
            return self.release(py, exchange);
        }
        if responder.is_closed(id) && error.is_instance_of::<PyConnectionError>(py) {
            self.worker.errors.log(Level::Debug, format_args!("Ignoring client disconnection: {error}"));
            return self.close_exchange(py, exchange);
        }
        let page = body_fault(py, error).map_or(ErrorPage::Internal, ErrorPage::Body);
        match page {
            // The application has met a body that cannot be read, and left the answer to the server.
            ErrorPage::Body(_) => {
                let (ip, text) = (exchange.request.peer.ip_text(), error.value(py));
                self.worker.errors.repeated(
                    RepeatedLine::InvalidRequest,
                    Level::Warning,
                    clock::now(),
                    format_args!("Invalid request body from ip={ip}: {text}"),
                );
            }
            _ => self.log_exception(py, &describe(&exchange.request), error),
        }
        let head_sent = exchange.response(py, |response| response.is_head_sent());
        let unanswered = !head_sent && !taken;
        if unanswered {
            responder.refuse(&exchange.request, page);
        } else {
            responder.abort(id);
        }
        // An application that has taken the socket and fails has had no answer of ours, but is on record with
        // one.
        let instead = match page {
            ErrorPage::Body(status) => unanswered.then_some(status),
            _ => (!head_sent).then_some(page.status()),
        };
        self.log_access(py, &exchange, instead);
        self.release(py, exchange);
    }

    /// Ends a child that the application forked and that has come back out of it: only its own exit is left
    /// to do. The client is the parent's.
    pub(super) fn leave_child(&self, py: Python<'_>, error: Option<&PyErr>) {
        let status = match error {
            None => 0,
            Some(error) if error.is_instance_of::<PySystemExit>(py) => exit_status(py, error),
            Some(error) => {
                error.print(py);
                1
            }
        };
        self.worker.control.quit(status);
    }
}

/// Returns the message of a request that has failed.
fn describe(request: &Request) -> String {
    let (method, uri) = (Escaped(request.head.method()), Escaped(request.head.target()));
    format!("Error handling request {method} {uri}")
}

/// Returns the status to answer with, if an error says that the request's body cannot be read.
fn body_fault(py: Python<'_>, error: &PyErr) -> Option<u16> {
    let fault = error.is_instance_of::<RequestBodyError>(py);
    fault.then(|| error.value(py).getattr("status").and_then(|status| status.extract()).unwrap_or(400))
}
