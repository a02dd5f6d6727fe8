//! Unlinked temporary files for what is too large to be held in memory; and memory after all, as much as is bounded,
//! where the temporary directory cannot be written: the file system of a container may be read-only.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::file::temporary_file_in;

/// Most bytes of this process's files that are memory, all together: some uploads of photographs. What is beyond fails
/// as a full disk does.
pub const MEMORY_FILES_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The bytes of this process's files that are memory.
static IN_MEMORY_BYTES: AtomicU64 = AtomicU64::new(0);
/// The error number for which the first file became memory; 0 before, [`TOLD`] when it has been taken.
static FIRST_ERROR: AtomicI32 = AtomicI32::new(0);
const TOLD: i32 = -1;

/// A temporary file without a name, readable and writable.
#[derive(Debug)]
pub struct TemporaryFile {
    file: File,
    /// If it is memory: its share of [`IN_MEMORY_BYTES`].
    share: Option<u64>,
}

impl TemporaryFile {
    /// Makes one in the system's temporary directory (`TMPDIR`, else /tmp), or in memory where that fails.
    ///
    /// # Errors
    /// That of the directory, if memory is refused too (no descriptors left, a system call filter).
    pub fn new() -> io::Result<Self> {
        Self::new_in(&std::env::temp_dir())
    }

    fn new_in(directory: &Path) -> io::Result<Self> {
        let error = match temporary_file_in(directory) {
            Ok(file) => return Ok(Self { file, share: None }),
            Err(error) => error,
        };
        let Ok(file) = in_memory() else { return Err(error) };
        let number = error.raw_os_error().unwrap_or(libc::EIO);
        // Without effect if another one was first, which is as good.
        let _ = FIRST_ERROR.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        Ok(file)
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// Those of the file; `StorageFull` where too much of it would be memory.
    pub fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.reserve(data.len())?;
        self.file.write_all_at(data, offset)
    }

    /// Counts bytes that are about to be written, if they are memory.
    fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        let (Some(share), bytes) = (&mut self.share, bytes as u64) else { return Ok(()) };
        let before = IN_MEMORY_BYTES.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > MEMORY_FILES_BYTES_MAX {
            IN_MEMORY_BYTES.fetch_sub(bytes, Ordering::Relaxed);
            return Err(io::ErrorKind::StorageFull.into());
        }
        *share += bytes;
        Ok(())
    }

    /// Gives the count of bytes back that were not written.
    fn release(&mut self, bytes: usize) {
        if let Some(share) = &mut self.share {
            *share -= bytes as u64;
            IN_MEMORY_BYTES.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// Takes the error for which the first file of this process became memory: once, to be told to the operator.
pub fn take_directory_error() -> Option<io::Error> {
    if FIRST_ERROR.load(Ordering::Relaxed) <= 0 {
        return None;
    }
    let number = FIRST_ERROR.swap(TOLD, Ordering::Relaxed);
    (number > 0).then(|| io::Error::from_raw_os_error(number))
}

/// Makes a file of memory.
fn in_memory() -> io::Result<TemporaryFile> {
    let fd = memfd_create(c"rgunicorn-body", MFdFlags::MFD_CLOEXEC)?;
    Ok(TemporaryFile { file: fd.into(), share: Some(0) })
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(share) = self.share {
            IN_MEMORY_BYTES.fetch_sub(share, Ordering::Relaxed);
        }
    }
}

impl Deref for TemporaryFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Read for TemporaryFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read(buf)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        self.file.read_to_end(buf)
    }
}

impl Write for TemporaryFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.reserve(data.len())?;
        let written = self.file.write(data);
        self.release(data.len() - written.as_ref().copied().unwrap_or(0));
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for TemporaryFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, for the count is the process's.
    #[test]
    fn where_the_directory_cannot_be_written_files_are_memory_up_to_a_bound() {
        let directory = Path::new("/nonexistent");
        assert!(take_directory_error().is_none());
        let mut file = TemporaryFile::new_in(directory).unwrap();
        assert_eq!(take_directory_error().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
        file.write_all(b"kept").unwrap();
        file.write_all_at(b"!", 4).unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), file.metadata().unwrap().len()), ("kept!", 5));

        let mut other = TemporaryFile::new_in(directory).unwrap();
        assert!(take_directory_error().is_none(), "told once");
        let rest = vec![b'x'; MEMORY_FILES_BYTES_MAX as usize - 5];
        other.write_all(&rest).unwrap();
        assert_eq!(other.write_all(b"y").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.write_all_at(b"y", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        drop(file);
        other.write_all(b"fits!").unwrap();
        drop(other);
        assert_eq!(IN_MEMORY_BYTES.load(Ordering::Relaxed), 0);

        let mut plain = TemporaryFile::new().unwrap();
        plain.write_all(b"on disk").unwrap();
        assert_eq!(IN_MEMORY_BYTES.load(Ordering::Relaxed), 0);
    }
}
