//! A connection's output queue, bounded in memory. An application that uses `write()` cannot be made to wait in direct
//! mode (a slow reader must not block the loop), so what its client does not take goes to a temporary file.

use std::io;

use bytes::Bytes;

use rgunicorn_io::driver::SendBuf;
use rgunicorn_io::sys::tempfile::TemporaryFile;

use crate::response::Outgoing;
use crate::worker::conn::ConnExt;

/// Bytes of output that one connection may hold in memory; what comes after them is spooled.
const QUEUE_MEMORY_BYTES_MAX: u64 = 1024 * 1024;
/// Small pieces are joined up to this size, so that the number of pieces is bounded too.
const JOINED_BYTES_MAX: usize = 64 * 1024;

impl ConnExt {
    /// Puts a piece at the end of the queue. `Some`: its bytes were copied, and the caller disposes of the
    /// buffers (whose owner may be a Python object).
    ///
    /// # Errors
    /// Those of making and writing the temporary file (a full disk), with the buffers.
    pub(crate) fn enqueue(&mut self, piece: Outgoing) -> Result<Option<SendBuf>, (io::Error, SendBuf)> {
        let Outgoing::Bytes { mut head, body } = piece else {
            self.out.push_back(piece);
            return Ok(None);
        };
        let small = head.len() + body.len() <= JOINED_BYTES_MAX;
        if let Some(Outgoing::Bytes { head: last, body: after }) = self.out.back_mut()
            && small
            && after.is_empty()
            && last.len() + head.len() + body.len() <= JOINED_BYTES_MAX
        {
            last.extend_from_slice(&head);
            last.extend_from_slice(&body);
            return Ok(Some(SendBuf { head, body }));
        }
        let spooling = matches!(self.out.back(), Some(Outgoing::Spool { .. }));
        if !spooling && self.queued_bytes() < QUEUE_MEMORY_BYTES_MAX {
            if small {
                // In one buffer, so that the next piece can join it.
                head.extend_from_slice(&body);
                self.out.push_back(Outgoing::from(head));
                return Ok(Some(SendBuf { head: Vec::new(), body }));
            }
            self.out.push_back(Outgoing::Bytes { head, body });
            return Ok(None);
        }
        match self.spool(&head, &body) {
            Ok(()) => Ok(Some(SendBuf { head, body })),
            Err(error) => Err((error, SendBuf { head, body })),
        }
    }

    /// Counts the bytes that the queue holds in memory; what is in flight is not counted.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.out.iter().map(Outgoing::memory_bytes).sum()
    }

    fn spool(&mut self, head: &[u8], body: &Bytes) -> io::Result<()> {
        if !matches!(self.out.back(), Some(Outgoing::Spool { .. })) {
            self.out.push_back(Outgoing::Spool { file: TemporaryFile::new()?, offset: 0, len: 0 });
        }
        if let Some(Outgoing::Spool { file, offset, len }) = self.out.back_mut() {
            for bytes in [head, body.as_ref()] {
                file.write_all_at(bytes, *offset + *len)?;
                *len += bytes.len() as u64;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn bytes(text: &[u8]) -> Outgoing {
        Outgoing::from(text.to_vec())
    }

    #[test]
    fn small_pieces_are_joined_and_large_queues_go_to_a_file() {
        let mut ext = ConnExt::default();
        assert!(ext.enqueue(bytes(b"one")).unwrap().is_some());
        assert!(ext.enqueue(bytes(b"two")).unwrap().is_some());
        assert_eq!((ext.out.len(), ext.queued_bytes()), (1, 6));
        let large = vec![b'x'; QUEUE_MEMORY_BYTES_MAX as usize];
        assert!(ext.enqueue(bytes(&large)).unwrap().is_none());
        assert!(ext.enqueue(bytes(&vec![b'y'; JOINED_BYTES_MAX + 1])).unwrap().is_some());
        assert!(ext.enqueue(bytes(b"end")).unwrap().is_some());
        assert_eq!(ext.out.len(), 3);
        let Some(Outgoing::Spool { file, offset: 0, len }) = ext.out.back() else { panic!("spooled") };
        assert_eq!(*len, JOINED_BYTES_MAX as u64 + 4);
        let mut tail = [0; 4];
        file.read_exact_at(&mut tail, len - 4).unwrap();
        assert_eq!(&tail, b"yend");
    }
}
