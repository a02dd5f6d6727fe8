//! Waiting for sockets without being late: the kernel counts in milliseconds, so the last one is spent awake.

use std::io;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::socket::Stream;

const EVENTS_MAX: usize = 512;
/// The part of a wait that is spent awake: the kernel's rounding, and what waking takes on a virtual machine.
const AWAKE: Duration = Duration::from_millis(2);

/// The ends of a wait, of which the earlier one counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until {
    /// To be met exactly: a request is due.
    pub exactly: Option<Instant>,
    /// To be met roughly.
    pub roughly: Instant,
}

/// A socket that is ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub index: u32,
    pub writable: bool,
    pub readable: bool,
    /// The server has closed its side: all must be read, to the end.
    pub ended: bool,
}

/// The sockets that are waited for. Edge-triggered: nothing is to be changed for the life of a socket.
#[derive(Debug)]
pub(crate) struct Waiter {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Waiter {
    /// Makes one without sockets.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); EVENTS_MAX] })
    }

    /// Waits for a socket, until it is closed, under the number of its connection.
    pub(crate) fn watch(&self, stream: &Stream, index: u32) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        Ok(self.epoll.add(stream, EpollEvent::new(flags, index.into()))?)
    }

    /// Waits, and appends what sockets are ready for.
    pub(crate) fn wait(&mut self, now: Instant, until: Until, out: &mut Vec<Event>) -> io::Result<()> {
        let count = match self.epoll.wait(&mut self.events, EpollTimeout::from(timeout_ms(now, until))) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let events = self.events.iter().take(count);
        out.extend(events.map(|event| {
            let has = |flags| event.events().intersects(flags);
            let ended = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
            Event {
                index: u32::try_from(event.data()).unwrap_or(u32::MAX),
                writable: has(EpollFlags::EPOLLOUT | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR),
                readable: has(EpollFlags::EPOLLIN | ended),
                ended: has(ended),
            }
        }));
        Ok(())
    }
}

/// Returns the milliseconds to sleep: 0 when something is due so soon that sleeping would be late.
fn timeout_ms(now: Instant, until: Until) -> u16 {
    let millis = |duration: Duration| u16::try_from(duration.as_millis()).unwrap_or(u16::MAX);
    let roughly = millis(until.roughly.saturating_duration_since(now)).saturating_add(1);
    let exactly = until.exactly.map(|due| millis(due.saturating_duration_since(now).saturating_sub(AWAKE)));
    exactly.map_or(roughly, |exactly| exactly.min(roughly))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_before_a_request_is_due_and_never_before_anything_else() {
        let now = Instant::now();
        let after = |micros| now + Duration::from_micros(micros);
        let ms = |exactly: Option<u64>, roughly| {
            timeout_ms(now, Until { exactly: exactly.map(after), roughly: after(roughly) })
        };
        assert_eq!(ms(None, 10_500), 11);
        assert_eq!(ms(Some(10_500), 100_000), 8);
        assert_eq!(ms(Some(1_999), 100_000), 0);
        assert_eq!(ms(Some(100_000), 10_500), 11);
        assert_eq!(ms(Some(0), 0), 0);
    }
}
