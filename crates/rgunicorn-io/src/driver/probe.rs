//! Proof by doing: version numbers lie (back-ports, sandboxes), so a new ring has to receive one byte over a socket
//! pair, by multishot recv into its buffer ring, and to stop doing so, before it is trusted.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::types::{Completion, Received, Token};
use super::uring::Uring;

/// The byte has been sent before the wait begins, so a working kernel answers at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the proof. An error is the kernel's answer, or `Unsupported`.
pub(crate) fn probe(ring: &mut Uring) -> io::Result<()> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let op = ring.recv(ours.as_raw_fd(), Token(0))?;
    theirs.write_all(b"?")?;
    let mut out = Vec::new();
    ring.wait(Some(ANSWER_TIMEOUT), &mut out)?;
    let verdict = match out.pop() {
        Some(Completion::Recv { outcome: Received::Data(buf), .. }) => {
            let right = ring.buffer(&buf) == b"?";
            ring.release(buf);
            if right { Ok(()) } else { Err(unsupported("a received byte is wrong")) }
        }
        Some(Completion::Recv { outcome: Received::Err(error), .. }) => Err(error),
        _ => Err(unsupported("multishot recv does not answer")),
    };
    ring.recv_stop(op);
    verdict?;
    if ring.in_flight() > 0 { Err(unsupported("a reception cannot be cancelled")) } else { Ok(()) }
}

fn unsupported(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what)
}
