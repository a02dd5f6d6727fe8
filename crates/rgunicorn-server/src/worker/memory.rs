//! Memory that outlives the event that used it: buffers for reuse, and foreign ones that wait for a place to
//! be dropped.

use rgunicorn_http::{DateCache, Repeats};
use rgunicorn_io::driver::SendBuf;

/// Output buffers kept for reuse; about one turn's worth of responses.
const SPARE_BUFFERS_MAX: usize = 64;
/// A buffer that grew beyond this is given back instead.
const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Capacity of a new output buffer.
const BUFFER_BYTES: usize = 512;

/// Spare output buffers, deferred drops, the text of the `Date` field, and what is known of heads.
#[derive(Default)]
pub(crate) struct Memory {
    spare: Vec<Vec<u8>>,
    /// Buffers whose owners may be Python objects: dropped where nothing is borrowed and Python may run.
    deferred_drops: Vec<SendBuf>,
    date: DateCache,
    /// The field sections of heads that come again.
    pub(crate) repeats: Repeats,
}

impl Memory {
    /// Returns an empty buffer for output, with some capacity.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Keeps a buffer for reuse, as far as bounds allow.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS_MAX && (1..=SPARE_BUFFER_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Takes the buffers of a finished send: the head is reused at once, a foreign body waits for its drop.
    pub(crate) fn discard(&mut self, mut buf: SendBuf) {
        self.recycle(std::mem::take(&mut buf.head));
        if !buf.body.is_empty() {
            self.deferred_drops.push(buf);
        }
    }

    /// Takes buffers that are of no use any more, to be dropped later.
    pub(crate) fn defer_drop(&mut self, buf: SendBuf) {
        self.deferred_drops.push(buf);
    }

    /// Tells whether buffers wait for their drop.
    pub(crate) fn has_deferred_drops(&self) -> bool {
        !self.deferred_drops.is_empty()
    }

    /// Takes out the buffers that wait for their drop.
    pub(crate) fn take_deferred_drops(&mut self) -> Vec<SendBuf> {
        std::mem::take(&mut self.deferred_drops)
    }

    /// Returns the value of the `Date` field for a time in seconds since 1970.
    pub(crate) fn date(&mut self, unix: u64) -> [u8; 29] {
        *self.date.at(unix)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn of_capacity(bytes: usize) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(bytes);
        buffer.push(b'x');
        buffer
    }

    #[test]
    fn a_buffer_comes_back_empty_with_its_memory() {
        let mut memory = Memory::default();
        assert!(memory.buffer().capacity() >= BUFFER_BYTES);
        let used = of_capacity(700);
        let address = used.as_ptr();
        memory.recycle(used);
        let again = memory.buffer();
        assert_eq!((again.len(), again.as_ptr()), (0, address));
    }

    #[test]
    fn neither_large_buffers_nor_too_many_are_kept() {
        let mut memory = Memory::default();
        memory.recycle(Vec::new());
        memory.recycle(of_capacity(SPARE_BUFFER_BYTES_MAX + 1));
        assert_eq!(memory.spare.len(), 0);
        for _ in 0..=SPARE_BUFFERS_MAX {
            memory.recycle(of_capacity(SPARE_BUFFER_BYTES_MAX));
        }
        assert_eq!(memory.spare.len(), SPARE_BUFFERS_MAX);
    }

    #[test]
    fn a_foreign_body_waits_for_its_drop_and_a_head_does_not() {
        let mut memory = Memory::default();
        memory.discard(SendBuf { head: of_capacity(600), body: Bytes::new() });
        assert!(!memory.has_deferred_drops());
        memory.discard(SendBuf { head: of_capacity(600), body: Bytes::from_static(b"body") });
        memory.defer_drop(SendBuf { head: of_capacity(600), body: Bytes::new() });
        assert_eq!(memory.spare.len(), 2);
        let drops = memory.take_deferred_drops();
        assert_eq!(drops.iter().map(SendBuf::len).collect::<Vec<_>>(), [4, 1]);
        assert!(!memory.has_deferred_drops());
    }

    #[test]
    fn the_date_is_that_of_its_second() {
        let mut memory = Memory::default();
        assert_eq!(&memory.date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&memory.date(784_111_778), b"Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
