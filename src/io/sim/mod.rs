//! The simulated back end.

use std::io;
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::time::Duration;

use super::types::{BufId, Completion, Fd, OpKey, SendBuf, Sent, Stats, Token, Urgency};
use crate::sys::net::PeerAddr;

/// Sizes and fault rates of a simulation.
#[derive(Clone, Debug, Default)]
pub struct SimConfig {}

/// The other end of the simulated network.
pub struct Net {}

pub(crate) struct Sim {}

#[allow(unused_variables, clippy::unused_self, clippy::ptr_arg)]
impl Sim {
    pub(crate) fn new(seed: u64, config: &SimConfig) -> (Self, Net) {
        (Self {}, Net {})
    }
    pub(crate) fn accept(&mut self, listener: RawFd) -> io::Result<(Fd, PeerAddr)> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    pub(crate) fn recv(&mut self, fd: RawFd, token: Token) -> io::Result<OpKey> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn recv_stop(&mut self, op: OpKey) -> (Vec<u8>, bool) {
        (Vec::new(), false)
    }
    pub(crate) fn recv_drop(&mut self, op: OpKey) {}
    pub(crate) fn send(&mut self, fd: RawFd, token: Token, buf: SendBuf, urgency: Urgency) -> Sent {
        Sent::Ready(Ok(()), buf)
    }
    pub(crate) fn send_drop(&mut self, op: OpKey) {}
    pub(crate) fn poll(&mut self, fd: RawFd, mask: u32, token: Token) -> io::Result<OpKey> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn poll_cancel(&mut self, op: OpKey) {}
    pub(crate) fn listen(&mut self, listener: RawFd, token: Token) -> io::Result<OpKey> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn listen_cancel(&mut self, op: OpKey) -> bool {
        false
    }
    pub(crate) fn buffer(&self, id: &BufId) -> &[u8] {
        &[]
    }
    pub(crate) fn release(&mut self, id: BufId) {}
    pub(crate) fn flush(&mut self) {}
    pub(crate) fn queued_sends(&self) -> usize {
        0
    }
    pub(crate) fn has_pending(&self) -> bool {
        false
    }
    pub(crate) fn close(&mut self, fd: Fd) {}
    pub(crate) fn shutdown(&mut self, fd: RawFd, how: Shutdown) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion>) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn stats(&self) -> Stats {
        Stats::default()
    }
}
