//! The rig of the contract tests: a driver of each kind, and connections whose far end the test holds.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code, though outside of test functions")]
#![allow(missing_docs, reason = "test code")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use rgunicorn_io::driver::sim::{self, SimConfig};
use rgunicorn_io::driver::{
    Choice, Completion, Config, Driver, Fd, OpKey, Received, SendBuf, Sent, Token, Urgency,
};
use rgunicorn_io::sys::clock;

/// No condition that a test waits for takes longer on a healthy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long one wait sleeps at most, so that conditions outside the driver are looked at as well.
const NAP: Duration = Duration::from_millis(5);
/// Seeds that every test tries on the simulation. A failure names its seed.
const SEEDS: u64 = 40;

/// What the far ends are made of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Wire {
    Tcp,
    Unix,
}

pub(crate) struct Rig {
    pub driver: Driver,
    pub config: Config,
    wire: Wire,
    pub net: Option<sim::SimNet>,
    /// Completions that a helper met while it looked for something else.
    pub out: Vec<Completion>,
}

pub(crate) enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
    Sim(sim::SimNet, sim::Peer),
}

/// Runs `test` on every back end, every wire, with normal and with the smallest queues, and on many simulations.
pub(crate) fn everywhere(test: impl Fn(&mut Rig)) {
    for choice in [Choice::Uring, Choice::Epoll] {
        for config in [Config::default(), Config::torture()] {
            for wire in [Wire::Tcp, Wire::Unix] {
                let config = Config { choice, ..config };
                match Driver::open(&config) {
                    Ok((driver, report)) => {
                        let rig = Rig { driver, config, wire, net: None, out: Vec::new() };
                        run(rig, &format!("{report} over {wire:?}"), &test);
                    }
                    Err(error) => println!("skipped: {choice:?} does not work here: {error}"),
                }
            }
        }
    }
    for seed in 0..SEEDS {
        let (driver, net) = Driver::sim(seed, &SimConfig::default());
        let rig = Rig { driver, config: Config::default(), wire: Wire::Tcp, net: Some(net), out: Vec::new() };
        run(rig, &format!("simulation with seed {seed}"), &test);
    }
}

fn run(mut rig: Rig, name: &str, test: &impl Fn(&mut Rig)) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&mut rig))) {
        println!("failed on {name}; {:?}", rig.driver.stats());
        resume_unwind(panic);
    }
}

impl Rig {
    pub(crate) fn is_sim(&self) -> bool {
        self.net.is_some()
    }

    /// Another driver that can share this one's listeners.
    pub(crate) fn sibling(&self) -> Driver {
        match &self.net {
            Some(net) => Driver::sim_sibling(net),
            None => Driver::open(&self.config).unwrap().0,
        }
    }

    /// A connection: the driver's end as the worker has it (blocking), and the far end.
    pub(crate) fn pair(&self) -> (Fd, Peer) {
        if let Some(net) = &self.net {
            let (fd, peer) = net.pair();
            return (fd, Peer::Sim(net.clone(), peer));
        }
        match self.wire {
            Wire::Unix => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                theirs.set_nonblocking(true).unwrap();
                (OwnedFd::from(ours).into(), Peer::Unix(theirs))
            }
            Wire::Tcp => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (ours, _) = listener.accept().unwrap();
                theirs.set_nonblocking(true).unwrap();
                (OwnedFd::from(ours).into(), Peer::Tcp(theirs))
            }
        }
    }

    /// Waits until `done` says so of what has come out so far.
    pub(crate) fn wait_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = clock::now().after(PATIENCE);
        while !done(self) {
            assert!(clock::now() < deadline, "waited in vain; so far {:?}", self.out);
            self.driver.wait(Some(NAP), &mut self.out).unwrap();
        }
    }

    /// The next completion for which `wanted` holds; others stay in `out`.
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&Completion) -> bool) -> Completion {
        let mut at = None;
        self.wait_until(|rig| {
            at = rig.out.iter().position(&wanted);
            at.is_some()
        });
        self.out.remove(at.unwrap())
    }

    /// The next thing that a reception says.
    pub(crate) fn received(&mut self, token: u64) -> Received {
        let is_it = |c: &Completion| matches!(c, Completion::Recv { token: t, .. } if *t == Token(token));
        match self.wait_for(is_it) {
            Completion::Recv { outcome, .. } => outcome,
            _ => unreachable!(),
        }
    }

    /// Receives until `count` bytes are there.
    pub(crate) fn receive(&mut self, token: u64, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            match self.received(token) {
                Received::Data(buf) => {
                    assert!(!buf.is_empty() && buf.len() == self.driver.buffer(&buf).len());
                    bytes.extend_from_slice(self.driver.buffer(&buf));
                    self.driver.release(buf);
                }
                other => panic!("{other:?} after {} of {count} bytes", bytes.len()),
            }
        }
        bytes
    }

    pub(crate) fn recv(&mut self, fd: &Fd, token: u64) -> OpKey {
        self.driver.recv(fd.as_raw_fd(), Token(token)).unwrap()
    }

    /// Sends, and reads at the far end (if it is asked to) until the send is over.
    pub(crate) fn send_all(&mut self, fd: &Fd, buf: SendBuf, urgency: Urgency, peer: &mut Peer) -> Vec<u8> {
        let mut got = Vec::new();
        let count = buf.len();
        if let Sent::Pending(_) = self.driver.send(fd.as_raw_fd(), Token(99), buf, urgency) {
            let mut sent = None;
            self.wait_until(|rig| {
                got.extend(peer.receive());
                sent = rig.take_sent(99);
                sent.is_some()
            });
            let (result, buf) = sent.unwrap();
            result.unwrap();
            assert_eq!(buf.len(), count, "the buffers come back whole");
        }
        self.wait_until(|_| {
            got.extend(peer.receive());
            got.len() >= count
        });
        got
    }

    pub(crate) fn take_sent(&mut self, token: u64) -> Option<(std::io::Result<()>, SendBuf)> {
        let is_it = |c: &Completion| matches!(c, Completion::Sent { token: t, .. } if *t == Token(token));
        let at = self.out.iter().position(is_it)?;
        match self.out.remove(at) {
            Completion::Sent { result, buf, .. } => Some((result, buf)),
            _ => unreachable!(),
        }
    }

    pub(crate) fn take_orphan(&mut self) -> Option<SendBuf> {
        let at = self.out.iter().position(|c| matches!(c, Completion::Orphan { .. }))?;
        match self.out.remove(at) {
            Completion::Orphan { buf } => Some(buf),
            _ => unreachable!(),
        }
    }

    /// Lets everything that could still come out come out.
    pub(crate) fn settle(&mut self) {
        for _ in 0..30 {
            self.driver.wait(Some(Duration::ZERO), &mut self.out).unwrap();
        }
        self.driver.wait(Some(NAP), &mut self.out).unwrap();
    }

    /// One wait that does not sleep.
    pub(crate) fn look(&mut self) {
        self.driver.wait(Some(Duration::ZERO), &mut self.out).unwrap();
    }

    /// A listener that siblings share, and how to connect to it.
    pub(crate) fn listener(&self) -> Listener {
        match &self.net {
            Some(net) => Listener::Sim(net.clone(), net.listener()),
            None => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                listener.set_nonblocking(true).unwrap();
                Listener::Tcp(listener)
            }
        }
    }
}

pub(crate) enum Listener {
    Tcp(TcpListener),
    Sim(sim::SimNet, RawFd),
}

impl Listener {
    pub(crate) fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Sim(_, fd) => *fd,
        }
    }

    pub(crate) fn connect(&self) -> Peer {
        match self {
            Self::Tcp(listener) => {
                let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                peer.set_nonblocking(true).unwrap();
                Peer::Tcp(peer)
            }
            Self::Sim(net, fd) => Peer::Sim(net.clone(), net.connect(*fd).unwrap()),
        }
    }
}

impl Peer {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Tcp(peer) => peer.write_all(bytes).unwrap(),
            Self::Unix(peer) => peer.write_all(bytes).unwrap(),
            Self::Sim(net, peer) => net.send(*peer, bytes),
        }
    }

    /// Sends as much as fits now.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> usize {
        let sent = match self {
            Self::Tcp(peer) => peer.write(bytes),
            Self::Unix(peer) => peer.write(bytes),
            Self::Sim(net, peer) => {
                net.send(*peer, bytes);
                Ok(bytes.len())
            }
        };
        sent.or_else(|e| if e.kind() == ErrorKind::WouldBlock { Ok(0) } else { Err(e) }).unwrap()
    }

    /// What has arrived; never waits.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // An error means "nothing more now" as well as "never more": a test that expects bytes waits in vain and
        // fails.
        let _ = match self {
            Self::Tcp(peer) => peer.read_to_end(&mut bytes),
            Self::Unix(peer) => peer.read_to_end(&mut bytes),
            Self::Sim(net, peer) => return net.receive(*peer),
        };
        bytes
    }

    /// Whether the far end knows that the driver's end is closed. Reads and discards what comes before that.
    pub(crate) fn sees_end(&mut self) -> bool {
        let mut sink = [0; 4096];
        let mut source: Box<dyn Read + '_> = match self {
            Self::Tcp(peer) => Box::new(peer),
            Self::Unix(peer) => Box::new(peer),
            Self::Sim(net, peer) => {
                net.receive(*peer);
                return net.sees_end(*peer);
            }
        };
        loop {
            match source.read(&mut sink) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }

    pub(crate) fn finish(&mut self) {
        match self {
            Self::Tcp(peer) => peer.shutdown(std::net::Shutdown::Write).unwrap(),
            Self::Unix(peer) => peer.shutdown(std::net::Shutdown::Write).unwrap(),
            Self::Sim(net, peer) => net.finish(*peer),
        }
    }

    /// Tears the connection down; false if this wire cannot do that.
    pub(crate) fn reset(self) -> bool {
        match self {
            Self::Tcp(peer) => {
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                // SAFETY: `linger` is readable for the length given.
                let done = unsafe {
                    libc::setsockopt(
                        peer.as_raw_fd(),
                        libc::SOL_SOCKET,
                        libc::SO_LINGER,
                        (&raw const linger).cast(),
                        size_of::<libc::linger>() as libc::socklen_t,
                    )
                };
                done == 0
            }
            Self::Unix(_) => false,
            Self::Sim(net, peer) => {
                net.reset(peer);
                true
            }
        }
    }
}

/// `count` bytes that do not repeat at any buffer's length.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    let mut bytes = (0..251).collect::<Vec<u8>>().repeat(count / 251 + 1);
    bytes.truncate(count);
    bytes
}

/// A send of nothing but a head.
pub(crate) fn head(bytes: &[u8]) -> SendBuf {
    SendBuf { head: bytes.to_vec(), body: bytes::Bytes::new() }
}
