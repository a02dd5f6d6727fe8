//! A client of the simulated network.

use std::cell::RefCell;

use rgunicorn_io::driver::sim::{Peer, SimNet};

pub(crate) struct Client {
    net: SimNet,
    pub(crate) peer: Peer,
    got: RefCell<Vec<u8>>,
}

impl Client {
    pub(crate) fn net(&self) -> &SimNet {
        &self.net
    }

    pub(crate) fn new(net: &SimNet, peer: Peer) -> Self {
        Self { net: net.clone(), peer, got: RefCell::default() }
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.net.send(self.peer, bytes.as_ref());
    }

    /// `GET path` over HTTP/1.1.
    pub(crate) fn get(&self, path: &str) {
        self.send(get(path));
    }

    /// Everything received so far, after reading what lies there.
    pub(crate) fn read(&self) -> Vec<u8> {
        self.got.borrow_mut().extend(self.net.receive(self.peer));
        self.got.borrow().clone()
    }

    /// Reads at most `bytes_max`.
    pub(crate) fn read_some(&self, bytes_max: usize) -> usize {
        let some = self.net.receive_some(self.peer, bytes_max);
        self.got.borrow_mut().extend(&some);
        some.len()
    }

    /// Everything received so far, without reading on.
    pub(crate) fn got(&self) -> Vec<u8> {
        self.got.borrow().clone()
    }

    pub(crate) fn has(&self, expected: &[u8]) -> bool {
        self.read() == expected
    }

    pub(crate) fn contains(&self, text: &str) -> bool {
        self.read().windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Sends no more, reads on.
    pub(crate) fn finish(&self) {
        self.net.finish(self.peer);
    }

    pub(crate) fn close(&self) {
        self.net.close(self.peer);
    }

    pub(crate) fn reset(&self) {
        self.net.reset(self.peer);
    }

    /// The worker has ended the connection, and everything was read.
    pub(crate) fn sees_end(&self) -> bool {
        self.read();
        self.net.sees_end(self.peer)
    }
}

pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}
