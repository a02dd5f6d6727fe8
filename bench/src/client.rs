//! The connections: each is one task that opens, asks, waits for the answer, and opens anew when the server closes.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::{sleep_until, timeout};
use tokio_uring::net::{TcpStream, UnixStream};

use crate::args::{Args, Target};
use crate::report::{Failure, Stats};
use crate::response::{Answer, Parser, Progress};

/// Answers of the applications under load are small; a larger one takes more reads.
const READ_BYTES: usize = 4 * 1024;

/// The pause after a failure: a server that is down is asked again ten times a second, not in a busy loop.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A failure, and its reason in words.
type Fault = (Failure, String);

/// The state that all connections of a run share. One thread, so cells suffice.
#[derive(Debug)]
pub(crate) struct Run {
    args: Args,
    /// Lives as long as the process: the kernel may still read it when a connection's task is dropped.
    request: &'static [u8],
    started: Instant,
    /// Requests that may still be started; `None` is no limit.
    budget: Cell<Option<u64>>,
    /// The results so far.
    pub stats: RefCell<Stats>,
}

impl Run {
    /// Starts a run now.
    pub(crate) fn new(args: Args) -> Rc<Self> {
        let request = Box::leak(args.request().into_boxed_slice());
        let budget = Cell::new(args.requests);
        Rc::new(Self { args, request, started: Instant::now(), budget, stats: RefCell::default() })
    }

    /// Returns the time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns when the run must end.
    pub(crate) fn deadline(&self) -> Instant {
        self.started + self.args.duration
    }

    /// Takes one request from the budget; false when it is used up.
    fn take_request(&self) -> bool {
        match self.budget.get() {
            Some(0) => false,
            Some(left) => {
                self.budget.set(Some(left - 1));
                true
            }
            None => true,
        }
    }

    fn failed(&self, (failure, why): Fault) {
        if self.stats.borrow_mut().failed(failure) == 1 {
            // The first of its kind says what happened; the others are only counted.
            let _ = writeln!(io::stderr(), "{}: {why}", failure.name());
        }
        // The budget counts answers: what failed may be tried again, until the run's time is over.
        self.budget.set(self.budget.get().map(|left| left + 1));
    }
}

/// Works as connection `index` of the run until the budget is used up. The caller ends it at the deadline.
pub(crate) async fn connection(run: Rc<Run>, index: u32) {
    let share = f64::from(index) / f64::from(run.args.connections);
    // With a pace, the connections are spread over the first interval, so that they do not ask in step.
    let first = run.args.ramp.mul_f64(share) + run.args.interval.mul_f64(share);
    let mut planned = run.started + first;
    sleep_until((run.started + run.args.ramp.mul_f64(share)).into()).await;
    let mut open = open_at_ramp(&run).await;
    let mut was_open = open.is_some();
    while run.take_request() {
        if !run.args.interval.is_zero() {
            sleep_until(planned.into()).await;
        }
        let from = if run.args.interval.is_zero() { Instant::now() } else { planned };
        planned = (planned + run.args.interval).max(Instant::now());
        match request(&run, &mut open, was_open).await {
            Ok(answer) => run.stats.borrow_mut().answered(answer.status, from.elapsed()),
            Err(failure) => {
                open = None;
                run.failed(failure);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
        was_open = true;
    }
}

/// Opens a connection when its turn in the ramp has come, even if its first request comes later.
async fn open_at_ramp(run: &Rc<Run>) -> Option<Connection> {
    if run.args.close {
        return None;
    }
    let opened = timeout(run.args.timeout, Connection::open(run)).await;
    opened.ok().and_then(Result::ok) // the first request tries again, and counts the failure
}

/// Sends one request and reads its answer, on the open connection or a new one.
async fn request(run: &Rc<Run>, open: &mut Option<Connection>, again: bool) -> Result<Answer, Fault> {
    let limit = run.args.timeout;
    let mut connection = match open.take() {
        Some(connection) => connection,
        None => {
            let opened = timeout(limit, Connection::open(run)).await.map_err(|_| timed_out("connecting"))?;
            run.stats.borrow_mut().reconnects += u64::from(again);
            opened.map_err(|error| (Failure::Connect, error.to_string()))?
        }
    };
    let answer =
        timeout(limit, connection.exchange(run)).await.map_err(|_| timed_out("waiting for the answer"))??;
    if answer.keep_alive {
        *open = Some(connection);
    }
    Ok(answer)
}

fn timed_out(doing: &str) -> Fault {
    (Failure::Timeout, format!("timed out {doing}"))
}

struct Connection {
    stream: Stream,
    parser: Parser,
    /// Lent to the kernel while a read is in flight.
    buffer: Vec<u8>,
    run: Rc<Run>,
}

impl Connection {
    async fn open(run: &Rc<Run>) -> io::Result<Self> {
        let stream = match &run.args.target {
            Target::Tcp(address, _) => Stream::tcp(*address).await?,
            Target::Unix(path) => Stream::unix(path.clone()).await?,
        };
        run.stats.borrow_mut().opened();
        Ok(Self {
            stream,
            parser: Parser::default(),
            buffer: Vec::with_capacity(READ_BYTES),
            run: Rc::clone(run),
        })
    }

    async fn exchange(&mut self, run: &Run) -> Result<Answer, Fault> {
        self.stream.write_all(run.request).await.map_err(|error| (Failure::Write, error.to_string()))?;
        loop {
            let (result, buffer) = self.stream.read(std::mem::take(&mut self.buffer)).await;
            self.buffer = buffer;
            let length = result.map_err(|error| (Failure::Read, error.to_string()))?;
            if length == 0 {
                return self.closed();
            }
            run.stats.borrow_mut().received_bytes += length as u64;
            let bytes = self.buffer.get(..length).unwrap_or_default();
            match self.parser.feed(bytes).map_err(|malformed| (Failure::Malformed, malformed.0.to_owned()))? {
                Progress::Done(answer) => return Ok(answer),
                Progress::More => {}
            }
        }
    }

    fn closed(&mut self) -> Result<Answer, Fault> {
        if self.parser.is_idle() {
            return Err((Failure::ClosedBeforeAnswer, "the server closed before the answer".to_owned()));
        }
        self.parser.end().ok_or((Failure::ClosedInAnswer, "the server closed within the answer".to_owned()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.run.stats.borrow_mut().open -= 1;
        // A read that is still in flight keeps the descriptor open; shutting down ends it.
        self.stream.shutdown();
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    async fn unix(path: PathBuf) -> io::Result<Self> {
        Ok(Self::Unix(UnixStream::connect(path).await?))
    }

    async fn read(&self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match self {
            Self::Tcp(stream) => stream.read(buffer).await,
            Self::Unix(stream) => stream.read(buffer).await,
        }
    }

    async fn write_all(&self, bytes: &'static [u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await.0,
            Self::Unix(stream) => stream.write_all(bytes).await.0,
        }
    }

    fn shutdown(&self) {
        // The peer may have gone already, which is all we want.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(std::net::Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(std::net::Shutdown::Both),
        };
    }
}
