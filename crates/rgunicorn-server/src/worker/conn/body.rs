//! A request body that is received completely before the application is called: in memory up to a bound, then in an
//! unlinked temporary file. Or the mark of one that the application reads while it arrives (`incoming`).

use std::any::Any;
use std::fmt::Debug;
use std::io::{self, Read, Seek, SeekFrom, Write};

use rgunicorn_http::append_tight;
use rgunicorn_io::sys::tempfile::TemporaryFile;

/// Smaller pieces of a body in a file are collected up to this size, a receive buffer's.
const SPOOL_PIECE_BYTES: usize = 16 * 1024;

/// A complete body in memory of the application's, where it can be read without one more copy.
pub trait BodyMemory: Debug + Send {
    /// Returns its bytes.
    fn bytes(&self) -> &[u8];

    /// Returns it as what its maker knows.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// Copies bytes into such memory; `None` where there is none. It runs no code of the application.
pub type MakeBodyMemory = fn(&[u8]) -> Option<Box<dyn BodyMemory>>;

/// A complete (or growing) request body. Reading starts at the first byte.
#[derive(Debug, Default)]
pub enum Body {
    /// No body at all: the common case, and free.
    #[default]
    Empty,
    /// All bytes in memory.
    Memory(Vec<u8>),
    /// All bytes in memory of the application's: they came at once.
    Whole(Box<dyn BodyMemory>),
    /// All bytes in an unlinked temporary file.
    File {
        /// The file; its offset is where the next read starts.
        file: TemporaryFile,
        /// Bytes in it, and in `unwritten`.
        len: u64,
        /// The last bytes while the body grows: chunks of a few bytes do not cost a write each.
        unwritten: Vec<u8>,
    },
    /// Still arriving, its length unknown: to be read by [`crate::worker::Reactor::read_body`]. Here it is empty.
    Incoming,
}

impl Body {
    /// Appends `data`; moves to a temporary file when more than `memory_max` bytes would be held. Before it, too, no
    /// more is collected.
    ///
    /// # Errors
    /// Those of creating or writing the temporary file (a full disk, no descriptors).
    pub fn push(&mut self, data: &[u8], memory_max: usize) -> io::Result<()> {
        match self {
            Self::Empty if data.is_empty() => Ok(()),
            Self::Empty if data.len() <= memory_max => {
                *self = Self::Memory(data.to_vec());
                Ok(())
            }
            Self::Memory(held) if held.len() + data.len() <= memory_max => {
                append_tight(held, data);
                Ok(())
            }
            Self::File { file, len, unwritten } => {
                *len += data.len() as u64;
                if unwritten.len() + data.len() < SPOOL_PIECE_BYTES.min(memory_max) {
                    append_tight(unwritten, data);
                    return Ok(());
                }
                file.write_all(unwritten)?;
                unwritten.clear();
                if unwritten.capacity() > memory_max {
                    *unwritten = Vec::new();
                }
                file.write_all(data)
            }
            Self::Empty | Self::Memory(_) | Self::Whole(_) => self.spill(data),
            Self::Incoming => {
                debug_assert!(false, "a body that streams is not collected");
                Ok(())
            }
        }
    }

    /// Moves what is in memory to its file.
    ///
    /// # Errors
    /// Those of creating or writing the file.
    pub(super) fn spool(&mut self) -> io::Result<()> {
        match self {
            Self::Memory(_) | Self::Whole(_) => self.spill(&[]),
            Self::File { file, unwritten, .. } => file.write_all(&std::mem::take(unwritten)),
            Self::Empty | Self::Incoming => Ok(()),
        }
    }

    fn spill(&mut self, data: &[u8]) -> io::Result<()> {
        let mut file = TemporaryFile::new()?;
        let mut len = data.len() as u64;
        if let Some(held) = self.in_memory() {
            file.write_all(held)?;
            len += held.len() as u64;
        }
        file.write_all(data)?;
        *self = Self::File { file, len, unwritten: Vec::new() };
        Ok(())
    }

    /// Returns all bytes, if they are in memory and there are some.
    pub(crate) fn in_memory(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(held) => Some(held),
            Self::Whole(held) => Some(held.bytes()),
            Self::Empty | Self::File { .. } | Self::Incoming => None,
        }
    }

    /// Counts the bytes received so far.
    pub fn len(&self) -> u64 {
        match self {
            Self::Empty | Self::Incoming => 0,
            Self::Memory(held) => held.len() as u64,
            Self::Whole(held) => held.bytes().len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// Counts the memory that it takes.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Empty | Self::Incoming => 0,
            Self::Memory(held) => held.capacity(),
            Self::Whole(held) => held.bytes().len(),
            Self::File { unwritten, .. } => unwritten.capacity(),
        }
    }

    /// Tells whether no byte was received.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Turns to the beginning: reception is over, reading begins.
    ///
    /// # Errors
    /// Those of the last write and of the seek.
    pub fn rewind(&mut self) -> io::Result<()> {
        match self {
            Self::File { file, unwritten, .. } => {
                file.write_all(&std::mem::take(unwritten))?;
                file.seek(SeekFrom::Start(0)).map(drop)
            }
            Self::Empty | Self::Memory(_) | Self::Whole(_) | Self::Incoming => Ok(()),
        }
    }

    /// Reads at most `buf.len()` bytes from `offset` of an in-memory body, or from the file's own offset.
    ///
    /// # Errors
    /// Those of the file.
    pub fn read_at(&mut self, offset: usize, buf: &mut [u8]) -> io::Result<usize> {
        if let Self::File { file, .. } = self {
            return file.read(buf);
        }
        let rest = self.in_memory().and_then(|held| held.get(offset..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(body: &mut Body) -> Vec<u8> {
        body.rewind().unwrap();
        let mut all = Vec::new();
        let mut buf = [0; 7];
        loop {
            let n = body.read_at(all.len(), &mut buf).unwrap();
            if n == 0 {
                return all;
            }
            all.extend_from_slice(&buf[..n]);
        }
    }

    #[test]
    fn stays_in_memory_up_to_the_bound_and_spills_above_it() {
        let mut body = Body::default();
        body.push(b"12345", 8).unwrap();
        body.push(b"678", 8).unwrap();
        assert!(matches!(body, Body::Memory(_)));
        body.push(b"9", 8).unwrap();
        assert!(matches!(body, Body::File { len: 9, .. }));
        body.push(b"0", 8).unwrap();
        assert_eq!(body.len(), 10);
        assert_eq!(content(&mut body), b"1234567890");
    }

    #[test]
    fn a_first_piece_above_the_bound_goes_to_the_file() {
        let mut body = Body::default();
        body.push(b"abc", 2).unwrap();
        assert!(matches!(body, Body::File { len: 3, .. }));
        assert_eq!(content(&mut body), b"abc");
    }

    #[test]
    fn small_pieces_share_a_write() {
        let mut body = Body::default();
        body.push(b"abc", 2).unwrap();
        let memory_max = SPOOL_PIECE_BYTES;
        let written = |body: &Body| match body {
            Body::File { file, .. } => file.metadata().unwrap().len(),
            _ => panic!("a file"),
        };
        let mut sizes = Vec::new();
        for _ in 0..3 * SPOOL_PIECE_BYTES {
            body.push(b"x", memory_max).unwrap();
            sizes.push(written(&body));
        }
        sizes.dedup();
        assert_eq!(sizes.len(), 4, "three writes");
        assert_eq!(body.len(), 3 + 3 * SPOOL_PIECE_BYTES as u64);
        let all = content(&mut body);
        assert!(all.starts_with(b"abcx") && all.len() == 3 + 3 * SPOOL_PIECE_BYTES);
    }

    #[test]
    fn what_is_collected_before_a_write_is_memory_too() {
        let mut body = Body::default();
        body.push(b"0123456789", 99).unwrap();
        assert_eq!(body.held_bytes(), 10);
        body.spool().unwrap();
        assert_eq!(body.held_bytes(), 0);
        for _ in 0..100 {
            body.push(b"abc", 8).unwrap();
            assert!(body.held_bytes() <= 8, "{}", body.held_bytes());
        }
        body.push(b"abc", 99).unwrap();
        assert!(body.held_bytes() >= 3);
        body.spool().unwrap();
        assert_eq!((body.held_bytes(), body.len()), (0, 313));
        assert_eq!(content(&mut body).len(), 313);
    }

    #[derive(Debug)]
    struct Kept(Vec<u8>);

    impl BodyMemory for Kept {
        fn bytes(&self) -> &[u8] {
            &self.0
        }

        fn into_any(self: Box<Self>) -> Box<dyn Any> {
            self
        }
    }

    #[test]
    fn a_whole_body_is_read_as_any_other_and_goes_to_a_file_when_memory_is_short() {
        let mut body = Body::Whole(Box::new(Kept(b"0123456789".to_vec())));
        assert_eq!((body.len(), body.held_bytes(), body.in_memory()), (10, 10, Some(&b"0123456789"[..])));
        assert_eq!(content(&mut body), b"0123456789");
        body.spool().unwrap();
        assert_eq!((body.len(), body.held_bytes(), body.in_memory()), (10, 0, None));
        assert_eq!(content(&mut body), b"0123456789");
    }

    #[test]
    fn nothing_pushed_is_empty() {
        let mut body = Body::default();
        body.push(b"", 2).unwrap();
        assert!(body.is_empty());
        assert_eq!(content(&mut body), b"");
    }
}
