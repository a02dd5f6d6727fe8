//! The request that the application is working on, for reports of a blocked loop. It is written for every
//! request and read by another thread, perhaps once a week: so the writer copies bytes, and the reader makes
//! a text of them.

use std::sync::{Arc, Mutex};

use crate::py::Describe;
use rgunicorn_io::driver::PeerAddr;
use rgunicorn_server::log::Escaped;
use rgunicorn_server::worker::Request;

/// The bytes that are kept of method and path: a line of a log.
const TEXT_BYTES_MAX: usize = 250;

/// One request's method, path and peer. Not the query: it may hold what no log should, such as a token.
#[derive(Default)]
pub(super) struct RunningRequest {
    /// The writer is the loop's thread; writer and reader hold the interpreter lock, and neither runs Python
    /// meanwhile. So no thread ever waits here, and no forked child finds it locked. The lock is only tried,
    /// for this not to be relied on.
    line: Mutex<Line>,
}

/// A request's method, path and peer, or none. It is large: write it where it stays.
pub(super) struct Line {
    text: [u8; TEXT_BYTES_MAX],
    len: usize,
    peer: PeerAddr,
}

impl Default for Line {
    fn default() -> Self {
        Self { text: [0; TEXT_BYTES_MAX], len: 0, peer: PeerAddr::Unix }
    }
}

impl RunningRequest {
    /// Notes that the application is about to work on `request`.
    pub(super) fn set(&self, request: &Request) {
        if let Ok(mut line) = self.line.try_lock() {
            line.note(request);
        }
    }

    /// Returns the maker of the one line about it.
    pub(super) fn describe(this: &Arc<Self>) -> Describe {
        let this = this.clone();
        Box::new(move |_| this.line.try_lock().map(|line| vec![line.text()]).unwrap_or_default())
    }
}

impl Line {
    /// Notes a request, in place of the one before.
    pub(super) fn note(&mut self, request: &Request) {
        self.set(request.head.method(), request.head.path(), request.peer);
    }

    /// Forgets the request.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Returns whether there is no request.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn set(&mut self, method: &[u8], path: &[u8], peer: PeerAddr) {
        self.len = 0;
        for part in [method, b" ", path] {
            let part = &part[..part.len().min(TEXT_BYTES_MAX - self.len)];
            self.text[self.len..self.len + part.len()].copy_from_slice(part);
            self.len += part.len();
        }
        self.peer = peer;
    }

    /// Renders it as a report shows it.
    pub(super) fn text(&self) -> String {
        let cut = if self.len == TEXT_BYTES_MAX { "..." } else { "" };
        let text = Escaped(&self.text[..self.len]);
        let (ip, port) = (self.peer.ip_text(), self.peer.port());
        match port {
            Some(port) => format!("{text}{cut} (peer {ip}:{port})"),
            None => format!("{text}{cut} (peer on a unix socket)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_target_is_cut_and_a_shorter_one_leaves_nothing_of_it() {
        let mut line = Line::default();
        let peer = PeerAddr::V4 { addr: [10, 0, 0, 1], port: 4000 };
        line.set(b"GET", &[b'/'; 8000], peer);
        let slashes = "/".repeat(TEXT_BYTES_MAX - "GET ".len());
        assert_eq!(line.text(), format!("GET {slashes}... (peer 10.0.0.1:4000)"));
        line.set(b"PROPFIND", b"/a\x9bc", PeerAddr::Unix);
        assert_eq!(line.text(), "PROPFIND /a\\x9Bc (peer on a unix socket)");
        line.set(&[b'X'; 8000], b"/", peer);
        assert_eq!(line.text().len(), TEXT_BYTES_MAX + "... (peer 10.0.0.1:4000)".len());
    }
}
