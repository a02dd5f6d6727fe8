//! How a call ends: complete, failed, abandoned, or in a child that was forked in the middle.

use std::time::Duration;

use pyo3::exceptions::{PyConnectionError, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::py::{catch_panic, exit_status, format_exception, is_only_reference};
use rgunicorn_http::HttpError;
use rgunicorn_io::sys::clock;
use rgunicorn_server::log::Level;
use rgunicorn_server::response::Outgoing;
use rgunicorn_server::worker::Request;

use super::app::{Exchange, WsgiApp};
use super::hooks;
use super::input::RequestBodyError;
use super::link::Link;
use super::log_line;
use super::response::StartResponse;

const INTERNAL: &str = "Internal Server Error";
/// Who kills a greenlet knows it: nobody else has to be told.
const KILLED: &str = "A request's greenlet was killed";

impl WsgiApp {
    /// Everything has been given to the kernel (or is small and about to be): log, free, go on.
    pub(super) fn complete(&self, py: Python<'_>, link: Link<'_>, call: Exchange) {
        let (keep, fault) = {
            let progress = call.response.get().progress();
            (progress.keeps_alive(), progress.fault())
        };
        let conn = call.request.id;
        if let Some(fault) = fault {
            let uri = String::from_utf8_lossy(call.request.head.target()).into_owned();
            link.errors().log(Level::Warning, format_args!("Response to {uri}: {fault}"));
        }
        // The next request on this connection waits for the application's close(), which in a greenlet may take its time; a
        // client that waits for the end of the connection does not.
        let after = keep && (self.greenlets.is_some() || link.is_thread());
        if !after {
            link.finish(conn, keep);
        }
        self.close_call(py, link, call);
        if after {
            link.finish(conn, keep);
        }
    }

    /// Writes the access line and closes the application's iterable.
    pub(super) fn close_call(&self, py: Python<'_>, link: Link<'_>, call: Exchange) {
        if self.logs_access(link) {
            self.log_access(py, link, &call, None);
        }
        self.release(py, link, call);
    }

    fn logs_access(&self, link: Link<'_>) -> bool {
        link.logs_access() || self.hooks.as_ref().is_some_and(|hooks| hooks.access.is_some())
    }

    fn log_access(&self, py: Python<'_>, link: Link<'_>, call: &Exchange, instead: Option<u16>) {
        let elapsed = clock::now().since(call.request.received);
        let (head, status, sent) = {
            let mut progress = call.response.get().progress();
            let head = std::mem::take(&mut progress.head);
            let status = instead.unwrap_or_else(|| head.status_code());
            (head, status, if instead.is_some() { 0 } else { progress.sent_bytes })
        };
        let environ = Some(&call.environ);
        log_line::write(link, &call.request, environ, Some(&head), (status, sent), elapsed);
        if let (Some(hooks), Some(req)) = (&self.hooks, &call.req) {
            let resp = instead.map_or_else(
                || hooks::response_object(py, &head, (sent, true, false, false), req.bind(py)),
                |status| hooks::refusal_object(py, status, req.bind(py)),
            );
            let logged =
                resp.and_then(|resp| hooks.log_access(py, &resp, req.bind(py), &call.environ, elapsed));
            if let Err(error) = logged {
                let text = format_exception(py, &error);
                link.errors().log(Level::Error, format_args!("The access logger failed\n{text}"));
            }
        }
        call.response.get().progress().head = head;
    }

    /// Closes what the application returned and keeps the objects that can be used again.
    fn release(&self, py: Python<'_>, link: Link<'_>, call: Exchange) {
        let Exchange {
            request,
            environ,
            input,
            response,
            hints,
            client,
            socket,
            iterable,
            req,
            state,
            is_sized,
        } = call;
        if let Some(input) = &input {
            input.get().close();
        }
        drop(state);
        if let Some(iterable) = iterable {
            let iterable = iterable.into_bound(py);
            if !is_sized && let Ok(close) = iterable.getattr(intern!(py, "close")) {
                // It may take its time.
                link.flush();
                if let Err(error) = close.call0() {
                    self.log_close_error(py, link, &request, &error);
                }
            }
        }
        if let Some(req) = req {
            self.after_request(py, link, (req.bind(py), environ.bind(py)), response.get());
        }
        response.get().close();
        drop((environ, input));
        self.sockets.put_back(py, socket);
        client.get().set_target(0);
        let unkept = is_only_reference(response.bind(py)) && is_only_reference(hints.bind(py));
        if unkept && is_only_reference(client.bind(py)) {
            let before = self.spare.borrow_mut().replace((response, hints, client));
            drop(before);
        }
    }

    /// Runs `post_request`.
    fn after_request(
        &self,
        py: Python<'_>,
        link: Link<'_>,
        (req, environ): (&Bound<'_, PyAny>, &Bound<'_, PyDict>),
        response: &StartResponse,
    ) {
        let Some(hooks) = self.hooks.as_ref().filter(|hooks| hooks.post.is_some()) else { return };
        link.flush();
        let (head, facts) = {
            let mut progress = response.progress();
            let head = std::mem::take(&mut progress.head);
            let close = !progress.keeps_alive();
            (head, (progress.sent_bytes, progress.head_sent(), progress.is_chunked(), close))
        };
        let run = || {
            let resp = hooks::response_object(py, &head, facts, req)?;
            hooks.after(py, req, environ, &resp)
        };
        if let Err(error) = catch_panic(run) {
            let text = format_exception(py, &error);
            link.errors().log(Level::Error, format_args!("Exception in post_request hook\n{text}"));
        }
        response.progress().head = head;
    }

    /// `pre_request` has failed: the request is answered with 500.
    pub(super) fn reject_pre_request(
        &self,
        py: Python<'_>,
        link: Link<'_>,
        (request, req): (&Request, Option<&Bound<'_, PyAny>>),
        error: &PyErr,
    ) {
        let method = String::from_utf8_lossy(request.head.method()).into_owned();
        let uri = String::from_utf8_lossy(request.head.target()).into_owned();
        self.log_exception(py, link, &format!("Error handling request {method} {uri}"), error);
        self.refuse_call(py, link, (request, req), None);
    }

    /// Answers a request that does not come to the application, and tells those of the configuration who want to know:
    /// with an empty environ and without a response, as Gunicorn does.
    pub(super) fn refuse_call(
        &self,
        py: Python<'_>,
        link: Link<'_>,
        (request, req): (&Request, Option<&Bound<'_, PyAny>>),
        error: Option<&HttpError>,
    ) {
        let status = refuse(link, request, error);
        let (Some(hooks), Some(req)) = (&self.hooks, req) else { return };
        link.flush();
        let logged = catch_panic(|| {
            let (resp, environ) =
                (hooks::refusal_object(py, status, req)?, hooks::bare_environ(py, request, req)?);
            hooks.log_access(py, &resp, req, &environ.unbind(), Duration::ZERO)
        });
        let ran = catch_panic(|| hooks.after(py, req, PyDict::new(py).as_any(), py.None().bind(py)));
        for (done, what) in [(logged, "The access logger failed"), (ran, "Exception in post_request hook")] {
            if let Err(error) = done {
                let text = format_exception(py, &error);
                link.errors().log(Level::Error, format_args!("{what}\n{text}"));
            }
        }
    }

    fn log_close_error(&self, py: Python<'_>, link: Link<'_>, request: &Request, error: &PyErr) {
        let errors = link.errors();
        if self.greenlets.as_ref().is_some_and(|greenlets| greenlets.is_exit(py, error)) {
            return errors.log(Level::Debug, format_args!("{KILLED}"));
        }
        let text = format_exception(py, error);
        let uri = String::from_utf8_lossy(request.head.target()).into_owned();
        errors.log(Level::Error, format_args!("Error handling request {uri}\n{text}"));
    }

    /// Writes an exception of the application's: by Python's logger, where that writes, for it has ideas of its own about
    /// tracebacks.
    fn log_exception(&self, py: Python<'_>, link: Link<'_>, message: &str, error: &PyErr) {
        match &self.relay {
            Some(relay) => relay.exception(py, message, error),
            None => {
                let text = format_exception(py, error);
                link.errors().log(Level::Error, format_args!("{message}\n{text}"));
            }
        }
    }

    /// The application raised, or gave something that cannot be sent.
    pub(super) fn fail(&self, py: Python<'_>, link: Link<'_>, call: Exchange, error: &PyErr) {
        call.response.get().close();
        let conn = call.request.id;
        if self.greenlets.as_ref().is_some_and(|greenlets| greenlets.is_exit(py, error)) {
            link.errors().log(Level::Debug, format_args!("{KILLED}"));
            link.abort(conn);
            return self.close_call(py, link, call);
        }
        let taken = self.sockets.is_taken(py, &call.socket);
        if taken && crate::py::is_stop_iteration(py, error) {
            link.abort(conn);
            return self.release(py, link, call);
        }
        if link.is_closed(conn) && error.is_instance_of::<PyConnectionError>(py) {
            link.errors().log(Level::Debug, format_args!("Ignoring client disconnection: {error}"));
            return self.close_call(py, link, call);
        }
        let head_sent = call.response.get().progress().head_sent();
        if let Some(status) = body_fault(py, error) {
            return self.fail_body(py, link, call, (error, status), head_sent || taken);
        }
        let uri = String::from_utf8_lossy(call.request.head.target()).into_owned();
        let method = String::from_utf8_lossy(call.request.head.method()).into_owned();
        self.log_exception(py, link, &format!("Error handling request {method} {uri}"), error);
        if !head_sent && !taken {
            let mut page = link.buffer();
            rgunicorn_http::error_response_with(500, INTERNAL, "", &mut page);
            link.send(conn, Outgoing::from(page), true);
        }
        link.abort(conn);
        if self.logs_access(link) {
            self.log_access(py, link, &call, (!head_sent).then_some(500));
        }
        self.release(py, link, call);
    }

    /// The application has met a body that cannot be read, and left the answer to us.
    fn fail_body(
        &self,
        py: Python<'_>,
        link: Link<'_>,
        call: Exchange,
        (error, status): (&PyErr, u16),
        begun: bool,
    ) {
        let conn = call.request.id;
        let ip = call.request.peer.ip_text();
        let text = error.value(py);
        link.errors().log(Level::Warning, format_args!("Invalid request body from ip={ip}: {text}"));
        if !begun {
            let mut page = link.buffer();
            rgunicorn_http::error_response_with(status, reason(status), "", &mut page);
            link.send(conn, Outgoing::from(page), true);
        }
        link.abort(conn);
        if self.logs_access(link) {
            self.log_access(py, link, &call, (!begun).then_some(status));
        }
        self.release(py, link, call);
    }

    /// A child that the application forked has come back out of it: only its own exit is left to do. The client is the
    /// parent's.
    pub(super) fn leave_child(&self, py: Python<'_>, link: Link<'_>, error: Option<&PyErr>) {
        let status = match error {
            None => 0,
            Some(error) if error.is_instance_of::<PySystemExit>(py) => exit_status(py, error),
            Some(error) => {
                error.print(py);
                1
            }
        };
        link.control().quit(status);
    }
}

/// Answers without the application: `error`, or 500 when the call could not be made. The status.
fn refuse(link: Link<'_>, request: &Request, error: Option<&HttpError>) -> u16 {
    let mut page = link.buffer();
    match error {
        Some(error) => rgunicorn_http::error_response(error, &mut page),
        None => rgunicorn_http::error_response_with(500, INTERNAL, "", &mut page),
    }
    let status = error.map_or(500, HttpError::status);
    link.send(request.id, Outgoing::from(page), true);
    link.abort(request.id);
    log_line::write(link, request, None, None, (status, 0), Duration::ZERO);
    status
}

/// The status to answer with, if an error says that the request's body cannot be read.
fn body_fault(py: Python<'_>, error: &PyErr) -> Option<u16> {
    let fault = error.is_instance_of::<RequestBodyError>(py);
    fault.then(|| error.value(py).getattr("status").and_then(|status| status.extract()).unwrap_or(400))
}

fn reason(status: u16) -> &'static str {
    match status {
        408 => "Request Timeout",
        413 => "Content Too Large",
        _ => "Bad Request",
    }
}
