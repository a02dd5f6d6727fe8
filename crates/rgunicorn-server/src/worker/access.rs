//! One record of the access log, put together from what the worker knows about a request.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Duration;

use crate::log::{AccessLog, AtomSource, AtomText, Level};
use rgunicorn_http::{ResponseHead, percent_decode_path};
use rgunicorn_io::sys::clock;

use super::message::Request;
use super::setup::WorkerHandles;

/// The facts of a finished request.
pub struct AccessLine<'a> {
    request: &'a Request,
    facts: &'a AccessFacts<'a>,
    remote_addr: String,
    path_info: Cow<'a, [u8]>,
}

/// The facts that the floor above knows.
pub struct AccessFacts<'a> {
    /// Status code as sent.
    pub status: u16,
    /// Body bytes sent, without chunk framing.
    pub bytes_sent: u64,
    /// The application's response header fields.
    pub response: Option<&'a ResponseHead>,
    /// From the last byte of the request to the end of the response.
    pub elapsed: Duration,
    /// Looks up an environ key, given in lower case.
    pub environ: &'a dyn Fn(&str) -> Option<String>,
}

impl WorkerHandles {
    /// Opens the access log again.
    pub(crate) fn reopen_access_log(&self) {
        if let Some(log) = &mut *self.access.borrow_mut()
            && let Err(error) = log.reopen()
        {
            self.errors.log(Level::Error, format_args!("Cannot open the access log again: {error}"));
        }
    }

    /// Writes what waits for a write, and tells of access records that were lost.
    pub(crate) fn flush_logs(&self) {
        self.errors.flush();
        let Some(log) = &mut *self.access.borrow_mut() else { return };
        log.flush();
        let lost = log.take_lost();
        if lost > 0 {
            self.errors
                .warning(format_args!("{lost} records of the access log were dropped: it was not read"));
        }
    }

    /// Tells whether an access log is kept: ask before the facts are gathered.
    pub fn logs_access(&self) -> bool {
        self.access.borrow().is_some()
    }

    /// Writes records that a thread has rendered.
    pub fn log_lines(&self, lines: &[u8]) {
        if !lines.is_empty()
            && let Some(log) = &mut *self.access.borrow_mut()
        {
            log.push_lines(lines);
        }
    }

    /// Writes the record of `request`, if an access log is kept. `facts` may run Python, so the log is out of its cell
    /// meanwhile.
    pub fn log_access(&self, request: &Request, facts: &AccessFacts<'_>) {
        let mut lent = Lent::take(&self.access);
        if let Some(log) = &mut lent.log {
            log.push(&AccessLine::new(request, facts));
        }
    }
}

impl<'a> AccessLine<'a> {
    /// Puts the record of `request` together.
    pub fn new(request: &'a Request, facts: &'a AccessFacts<'a>) -> Self {
        let remote_addr = request.peer.ip_text();
        Self { request, facts, remote_addr, path_info: percent_decode_path(request.head.path()) }
    }
}

/// The access log, out of its cell. Goes back when this is dropped, also by a panic.
struct Lent<'a> {
    cell: &'a RefCell<Option<AccessLog>>,
    log: Option<AccessLog>,
}

impl<'a> Lent<'a> {
    fn take(cell: &'a RefCell<Option<AccessLog>>) -> Self {
        let log = cell.borrow_mut().take();
        Self { cell, log }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if self.log.is_some() {
            *self.cell.borrow_mut() = self.log.take();
        }
    }
}

impl AtomSource for AccessLine<'_> {
    fn remote_addr(&self) -> &[u8] {
        self.remote_addr.as_bytes()
    }
    fn method(&self) -> &[u8] {
        self.request.head.method()
    }
    fn raw_uri(&self) -> &[u8] {
        self.request.head.target()
    }
    fn protocol(&self) -> &[u8] {
        self.request.head.version_text()
    }
    fn path_info(&self) -> &[u8] {
        &self.path_info
    }
    fn query(&self) -> &[u8] {
        self.request.head.query()
    }
    fn status(&self) -> u16 {
        self.facts.status
    }
    fn bytes_sent(&self) -> Option<u64> {
        Some(self.facts.bytes_sent)
    }
    fn request_header(&self, name: &str) -> Option<&[u8]> {
        self.request.head.header(name)
    }
    fn joined_request_header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut found = self.request.head.fields().filter(|field| same_key(field.name, name.as_bytes()));
        let mut joined = Cow::Borrowed(found.next()?.value);
        for field in found {
            let text = joined.to_mut();
            text.push(b',');
            text.extend_from_slice(field.value);
        }
        Some(joined)
    }
    fn response_header(&self, name: &str) -> Option<&[u8]> {
        self.facts.response?.get(name.as_bytes())
    }
    fn environ(&self, name: &str) -> Option<AtomText<'_>> {
        (self.facts.environ)(name).map(|text| AtomText::Utf8(text.into()))
    }
    fn elapsed(&self) -> Duration {
        self.facts.elapsed
    }
    fn unix_time(&self) -> Duration {
        clock::unix_now()
    }
    fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// Tells whether a field name becomes the same environ key as `name`, which is in lower case: underscores,
/// where the policy lets them pass, are dashes there.
fn same_key(field: &[u8], name: &[u8]) -> bool {
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    field.len() == name.len() && field.iter().map(fold).eq(name.iter().copied())
}
