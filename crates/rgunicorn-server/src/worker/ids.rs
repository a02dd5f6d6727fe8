//! Names of connections and of requests.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Names one connection in the tokens of its operations and in the lists of a turn. The driver keeps no operation of a
/// connection that is gone, and no list outlives the turn; what may outlive both goes by a [`RequestId`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnId {
    /// Slot in the connection slab.
    pub(crate) index: u32,
    /// Distinguishes the connections that a slot has held; 24 bits, never zero.
    pub(crate) generation: u32,
}

impl ConnId {
    /// Returns it as a number.
    pub(crate) fn to_number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Makes it of what [`Self::to_number`] gave.
    #[expect(clippy::cast_possible_truncation, reason = "the two fields of a packed id")]
    pub(crate) fn from_number(number: u64) -> Self {
        Self { index: number as u32, generation: (number >> 32) as u32 }
    }
}

/// Names one request for as long as it is in progress; a stale id is harmless, every call with it answers `Gone`. A
/// connection carries its requests one after the other, and an id of one never reaches the next.
///
/// The application may keep an id for ever: neither number comes a second time in the life of a worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    /// The connection that it came on.
    pub(crate) conn: ConnId,
    /// The number of that connection in its worker, from 1 on.
    pub(crate) conn_number: u64,
    /// Its number on that connection, from 1 on.
    pub(crate) sequence: u64,
}

impl RequestId {
    /// Returns it as numbers; the last is never 0.
    pub fn to_numbers(self) -> [u64; 3] {
        [self.conn.to_number(), self.conn_number, self.sequence]
    }

    /// Makes it of what [`Self::to_numbers`] gave; `None` if the last number is 0.
    pub fn from_numbers([conn, conn_number, sequence]: [u64; 3]) -> Option<Self> {
        let conn = ConnId::from_number(conn);
        (sequence != 0).then_some(Self { conn, conn_number, sequence })
    }
}

impl Hash for RequestId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One request at a time is in progress on a connection.
        state.write_u64(self.conn_number);
    }
}

/// A table by request.
pub type RequestMap<V> = HashMap<RequestId, V, BuildHasherDefault<RequestHasher>>;

/// Spreads the numbers of requests, which are the server's own choice and small, over a table: no peer can choose them.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestHasher(u64);

impl Hasher for RequestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "a request is one number");
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio, odd: neighbours end up far apart, also in the high bits that a
        // table looks at.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {} of {:?}", self.sequence, self.conn)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {}.{}", self.index, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_the_same_again_from_its_numbers() {
        for (index, generation, conn_number) in
            [(0, 1, 1), (u32::MAX, 0x00ff_ffff, u64::MAX), (7, 9, 1 << 24)]
        {
            let id = RequestId { conn: ConnId { index, generation }, conn_number, sequence: 1 };
            assert_eq!(RequestId::from_numbers(id.to_numbers()), Some(id));
        }
        assert_eq!(RequestId::from_numbers([1, 2, 0]), None);
    }
}
