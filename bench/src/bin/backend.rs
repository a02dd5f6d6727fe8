//! The backend of the cooperative bench: sends back what it gets, on any number of connections, with one thread.
//!
//! It prints the port that the kernel chose on 127.0.0.1 and ends with its standard input, so that it never outlives
//! the bench. Level-triggered epoll and one read and one write per question: it is there to cost little on the CPU
//! that it shares with the load generator, and knows neither HTTP nor lines.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Questions are about 100 bytes; a longer one comes back in pieces.
const PIECE_BYTES: usize = 4 * 1024;
const EVENTS_MAX: usize = 256;
/// Tokens of what is no connection; a connection's token is its descriptor, which is smaller.
const LISTENER: u64 = u64::MAX;
const INPUT: u64 = u64::MAX - 1;

fn main() -> ExitCode {
    match Backend::new().and_then(Backend::serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "backend: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Backend {
    epoll: Epoll,
    listener: TcpListener,
    connections: HashMap<u64, TcpStream>,
    piece: Box<[u8; PIECE_BYTES]>,
}

impl Backend {
    fn new() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        watch(&epoll, &listener, LISTENER)?;
        watch(&epoll, &io::stdin(), INPUT)?;
        writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
        Ok(Self { epoll, listener, connections: HashMap::new(), piece: Box::new([0; PIECE_BYTES]) })
    }

    /// Serves until the standard input ends.
    fn serve(mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(nix::Error::EINTR) => continue,
                waited => waited?,
            };
            for token in events.iter().take(count).map(EpollEvent::data) {
                match token {
                    LISTENER => self.accept()?,
                    INPUT if io::stdin().read(self.piece.as_mut_slice())? == 0 => return Ok(()),
                    INPUT => {}
                    connection => self.answer(connection),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let token = u64::try_from(stream.as_raw_fd()).unwrap_or(0); // a descriptor is never negative
            watch(&self.epoll, &stream, token)?;
            self.connections.insert(token, stream);
        }
    }

    fn answer(&mut self, token: u64) {
        let Some(stream) = self.connections.get_mut(&token) else { return };
        if echo(stream, self.piece.as_mut_slice()).is_err() {
            self.connections.remove(&token); // closing takes it out of epoll
        }
    }
}

/// Answers a piece of input with itself. An error is the end of the connection: a client that asks so much without
/// reading that a write would have to wait is none of this backend's.
fn echo(stream: &mut TcpStream, piece: &mut [u8]) -> io::Result<()> {
    match stream.read(piece) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(length) => stream.write_all(piece.get(..length).unwrap_or_default()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
        Err(error) => Err(error),
    }
}

fn watch(epoll: &Epoll, what: &impl AsFd, token: u64) -> io::Result<()> {
    Ok(epoll.add(what, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
}
