//! One send and its memory, at an address that does not change while the kernel may read it (always boxed).

use std::io;
use std::mem;
use std::os::fd::RawFd;

use super::types::{SendBuf, Token};
use crate::sys::net;

/// Bytes of one part handed to the kernel at once: a length must fit 32 bits, and Linux moves at most 2 GiB per call.
const PART_BYTES_MAX: usize = 1 << 30;

/// A send in flight.
pub(crate) struct SendOp {
    pub(crate) token: Token,
    pub(crate) buf: SendBuf,
    /// Bytes the kernel has taken so far, over both parts.
    pub(crate) sent: usize,
    /// A poll for writability stands in for the send (non-blocking descriptor).
    pub(crate) by_poll: bool,
    /// The vectors that `message` points to. Rewritten only while the kernel does not hold the operation.
    parts: [libc::iovec; 2],
    message: libc::msghdr,
}

// SAFETY: its pointers lead into itself and into memory that it owns, and no thread has a part in either.
unsafe impl Send for SendOp {}

impl std::fmt::Debug for SendOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendOp({:?}, {} of {} bytes)", self.token, self.sent, self.buf.len())
    }
}

/// The bytes of a send, in one of the kernel's forms.
pub(crate) enum SendVectors {
    /// One part: a plain send.
    One(*const u8, u32),
    /// Two parts.
    Two(*const libc::msghdr),
}

impl SendOp {
    pub(crate) fn new(token: Token, buf: SendBuf, sent: usize) -> Self {
        let none = net::iovec(&[]);
        // SAFETY: all-zero bytes are a valid msghdr (no address, no control data, no parts).
        let message = unsafe { mem::zeroed() };
        Self { token, buf, sent, by_poll: false, parts: [none, none], message }
    }

    /// Returns what has not been sent yet: the rest of the head, the rest of the body.
    fn rest(&self) -> (&[u8], &[u8]) {
        rest(&self.buf, self.sent)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.sent >= self.buf.len()
    }

    /// Describes the rest to the kernel. The pointers are good as long as this boxed operation lives.
    pub(crate) fn vectors(&mut self) -> SendVectors {
        let (head, body) = self.rest();
        let cut = |part: &[u8]| part.len().min(PART_BYTES_MAX);
        if head.is_empty() || body.is_empty() {
            let only = if head.is_empty() { body } else { head };
            return SendVectors::One(only.as_ptr(), cut(only) as u32);
        }
        self.parts = [net::iovec(&head[..cut(head)]), net::iovec(&body[..cut(body)])];
        self.message.msg_iov = self.parts.as_mut_ptr();
        self.message.msg_iovlen = self.parts.len();
        SendVectors::Two(&raw const self.message)
    }

    /// Sends what fits now. `Ok(true)`: all is sent. `Ok(false)`: the socket is full.
    pub(crate) fn advance_now(&mut self, fd: RawFd) -> io::Result<bool> {
        send_rest_now(fd, &self.buf, &mut self.sent)
    }
}

/// Sends what fits of `buf` from byte `sent` on, counting in `sent`. `Ok(true)`: all is sent.
pub(crate) fn send_rest_now(fd: RawFd, buf: &SendBuf, sent: &mut usize) -> io::Result<bool> {
    while *sent < buf.len() {
        let (head, body) = rest(buf, *sent);
        match net::send_now(fd, head, body) {
            Ok(n) => *sent += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Returns the parts of `buf` that follow its first `sent` bytes.
pub(crate) fn rest(buf: &SendBuf, sent: usize) -> (&[u8], &[u8]) {
    let in_head = sent.min(buf.head.len());
    let in_body = (sent - in_head).min(buf.body.len());
    (&buf.head[in_head..], &buf.body[in_body..])
}
