//! The bounds on what one wait delivers of received bytes, so that a client that sends much and cheaply (chunks of
//! one byte) does not hold up the others: it could fill all buffers in one turn, and the turn would last as long as
//! it takes to read them.
//!
//! On io_uring, what is beyond the bounds stays in its buffers and comes with the next waits, which do not sleep. A
//! reception that is beyond its own bound is ended meanwhile and armed again behind the last of its bytes: otherwise
//! it would take the buffers again as they come back, and the others none. Those that have found no buffer are armed
//! for one each, by turns. On epoll it stays in the sockets, and the
//! next wait begins with those that had no turn; one turn receives from each of them once.

/// Bytes of one reception that a wait delivers: four full buffers, and of few buffers a quarter. An upload of as much
/// in one turn needs one more submission entry for it.
const OP_BYTES_PER_WAIT_MAX: usize = 64 * 1024;
/// See [`OP_BYTES_PER_WAIT_MAX`].
const OP_PART_OF_BUFFERS: usize = 4;
/// Bytes of all receptions: about 3 ms of the most costly input.
const BYTES_PER_WAIT_MAX: usize = 512 * 1024;
/// Input that is shorter is not counted for its own reception: usual requests are, and there may be many in a turn.
const COUNTED_BYTES_MIN: usize = 4096;

/// The bytes that a wait has delivered so far.
#[derive(Debug, Default)]
pub(crate) struct WaitBudget {
    op_bytes_max: usize,
    all: usize,
    /// By the index of the operation.
    ops: Vec<(u32, usize)>,
}

/// The answer to a piece of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Granted,
    /// This wait has brought enough.
    WaitFull,
    /// This wait has brought enough of this reception.
    OpFull,
}

impl WaitBudget {
    /// Makes the budget for a pool of so many buffers of this size.
    pub(crate) fn new(buffers: usize, buffer_bytes: usize) -> Self {
        let part = buffers.div_ceil(OP_PART_OF_BUFFERS) * buffer_bytes;
        Self { op_bytes_max: part.min(OP_BYTES_PER_WAIT_MAX), all: 0, ops: Vec::new() }
    }

    /// Begins a wait of a caller who has not handled so many bytes of earlier ones.
    pub(crate) fn begin(&mut self, held: usize) {
        self.all = held;
        self.ops.clear();
    }

    /// Tells whether this wait has brought enough.
    pub(crate) fn is_full(&self) -> bool {
        self.all >= BYTES_PER_WAIT_MAX
    }

    /// Counts a piece of input of an operation that has one turn in a wait.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.all += bytes;
    }

    /// Counts a piece of input of an operation, if there is room for it.
    pub(crate) fn admit(&mut self, index: u32, bytes: usize) -> Admission {
        // Short input is what others have sent beside a flood: it has as much room again.
        if self.is_full() && (bytes >= COUNTED_BYTES_MIN || self.all >= 2 * BYTES_PER_WAIT_MAX) {
            return Admission::WaitFull;
        }
        if bytes >= COUNTED_BYTES_MIN {
            match self.ops.iter_mut().find(|(op, _)| *op == index) {
                Some((_, sum)) if *sum >= self.op_bytes_max => return Admission::OpFull,
                Some((_, sum)) => *sum += bytes,
                None => self.ops.push((index, bytes)),
            }
        }
        self.all += bytes;
        Admission::Granted
    }
}
