//! The connections of a worker: their slots, their deadlines, and the work that they have for the application.

use std::collections::VecDeque;

use slab::Slab;

use rgunicorn_io::driver::{Completion, Driver, Received, Token};
use rgunicorn_io::sys::clock::Instant;

use super::{Conn, ConnPhase, NewConn};
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
    /// Idle connections that siblings are to have, because this worker leaves.
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
        let conn = self.conns.remove(id.index as usize);
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
        self.jobs.push_back(job);
    }

    /// Queues the resumption of a request in progress.
    pub(crate) fn push_resume(&mut self, id: RequestId) {
        self.resumes.push_back(id);
    }

    /// Queues a request that is ready; no deadline runs from here on.
    pub(crate) fn call(&mut self, request: Box<Request>) {
        self.timers.stop(request.id.conn.index);
        self.jobs.push_back(Job::Call(request));
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
        self.jobs.pop_front()
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
    use super::*;
    use crate::worker::conn::io::fixture::new_conn;

    fn table() -> (Connections, ConnId) {
        let mut table = Connections::default();
        let id = table.insert(new_conn());
        (table, id)
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
