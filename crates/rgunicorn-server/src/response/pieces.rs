//! The bytes of a response in the pieces in which a connection takes them.

use std::fs::File;

use bytes::Bytes;
use rgunicorn_io::sys::tempfile::TemporaryFile;

/// Body items up to this size are copied behind the head into one buffer and leave in one segment; larger
/// ones leave from the application's own memory. Copying 16 KiB costs about as much as the second I/O vector
/// saves.
pub(super) const COPIED_ITEM_BYTES_MAX: usize = 16 * 1024;

/// Items are joined up to this size before they are sent: about as much as one send takes.
const JOINED_ITEMS_BYTES_MAX: usize = 64 * 1024;

/// One piece of a response on its way out.
#[derive(Debug)]
pub enum Outgoing {
    /// `head` and then `body`.
    Bytes {
        /// Bytes of ours (response head, chunk framing, small bodies).
        head: Vec<u8>,
        /// Bytes of the application's; keeps its owner alive until the kernel is done.
        body: Bytes,
    },
    /// A part of a file, by sendfile(2); the file's own offset is not used.
    File {
        /// The file, a descriptor of our own.
        file: File,
        /// Where the part starts.
        offset: u64,
        /// Bytes in the part.
        len: u64,
    },
    /// Output that was too much to hold in memory, in an unlinked temporary file of the reactor's own; still
    /// growing while it is the last piece of its queue.
    Spool {
        /// The file.
        file: TemporaryFile,
        /// Where the unsent part starts.
        offset: u64,
        /// Bytes in it.
        len: u64,
    },
}

impl Outgoing {
    /// Returns how much memory it keeps busy; nothing for a file.
    pub(crate) fn memory_bytes(&self) -> u64 {
        match self {
            Self::Bytes { head, body } => (head.len() + body.len()) as u64,
            Self::File { .. } | Self::Spool { .. } => 0,
        }
    }
}

impl From<Vec<u8>> for Outgoing {
    fn from(head: Vec<u8>) -> Self {
        Self::Bytes { head, body: Bytes::new() }
    }
}

/// An item of a body, in memory of the application's.
pub trait BodyItem {
    /// Returns its bytes.
    fn bytes(&self) -> &[u8];

    /// Returns its bytes as a handle that keeps the memory alive.
    fn share(&self) -> Bytes;
}

/// The bytes of some items: small ones copied together, large ones of the application's by reference.
#[derive(Debug)]
pub struct Pieces {
    ready: Vec<Outgoing>,
    tail: Vec<u8>,
}

impl Pieces {
    /// Makes one without bytes; the first ones go into `buffer`, which is empty.
    #[must_use]
    pub fn new(buffer: Vec<u8>) -> Self {
        debug_assert!(buffer.is_empty(), "a buffer starts empty");
        Self { ready: Vec::new(), tail: buffer }
    }

    /// Returns whether nothing has been appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.tail.is_empty()
    }

    /// Returns whether there is enough for one send.
    #[must_use]
    pub fn is_large(&self) -> bool {
        !self.ready.is_empty() || self.tail.len() >= JOINED_ITEMS_BYTES_MAX
    }

    /// Returns whether an item would be sent from the application's memory.
    #[must_use]
    pub fn shares(item: &impl BodyItem) -> bool {
        item.bytes().len() > COPIED_ITEM_BYTES_MAX
    }

    /// Returns whether it holds memory of the application's.
    #[must_use]
    pub fn has_foreign(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends memory of the application's behind what is there.
    pub(super) fn push_shared(&mut self, body: Bytes) {
        let head = std::mem::take(&mut self.tail);
        self.ready.push(Outgoing::Bytes { head, body });
    }

    /// Splits it into what is sent, in order, and the buffer if that was not used.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Outgoing>, Vec<u8>) {
        (self.ready, self.tail)
    }
}
