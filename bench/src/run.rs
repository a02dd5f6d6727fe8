//! The phases of a run: the crowd gathers, the load is made for as long as was asked for, what is left is counted.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::crowd::Crowd;
use crate::schedule::OpenLoop;
use crate::wait::Until;

/// Connections that are being opened at once before the run: fewer than fit the accept queue of any server.
const OPENING_MAX: u32 = 100;
/// The longest that the crowd may take to gather; the run begins without those who are late.
const GATHER_MAX: Duration = Duration::from_secs(60);
/// How often time-outs are looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// One run from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Run {
    pub crowd: Crowd,
    began: Instant,
    /// How long the crowd took to gather.
    pub gathering: Duration,
    /// How long the load was made.
    pub elapsed: Duration,
    swept: Instant,
    told: Instant,
    told_requests: u64,
    /// At the last look no request of the open loop waited for a connection: one that is late is late by this program.
    had_free: bool,
}

impl Run {
    /// Makes the run that was asked for.
    pub(crate) fn new(args: Args) -> io::Result<Self> {
        let (crowd, now) = (Crowd::new(args)?, Instant::now());
        Ok(Self {
            crowd,
            began: now,
            gathering: Duration::ZERO,
            elapsed: Duration::ZERO,
            swept: now,
            told: now,
            told_requests: 0,
            had_free: false,
        })
    }

    /// Makes the load.
    ///
    /// # Errors
    /// What makes waiting impossible; whatever a server does is counted.
    pub(crate) fn make(&mut self) -> io::Result<()> {
        self.gather()?;
        self.gathering = self.began.elapsed();
        if self.crowd.args.announce {
            writeln!(io::stdout(), "started")?;
        }
        let started = Instant::now();
        let deadline = started + self.crowd.args.duration;
        self.begin(started, deadline);
        let mut now = started;
        while now < deadline && !self.crowd.is_done() {
            now = self.turn(now, deadline)?;
        }
        self.elapsed = now.min(deadline) - started;
        self.count_unanswered(deadline);
        Ok(())
    }

    /// Opens the connections before the run. Idle ones come first, and ask once: a server that waits for the request of
    /// each connection that it accepts would wait for those that are silent until the run begins.
    fn gather(&mut self) -> io::Result<()> {
        let args = &self.crowd.args;
        let late = args.close || !args.ramp.is_zero();
        let asking = if late { 0 } else { args.connections };
        let mut indices = (args.connections..args.files()).chain(0..asking);
        let (wanted, deadline) = (args.idle + asking, self.began + GATHER_MAX);
        let mut opened = 0;
        let mut now = self.began;
        // A server that mostly refuses is no reason to wait.
        while self.crowd.gathered < wanted
            && now < deadline
            && self.crowd.stats.errors() <= self.crowd.gathered.into()
        {
            while opened - self.crowd.gathered < OPENING_MAX
                && let Some(index) = indices.next()
            {
                self.crowd.open(index, now);
                opened += 1;
            }
            now = self.turn(now, deadline)?;
        }
        if self.crowd.gathered < wanted {
            let _ = writeln!(io::stderr(), "only {} of {wanted} connections are open", self.crowd.gathered);
        }
        Ok(())
    }

    fn begin(&mut self, started: Instant, deadline: Instant) {
        let crowd = &mut self.crowd;
        crowd.is_running = true;
        crowd.open_loop = crowd.args.rate.map(|rate| OpenLoop::new(started, deadline, rate));
        crowd.timers.clear();
        for index in 0..crowd.args.connections {
            let share = f64::from(index) / f64::from(crowd.args.connections);
            let opens = started + crowd.args.ramp.mul_f64(share);
            let Some(connection) = usize::try_from(index).ok().and_then(|at| crowd.connections.get_mut(at))
            else {
                continue;
            };
            // With a pace, the connections are spread over the first interval, so that they do not ask in step.
            if !crowd.args.interval.is_zero() {
                connection.planned = Some(opens + crowd.args.interval.mul_f64(share));
            }
            if connection.is_open() {
                crowd.go_on(index, started);
            } else if connection.stream.is_none() {
                crowd.timers.push(Reverse((opens, index)));
            }
        }
    }

    /// Does what is due, waits for sockets, handles them; returns the time after that.
    fn turn(&mut self, now: Instant, deadline: Instant) -> io::Result<Instant> {
        while let Some(&Reverse((due, index))) = self.crowd.timers.peek()
            && due <= now
        {
            self.crowd.timers.pop();
            self.crowd.wake(index, now);
        }
        self.send_due(now);
        let mut events = Vec::new();
        let until = Until { exactly: self.next_due(), roughly: deadline.min(self.swept + SWEEP_EVERY) };
        self.crowd.waiter.wait(now, until, &mut events)?;
        let now = Instant::now();
        for event in events {
            self.crowd.handle(event, now);
        }
        if now >= self.swept + SWEEP_EVERY {
            self.crowd.sweep(now);
            self.swept = now;
        }
        if now >= self.told + PROGRESS_EVERY && !self.crowd.args.quiet {
            self.tell(now);
        }
        Ok(now)
    }

    /// Sends the requests of the open loop that are due, as far as connections are free.
    fn send_due(&mut self, now: Instant) {
        while !self.crowd.free.is_empty()
            && let Some(due) = self.crowd.open_loop.as_mut().and_then(|requests| requests.take(now))
            && self.crowd.take_request()
        {
            if self.had_free {
                self.crowd.stats.lateness_ns.record(nanos(now - due));
            }
            if let Some(index) = self.crowd.free.pop_front() {
                self.crowd.ask(index, due, 1, now);
            }
        }
        self.had_free = !self.crowd.free.is_empty();
    }

    fn next_due(&self) -> Option<Instant> {
        let timer = self.crowd.timers.peek().map(|Reverse((due, _))| *due);
        let request = self.crowd.open_loop.as_ref().filter(|_| self.had_free).and_then(OpenLoop::next_due);
        timer.into_iter().chain(request).min()
    }

    /// Counts the requests of an open loop that were due and have no answer, with the time that they have waited: left
    /// out, the worst ones would be missing from the percentiles.
    fn count_unanswered(&mut self, deadline: Instant) {
        let Some(requests) = &mut self.crowd.open_loop else { return };
        let stats = &mut self.crowd.stats;
        while let Some(due) = requests.take(deadline) {
            stats.unanswered(deadline.saturating_duration_since(due));
        }
        let asked = self.crowd.connections.iter().filter(|one| !one.is_idle).flat_map(|one| &one.asked);
        for due in asked {
            stats.unanswered(deadline.saturating_duration_since(*due));
        }
        stats.due = requests.taken();
    }

    fn tell(&mut self, now: Instant) {
        let (crowd, second) = (&self.crowd, (now - self.began).as_secs());
        let line = if crowd.is_running {
            crowd.stats.progress(second, self.told_requests)
        } else {
            format!("[{second:4} s] {} of {} connections are open", crowd.stats.open, crowd.args.files())
        };
        let _ = writeln!(io::stderr(), "{line}");
        self.told = now;
        self.told_requests = crowd.stats.requests();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
