//! The connections: bytes in, through the parser, answers out, on either driver.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use bytes::Bytes;
use rgunicorn_http::{ParseEvent, Policy, RequestParser, continue_response};
use rgunicorn_io::driver::{Completion, Driver, Fd, Received, SendBuf, Sent, Token, Urgency};
use rgunicorn_io::sys::clock;
use rgunicorn_io::sys::listener::Listener;
use slab::Slab;

use crate::answer::Answers;

/// The token of the listener; connections have twice their index for input, and one more for output.
const LISTENER: Token = Token(u64::MAX);
/// Connections accepted before the others are looked at again.
const ACCEPTED_MAX: usize = 64;
/// A client that asks on and on and does not read is not kept: 160 answers of 100 kB.
const QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Buffers of answers that are kept for the next ones: as many as are sent in a turn.
const SPARE_MAX: usize = 256;
/// A buffer that has grown beyond this is not kept.
const SPARE_BYTES_MAX: usize = 64 * 1024;
/// Descriptors besides connections.
const OTHER_FILES: usize = 32;

/// One listener and its connections on one thread.
pub(crate) struct Responder {
    driver: Driver,
    listener: Listener,
    connections: Slab<Peer>,
    connections_max: usize,
    answers: Answers,
    policy: Policy,
    spare: Vec<Vec<u8>>,
}

struct Peer {
    fd: Fd,
    parser: RequestParser,
    queue: Queue,
    is_sending: bool,
    /// The client wants to go on after the request that it is sending.
    keep_alive: bool,
    /// Nothing more is read: it is closed when the queue is sent.
    is_closing: bool,
}

impl Responder {
    /// Makes a responder for `descriptors` open files at most.
    pub(crate) fn new(driver: Driver, listener: Listener, answers: Answers, descriptors: usize) -> Self {
        let connections_max = descriptors.saturating_sub(OTHER_FILES);
        let (policy, connections, spare) = (Policy::default(), Slab::new(), Vec::new());
        Self { driver, listener, connections, connections_max, answers, policy, spare }
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// What makes the driver or the listener useless.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let listener = self.listener.as_fd().as_raw_fd();
        let mut completions = Vec::new();
        let mut is_armed = false;
        loop {
            // While all descriptors are taken, the others wait in the accept queue.
            if !is_armed && self.connections.len() < self.connections_max {
                self.driver.arm_accept(listener, LISTENER)?;
                is_armed = true;
            }
            self.driver.wait(None, &mut completions)?;
            self.answers.tick(clock::unix_now().as_secs());
            let urgency = if completions.len() > 1 { Urgency::Batch } else { Urgency::Now };
            for completion in completions.drain(..) {
                is_armed &= !matches!(completion, Completion::Poll { token: LISTENER, .. });
                self.handle(completion, urgency);
            }
            // Behind the completions: a new connection may have the place of one that they were about.
            if !is_armed {
                self.accept(listener)?;
            }
        }
    }

    fn handle(&mut self, completion: Completion, urgency: Urgency) {
        match completion {
            Completion::Recv { token, outcome: Received::Data(buffer) } => {
                let Some(connection) = self.connections.get_mut(index(token)) else {
                    return self.driver.release(buffer);
                };
                let bytes = self.driver.buffer(&buffer);
                connection.feed(bytes, &self.policy, &self.answers, &mut self.spare);
                self.driver.release(buffer);
                self.send(index(token), urgency);
            }
            Completion::Recv { token, .. } => {
                if let Some(connection) = self.connections.get_mut(index(token)) {
                    connection.is_closing = true;
                    self.send(index(token), urgency);
                }
            }
            Completion::Sent { token, result, buf } => {
                self.keep(buf);
                let Some(connection) = self.connections.get_mut(index(token)) else { return };
                connection.is_sending = false;
                if result.is_err() {
                    return self.close(index(token));
                }
                self.send(index(token), urgency);
            }
            Completion::Orphan { buf } => self.keep(buf),
            Completion::Poll { .. } => {}
        }
    }

    /// Sends what is queued, unless a send is under way; closes a connection that has nothing more to say.
    fn send(&mut self, index: usize, urgency: Urgency) {
        while let Some(connection) = self.connections.get_mut(index) {
            if connection.queue.bytes > QUEUED_BYTES_MAX {
                return self.close(index);
            }
            if connection.is_sending {
                return;
            }
            let Some(buffer) = connection.queue.pop() else {
                if connection.is_closing {
                    self.close(index);
                }
                return;
            };
            match self.driver.send(connection.fd.as_raw_fd(), output(index), buffer, urgency) {
                Sent::Pending(_) => connection.is_sending = true,
                Sent::Ready(result, buffer) => {
                    self.keep(buffer);
                    if result.is_err() {
                        return self.close(index);
                    }
                }
            }
        }
    }

    fn accept(&mut self, listener: i32) -> io::Result<()> {
        for _ in 0..ACCEPTED_MAX {
            if self.connections.len() >= self.connections_max {
                return Ok(());
            }
            let fd = match self.driver.accept(listener) {
                Ok((fd, _)) => fd,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The client has gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let entry = self.connections.vacant_entry();
            self.driver.recv(fd.as_raw_fd(), Token(entry.key() as u64 * 2))?;
            entry.insert(Peer::new(fd));
        }
        Ok(())
    }

    fn close(&mut self, index: usize) {
        let connection = self.connections.remove(index);
        self.driver.close(connection.fd);
    }

    /// Keeps the memory of an answer that was sent for another one.
    fn keep(&mut self, buffer: SendBuf) {
        let mut head = buffer.head;
        if self.spare.len() < SPARE_MAX && head.capacity() <= SPARE_BYTES_MAX {
            head.clear();
            self.spare.push(head);
        }
    }
}

impl Peer {
    fn new(fd: Fd) -> Self {
        let (parser, queue) = (RequestParser::new(), Queue::default());
        Self { fd, parser, queue, is_sending: false, keep_alive: true, is_closing: false }
    }

    /// Takes what was received, and queues an answer for each request that is complete.
    fn feed(&mut self, mut input: &[u8], policy: &Policy, answers: &Answers, spare: &mut Vec<Vec<u8>>) {
        while !self.is_closing {
            match self.parser.advance(policy, false, &mut input) {
                Ok(ParseEvent::NeedMore) => return,
                Ok(ParseEvent::Data(_)) => {}
                Ok(ParseEvent::Head(head)) => {
                    self.keep_alive = head.keep_alive() && !head.close_after();
                    if head.expects_continue() {
                        self.queue.push(continue_response(head.version()), None, spare);
                    }
                }
                Ok(ParseEvent::End) => {
                    self.queue.push(answers.head(self.keep_alive), answers.apart(), spare);
                    self.is_closing = !self.keep_alive;
                }
                // Nobody measures refusals here.
                Err(_) => self.is_closing = true,
            }
        }
    }
}

/// Answers that wait for their turn, as few sends as they fit into.
#[derive(Debug, Default)]
struct Queue {
    sends: VecDeque<SendBuf>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, head: &[u8], body: Option<Bytes>, spare: &mut Vec<Vec<u8>>) {
        if self.sends.back().is_none_or(|last| !last.body.is_empty()) {
            let head = spare.pop().unwrap_or_default();
            self.sends.push_back(SendBuf { head, body: Bytes::new() });
        }
        let Some(last) = self.sends.back_mut() else { return };
        last.head.extend_from_slice(head);
        self.bytes += head.len() + body.as_ref().map_or(0, Bytes::len);
        last.body = body.unwrap_or_default();
    }

    fn pop(&mut self) -> Option<SendBuf> {
        let first = self.sends.pop_front()?;
        self.bytes -= first.len();
        Some(first)
    }
}

fn output(index: usize) -> Token {
    Token(index as u64 * 2 + 1)
}

fn index(token: Token) -> usize {
    usize::try_from(token.0 / 2).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_answers_leave_together_and_a_large_one_ends_a_send() {
        let mut queue = Queue::default();
        let mut spare = Vec::new();
        queue.push(b"one", None, &mut spare);
        queue.push(b"two", Some(Bytes::from_static(b"body")), &mut spare);
        queue.push(b"three", None, &mut spare);
        assert_eq!(queue.bytes, 15);
        let sends: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let texts: Vec<_> = sends.iter().map(|send| (send.head.as_slice(), &send.body[..])).collect();
        assert_eq!(texts, [(&b"onetwo"[..], &b"body"[..]), (b"three", b"")]);
        assert_eq!(queue.bytes, 0);
    }
}
