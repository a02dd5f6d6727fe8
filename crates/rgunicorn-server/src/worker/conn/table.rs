//! The connections of a worker: their slots, their deadlines, and the work that they have for the application.

use std::collections::VecDeque;

use slab::Slab;

use rgunicorn_io::driver::timers::Deadlines;
use rgunicorn_io::driver::{Completion, Driver, Received, Token};
use rgunicorn_io::sys::clock::Instant;

use super::rate::RATE_WINDOW;
use super::{Conn, ConnPhase, NewConn};
use crate::worker::config::WorkerConfig;
use crate::worker::event_source::{EventSource, GENERATION_MASK, token_of};
use crate::worker::handling::input_bytes;
use crate::worker::ids::{ConnId, RequestId};
use crate::worker::jobs::Job;
use crate::worker::message::Request;
use crate::worker::timers::{ConnTimer, ConnTimers};

/// The table of connections.
#[derive(Default)]
pub(crate) struct Connections {
    conns: Slab<Conn>,
    /// At most one deadline per connection.
    pub(crate) timers: ConnTimers,
    /// Requests, and the ends of those whose client has left.
    jobs: VecDeque<Job>,
    /// Requests in progress that may go on. By themselves, because they may come again and again, and a new request
    /// must not wait for all of them.
    resumes: VecDeque<RequestId>,
    /// Completions that had no turn yet, because the last one had handled enough; in their order.
    late: VecDeque<Completion>,
    /// The input that they have brought.
    late_bytes: usize,
    /// Connections that hold as much early input as they may: reception pauses when all completions of the turn are
    /// handled. Not earlier: what `recv_stop` returns comes after the data that those completions carry.
    full: Vec<ConnId>,
    /// The requests that are being received, in the order in which they were queued.
    pub(crate) unfinished: Deadlines<1>,
    /// Connections whose reception waits for memory.
    pub(crate) stalled: Vec<ConnId>,
    /// The part of [`Self::held_bytes`] that is counted here.
    own_bytes: usize,
    /// The part that waits for threads, as of the beginning of the turn.
    pub(crate) elsewhere_bytes: usize,
    /// Idle connections that siblings are to have, because this worker leaves, or has more than they.
    spare: VecDeque<ConnId>,
    /// Connections so far: the number of the last one, and in its low bits the generation.
    accepted: u64,
    /// Greenlets and threads at work ([`Self::begin_work`]).
    workers: usize,
    /// The part of them whose connection is closed.
    orphans: usize,
}

impl Connections {
    /// Returns the connection that `id` names, if it is still the same one.
    pub(crate) fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.index as usize).filter(|conn| conn.generation == id.generation)
    }

    /// Returns the connection on which the request `id` is, if no later one has begun there.
    pub(crate) fn request(&mut self, id: RequestId) -> Option<&mut Conn> {
        let conn = self.get(id.conn)?;
        (conn.number == id.conn_number && conn.requests == id.sequence).then_some(conn)
    }

    /// Returns the connection of the request `id` while its response is not over: the application may still read its
    /// body, send, and wait.
    pub(crate) fn running(&mut self, id: RequestId) -> Option<&mut Conn> {
        self.request(id).filter(|conn| conn.phase == ConnPhase::Running)
    }

    /// Tells whether the response of `id` is cut short: its client has left, or it was aborted. Not so once it is over,
    /// whatever becomes of the connection's next request.
    pub(crate) fn is_cut(&mut self, id: RequestId) -> bool {
        match self.get(id.conn) {
            None => true,
            Some(conn) => conn.aborted && conn.number == id.conn_number && conn.requests == id.sequence,
        }
    }

    /// Gives a new connection a slot and an id.
    pub(crate) fn insert(&mut self, new: NewConn) -> ConnId {
        self.accepted += 1;
        let generation = self.accepted as u32 & GENERATION_MASK;
        ConnId { index: self.conns.insert(Conn::new(new, generation, self.accepted)) as u32, generation }
    }

    /// Takes a connection out, with its deadline. If its request waits for the client, the application is to
    /// abandon it.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get(id)?;
        self.timers.stop(id.index);
        self.unfinished.clear(id.index);
        let conn = self.conns.remove(id.index as usize);
        self.own_bytes -= conn.counted_bytes as usize;
        self.orphans += usize::from(conn.held);
        if conn.parked || conn.awaits_body() {
            self.jobs.push_back(Job::Abandon(conn.request_id(id.index)));
        }
        Some(conn)
    }

    /// Returns the ids of all connections.
    pub(crate) fn ids(&self) -> Vec<ConnId> {
        let id = |(index, conn): (usize, &Conn)| ConnId { index: index as u32, generation: conn.generation };
        self.conns.iter().map(id).collect()
    }

    /// Counts the open connections.
    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }

    /// Counts what `worker_connections` bounds: open connections, and work on behalf of closed ones.
    pub(crate) fn load(&self) -> usize {
        self.conns.len() + self.orphans
    }

    /// Tells whether there are as many connections as there may be.
    pub(crate) fn is_full(&self, config: &WorkerConfig) -> bool {
        self.load() >= config.connections_max
    }

    /// Tells whether there is neither work for the application nor anything that `worker_connections` bounds.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs() == 0 && self.load() == 0
    }

    /// Counts the greenlets and threads at work.
    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// Counts a greenlet or a thread that begins to work on a request.
    pub(crate) fn begin_work(&mut self, id: ConnId) {
        self.workers += 1;
        match self.get(id) {
            Some(conn) => conn.held = true,
            None => self.orphans += 1,
        }
    }

    /// Counts it no longer.
    pub(crate) fn end_work(&mut self, id: ConnId) {
        self.workers = self.workers.saturating_sub(1);
        match self.get(id) {
            Some(conn) => conn.held = false,
            None => self.orphans = self.orphans.saturating_sub(1),
        }
    }

    /// Queues work for the application, in order of arrival; what goes on is queued by [`Self::push_resume`].
    pub(crate) fn push_job(&mut self, job: Job) {
        debug_assert!(!matches!(job, Job::Resume(_)), "they have a queue of their own");
        self.own_bytes += job.held_bytes();
        self.jobs.push_back(job);
    }

    /// Queues the resumption of a request in progress.
    pub(crate) fn push_resume(&mut self, id: RequestId) {
        self.resumes.push_back(id);
    }

    /// Queues a request that is ready; no deadline runs from here on. `goes_on`: before all others, for it follows the
    /// one that the application works on.
    pub(crate) fn call(&mut self, request: Box<Request>, goes_on: bool) {
        self.timers.stop(request.id.conn.index);
        self.unfinished.clear(request.id.conn.index);
        if goes_on {
            self.own_bytes += request.held_bytes;
            self.jobs.push_front(Job::Call(request));
        } else {
            self.push_job(Job::Call(request));
        }
    }

    /// Queues the resumption of the request in progress on a connection.
    pub(crate) fn resume(&mut self, id: ConnId) {
        if let Some(conn) = self.get(id) {
            let id = conn.request_id(id.index);
            self.push_resume(id);
        }
    }

    /// Takes out the oldest work for the application that is no resumption.
    pub(crate) fn pop_job(&mut self) -> Option<Job> {
        let job = self.jobs.pop_front()?;
        self.own_bytes -= job.held_bytes();
        Some(job)
    }

    /// Counts the memory of requests that are not with the application: what connections have received, and what
    /// waits for its turn. Refused ones are only to be recorded.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        self.own_bytes + self.elsewhere_bytes
    }

    /// Returns the part of it that is counted here.
    pub(crate) fn own_bytes(&self) -> usize {
        self.own_bytes
    }

    /// Counts anew what a connection holds.
    pub(crate) fn recount(&mut self, id: ConnId) {
        let change = self.get(id).map_or(0, Conn::recount);
        self.count_bytes(change);
    }

    /// Adds a change of what a connection holds.
    #[inline]
    pub(crate) fn count_bytes(&mut self, change: isize) {
        if change != 0 {
            self.own_bytes = self.own_bytes.wrapping_add_signed(change);
        }
    }

    /// Computes the same from what is there.
    pub(crate) fn find_own_bytes(&self) -> usize {
        let queued: usize = self.jobs.iter().map(Job::held_bytes).sum();
        queued + self.conns.iter().map(|(_, conn)| conn.held_bytes() as usize).sum::<usize>()
    }

    /// Returns the connection of the request that comes first in the queue of unfinished ones.
    pub(crate) fn oldest_unfinished(&self) -> Option<ConnId> {
        self.id_at(self.unfinished.first(0)?.0)
    }

    /// Returns when the rate of a body is to be looked at next.
    pub(crate) fn next_rate_check(&self, config: &WorkerConfig) -> Option<Instant> {
        if config.body_bytes_per_s_min == 0 {
            return None;
        }
        self.unfinished.first(0).map(|(_, since)| since.after(RATE_WINDOW))
    }

    /// Returns when a deadline is over, or the rate of a body is to be looked at.
    pub(crate) fn next_deadline(&self, config: &WorkerConfig) -> Option<Instant> {
        let deadline = self.timers.next();
        match self.next_rate_check(config) {
            None => deadline,
            Some(at) => Some(deadline.map_or(at, |deadline| deadline.min(at))),
        }
    }

    /// Notes that a connection receives nothing because requests hold all the memory: until they do not.
    pub(crate) fn stall(&mut self, id: ConnId) {
        if let Some(conn) = self.get(id)
            && !std::mem::replace(&mut conn.stalled, true)
        {
            self.stalled.push(id);
        }
    }

    /// Returns the id of the connection in a slot.
    pub(crate) fn id_at(&self, index: u32) -> Option<ConnId> {
        let conn = self.conns.get(index as usize)?;
        Some(ConnId { index, generation: conn.generation })
    }

    /// Takes out the request that waits longest for its resumption.
    pub(crate) fn pop_resume(&mut self) -> Option<RequestId> {
        self.resumes.pop_front()
    }

    /// Counts the work for the application.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len() + self.resumes.len()
    }

    /// Tells whether there is work that is no resumption.
    pub(crate) fn has_new_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Puts a completion off until the next turn.
    pub(crate) fn push_late(&mut self, completion: Completion) {
        self.late_bytes += input_bytes(&completion);
        self.late.push_back(completion);
    }

    /// Takes out the oldest of those completions.
    pub(crate) fn pop_late(&mut self) -> Option<Completion> {
        let completion = self.late.pop_front()?;
        self.late_bytes -= input_bytes(&completion);
        Some(completion)
    }

    /// Counts the input that they have brought.
    pub(crate) fn late_bytes(&self) -> usize {
        self.late_bytes
    }

    /// Tells whether one of them has this token.
    pub(crate) fn has_late_of(&self, token: Token) -> bool {
        self.late.iter().filter_map(token_of).any(|late| late == token)
    }

    /// Tells whether there are any.
    #[inline]
    pub(crate) fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Tells whether output of a connection has made progress of which such a completion tells.
    pub(crate) fn has_late_output(&self, id: ConnId) -> bool {
        [EventSource::Send(id), EventSource::Writable(id)]
            .iter()
            .any(|source| self.has_late_of(source.token()))
    }

    /// Takes out what such completions have brought of a connection's input, and whether that is its end.
    pub(crate) fn take_late_input(&mut self, id: ConnId, driver: &mut Driver) -> (Vec<u8>, bool) {
        let (mut data, mut end) = (Vec::new(), false);
        let wanted = EventSource::Recv(id).token();
        if !self.has_late_of(wanted) {
            return (data, end);
        }
        for completion in std::mem::take(&mut self.late) {
            match completion {
                Completion::Recv { token, outcome } if token == wanted => match outcome {
                    Received::Data(buf) => {
                        self.late_bytes -= buf.len();
                        data.extend_from_slice(driver.buffer(&buf));
                        driver.release(buf);
                    }
                    Received::Eof | Received::Err(_) => end = true,
                },
                other => self.late.push_back(other),
            }
        }
        (data, end)
    }

    /// Returns what such completions have brought of a connection's input; it stays where it is.
    pub(crate) fn peek_late_input(&self, id: ConnId, driver: &Driver) -> Vec<u8> {
        let wanted = EventSource::Recv(id).token();
        let mut data = Vec::new();
        for completion in &self.late {
            if let Completion::Recv { token, outcome: Received::Data(buf) } = completion
                && *token == wanted
            {
                data.extend_from_slice(driver.buffer(buf));
            }
        }
        data
    }

    /// Returns the `at`-th request that waits for its turn, from 0.
    pub(crate) fn waiting(&self, at: usize) -> Option<&Request> {
        self.jobs.iter().filter_map(Job::call).nth(at)
    }

    /// Takes it out of the queue.
    pub(crate) fn remove_waiting(&mut self, at: usize) {
        let found = self.jobs.iter().enumerate().filter(|(_, job)| job.call().is_some()).nth(at);
        if let Some(job) = found.map(|(index, _)| index).and_then(|index| self.jobs.remove(index)) {
            self.own_bytes -= job.held_bytes();
        }
    }

    /// Returns the ids of connections, of `count` slots from `from` on, and where the next ones begin, if there are
    /// more.
    pub(crate) fn ids_from(&self, from: usize, count: usize) -> (Vec<ConnId>, Option<usize>) {
        let end = from.saturating_add(count).min(self.conns.capacity());
        let id = |index: usize| {
            let conn = self.conns.get(index)?;
            Some(ConnId { index: index as u32, generation: conn.generation })
        };
        ((from..end).filter_map(id).collect(), Some(end).filter(|end| *end < self.conns.capacity()))
    }

    /// Notes a connection that holds as much early input as it may.
    pub(crate) fn mark_full(&mut self, id: ConnId) {
        self.full.push(id);
    }

    /// Takes out one of those connections.
    pub(crate) fn pop_full(&mut self) -> Option<ConnId> {
        self.full.pop()
    }

    /// Notes a connection as one to give to a sibling, if it is idle when its turn comes; once.
    pub(crate) fn push_spare(&mut self, id: ConnId) {
        if let Some(conn) = self.get(id)
            && !std::mem::replace(&mut conn.spare, true)
        {
            self.spare.push_back(id);
        }
    }

    /// Notes the connection with this deadline as such a one.
    pub(crate) fn push_spare_at(&mut self, index: u32) {
        if let Some(generation) = self.conns.get(index as usize).map(|conn| conn.generation) {
            self.push_spare(ConnId { index, generation });
        }
    }

    /// Forgets them.
    pub(crate) fn clear_spare(&mut self) {
        while self.pop_spare().is_some() {}
    }

    /// Takes out the next one to give.
    pub(crate) fn pop_spare(&mut self) -> Option<ConnId> {
        let id = self.spare.pop_front()?;
        if let Some(conn) = self.get(id) {
            conn.spare = false;
        }
        Some(id)
    }

    /// Counts them.
    pub(crate) fn spare(&self) -> usize {
        self.spare.len()
    }

    /// Takes out a connection whose time is up, with the class of its deadline.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<(ConnId, ConnTimer)> {
        loop {
            let (index, timer) = self.timers.pop_expired(now)?;
            if let Some(conn) = self.conns.get(index as usize) {
                return Some((ConnId { index, generation: conn.generation }, timer));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rgunicorn_io::driver::Fd;

    use super::*;
    use crate::worker::conn::io::fixture::new_conn;

    fn table() -> (Connections, ConnId) {
        let mut table = Connections::default();
        let id = table.insert(new_conn());
        (table, id)
    }

    #[test]
    fn an_idle_connection_costs_144_bytes() {
        // A descriptor that may be a simulated one takes 8 bytes instead of 4, and the rest is padding.
        let simulated_bytes = if size_of::<Fd>() > 4 { 8 } else { 0 };
        assert_eq!(size_of::<Option<Conn>>(), 128 + simulated_bytes, "and 16 for its deadline");
    }

    #[test]
    fn a_stale_id_names_nothing() {
        let (mut table, id) = table();
        table.timers.start(id.index, ConnTimer::Header, Instant(800));
        assert!(table.get(id).is_some() && table.remove(id).is_some());
        let next = table.insert(new_conn());
        assert_eq!((next.index, table.timers.len()), (id.index, 0), "the slot is used again");
        assert!(table.get(id).is_none() && table.remove(id).is_none() && table.get(next).is_some());
    }

    #[test]
    fn work_counts_as_load_until_it_ends_also_without_its_connection() {
        let (mut table, id) = table();
        table.begin_work(id);
        assert_eq!((table.load(), table.workers()), (1, 1));
        table.remove(id);
        assert_eq!((table.len(), table.load()), (0, 1));
        assert!(!table.is_idle());
        table.end_work(id);
        assert!(table.is_idle());
        table.begin_work(id);
        assert_eq!(table.load(), 1, "it begins when the client has left");
        table.end_work(id);
        assert_eq!((table.load(), table.workers()), (0, 0));
    }

    #[test]
    fn the_application_abandons_what_waits_for_a_client_that_leaves() {
        let (mut table, id) = table();
        table.remove(id);
        assert_eq!(table.jobs(), 0, "it had begun nothing");
        let id = table.insert(new_conn());
        if let Some(conn) = table.get(id) {
            conn.parked = true;
        }
        table.remove(id);
        assert!(matches!(table.pop_job(), Some(Job::Abandon(request)) if request.conn == id));
    }

    #[test]
    fn a_deadline_comes_out_with_its_connection() {
        let (mut table, id) = table();
        table.timers.start(id.index, ConnTimer::Keepalive, Instant(800));
        assert_eq!(table.pop_expired(Instant(799)), None);
        assert_eq!(table.pop_expired(Instant(800)), Some((id, ConnTimer::Keepalive)));
        assert_eq!(table.pop_expired(Instant(900)), None);
    }
}
