//! Names of connections and of requests.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Names one connection for as long as it lives; a stale id is harmless.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnId {
    /// Slot in the connection slab.
    pub(crate) index: u32,
    /// Distinguishes the connections that a slot has held; 24 bits, never zero.
    pub(crate) generation: u32,
}

/// Names one request for as long as it is in progress; a stale id is harmless, every call with it answers `Gone`. A
/// connection carries its requests one after the other, and an id of one never reaches the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    /// The connection that it came on.
    pub(crate) conn: ConnId,
    /// The low bits of its number on that connection.
    pub(crate) sequence: u8,
}

impl RequestId {
    /// Packs it into one integer, never zero.
    pub fn to_raw(self) -> u64 {
        u64::from(self.conn.generation) << 40 | u64::from(self.sequence) << 32 | u64::from(self.conn.index)
    }

    /// Unpacks what [`Self::to_raw`] has made; anything else gives an id that names no request.
    #[expect(clippy::cast_possible_truncation, reason = "the three fields of a packed id")]
    pub fn from_raw(raw: u64) -> Self {
        let conn = ConnId { index: raw as u32, generation: (raw >> 40) as u32 };
        Self { conn, sequence: (raw >> 32) as u8 }
    }
}

impl Hash for RequestId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.to_raw());
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
    fn a_packed_request_id_is_the_same_again_and_never_zero() {
        for (index, generation, sequence) in [(0, 1, 0), (u32::MAX, 0x00ff_ffff, 0xff), (7, 9, 1)] {
            let id = RequestId { conn: ConnId { index, generation }, sequence };
            assert_ne!(id.to_raw(), 0);
            assert_eq!(RequestId::from_raw(id.to_raw()), id);
        }
    }
}
