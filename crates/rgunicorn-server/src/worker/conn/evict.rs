//! Places for new clients at `worker_connections`: one that waits is served, and a connection that nobody uses makes
//! room for it (`evict_after`). Those that have had their answers go first, then the longest idle one, then the oldest
//! request of which not all has come. Never one that is with the application, or whose answer is in progress.

use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;

use super::ConnPhase;
use super::io::ConnIo;
use super::refusal::Refusal;
use crate::log::{Level, RepeatedLine};
use crate::worker::ids::ConnId;
use crate::worker::timers::ConnTimer;

/// Connections that are looked at for one place, or for the memory of one input, at most: some have a reason to stay,
/// and go behind the others.
pub(super) const LOOKS_MAX: usize = 64;
/// A body that comes as fast as this is no reason to take its connection's place away: slower than any line of today.
const PROGRESS_BYTES_PER_S: u32 = 1024;

/// A connection that may make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    id: ConnId,
    kind: CandidateKind,
    /// Since when it is of no use.
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CandidateKind {
    /// Its last answer has left; late input is read away.
    Lingering,
    /// Nothing of a request has come.
    Idle,
    Unfinished,
}

impl ConnIo<'_> {
    /// Returns when a connection can make room for another one at the earliest.
    pub(crate) fn room_at(&self) -> Option<Instant> {
        let after = self.setup.config.evict_after;
        if after.is_zero() || self.draining {
            return None;
        }
        candidates(self).map(|candidate| candidate.since.after(after)).min()
    }

    /// Closes a connection that makes room for another one. `false`: there is none at present.
    pub(crate) fn make_room(&mut self) -> bool {
        let load = self.conns.load();
        for _ in 0..LOOKS_MAX {
            let Some(candidate) = next_candidate(self) else { return false };
            evict(self, candidate);
            if self.conns.load() < load {
                self.log(
                    RepeatedLine::RoomMade,
                    Level::Warning,
                    format_args!(
                        "All {} connections are taken (worker_connections); idle and slow ones are closed for new ones",
                        self.setup.config.connections_max
                    ),
                );
                return true;
            }
        }
        false
    }
}

/// Returns the first of each kind.
fn candidates(io: &ConnIo<'_>) -> impl Iterator<Item = Candidate> {
    let config = &io.setup.config;
    let first = |kind, timer: ConnTimer, time: Duration| {
        let (index, at) = io.conns.timers.first(timer)?;
        let since = Instant(at.0.saturating_sub(time.as_nanos() as u64));
        Some(Candidate { id: io.conns.id_at(index)?, kind, since })
    };
    let idle = |timer, time| first(CandidateKind::Idle, timer, time);
    let unfinished = || {
        let (index, since) = io.conns.unfinished.first(0)?;
        Some(Candidate { id: io.conns.id_at(index)?, kind: CandidateKind::Unfinished, since })
    };
    [
        first(CandidateKind::Lingering, ConnTimer::Linger, config.linger_timeout),
        idle(ConnTimer::Keepalive, config.keepalive),
        idle(ConnTimer::FirstByte, config.first_byte_timeout()),
        // The longest time that it can have had.
        idle(ConnTimer::Taken, config.keepalive),
        unfinished(),
    ]
    .into_iter()
    .flatten()
}

/// Returns the next one to look at.
fn next_candidate(io: &ConnIo<'_>) -> Option<Candidate> {
    let (after, now) = (io.setup.config.evict_after, io.turn.now());
    if after.is_zero() || io.draining {
        return None;
    }
    let rank = |candidate: &Candidate| match candidate.kind {
        CandidateKind::Lingering => 0,
        CandidateKind::Idle => 1,
        CandidateKind::Unfinished => 2,
    };
    let due = candidates(io).filter(|candidate| candidate.since.after(after) <= now);
    due.min_by_key(|candidate| (rank(candidate), candidate.since))
}

/// Closes a connection, or puts it behind the others if it has a reason to stay.
fn evict(io: &mut ConnIo<'_>, Candidate { id, kind, .. }: Candidate) {
    let Some(conn) = io.conns.get(id) else { return };
    let output = conn.has_output();
    match kind {
        CandidateKind::Lingering => io.close(id),
        CandidateKind::Idle if output => {
            io.start_timer(id, ConnTimer::WriteStall, io.setup.config.write_stall_timeout);
        }
        // It is not the client that is waited for.
        CandidateKind::Idle if conn.is_stalled() => io.restart_timer(id),
        // Unless something has just come.
        CandidateKind::Idle => io.close_silent(id),
        CandidateKind::Unfinished if output || conn.is_stalled() => io.queue_unfinished(id),
        CandidateKind::Unfinished => evict_unfinished(io, id),
    }
}

/// Closes a connection on which a request is being received, unless that comes as fast as can be expected.
fn evict_unfinished(io: &mut ConnIo<'_>, id: ConnId) {
    let config = &io.setup.config;
    let (rate, time) = (config.body_bytes_per_s_min.max(PROGRESS_BYTES_PER_S), config.evict_after);
    if !io.is_slow(id, rate, time) {
        if io.conns.unfinished.at(id.index).is_some() {
            io.queue_unfinished(id);
        }
        return;
    }
    io.refuse_unfinished(id, &Refusal::TOO_SLOW);
    // Its place is needed now. What it has sent was read away, so that the answer is not lost to a reset.
    if io.conns.get(id).is_some_and(|conn| conn.phase == ConnPhase::Lingering) {
        io.close(id);
    }
}
