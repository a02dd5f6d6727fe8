//! A request body that its application reads while it arrives (`WorkerConfig::stream_bodies`), and bytes that
//! are held for later.

use rgunicorn_http::{HttpError, ParseEvent, Policy, RequestParser, append_tight};
use rgunicorn_io::sys::clock::Instant;

use super::rate::Waits;

/// Input held for after the response in progress. Requests are taken from the front without moving the rest:
/// a client may have sent many small ones at once.
#[derive(Default)]
pub(crate) struct Pending {
    bytes: Vec<u8>,
    /// Bytes at the front that have been taken.
    taken: usize,
}

impl Pending {
    /// Holds these bytes.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, taken: 0 }
    }

    /// Puts bytes behind those that are held.
    pub(crate) fn push(&mut self, data: &[u8]) {
        // Never more than half of it is waste, and each byte is moved once on average.
        if self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        append_tight(&mut self.bytes, data);
    }

    /// Counts the memory that it takes; none if it is empty.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Counts the bytes that have not been taken.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Tells whether all bytes have been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes that have not been taken.
    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// Takes from the front until only so many bytes are left.
    pub(crate) fn keep_last(&mut self, bytes: usize) {
        self.taken = self.bytes.len() - bytes;
        if bytes == 0 {
            *self = Self::default();
        }
    }

    /// Takes at most `bytes_max` from the front.
    pub(crate) fn take_front(&mut self, bytes_max: usize) -> Vec<u8> {
        if bytes_max >= self.len() {
            return std::mem::take(self).into_rest();
        }
        let front = self.bytes[self.taken..self.taken + bytes_max].to_vec();
        self.taken += bytes_max;
        front
    }

    /// Returns what has not been taken, by itself.
    pub(crate) fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.taken);
        self.bytes
    }
}

/// The reason why the rest of a request body will not come. The connection can only be closed after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// The client has left, or sends no more, before the end of the body. Also for a request that is over.
    Gone,
    /// The chunks are not those of HTTP.
    Framing(HttpError),
    /// The client was silent for longer than `body_stall_timeout`, or slower than `body_bytes_per_s_min`, while the
    /// application waited.
    Stalled,
}

/// The outcome of [`Reactor::read_body`](crate::worker::Reactor::read_body).
#[derive(Debug, PartialEq, Eq)]
pub enum BodyRead {
    /// The next bytes; never empty.
    Data(Vec<u8>),
    /// All was read.
    End,
    /// Nothing at the moment: [`Reactor::await_body`](crate::worker::Reactor::await_body).
    Pending,
    /// All that came was read, and no more will come.
    Failed(BodyFault),
}

/// The progress of a body's reception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    Open,
    Complete,
    Failed(BodyFault),
}

/// The progress of a body that is read away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SkipProgress {
    /// All of it has come.
    Complete,
    /// More is to come, and not too much has come yet.
    Open,
    /// The end will not come, or too late.
    Hopeless,
}

/// State of one such body.
pub(crate) struct Incoming {
    /// Received and not read.
    held: Pending,
    /// Bytes that may still come.
    left: u64,
    arrival: Arrival,
    /// The application waits for more.
    awaited: bool,
    waits: Waits,
    /// Bytes that have come.
    bytes: u64,
    /// The response is complete: bytes of the body that were read away since.
    skipped: Option<usize>,
}

impl Incoming {
    /// Begins with the part `held` of a body, which came together with the head, and has `bytes_max` bytes at most.
    pub(crate) fn new(held: Pending, bytes_max: u64) -> Self {
        let left = bytes_max.saturating_sub(held.len() as u64);
        let (waits, bytes) = (Waits::default(), held.len() as u64);
        Self { held, left, arrival: Arrival::Open, awaited: false, waits, bytes, skipped: None }
    }

    /// Takes what of `input` belongs to the body.
    pub(crate) fn take(
        &mut self,
        parser: &mut RequestParser,
        policy: &Policy,
        trusted: bool,
        input: &mut &[u8],
    ) {
        if matches!(self.arrival, Arrival::Failed(_)) {
            // Where the next request would begin is not known.
            *input = &[];
        }
        let before = input.len();
        while self.arrival == Arrival::Open {
            match parser.advance(policy, trusted, input) {
                Ok(ParseEvent::Data(data)) if data.len() as u64 > self.left => {
                    self.arrival = Arrival::Failed(BodyFault::Framing(HttpError::BodyTooLarge));
                    *input = &[];
                }
                Ok(ParseEvent::Data(data)) => {
                    self.left -= data.len() as u64;
                    self.bytes += data.len() as u64;
                    if self.skipped.is_none() {
                        self.held.push(data);
                    }
                }
                Ok(ParseEvent::NeedMore) => break,
                Ok(ParseEvent::End) => self.arrival = Arrival::Complete,
                Ok(ParseEvent::Head(_)) => {
                    debug_assert!(false, "the parser ends a body before it begins a request");
                    self.arrival = Arrival::Failed(BodyFault::Framing(HttpError::RequestLine));
                }
                Err(error) => {
                    self.arrival = Arrival::Failed(BodyFault::Framing(error));
                    *input = &[];
                }
            }
        }
        if let Some(skipped) = &mut self.skipped {
            *skipped += before - input.len();
        }
    }

    /// Notes that no more will come.
    pub(crate) fn fail(&mut self, fault: BodyFault) {
        if self.arrival == Arrival::Open {
            self.arrival = Arrival::Failed(fault);
        }
    }

    /// Returns the bytes received and not read.
    pub(crate) fn into_held(self) -> Vec<u8> {
        self.held.into_rest()
    }

    /// Tells whether reception must pause; `None`: that is decided by what comes behind the body.
    pub(crate) fn is_full(&self, window_bytes_max: usize) -> Option<bool> {
        match self.arrival {
            Arrival::Open => Some(self.held.len() >= window_bytes_max.max(1)),
            Arrival::Complete => None,
            Arrival::Failed(_) => Some(true),
        }
    }

    /// Counts the memory of what was received and not read.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.held.memory_bytes()
    }

    /// Counts the bytes received and not read.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Tells whether a read would find something, be it the end or a fault.
    pub(crate) fn is_readable(&self) -> bool {
        self.arrival != Arrival::Open || !self.held.is_empty()
    }

    /// Tells whether the application waits for more.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// Notes that the application waits for more from now on.
    pub(crate) fn begin_wait(&mut self, now: Instant) {
        self.awaited = true;
        self.waits.begin(now);
    }

    /// Fails a body for which the application waits if fewer bytes come in each second.
    pub(crate) fn check_rate(&mut self, now: Instant, bytes_per_s: u32) {
        if self.awaited && self.waits.is_slow(now, self.bytes, bytes_per_s) {
            self.fail(BodyFault::Stalled);
        }
    }

    /// Notes whether the application waits for more; returns whether it did.
    pub(crate) fn set_awaited(&mut self, awaited: bool) -> bool {
        std::mem::replace(&mut self.awaited, awaited)
    }

    /// Takes out at most `bytes_max` bytes, and at least one.
    pub(crate) fn read(&mut self, bytes_max: usize) -> BodyRead {
        if !self.held.is_empty() {
            return BodyRead::Data(self.held.take_front(bytes_max.max(1)));
        }
        match self.arrival {
            Arrival::Open => BodyRead::Pending,
            Arrival::Complete => BodyRead::End,
            Arrival::Failed(fault) => BodyRead::Failed(fault),
        }
    }

    /// Drops what is held and what still comes: the application will not read it any more.
    pub(crate) fn skip(&mut self) {
        self.skipped = Some(std::mem::take(&mut self.held).len());
    }

    /// Tells how the rest goes on, of which at most `bytes_max` bytes are read away.
    pub(crate) fn skip_progress(&self, bytes_max: usize) -> SkipProgress {
        match self.arrival {
            Arrival::Complete => SkipProgress::Complete,
            Arrival::Open if self.skipped.is_none_or(|bytes| bytes <= bytes_max) => SkipProgress::Open,
            Arrival::Open | Arrival::Failed(_) => SkipProgress::Hopeless,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_bytes_come_out_in_their_order_however_they_are_taken() {
        let mut pending = Pending::of(b"abc".to_vec());
        pending.push(b"def");
        assert_eq!(pending.take_front(2), b"ab");
        assert_eq!((pending.rest(), pending.len()), (&b"cdef"[..], 4));
        pending.keep_last(1);
        pending.push(b"gh");
        assert_eq!((pending.take_front(9), pending.is_empty()), (b"fgh".to_vec(), true));
    }

    #[test]
    fn a_body_is_read_away_up_to_a_bound() {
        let mut incoming = Incoming::new(Pending::of(b"held".to_vec()), 100);
        incoming.skip();
        assert_eq!(
            [4, 3].map(|max| incoming.skip_progress(max)),
            [SkipProgress::Open, SkipProgress::Hopeless]
        );
        incoming.fail(BodyFault::Gone);
        assert_eq!(incoming.skip_progress(4), SkipProgress::Hopeless);
        assert_eq!(incoming.read(1), BodyRead::Failed(BodyFault::Gone));
    }
}
