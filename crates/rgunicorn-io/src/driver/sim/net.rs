//! The test's side of the simulated network: peers, listeners, time.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::super::types::Fd;
use super::world::{SimCall, SimConfig, SimFault, SimListener, SimSocket, SimWorld, WorldHandle};
use crate::sys::clock::Instant;
use crate::sys::handoff::HandoffEnds;

/// The rest of the world. Cloning gives another handle on the same one.
#[derive(Clone)]
pub struct SimNet {
    pub(super) world: WorldHandle,
}

/// The far end of one connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Peer(RawFd);

impl SimNet {
    /// Makes a network without listeners and sockets.
    pub(crate) fn new(seed: u64, config: &SimConfig) -> Self {
        Self { world: WorldHandle::new(SimWorld::new(seed, config.clone())) }
    }

    /// Makes a listening socket, and returns its descriptor; any driver of this network can use it.
    pub fn listener(&self) -> RawFd {
        let mut world = self.world.borrow_mut();
        let fd = world.new_fd();
        world.listeners.insert(fd, SimListener::default());
        fd
    }

    /// Makes a handoff queue; any driver of this network can use it.
    pub fn handoff(&self) -> HandoffEnds {
        let fd = self.listener();
        HandoffEnds { give: fd, take: fd }
    }

    /// Puts a message into a handoff queue, as a giver does that knows other ones. Returns the client's end of its
    /// connection.
    pub fn hand_over(&self, queue: HandoffEnds, message: &[u8]) -> Peer {
        let mut world = self.world.borrow_mut();
        let fd = world.new_fd();
        world.sockets.insert(fd, SimSocket::default());
        if let Some(waiting) = world.listeners.get_mut(&queue.give) {
            waiting.backlog.push_back(fd);
            waiting.messages.push_back(message.to_vec());
        }
        world.wake_one(queue.give);
        Peer(fd)
    }

    /// Counts the connections that wait in a handoff queue.
    pub fn under_way(&self, queue: HandoffEnds) -> usize {
        self.world.borrow().listeners.get(&queue.take).map_or(0, |waiting| waiting.backlog.len())
    }

    /// Connects a client; the connection waits to be accepted.
    ///
    /// # Errors
    /// `ConnectionRefused` if there is no such listener.
    pub fn connect(&self, listener: RawFd) -> io::Result<Peer> {
        let peer = self.connect_unseen(listener)?;
        self.world.borrow_mut().wake_one(listener);
        Ok(peer)
    }

    /// Connects as [`SimNet::connect`] does, but the wake-up goes to a process outside the test, which does not
    /// accept.
    ///
    /// # Errors
    /// As [`SimNet::connect`].
    pub fn connect_unseen(&self, listener: RawFd) -> io::Result<Peer> {
        let mut world = self.world.borrow_mut();
        let fd = world.new_fd();
        let Some(listening) = world.listeners.get_mut(&listener) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        listening.backlog.push_back(fd);
        world.sockets.insert(fd, SimSocket::default());
        Ok(Peer(fd))
    }

    /// Makes this call fail with `errno`, from the `nth` one from now on (1: the next one) for good.
    pub fn fail(&self, call: SimCall, errno: i32, nth: u64) {
        self.world.borrow_mut().faults.insert(call, SimFault { errno, passes: nth.saturating_sub(1) });
    }

    /// Ends [`Self::fail`].
    pub fn mend(&self, call: SimCall) {
        self.world.borrow_mut().faults.remove(&call);
    }

    /// Returns the number of the driver that was made last.
    pub fn last_driver(&self) -> u32 {
        self.world.borrow().drivers
    }

    /// Kills the process of a driver after so many of its steps (1: at once): what it still does has no effect, and its
    /// next wait fails.
    pub fn kill(&self, driver: u32, steps: u64) {
        let mut world = self.world.borrow_mut();
        // A dead one stays dead.
        if !world.is_dead(driver) {
            world.steps_left.insert(driver, steps.max(1));
        }
    }

    /// Tells whether the process of a driver was killed.
    pub fn is_dead(&self, driver: u32) -> bool {
        self.world.borrow().is_dead(driver)
    }

    /// Tells whether the connection ended because the process that had it was killed.
    pub fn was_killed(&self, peer: Peer) -> bool {
        self.socket(peer, |socket| socket.killed)
    }

    /// Makes a connection that is accepted already.
    pub fn pair(&self) -> (Fd, Peer) {
        let mut world = self.world.borrow_mut();
        let fd = world.new_fd();
        world.sockets.insert(fd, SimSocket::default());
        (Fd::Virtual(fd), Peer(fd))
    }

    /// Makes a descriptor that is no socket, with a poll(2) mask that the test sets.
    pub fn pollable(&self, mask: u32) -> Fd {
        let mut world = self.world.borrow_mut();
        let fd = world.new_fd();
        world.pollables.insert(fd, mask);
        Fd::Virtual(fd)
    }

    /// Changes what a `pollable` is ready for.
    pub fn set_ready(&self, fd: RawFd, mask: u32) {
        self.world.borrow_mut().pollables.insert(fd, mask);
    }

    /// Sends as the peer. Nothing arrives if the driver's end is closed.
    pub fn send(&self, peer: Peer, bytes: &[u8]) {
        self.socket(peer, |socket| {
            if socket.closed {
                socket.reset = true;
            } else {
                socket.incoming.extend(bytes);
            }
        });
    }

    /// Reads, as the peer, all that lies there.
    pub fn receive(&self, peer: Peer) -> Vec<u8> {
        self.socket(peer, |socket| socket.outgoing.drain(..).collect())
    }

    /// Reads at most `bytes_max` as the peer.
    pub fn receive_some(&self, peer: Peer, bytes_max: usize) -> Vec<u8> {
        self.socket(peer, |socket| {
            let count = bytes_max.min(socket.outgoing.len());
            socket.outgoing.drain(..count).collect()
        })
    }

    /// Returns how many bytes of the peer's the driver's side has not received yet.
    pub fn unreceived(&self, peer: Peer) -> usize {
        self.socket(peer, |socket| socket.incoming.len())
    }

    /// Shuts the peer's sending side: it sends no more, but reads on.
    pub fn finish(&self, peer: Peer) {
        self.socket(peer, |socket| socket.peer_finished = true);
    }

    /// Closes the peer's end.
    pub fn close(&self, peer: Peer) {
        self.socket(peer, |socket| {
            socket.peer_finished = true;
            socket.peer_closed = true;
        });
    }

    /// Resets the connection, as the peer.
    pub fn reset(&self, peer: Peer) {
        self.socket(peer, |socket| {
            socket.reset = true;
            socket.incoming.clear();
        });
    }

    /// Tells whether the peer has read everything and knows that nothing more comes (end of stream or reset).
    pub fn sees_end(&self, peer: Peer) -> bool {
        self.socket(peer, |socket| socket.outgoing.is_empty() && (socket.send_closed || socket.reset))
    }

    /// Tells whether something has come on a socket that its driver has not taken.
    pub fn has_input(&self, fd: RawFd) -> bool {
        self.world.borrow().readiness(fd).is_ok_and(|mask| mask & libc::POLLIN as u32 != 0)
    }

    /// Returns the virtual time.
    pub fn now(&self) -> Instant {
        self.world.borrow().now
    }

    /// Lets virtual time pass.
    pub fn advance(&self, by: Duration) {
        self.world.borrow_mut().advance(by);
    }

    fn socket<T>(&self, peer: Peer, act: impl FnOnce(&mut SimSocket) -> T) -> T {
        // Sockets stay in the world, so that a peer can ask about one that the driver has closed.
        act(self.world.borrow_mut().sockets.entry(peer.0).or_default())
    }
}
