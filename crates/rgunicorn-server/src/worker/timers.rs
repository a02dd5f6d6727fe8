//! Deadlines of connections.

/// Deadlines of connections; one class per duration, so that each is a FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnTimer {
    Keepalive,
    Header,
    BodyStall,
    WriteStall,
    Linger,
    Drain,
}

/// Number of [`ConnTimer`] classes.
pub(crate) const TIMER_CLASSES: usize = 6;
